"""The dense layer and the identity: the shortest layers, and the form that all others follow."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.errors import ShapeError
from minidl.nn import init
from minidl.nn.module import Module, Parameter
from minidl.ops.declared import maps_hint
from minidl.ops.spatial import integers
from minidl.tensor import Tensor


class Linear(Module):
    """y = x W^T + b for x (..., I): (..., O).

    weight (O, I) and bias (O,) start uniform in ±1/sqrt(I), PyTorch's default.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        (in_features,) = integers("Linear", "in_features", in_features, 1, 1)
        (out_features,) = integers("Linear", "out_features", out_features, 1, 1)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(np.empty((out_features, in_features), dtype or np.float32))
        self.bias = Parameter(np.empty(out_features, dtype or np.float32)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.kaiming_uniform_(self.weight, a=5**0.5)
        if self.bias is not None:
            init.uniform_(self.bias, -(self.in_features**-0.5), self.in_features**-0.5)

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        return ops.linear(x, self.weight, self.bias, relu=relu)

    def _advice(self, error: Exception, inputs: tuple) -> str:
        """Where the input was flattened from, if its graph tells."""
        x = inputs[0] if inputs else None
        if not isinstance(error, ShapeError) or not isinstance(x, Tensor) or x.ndim != 2:
            return ""
        maps = _flattened_from(x)
        if maps is None:
            return ""
        return ("" if error.args[0].endswith("?") else ".") + maps_hint(maps, self.in_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def _flattened_from(x: Tensor) -> tuple[int, ...] | None:
    """The maps (C, H, W) that were flattened to the rows of x; None if there are none in sight."""
    node = x.grad_fn
    while node is not None and node.inputs and node.name in ("reshape", "flatten", "view", "dropout"):
        (node, _), *_ = node.inputs
        if len(node.shape) == 4 and node.shape[0] == x.shape[0] and node.shape[2] * node.shape[3] > 1:
            return tuple(node.shape[1:])
        node = None if isinstance(node, Tensor) else node
    return None


class Identity(Module):
    """Returns what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x
