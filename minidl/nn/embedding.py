"""Embedding: a table with one trained vector for each of a number of words, classes or other integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.errors import ShapeError
from minidl.nn import init
from minidl.nn.module import Module, Parameter
from minidl.tensor import Tensor, as_array


class Embedding(Module):
    """weight[x] for integers x (...) below num_embeddings: (..., embedding_dim).

    weight (num_embeddings, embedding_dim) starts normal with mean 0 and standard deviation 1, PyTorch's default.
    padding_idx: a row that starts at 0 and receives no gradient.
    Raises IndexError for an index outside the table, TypeError for indices that are no integers.
    """

    takes_integers = True

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, device: Any = None,
                 dtype: Any = None):
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(f"Embedding: padding_idx {padding_idx} lies outside the {num_embeddings} rows")
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.weight = Parameter(np.empty((num_embeddings, embedding_dim), dtype or np.float32))
        self.reset_parameters()

    @classmethod
    def from_pretrained(cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """An Embedding with a copy of the table `embeddings` (num_embeddings, embedding_dim), by default not trained.

        Raises ShapeError for anything but a table.
        """
        table = as_array(embeddings)
        if table.ndim != 2:
            raise ShapeError(f"Embedding.from_pretrained: a table (num_embeddings, embedding_dim) is needed, this one "
                             f"has shape {table.shape}")
        embedding = cls(table.shape[0], table.shape[1], padding_idx, dtype=table.dtype)
        embedding.weight.array[...] = table
        embedding.weight.requires_grad = not freeze
        return embedding

    def reset_parameters(self) -> None:
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.array[self.padding_idx] = 0

    def forward(self, x: Tensor) -> Tensor:
        return ops.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
