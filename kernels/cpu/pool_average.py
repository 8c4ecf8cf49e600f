"""Average pooling of windows of one size. Read pool.py first.

Sums of windows inside the image go LANES at a time, the others tap by tap. The gradient of 2 x 2 windows side by side
writes every number once; others add theirs one by one.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.pool_vectors import (
    LANES,
    geometry_of,
    inside,
    means_1,
    means_2,
    run,
    spread_share,
    tap_range,
)
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, fits
from minidl.kernels.reference.pool import output_size as pooled_size
from minidl.kernels.shapes import window_lengths

__all__ = ["avg_pool2d", "avg_pool2d_grad"]

ONE = (1, 1)


def avg_pool2d(x, *, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    if not fits(x):
        return reference.avg_pool2d(x, kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
                                    count_include_pad=count_include_pad, divisor_override=divisor_override)
    size = pooled_size(x.shape[2:], kernel_size, stride, padding, ONE, ceil_mode)
    y, images = empty((*x.shape[:2], *size)), x.shape[0] * x.shape[1]
    lengths = _divisors(x.shape[2:], size, kernel_size, stride, padding, count_include_pad, divisor_override)
    geometry = geometry_of(x.shape[2:], size, kernel_size, stride, padding, ONE)
    run(x.size, mean_images, mean_portions, x.reshape(-1), *lengths, y.reshape(-1), images, geometry)
    return y


def avg_pool2d_grad(g, size, *, kernel_size, stride, padding, count_include_pad, divisor_override):
    images = g.shape[0] * g.shape[1]
    if not fits(g):
        return reference.avg_pool2d_grad(g, size, kernel_size=kernel_size, stride=stride, padding=padding,
                                         count_include_pad=count_include_pad, divisor_override=divisor_override)
    grad = empty((*g.shape[:2], *size))
    lengths = _divisors(size, g.shape[2:], kernel_size, stride, padding, count_include_pad, divisor_override)
    geometry = geometry_of(size, g.shape[2:], kernel_size, stride, padding, ONE)
    run(grad.size, share_images, share_portions, g.reshape(-1), *lengths, grad.reshape(-1), images, geometry)
    return grad


def _divisors(size, outputs, kernel_size, stride, padding, count_include_pad, divisor_override):
    """Two vectors, over rows and columns of windows, whose products are what the windows' sums are divided by."""
    if divisor_override is not None:
        return np.full(outputs[0], divisor_override, np.float32), np.ones(outputs[1], np.float32)
    axes = zip(size, outputs, kernel_size, stride, padding)
    return [np.array(window_lengths(*axis, count_include_pad), np.float32) for axis in axes]


@compiled
def mean_images(x, row_lengths, column_lengths, y, images, geometry, first, last):
    height, width, rows, columns, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w = geometry[:10]
    left, right = inside(width, columns, kernel_w, stride_w, pad_w, 1)
    end = last * rows * columns
    for image in range(first, last):
        for row in range(rows):
            top = row * stride_h - pad_h
            above, below = tap_range(top, height, kernel_h, 1)
            place = (image * rows + row) * columns
            start = (image * height + top + above) * width - pad_w
            reach = (below - above - 1) * width + kernel_w + (LANES - 1) * stride_w
            column = left
            while column < right and stride_w < 3 and place + column + LANES <= end:
                corner, divisor = start + column * stride_w, row_lengths[row] * column_lengths[left]
                if corner + reach > x.size:
                    break
                if stride_w == 1:
                    means_1(x, corner, width, 1, below - above, kernel_w, divisor, y, place + column)
                else:
                    means_2(x, corner, width, 1, below - above, kernel_w, divisor, y, place + column)
                column += LANES
            column = min(column, right)
            for other in range(columns - column + left):
                at = other if other < left else column + other - left
                first_tap, stop_tap = tap_range(at * stride_w - pad_w, width, kernel_w, 1)
                total = np.float32(0)
                for i in range(below - above):
                    for j in range(first_tap, stop_tap):
                        total += x[start + i * width + at * stride_w + j]
                y[place + at] = total / (row_lengths[row] * column_lengths[at])


@compiled_parallel
def mean_portions(x, row_lengths, column_lengths, y, images, geometry, portions):
    for portion in prange(portions):
        mean_images(x, row_lengths, column_lengths, y, images, geometry, images * portion // portions,
                    images * (portion + 1) // portions)


@compiled
def share_images(g, row_lengths, column_lengths, grad, images, geometry, first, last):
    height, width, rows, columns, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w = geometry[:10]
    if (height, width, stride_h, stride_w) == (2 * rows, 2 * columns, 2, 2) and (kernel_h, kernel_w) == (2, 2):
        share_pairs(g, row_lengths[0] * column_lengths[0], grad, rows, columns, first, last)
        return
    grad[first * height * width:last * height * width] = 0
    for image in range(first, last):
        for row in range(rows):
            above, below = tap_range(row * stride_h - pad_h, height, kernel_h, 1)
            place = (image * rows + row) * columns
            start = (image * height + row * stride_h - pad_h) * width
            for column in range(columns):
                corner = column * stride_w - pad_w
                share = g[place + column] / (row_lengths[row] * column_lengths[column])
                first_tap, stop_tap = tap_range(corner, width, kernel_w, 1)
                for i in range(above, below):
                    for j in range(first_tap, stop_tap):
                        grad[start + i * width + corner + j] += share


@compiled
def share_pairs(g, divisor, grad, rows, columns, first, last):
    """The gradient of 2 x 2 windows that cover an image side by side."""
    end = last * rows * columns
    for row in range(first * rows, last * rows):
        for line in range(2 * row, 2 * row + 2):
            column, place = 0, row * columns
            while column < columns and place + column + LANES <= end:
                target = 2 * (line * columns + column)
                if target + 2 * LANES > 4 * end:
                    break
                spread_share(g, place + column, divisor, grad, target)
                column += LANES
            for at in range(column, columns):
                share = g[place + at] / divisor
                grad[2 * (line * columns + at)] = share
                grad[2 * (line * columns + at) + 1] = share


@compiled_parallel
def share_portions(g, row_lengths, column_lengths, grad, images, geometry, portions):
    for portion in prange(portions):
        share_images(g, row_lengths, column_lengths, grad, images, geometry, images * portion // portions,
                     images * (portion + 1) // portions)
