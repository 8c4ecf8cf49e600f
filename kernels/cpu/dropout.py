"""Dropout: the mask by a counter, so that threads share it, and its product with x in one pass.

The bits of the mask are the reference's, so that a seed gives the same one everywhere.
"""

import math

import numpy as np
from numba import prange

from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, fits, parallel
from minidl.kernels.reference.dropout import STEP
from minidl.kernels.reference.dropout import dropout as reference_dropout

__all__ = ["dropout", "dropout_mask"]

FEW, MANY = 400, 30_000  # elements from which a compiled loop is called, and threads share it
PART = 4096  # pairs that a thread takes at a time

BOOL = np.dtype(np.bool_)
GOLDEN, FIRST, SECOND = np.uint64(STEP), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
ONE, BY_27, BY_30, BY_31, BY_32 = np.uint64(1), np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
LOWER = np.uint64(0xFFFFFFFF)


@compiled(forceinline=True)
def mix(word):
    word = (word ^ (word >> BY_30)) * FIRST
    word = (word ^ (word >> BY_27)) * SECOND
    return word ^ (word >> BY_31)


@compiled
def draw_pairs(first, seed, threshold, mask):
    """The mask of the pairs of elements from number `first` on."""
    for pair in range(mask.size >> 1):
        word = mix(seed + (first + np.uint64(pair) + ONE) * GOLDEN)
        mask[2 * pair] = (word & LOWER) >= threshold
        mask[2 * pair + 1] = (word >> BY_32) >= threshold
    if mask.size & 1:
        word = mix(seed + (first + np.uint64(mask.size >> 1) + ONE) * GOLDEN)
        mask[mask.size - 1] = (word & LOWER) >= threshold


@compiled_parallel
def mask_loop(seed, threshold, mask):
    for part in prange(-(-mask.size // (2 * PART))):
        draw_pairs(np.uint64(part * PART), seed, threshold, mask[2 * part * PART:2 * (part + 1) * PART])


@compiled_parallel
def dropout_loop(x, mask, y, scale):
    factor = np.float32(scale)
    for i in prange(x.size):
        y[i] = x[i] * (factor if mask[i] else np.float32(0))


def dropout_mask(shape, p, generator):
    mask = empty(math.prod(shape), BOOL)
    parallel(mask_loop, generator.integers(2**64, dtype=np.uint64), np.uint64(round(p * 2**32)), mask,
             limit=1 if mask.size < MANY else None)
    return mask.reshape(shape)


def dropout(x, mask, p):
    if x.size < FEW or not fits(x) or mask.shape != x.shape or mask.dtype != np.bool_ or not mask.flags.carray:
        return reference_dropout(x, mask, p)
    y = empty(x.shape)
    parallel(dropout_loop, x.reshape(-1), mask.reshape(-1), y.reshape(-1), 1 / (1 - p) if p < 1 else 1.0,
             limit=1 if x.size < MANY else None)
    return y
