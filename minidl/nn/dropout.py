"""Dropout layers: at work in training, absent in evaluation and where the module is frozen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minidl import ops
from minidl.nn.module import Module
from minidl.tensor import Tensor


class _Dropout(Module):
    operation: Callable

    def __init__(self, p: float = 0.5, inplace: bool = False, generator: np.random.Generator | None = None):
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p is the probability to be dropped, between 0 and 1, not {p}")
        self.p, self.inplace = p, inplace
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return self.operation(x, self.p, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training, each element becomes 0 with probability p, and the others are divided by 1 - p.

    inplace is accepted as in PyTorch and changes nothing. generator: where the masks come from (the shared one if left
    out). Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """

    operation = staticmethod(ops.dropout)


class Dropout2d(_Dropout):
    """As Dropout, for whole channels of x (N, C, H, W), one draw for each channel of each sample."""

    operation = staticmethod(ops.feature_dropout)
