"""How parameters start: each function fills a tensor in place and returns it.

Layers call them with PyTorch's defaults. Those for weights keep the size of activations (fan in) or of gradients
(fan out) the same from layer to layer: a weight (O, I, *kernel) has fan in I * kernel and fan out O * kernel.
All that draw take an own `generator`; the shared one of `minidl.seed` is used otherwise. Inside `with skipped():`
nothing is drawn.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minidl import random
from minidl.tensor import Tensor

BLOCK = 2**16  # numbers drawn at a time


class _OfThisThread(threading.local):
    skipping = False


_thread = _OfThisThread()


@contextmanager
def skipped() -> Iterator[None]:
    """Within the block, nothing is drawn, and weights hold what the memory held: for those that are filled anyway."""
    before, _thread.skipping = _thread.skipping, True
    try:
        yield
    finally:
        _thread.skipping = before


def _fill(tensor: Tensor, draw: Callable[[Any], np.ndarray]) -> Tensor:
    """Fill the tensor with what `draw(count)` gives: the same numbers as drawn at once, in a fraction of the memory."""
    if _thread.skipping:
        return tensor
    if not tensor.array.flags.c_contiguous:
        tensor.array[...] = draw(tensor.shape)
        return tensor
    numbers = tensor.array.reshape(-1)
    for start in range(0, numbers.size, BLOCK):
        block = numbers[start:start + BLOCK]
        block[...] = draw(block.size)
    return tensor


def fan_in_and_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs each output sums over, and how many outputs each input reaches, for a weight (O, I, *kernel)."""
    if tensor.ndim < 2:
        raise ValueError(f"fan in and fan out need a weight of at least 2 axes, this one has shape {tensor.shape}")
    receptive = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] * receptive


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """The factor that keeps the variance of activations through a nonlinearity; param: leaky_relu's negative slope.

    Raises ValueError for a nonlinearity it does not know.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2 / (1 + slope**2))
    linear = ("linear", "sigmoid", *(f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)))
    gains = {**dict.fromkeys(linear, 1.0), "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    if nonlinearity not in gains:
        raise ValueError(f"no gain known for '{nonlinearity}': one of {', '.join(gains)}, leaky_relu")
    return gains[nonlinearity]


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: np.random.Generator | None = None) -> Tensor:
    """Uniform in [a, b)."""
    source = random.generator(generator)
    return _fill(tensor, lambda count: source.uniform(a, b, count))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0,
            generator: np.random.Generator | None = None) -> Tensor:
    """Normal with that mean and standard deviation."""
    source = random.generator(generator)
    return _fill(tensor, lambda count: source.normal(mean, std, count))


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
                  generator: np.random.Generator | None = None) -> Tensor:
    """Normal, but values outside [a, b] are drawn again; a and b are values, not multiples of std.

    Raises ValueError if less than 1 % of the normal distribution lies between a and b.
    """
    inside = (math.erf((b - mean) / std / math.sqrt(2)) - math.erf((a - mean) / std / math.sqrt(2))) / 2
    if not inside > 0.01:
        raise ValueError(f"trunc_normal_: hardly any value of a normal distribution with mean {mean} and std {std} "
                         f"lies in [{a}, {b}]: choose the bounds around the mean")
    if _thread.skipping:
        return tensor
    draw = random.generator(generator).normal
    values = draw(mean, std, tensor.shape)
    outside = (values < a) | (values > b)
    while outside.any():
        values[outside] = draw(mean, std, np.count_nonzero(outside))
        outside = (values < a) | (values > b)
    tensor.array[...] = values
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    """The same value everywhere."""
    tensor.array[...] = val
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(tensor, 1)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix: a Linear layer that returns its input, as far as there are outputs for it."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: a matrix is needed, this tensor has shape {tensor.shape}")
    tensor.array[...] = np.eye(tensor.shape[0], tensor.shape[1])
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The identity for a convolution weight (O, I, *kernel): output channel i of each group copies input channel i.

    Raises ValueError for fewer than 3 or more than 5 axes, or groups that do not divide O.
    """
    if not 3 <= tensor.ndim <= 5 or tensor.shape[0] % groups:
        raise ValueError(f"dirac_: a convolution weight (O, I, *kernel) with O divisible by groups={groups} is needed, "
                         f"this tensor has shape {tensor.shape}")
    zeros_(tensor)
    outputs = tensor.shape[0] // groups
    centre = tuple(n // 2 for n in tensor.shape[2:])
    for group in range(groups):
        for channel in range(min(outputs, tensor.shape[1])):
            position = (group * outputs + channel, channel, *centre)
            tensor.array[position] = 1
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: np.random.Generator | None = None) -> Tensor:
    """Uniform in ±gain sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010, "Understanding the difficulty …")."""
    bound = gain * math.sqrt(6 / sum(fan_in_and_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: np.random.Generator | None = None) -> Tensor:
    """Normal with standard deviation gain sqrt(2 / (fan in + fan out)) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fan_in_and_out(tensor))), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode is 'fan_in' or 'fan_out', not {mode!r}")
    fan = fan_in_and_out(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


def kaiming_uniform_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: np.random.Generator | None = None) -> Tensor:
    """Uniform in ±gain sqrt(3 / fan) (He et al. 2015, "Delving deep into rectifiers"); a: leaky_relu's slope.

    mode: "fan_in" keeps the variance forward, "fan_out" backward.
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: np.random.Generator | None = None) -> Tensor:
    """Normal with standard deviation gain / sqrt(fan) (He et al. 2015); arguments as in kaiming_uniform_."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: np.random.Generator | None = None) -> Tensor:
    """gain times a random matrix with orthonormal rows, or columns if there are fewer of them; (O, I * kernel).

    Saxe, McClelland and Ganguli 2013, "Exact solutions to the nonlinear dynamics of learning".
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: at least 2 axes are needed, this tensor has shape {tensor.shape}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    if rows and columns:
        tall = random.generator(generator).standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(tall)
        q *= np.where(np.diag(r) < 0, -1, 1)  # qr fixes the signs; this makes every orthogonal matrix equally likely
        tensor.array[...] = gain * (q if rows >= columns else q.T).reshape(tensor.shape)
    return tensor


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: np.random.Generator | None = None) -> Tensor:
    """Normal with standard deviation std, then a fraction `sparsity` of each column (rounded up) set to 0.

    Martens 2010, "Deep learning via Hessian-free optimization". Raises ValueError for anything but a matrix.
    """
    if tensor.ndim != 2:
        raise ValueError(f"sparse_: a matrix is needed, this tensor has shape {tensor.shape}")
    draw = random.generator(generator)
    normal_(tensor, 0.0, std, draw)
    rows, columns = tensor.shape
    for column in range(columns):
        tensor.array[draw.permutation(rows)[:math.ceil(sparsity * rows)], column] = 0
    return tensor
