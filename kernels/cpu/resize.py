"""Resizing of images: rows first, by whole vectors, then columns, through a row that stays in the cache.

The outputs that an input pixel goes into lie side by side, along rows and along columns. So gradients are computed
input by input, as sums over a range of outputs, each number written once. Equal rows of the nearest pixel are copied.
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
    axes = zip(size, g.shape[2:], step)
    rows, columns = [_ranges(nearest_sources(*axis, exact), axis[0]) for axis in axes]
    grad = empty((*g.shape[:2], *size))
    _run(nearest_grad_loop, g.size, _images(g), rows, columns, _images(grad))
    return grad


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
    sources = []
    for axis in zip(size, g.shape[2:], step):
        low, high, share = linear_sources(*axis, align_corners)
        sources += [_ranges(low, axis[0]), _ranges(high, axis[0]), share.astype(np.float32)]
    grad = empty((*g.shape[:2], *size))
    _run(bilinear_grad_loop, g.size, _images(g), *sources, _images(grad))
    return grad


def _images(x):
    return x.reshape(-1, *x.shape[2:])


def _blend(size, outputs, step, align_corners):
    low, high, share = linear_sources(size, outputs, step, align_corners)
    return low, high, share.astype(np.float32)


def _ranges(sources, size):
    """For every input of an axis, the outputs start..stop whose source it is: (size, 2)."""
    inputs = np.arange(size)
    starts, stops = np.searchsorted(sources, inputs), np.searchsorted(sources, inputs, side="right")
    return np.stack([starts, stops], axis=1)


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
def sum_ranges(x, ranges, y):
    for i in range(y.size):
        total = ZERO
        for o in range(ranges[i, 0], ranges[i, 1]):
            total += x[o]
        y[i] = total


@compiled
def sum_pairs(x, y):
    for i in range(y.size):
        y[i] = x[2 * i] + x[2 * i + 1]


@compiled
def all_pairs(ranges, outputs):
    """Whether each input goes into two outputs, as in an enlargement by two."""
    if 2 * len(ranges) != outputs:
        return False
    for i in range(len(ranges)):
        if ranges[i, 0] != 2 * i or ranges[i, 1] != 2 * i + 2:
            return False
    return True


@compiled
def nearest_grad_images(first, last, g, rows, columns, grad):
    outputs = g.shape[2]
    total, pairs = np.empty(outputs, np.float32), all_pairs(columns, outputs)
    for image in range(first, last):
        for row in range(len(rows)):
            total[:] = ZERO
            for o in range(rows[row, 0], rows[row, 1]):
                add_scaled(g[image, o], ONE, total)
            if pairs:
                sum_pairs(total, grad[image, row])
            else:
                sum_ranges(total, columns, grad[image, row])


@compiled_parallel
def nearest_grad_loop(g, rows, columns, grad):
    portions = min(len(g), PORTIONS)
    for portion in prange(portions):
        nearest_grad_images(len(g) * portion // portions, len(g) * (portion + 1) // portions, g, rows, columns, grad)


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
def sum_blends(x, low, high, shares, y):
    """For every input: what its outputs as the lower, and those as the higher of two, owe to it."""
    for i in range(y.size):
        total = ZERO
        for o in range(low[i, 0], low[i, 1]):
            total += x[o] * (ONE - shares[o])
        for o in range(high[i, 0], high[i, 1]):
            total += x[o] * shares[o]
        y[i] = total


@compiled
def bilinear_grad_images(first, last, g, low_rows, high_rows, row_shares, low, high, shares, grad):
    total = np.empty(g.shape[2], np.float32)
    for image in range(first, last):
        for row in range(len(low_rows)):
            total[:] = ZERO
            for o in range(low_rows[row, 0], low_rows[row, 1]):
                add_scaled(g[image, o], ONE - row_shares[o], total)
            for o in range(high_rows[row, 0], high_rows[row, 1]):
                add_scaled(g[image, o], row_shares[o], total)
            sum_blends(total, low, high, shares, grad[image, row])


@compiled_parallel
def bilinear_grad_loop(g, low_rows, high_rows, row_shares, low, high, shares, grad):
    portions = min(len(g), PORTIONS)
    for portion in prange(portions):
        bilinear_grad_images(len(g) * portion // portions, len(g) * (portion + 1) // portions, g, low_rows, high_rows,
                             row_shares, low, high, shares, grad)
