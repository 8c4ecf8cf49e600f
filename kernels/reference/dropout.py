"""Dropout: draw which elements stay, and scale those that do."""

import math

import numpy as np

STEP = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, odd


def dropout_mask(shape, p, generator):
    count = math.prod(shape)
    seed = generator.integers(2**64, dtype=np.uint64)
    words = mix(np.arange(1, (count + 1) // 2 + 1, dtype=np.uint64) * np.uint64(STEP) + seed)
    halves = np.stack([words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)], axis=1).reshape(-1)
    return (halves[:count] >= np.uint64(round(p * 2**32))).reshape(shape)


def mix(word):
    """SplitMix64's function of 64-bit words: each bit of the result depends on all bits of the word."""
    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return word ^ word >> np.uint64(31)


def dropout(x, mask, p):
    y = x * mask
    if p < 1:
        y *= 1 / (1 - p)
    return y
