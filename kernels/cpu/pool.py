"""Pooling: the largest element of every window, many windows at a time. Read next: pool_average.py, pool_adaptive.py.

Windows that lie inside the image go LANES at a time through `pool_vectors.py`; those that reach into the padding, and
strides above 2, are walked tap by tap. A vector may write beyond the end of its row: rows are computed in order, so
that the next one overwrites it, and the last ones of a portion are walked. Gradients of 2 x 2 and 3 x 3 windows, two
apart, write every number once; other windows add theirs one by one.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.pool_adaptive import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_grad,
    adaptive_max_pool2d,
    adaptive_max_pool2d_grad,
)
from minidl.kernels.cpu.pool_average import avg_pool2d, avg_pool2d_grad
from minidl.kernels.cpu.pool_vectors import (
    LANES,
    NEVER,
    fill,
    geometry_of,
    inside,
    largest_1,
    largest_2,
    run,
    spread_pair,
    tap_range,
    triple_0,
    triple_1,
)
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, fits
from minidl.kernels.reference.pool import output_size as pooled_size

__all__ = [
    "adaptive_avg_pool2d", "adaptive_avg_pool2d_grad", "adaptive_max_pool2d", "adaptive_max_pool2d_grad", "avg_pool2d",
    "avg_pool2d_grad", "max_pool2d", "max_pool2d_grad",
]

ONE = (1, 1)


def max_pool2d(x, *, kernel_size, stride, padding, dilation, ceil_mode):
    # In an image smaller than the dilation there are windows whose taps all miss it.
    if not fits(x) or kernel_size[0] * kernel_size[1] > 256 or _gaps(x.shape[2:], dilation):
        return reference.max_pool2d(x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
                                    ceil_mode=ceil_mode)
    size = pooled_size(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    y, winners = empty((*x.shape[:2], *size)), np.empty((*x.shape[:2], *size), np.uint8)
    images, geometry = x.shape[0] * x.shape[1], geometry_of(x.shape[2:], size, kernel_size, stride, padding, dilation)
    run(x.size, max_images, max_portions, x.reshape(-1), y.reshape(-1), winners.reshape(-1), images, geometry)
    return y, winners


def max_pool2d_grad(g, winners, size, *, kernel_size, stride, padding, dilation):
    images = g.shape[0] * g.shape[1]
    if not fits(g) or winners.dtype != np.uint8 or not winners.flags.carray or _gaps(size, dilation):
        return reference.max_pool2d_grad(g, winners, size, kernel_size=kernel_size, stride=stride, padding=padding,
                                         dilation=dilation)
    grad = empty((*g.shape[:2], *size))
    geometry = geometry_of(size, g.shape[2:], kernel_size, stride, padding, dilation)
    arrays = g.reshape(-1), winners.reshape(-1), grad.reshape(-1)
    if stride == (2, 2) and dilation == ONE and kernel_size == (2, 2) and padding == (0, 0):
        run(grad.size, pair_images, pair_portions, *arrays, images, geometry)
    elif stride == (2, 2) and dilation == ONE and kernel_size == (3, 3):
        run(grad.size, triple_images, triple_portions, *arrays, images, geometry)
    else:
        run(grad.size, scatter_images, scatter_portions, *arrays, images, geometry)
    return grad


def _gaps(size, dilation) -> bool:
    return size[0] < dilation[0] or size[1] < dilation[1]


@compiled
def max_images(x, y, winners, images, geometry, first, last):
    height, width, rows, columns, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, step_h, step_w = geometry
    left, right = inside(width, columns, kernel_w, stride_w, pad_w, step_w)
    end = last * rows * columns
    for image in range(first, last):
        for row in range(rows):
            top = row * stride_h - pad_h
            above, below = tap_range(top, height, kernel_h, step_h)
            place = (image * rows + row) * columns
            start = (image * height + top + above * step_h) * width - pad_w
            reach = (below - above - 1) * step_h * width + (kernel_w - 1) * step_w + (LANES - 1) * stride_w + 1
            column = left
            while column < right and stride_w < 3 and place + column + LANES <= end:
                corner = start + column * stride_w
                if corner + reach > x.size:
                    break
                if stride_w == 1:
                    largest_1(x, corner, step_h * width, step_w, below - above, kernel_w, above * kernel_w, kernel_w,
                              y, winners, place + column)
                else:
                    largest_2(x, corner, step_h * width, step_w, below - above, kernel_w, above * kernel_w, kernel_w,
                              y, winners, place + column)
                column += LANES
            column = min(column, right)
            for other in range(columns - column + left):
                at = other if other < left else column + other - left
                corner = at * stride_w - pad_w
                first_tap, stop_tap = tap_range(corner, width, kernel_w, step_w)
                best, winner = x[start + at * stride_w + first_tap * step_w], above * kernel_w + first_tap
                for i in range(above, below):
                    for j in range(first_tap, stop_tap):
                        value = x[start + (i - above) * step_h * width + at * stride_w + j * step_w]
                        if value > best or value != value:
                            best, winner = value, i * kernel_w + j
                y[place + at] = best
                winners[place + at] = winner


@compiled_parallel
def max_portions(x, y, winners, images, geometry, portions):
    for portion in prange(portions):
        max_images(x, y, winners, images, geometry, images * portion // portions, images * (portion + 1) // portions)


@compiled
def pair_images(g, winners, grad, images, geometry, first, last):
    height, width, rows, columns = geometry[:4]
    end = last * height * width
    full = min(columns, width >> 1)  # with ceil_mode the last window may run over the end
    for image in range(first, last):
        for row in range(rows):
            place, target = (image * rows + row) * columns, (image * height + 2 * row) * width
            column, lines = 0, min(2, height - 2 * row)
            if lines == 2 and columns == full and place + LANES <= g.size:
                if columns >= LANES:  # the last vector ends with the row, over part of the one before
                    while column < columns:
                        column = min(column, columns - LANES)
                        spread_pair(g, winners, place + column, grad, target + 2 * column, width)
                        column += LANES
                elif target + width + 2 * LANES <= end:
                    spread_pair(g, winners, place, grad, target, width)
                    column = columns
            for tap in range(0, 2 * lines, 2):
                start = target + width * (tap >> 1)
                for at in range(2 * column, width):
                    source = place + min(at >> 1, columns - 1)
                    won = at >> 1 < columns and winners[source] == tap + (at & 1)
                    grad[start + at] = g[source] if won else np.float32(0)
        done = min(2 * rows, height)
        fill(grad, (image * height + done) * width, (height - done) * width, np.float32(0))


@compiled_parallel
def pair_portions(g, winners, grad, images, geometry, portions):
    for portion in prange(portions):
        pair_images(g, winners, grad, images, geometry, images * portion // portions,
                    images * (portion + 1) // portions)


@compiled
def triple_images(g, winners, grad, images, geometry, first, last):
    height, width, rows, columns = geometry[:4]
    pad_h, pad_w = geometry[8:10]
    end = last * height * width
    for image in range(first, last):
        for line in range(height):
            row, tap, tap_above = (line + pad_h) >> 1, 0, 6  # first row of this window, last of the one above
            if (line + pad_h) & 1:
                tap, tap_above = 3, NEVER
            if row >= rows:
                tap = NEVER
            if row < 1 or row > rows:
                tap_above = NEVER
            place = (image * rows + min(row, rows - 1)) * columns
            above = (image * rows + min(max(row - 1, 0), rows - 1)) * columns
            target = (image * height + line) * width
            column = 0
            while 2 * column < width and target + 2 * (column + LANES) <= end and min(place, above) > 0:
                if max(place, above) + column + LANES + pad_w > g.size:
                    break
                if pad_w:
                    triple_1(g, winners, place, tap, above, tap_above, column, columns, grad, target + 2 * column)
                else:
                    triple_0(g, winners, place, tap, above, tap_above, column, columns, grad, target + 2 * column)
                column += LANES
            for at in range(2 * column, width):
                grad[target + at] = (triple_sum(g, winners, place, tap, columns, at + pad_w)
                                     + triple_sum(g, winners, above, tap_above, columns, at + pad_w))


@compiled
def triple_sum(g, winners, place, tap, columns, at):
    """What one row of 3 x 3 windows gives to a column: `at` counts from the first window's corner."""
    column, total = at >> 1, np.float32(0)
    if column < columns and winners[place + column] == tap + (at & 1):
        total += g[place + column]
    if at & 1 == 0 and 0 < column <= columns and winners[place + column - 1] == tap + 2:
        total += g[place + column - 1]
    return total


@compiled_parallel
def triple_portions(g, winners, grad, images, geometry, portions):
    for portion in prange(portions):
        triple_images(g, winners, grad, images, geometry, images * portion // portions,
                      images * (portion + 1) // portions)


@compiled
def scatter_images(g, winners, grad, images, geometry, first, last):
    height, width, rows, columns, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, step_h, step_w = geometry
    steps = np.empty(kernel_h * kernel_w, np.int64)  # from a window's corner to each of its taps
    for tap in range(steps.size):
        steps[tap] = tap // kernel_w * step_h * width + tap % kernel_w * step_w
    grad[first * height * width:last * height * width] = 0
    for image in range(first, last):
        for row in range(rows):
            place = (image * rows + row) * columns
            corner = (image * height + row * stride_h - pad_h) * width - pad_w
            for column in range(columns):
                grad[corner + column * stride_w + steps[winners[place + column]]] += g[place + column]


@compiled_parallel
def scatter_portions(g, winners, grad, images, geometry, portions):
    for portion in prange(portions):
        scatter_images(g, winners, grad, images, geometry, images * portion // portions,
                       images * (portion + 1) // portions)
