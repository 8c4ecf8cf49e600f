"""The gradient of a table look-up: rows of g are added, in the order of the batch, where they were read from."""

import numpy as np
from numba import prange

from minidl.kernels.cpu.runtime import FLOAT32, compiled_parallel, fits, parallel
from minidl.kernels.reference import embedding as reference

__all__ = ["embedding_grad"]

PARTS = 8  # part c of the table is every eighth row, from row c: frequent entries are spread over the threads
MANY = 30_000  # elements of g from which threads share the table


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
    whole = type(indices) is np.ndarray and indices.dtype == np.int64 and indices.flags.carray
    if not (whole and fits(g)) or indices.min() < 0 or indices.max() >= num_embeddings:
        return reference.embedding_grad(g, indices, num_embeddings, padding_idx)
    grad = np.zeros((num_embeddings, g.shape[-1]), np.float32)
    parallel(embedding_grad_loop, g.reshape(-1, g.shape[-1]), indices.reshape(-1), grad,
             limit=1 if g.size < MANY else None)
    if padding_idx is not None:
        grad[padding_idx] = 0
    return grad
