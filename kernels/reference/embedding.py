"""A table look-up, and its gradient: rows of g are added where they were read from.

Sorting by index brings the rows of one table entry together, so that each is summed in the order of the batch; the
result is the same in every run, and `np.add.at` would take several times as long.
"""

import numpy as np


def embedding(weight, indices):
    if ((indices < 0) | (indices >= len(weight))).any():
        raise IndexError(f"an index lies outside the {len(weight)} rows of the table")
    return weight[indices]


def embedding_grad(g, indices, num_embeddings, padding_idx=None):
    grad = np.zeros((num_embeddings, g.shape[-1]), g.dtype)
    if indices.size:
        indices = indices.reshape(-1)
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))  # where each run of equal indices begins
        rows = g.reshape(-1, g.shape[-1])[order]  # (number of indices, D)
        grad[ordered[starts]] = np.add.reduceat(rows, starts, axis=0)
    if padding_idx is not None:
        grad[padding_idx] = 0
    return grad
