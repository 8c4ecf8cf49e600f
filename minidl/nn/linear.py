"""The dense layer and the identity: the shortest layers, and the form that all others follow."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.nn import init
from minidl.nn.module import Module, Parameter
from minidl.tensor import Tensor


class Linear(Module):
    """y = x W^T + b for x (..., I): (..., O).

    weight (O, I) and bias (O,) start uniform in ±1/sqrt(I), PyTorch's default.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
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

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """Returns what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x
