"""A table look-up, and its gradient: rows of g are added, in the order of the batch, where they were read from."""

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.runtime import FLOAT32, compiled, compiled_parallel, empty, fits, parallel

__all__ = ["embedding", "embedding_grad"]

PARTS = 8  # part c of the table is every eighth row, from row c: frequent entries are spread over the threads
MANY = 30_000  # elements of g from which threads share the table


@compiled
def all_inside(indices, rows):
    outside = 0
    for i in range(indices.size):
        outside += indices[i] < 0 or indices[i] >= rows
    return outside == 0


@compiled
def copy(row, y):
    for i in range(y.size):
        y[i] = row[i]


@compiled_parallel
def embedding_loop(weight, indices, y):
    if not all_inside(indices, len(weight)):
        return False
    for i in prange(indices.size):
        copy(weight[indices[i]], y[i])
    return True


def embedding(weight, indices):
    if not fits(weight) or not _whole(indices) or not indices.size:
        return reference.embedding(weight, indices)
    y = empty((*indices.shape, weight.shape[1]))
    if not parallel(embedding_loop, weight, indices.reshape(-1), y.reshape(-1, weight.shape[1]),
                    limit=1 if y.size < MANY else None):
        raise IndexError(f"an index lies outside the {len(weight)} rows of the table")
    return y


@compiled_parallel
def embedding_grad_loop(g, indices, grad):
    for part in prange(PARTS):
        for row in range(indices.size):
            target = indices[row]
            if target % PARTS == part:
                for column in range(g.shape[1]):
                    grad[target, column] += g[row, column]


def embedding_grad(g, indices, num_embeddings, padding_idx=None):
    if g.dtype == FLOAT32:
        g = np.ascontiguousarray(g)  # of sequences read time step by time step it comes as a view
    if not (_whole(indices) and fits(g)) or indices.min() < 0 or indices.max() >= num_embeddings:
        return reference.embedding_grad(g, indices, num_embeddings, padding_idx)
    grad = np.zeros((num_embeddings, g.shape[-1]), np.float32)
    parallel(embedding_grad_loop, g.reshape(-1, g.shape[-1]), indices.reshape(-1), grad,
             limit=1 if g.size < MANY else None)
    if padding_idx is not None:
        grad[padding_idx] = 0
    return grad


def _whole(indices) -> bool:
    return type(indices) is np.ndarray and indices.dtype == np.int64 and indices.flags.carray
