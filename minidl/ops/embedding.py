"""Embedding: rows of a table picked by integer, as words are turned into vectors."""

from __future__ import annotations

import numpy as np

from minidl import kernels
from minidl.errors import ShapeError
from minidl.tensor import differentiable


@differentiable
def embedding(indices, weight, /, padding_idx=None):
    """weight[indices] for integer indices of any shape (...) and a table weight (V, D): (..., D).

    padding_idx: the row that receives no gradient (negative: counted from the end).
    Raises IndexError, naming the first index outside 0..V-1, TypeError for indices that are no integers, ShapeError
    for a weight that is not a table.
    """
    indices = indices if hasattr(indices, "dtype") else np.asarray(indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"embedding(indices, weight): the indices must be integers, these are {indices.dtype}; "
                        "use indices.long()")
    if weight.ndim != 2:
        raise ShapeError(f"embedding: a table (num_embeddings, embedding_dim) is needed, weight has shape "
                         f"{weight.shape}")
    rows = weight.shape[0]
    outside = (indices < 0) | (indices >= rows)
    if outside.any():
        position = tuple(np.argwhere(outside)[0].tolist())
        raise IndexError(f"embedding: index {indices[position]} at position {position} lies outside the {rows} rows "
                         f"(0..{rows - 1}) of the weight {weight.shape}: a table for more entries is needed, or the "
                         "vocabulary that belongs to this one")
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise IndexError(f"embedding: padding_idx {padding_idx} lies outside the {rows} rows of the weight")
    return weight[indices], (None, lambda g: kernels.embedding_grad(g, indices, rows, padding_idx))
