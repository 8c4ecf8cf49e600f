"""Dropout in one pass. The mask is drawn as in the reference, so that a seed gives the same one everywhere."""

import numpy as np
from numba import prange

from minidl.kernels.cpu.runtime import compiled_parallel, empty, fits, parallel
from minidl.kernels.reference.dropout import dropout as reference_dropout

__all__ = ["dropout"]

FEW, MANY = 400, 30_000  # elements from which a compiled loop is called, and threads share it


@compiled_parallel
def dropout_loop(x, mask, y, scale):
    factor = np.float32(scale)
    for i in prange(x.size):
        y[i] = x[i] * (factor if mask[i] else np.float32(0))


def dropout(x, mask, p):
    if x.size < FEW or not fits(x) or mask.shape != x.shape or mask.dtype != np.bool_ or not mask.flags.carray:
        return reference_dropout(x, mask, p)
    y = empty(x.shape)
    parallel(dropout_loop, x.reshape(-1), mask.reshape(-1), y.reshape(-1), 1 / (1 - p) if p < 1 else 1.0,
             limit=1 if x.size < MANY else None)
    return y
