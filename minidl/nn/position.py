"""Where a step stands in its sequence, added to its vector: attention alone sees a set, not an order."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.errors import ShapeError
from minidl.nn import init
from minidl.nn.module import Module, Parameter
from minidl.tensor import Tensor


class _Position(Module):
    """x + the rows of a table (max_length, E), for x (N, T, E), (T, E), or (T, N, E) if not batch_first."""

    def __init__(self, embed_dim: int, max_length: int, batch_first: bool):
        if embed_dim < 1 or max_length < 1:
            raise ValueError(f"{type(self).__name__}: embed_dim {embed_dim} and max_length {max_length} must be "
                             "positive")
        self.embed_dim, self.max_length, self.batch_first = embed_dim, max_length, batch_first

    def _rows(self, start: int, end: int, dtype: Any) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """start: the position of the first step of x, where a part of the sequence came before."""
        if x.ndim not in (2, 3) or x.shape[-1] != self.embed_dim:
            raise ShapeError(f"an input with {self.embed_dim} features in 2 or 3 axes is expected, not {x.shape}")
        axis = 1 if x.ndim == 3 and self.batch_first else 0
        end = start + x.shape[axis]
        if start < 0 or end > self.max_length:
            raise ShapeError(f"the sequence covers positions {start} to {end - 1}, the table has max_length = "
                             f"{self.max_length}: cut the sequence, or make the table longer")
        rows = self._rows(start, end, x.dtype)
        if x.ndim == 3 and not self.batch_first:
            rows = ops.unsqueeze(rows, 1)
        return ops.add(x, rows)

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, max_length={self.max_length}, batch_first={self.batch_first}"


class SinusoidalPosition(_Position):
    """x + table, where table[t, 2 i] = sin(t / 10000^(2 i / E)) and table[t, 2 i + 1] = cos of the same; not trained.

    x (N, T, E), or (T, N, E) if not batch_first. The table is not saved; it is made as far as sequences reach.
    Raises ShapeError for a sequence longer than max_length. Vaswani et al. 2017, "Attention is all you need".
    """

    def __init__(self, embed_dim: int, max_length: int = 5000, batch_first: bool = True):
        super().__init__(embed_dim, max_length, batch_first)
        self._table = np.empty((0, embed_dim))

    def _rows(self, start: int, end: int, dtype: Any) -> Tensor:
        if end > len(self._table):
            self._table = sinusoids(min(self.max_length, 2 * end), self.embed_dim)
        return Tensor(self._table[start:end].astype(dtype))


def sinusoids(length: int, width: int) -> np.ndarray:
    """The table of SinusoidalPosition, (length, width)."""
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    table = np.empty((length, width))
    table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles[:, :width // 2])
    return table


class LearnedPosition(_Position):
    """x + weight, for a trained weight (max_length, E) that starts normal with standard deviation 0.02, as in BERT.

    x (N, T, E), or (T, N, E) if not batch_first. Raises ShapeError for a sequence longer than max_length.
    Devlin et al. 2018, "BERT".
    """

    def __init__(self, embed_dim: int, max_length: int, batch_first: bool = True, device: Any = None,
                 dtype: Any = None):
        super().__init__(embed_dim, max_length, batch_first)
        self.weight = Parameter(np.empty((max_length, embed_dim), dtype or np.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.weight, 0.0, 0.02)

    def _rows(self, start: int, end: int, dtype: Any) -> Tensor:
        return ops.getitem(self.weight, index=slice(start, end))
