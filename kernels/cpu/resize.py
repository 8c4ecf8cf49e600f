"""Resizing of images: rows first, by whole vectors, then columns, through a row that stays in the cache.

The outputs that an input pixel goes into lie side by side, along rows and along columns. So a gradient is a sum over a
few neighbours for each input, and each number is written once; a table says where they begin and what they weigh.
Equal rows of the nearest pixel are copied.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, fits, parallel
from minidl.kernels.shapes import linear_sources, nearest_sources

__all__ = ["upsample_bilinear2d", "upsample_bilinear2d_grad", "upsample_nearest2d", "upsample_nearest2d_grad"]

SMALL = 2**15  # numbers, below which one thread is faster than two
PORTIONS = 32  # of the images, for the threads to share
ZERO, ONE = np.float32(0), np.float32(1)
NONE = np.float32(-1)  # no weight is below zero


def upsample_nearest2d(x, *, size, step, exact):
    if not fits(x):
        return reference.upsample_nearest2d(x, size=size, step=step, exact=exact)
    rows, columns = [nearest_sources(*axis, exact) for axis in zip(x.shape[2:], size, step)]
    y = empty((*x.shape[:2], *size))
    _run(nearest_loop, y.size, _images(x), rows, columns, _images(y))
    return y


def upsample_nearest2d_grad(g, size, *, step, exact):
    if not fits(g):
        return reference.upsample_nearest2d_grad(g, size, step=step, exact=exact)
    tables = []
    for axis in zip(size, g.shape[2:], step):
        sources = nearest_sources(*axis, exact)
        tables += _table(axis[0], sources, sources, np.zeros(len(sources), np.float32))
    return _gradient(g, size, tables)


def upsample_bilinear2d(x, *, size, step, align_corners):
    if not fits(x):
        return reference.upsample_bilinear2d(x, size=size, step=step, align_corners=align_corners)
    y = empty((*x.shape[:2], *size))
    blends = [array for axis in zip(x.shape[2:], size, step) for array in _blend(*axis, align_corners)]
    _run(bilinear_loop, y.size, _images(x), *blends, _images(y))
    return y


def upsample_bilinear2d_grad(g, size, *, step, align_corners):
    if not fits(g):
        return reference.upsample_bilinear2d_grad(g, size, step=step, align_corners=align_corners)
    axes = zip(size, g.shape[2:], step)
    return _gradient(g, size, [array for axis in axes for array in _table(axis[0], *_blend(*axis, align_corners))])


def _images(x):
    return x.reshape(-1, *x.shape[2:])


def _blend(size, outputs, step, align_corners):
    low, high, share = linear_sources(size, outputs, step, align_corners)
    return low, high, share.astype(np.float32)


def _table(size, low, high, share):
    """For every input of an axis its first output, and the weights of that and of its neighbours, (neighbours, size).

    Inputs go into different numbers of outputs: a weight is NONE where an output is not of this input.
    """
    inputs = np.arange(size)
    starts, stops = np.searchsorted(high, inputs), np.searchsorted(low, inputs, side="right")
    count = int((stops - starts).max())
    starts = np.minimum(starts, len(low) - count)
    outputs = starts + np.arange(count)[:, None]
    weights = np.where(low[outputs] == inputs, ONE - share[outputs], ZERO)
    weights += np.where(high[outputs] == inputs, share[outputs], ZERO)
    weights[(low[outputs] != inputs) & (high[outputs] != inputs)] = NONE
    return starts, weights


def _gradient(g, size, tables):
    grad = empty((*g.shape[:2], *size))
    _run(gradient_loop, g.size, _images(g), *tables, _images(grad))
    return grad


def _run(loop, work, *arguments):
    parallel(loop, *arguments, limit=1 if work < SMALL else None)


@compiled
def pick(x, columns, y):
    for i in range(y.size):
        y[i] = x[columns[i]]


@compiled
def copy(x, y):
    for i in range(y.size):
        y[i] = x[i]


@compiled
def blend(low, high, share, y):
    """y = low (1 - share) + high share, of two rows."""
    rest = ONE - share
    for i in range(y.size):
        y[i] = low[i] * rest + high[i] * share


@compiled
def blend_columns(x, low, high, share, y):
    for i in range(y.size):
        y[i] = x[low[i]] * (ONE - share[i]) + x[high[i]] * share[i]


@compiled
def add_scaled(x, factor, y):
    for i in range(y.size):
        y[i] += x[i] * factor


@compiled
def nearest_image(x, rows, columns, y):
    for row in range(len(rows)):
        if row and rows[row] == rows[row - 1]:
            copy(y[row - 1], y[row])
        else:
            pick(x[rows[row]], columns, y[row])


@compiled_parallel
def nearest_loop(x, rows, columns, y):
    for image in prange(len(x)):
        nearest_image(x[image], rows, columns, y[image])


@compiled
def bilinear_images(first, last, x, low_rows, high_rows, row_shares, low, high, shares, y):
    blended = np.empty(x.shape[2], np.float32)
    for image in range(first, last):
        for row in range(len(low_rows)):
            blend(x[image, low_rows[row]], x[image, high_rows[row]], row_shares[row], blended)
            blend_columns(blended, low, high, shares, y[image, row])


@compiled_parallel
def bilinear_loop(x, low_rows, high_rows, row_shares, low, high, shares, y):
    portions = min(len(x), PORTIONS)
    for portion in prange(portions):
        bilinear_images(len(x) * portion // portions, len(x) * (portion + 1) // portions, x, low_rows, high_rows,
                        row_shares, low, high, shares, y)


@compiled
def add_neighbours(x, starts, ahead, weights, y):
    """Add to every input what it owes to the output that is `ahead` of its first one."""
    for i in range(y.size):
        weight = weights[i]
        y[i] += ZERO if weight < ZERO else x[starts[i] + ahead] * weight


@compiled
def add_pairs(x, y):
    for i in range(y.size):
        y[i] = x[2 * i] + x[2 * i + 1]


@compiled
def all_pairs(starts, weights, outputs):
    """Whether every input goes as it is into two outputs of its own: the nearest pixel, enlarged by two."""
    if len(weights) != 2 or outputs != 2 * len(starts):
        return False
    for i in range(len(starts)):
        if starts[i] != 2 * i or weights[0, i] != ONE or weights[1, i] != ONE:
            return False
    return True


@compiled
def gradient_images(first, last, g, row_starts, row_weights, starts, weights, grad):
    total, pairs = np.empty(g.shape[2], np.float32), all_pairs(starts, weights, g.shape[2])
    for image in range(first, last):
        for row in range(len(row_starts)):
            total[:] = ZERO
            for ahead in range(len(row_weights)):
                if row_weights[ahead, row] >= ZERO:
                    add_scaled(g[image, row_starts[row] + ahead], row_weights[ahead, row], total)
            if pairs:
                add_pairs(total, grad[image, row])
                continue
            grad[image, row] = ZERO
            for ahead in range(len(weights)):
                add_neighbours(total, starts, ahead, weights[ahead], grad[image, row])


@compiled_parallel
def gradient_loop(g, row_starts, row_weights, starts, weights, grad):
    portions = min(len(g), PORTIONS)
    for portion in prange(portions):
        gradient_images(len(g) * portion // portions, len(g) * (portion + 1) // portions, g, row_starts, row_weights,
                        starts, weights, grad)
