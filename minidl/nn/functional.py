"""PyTorch's `torch.nn.functional`: the operations of `minidl.ops` under the names that scripts use."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.nn.hints import missing_layer
from minidl.nn.loss import (  # noqa: F401
    binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy, huber_loss, kl_div, l1_loss, mse_loss,
    nll_loss, smooth_l1_loss,
)
from minidl.nn.sequence_loss import masked_cross_entropy  # noqa: F401
from minidl.ops import (  # noqa: F401
    dropout, elu, embedding, gelu, leaky_relu, linear, log_softmax, logsigmoid, mish, pad, prelu, relu, relu6, selu,
    sigmoid, silu, softmax, softplus, tanh,
)
from minidl.ops import feature_dropout as dropout2d  # noqa: F401
from minidl.ops.attention import (  # noqa: F401
    multi_head_attention, packed_attention, scaled_dot_product_attention,
)
from minidl.ops.conv import conv1d, conv2d, conv_transpose1d, conv_transpose2d  # noqa: F401
from minidl.ops.pool import (  # noqa: F401
    adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_max_pool1d, adaptive_max_pool2d, avg_pool1d, avg_pool2d,
    max_pool1d, max_pool2d,
)
from minidl.ops.resize import interpolate  # noqa: F401
from minidl.tensor import Tensor, as_array


def batch_norm(input: Tensor, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
               training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """`minidl.ops.batch_norm` with PyTorch's order of arguments."""
    return ops.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)


def layer_norm(input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """`minidl.ops.layer_norm` with PyTorch's order of arguments."""
    return ops.layer_norm(input, weight, bias, normalized_shape, eps)


def group_norm(input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """`minidl.ops.group_norm` with PyTorch's order of arguments."""
    return ops.group_norm(input, weight, bias, num_groups, eps)


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    """x / max(||x||_p, eps) along `dim`."""
    return ops.div(input, ops.clip(ops.norm(input, p, dim, True), min=eps))


def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """int64 (..., C) with a 1 at each class index of `tensor` (...); C is the largest index + 1 unless given.

    Raises TypeError for indices that are not integers, IndexError for one outside the classes.
    """
    indices = as_array(tensor)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"one_hot: class indices are integers, these are {indices.dtype}; use .long()")
    classes = int(indices.max(initial=-1)) + 1 if num_classes == -1 else num_classes
    if indices.size and not 0 <= indices.min() <= indices.max() < classes:
        raise IndexError(f"one_hot: indices reach from {indices.min()} to {indices.max()}, there are {classes} classes")
    result = np.zeros((*indices.shape, classes), np.int64)
    np.put_along_axis(result, indices[..., None], 1, axis=-1)
    return Tensor(result)


def __getattr__(name: str) -> Any:
    raise missing_layer(__name__, name, globals())
