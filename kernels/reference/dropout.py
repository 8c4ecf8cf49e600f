"""Dropout: draw which elements stay, and scale those that do."""

import numpy as np


def dropout_mask(shape, p, generator):
    return generator.random(shape, dtype=np.float32) >= p


def dropout(x, mask, p):
    y = x * mask
    if p < 1:
        y *= 1 / (1 - p)
    return y
