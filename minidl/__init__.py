"""minidl: a deep-learning engine to read, to run and to carry networks from one task to another.

`import minidl as torch` gives PyTorch's names for tensors and functions; `minidl.nn`, `minidl.optim` and
`minidl.data` hold the rest. Read `minidl/tensor.py` first.
"""

from __future__ import annotations

import math as _math
import os as _os
from importlib import import_module as _import_module
from typing import Any

import numpy as _np

_kernels = _os.path.join(_os.path.dirname(__file__), "kernels")
if not _os.path.isdir(_kernels):  # running from a checkout that is not installed: kernels/ stands beside minidl/
    __path__.append(_os.path.dirname(_os.path.dirname(_os.path.abspath(__file__))))

from minidl import autograd, cuda, kernels, ops, random  # noqa: E402, F401
from minidl.anomaly import AnomalyError, detect_anomaly  # noqa: E402, F401
from minidl.autograd import grad  # noqa: E402, F401
from minidl.creation import (  # noqa: E402, F401
    arange, as_tensor, bernoulli, empty, empty_like, eye, from_dlpack, from_numpy, full, full_like, linspace, meshgrid,
    multinomial, normal, ones, ones_like, rand, rand_like, randint, randn, randn_like, randperm, tensor, zeros,
    zeros_like,
)
from minidl.device import device  # noqa: E402, F401
from minidl.errors import DataNotFoundError, FileFormatError, ShapeError, did_you_mean  # noqa: E402, F401
from minidl.gradcheck import check_gradients  # noqa: E402, F401
from minidl.kernels import (  # noqa: E402, F401
    get_num_threads, get_precision, set_num_threads, set_precision, use_backend, use_precision,
)
from minidl.ops import (  # noqa: E402, F401
    abs, add, all, allclose, amax, amin, any, argmax, argmin, argsort, bitwise_and, bitwise_not, bitwise_or,
    bitwise_xor, bmm, broadcast_to, cat, ceil, chunk, clip, clone, cos, cumsum, div, dot, dropout, einsum, eq, equal,
    erf, exp, expm1, flatten, flip, floor, floor_divide, gather, ge, gt, index_select, isclose, isfinite, isinf, isnan,
    le, log, log1p, log2, log10, log_softmax, logical_and, logical_not, logical_or, logical_xor, logsumexp, lt,
    masked_fill, masked_select, matmul, max, maximum, mean, min, minimum, mm, movedim, mul, mv, narrow, ne, neg,
    nonzero, norm, outer, permute, pow, prod, reciprocal, relu, remainder, reshape, roll, round, rsqrt, scatter, select,
    sigmoid, sign, sin, softmax, sort, split, sqrt, square, squeeze, stack, std, sub, sum, take_along_dim, tanh, tile,
    topk, transpose, tril, triu, trunc, unbind, unflatten, unsqueeze, var, where,
)
from minidl.random import manual_seed, seed  # noqa: E402, F401
from minidl.tensor import (  # noqa: E402, F401
    Tensor, enable_grad, is_grad_enabled, no_grad, set_grad_enabled,
)

__version__ = "0.1.0"

clamp, concat, concatenate, divide, moveaxis = clip, cat, cat, div, movedim
multiply, negative, subtract, swapaxes = mul, neg, sub, transpose
inference_mode = no_grad
dtype, Size, finfo, iinfo = _np.dtype, tuple, _np.finfo, _np.iinfo
inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e

float16 = half = _np.dtype("float16")
float32 = float = _np.dtype("float32")
float64 = double = _np.dtype("float64")
int8, uint8 = _np.dtype("int8"), _np.dtype("uint8")
int16 = short = _np.dtype("int16")
int32 = int = _np.dtype("int32")
int64 = long = _np.dtype("int64")
bool = _np.dtype("bool")

_LAZY = {name: f"minidl.{name}"
         for name in ("cli", "data", "models", "nn", "onnx", "optim", "sklearn", "train", "transfer", "utils")}
_LAZY_NAMES = {name: "minidl.transfer"
               for name in ("features", "freeze", "load", "load_tensors", "rehead", "save", "save_tensors", "structure",
                            "unfreeze")}
_LAZY_NAMES |= {name: "minidl.train" for name in ("fine_tune", "lr_find")}
_LAZY_NAMES["Generator"] = "minidl.generator"


def is_tensor(value: object) -> Any:
    """Whether `value` is a Tensor."""
    return isinstance(value, Tensor)


def __getattr__(name: str) -> Any:
    """Load what `import minidl` leaves out, because it takes time, when it is first asked for."""
    if name in _LAZY:
        return _import_module(_LAZY[name])
    if name in _LAZY_NAMES:
        return getattr(_import_module(_LAZY_NAMES[name]), name)
    raise AttributeError(f"module 'minidl' has no attribute '{name}'{did_you_mean(name, __dir__())}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LAZY_NAMES})
