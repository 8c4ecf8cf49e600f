"""Adaptive pooling: windows of unequal size that share an image. Read pool.py first.

One window for a whole image is a sum over numbers that lie side by side, LANES images at a time. Of several windows,
rows are summed first, by whole vectors, then columns; gradients go the other way. The largest element of a whole image
is found first, then its place, both by vectors; that of several windows is sought one by one.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.pool_vectors import LANES, fill, first_lane, largest_lanes, run, sum_lanes, sum_rows
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, fits
from minidl.kernels.shapes import adaptive_windows

__all__ = ["adaptive_avg_pool2d", "adaptive_avg_pool2d_grad", "adaptive_max_pool2d", "adaptive_max_pool2d_grad"]

ZERO = np.float32(0)
ONE = (1, 1)
INT64 = np.dtype(np.int64)


def adaptive_avg_pool2d(x, *, output_size):
    if not fits(x) or not math.prod(output_size):
        return reference.adaptive_avg_pool2d(x, output_size=output_size)
    y, images = empty((*x.shape[:2], *output_size)), x.shape[0] * x.shape[1]
    if tuple(output_size) == ONE:
        run(x.size, whole_images, whole_portions, x.reshape(-1), y.reshape(-1), images, x.shape[2] * x.shape[3])
        return y
    rows, columns = _windows(x.shape[2:], output_size)
    run(x.size, mean_images, mean_portions, x.reshape(-1, *x.shape[2:]), rows, columns, y.reshape(-1, *output_size),
        images, 0)
    return y


def adaptive_avg_pool2d_grad(g, size):
    if not fits(g):
        return reference.adaptive_avg_pool2d_grad(g, size)
    grad, images = empty((*g.shape[:2], *size)), g.shape[0] * g.shape[1]
    if g.shape[2:] == ONE:
        run(grad.size, whole_grad_images, whole_grad_portions, g.reshape(-1), grad.reshape(-1), images,
            size[0] * size[1])
        return grad
    rows, columns = _windows(size, g.shape[2:])
    run(grad.size, mean_grad_images, mean_grad_portions, g.reshape(-1, *g.shape[2:]), rows, columns,
        grad.reshape(-1, *size), images, 0)
    return grad


def adaptive_max_pool2d(x, *, output_size):
    if not fits(x) or not math.prod(output_size):
        return reference.adaptive_max_pool2d(x, output_size=output_size)
    y, images = empty((*x.shape[:2], *output_size)), x.shape[0] * x.shape[1]
    winners = empty(y.shape, INT64)
    if tuple(output_size) == ONE:
        run(x.size, largest_whole_images, largest_whole_portions, x.reshape(-1), y.reshape(-1),
            winners.reshape(-1), images, x.shape[2] * x.shape[3])
        return y, winners
    rows, columns = _windows(x.shape[2:], output_size)
    run(x.size, largest_images, largest_portions, x.reshape(-1, *x.shape[2:]), rows, columns,
        y.reshape(-1, *output_size), winners.reshape(-1, *output_size), images, 0)
    return y, winners


def adaptive_max_pool2d_grad(g, winners, size):
    if not fits(g) or winners.dtype != np.int64 or not winners.flags.carray:
        return reference.adaptive_max_pool2d_grad(g, winners, size)
    grad, images = empty((*g.shape[:2], *size)), g.shape[0] * g.shape[1]
    run(grad.size, winner_images, winner_portions, g.reshape(images, -1), winners.reshape(images, -1),
        grad.reshape(images, -1), images, 0)
    return grad


def _windows(size, outputs):
    return [np.array(adaptive_windows(*axis)) for axis in zip(size, outputs)]


@compiled
def total_of(x, start, length):
    if length >= LANES:
        return sum_lanes(x, start, length)
    total = ZERO
    for i in range(start, start + length):
        total += x[i]
    return total


@compiled
def whole_images(x, y, images, size, first, last):
    """The mean of every image, `size` numbers each."""
    image, count = first, np.float32(size)
    while image + LANES <= last and size >= LANES:
        sum_rows(x, image * size, size, count, y, image)
        image += LANES
    for other in range(image, last):
        y[other] = total_of(x, other * size, size) / count


@compiled_parallel
def whole_portions(x, y, images, size, portions):
    for portion in prange(portions):
        whole_images(x, y, images, size, images * portion // portions, images * (portion + 1) // portions)


@compiled
def whole_grad_images(g, grad, images, size, first, last):
    for image in range(first, last):
        fill(grad, image * size, size, g[image] / np.float32(size))


@compiled_parallel
def whole_grad_portions(g, grad, images, size, portions):
    for portion in prange(portions):
        whole_grad_images(g, grad, images, size, images * portion // portions, images * (portion + 1) // portions)


@compiled
def add_row(x, total):
    for i in range(total.size):
        total[i] += x[i]


@compiled
def mean_images(x, rows, columns, y, images, _, first, last):
    total = np.empty(x.shape[2], np.float32)
    for image in range(first, last):
        for row in range(len(rows)):
            above, below = rows[row]
            total[:] = ZERO
            for line in range(above, below):
                add_row(x[image, line], total)
            for column in range(len(columns)):
                left, right = columns[column]
                count = np.float32((below - above) * (right - left))
                y[image, row, column] = total_of(total, left, right - left) / count


@compiled_parallel
def mean_portions(x, rows, columns, y, images, unused, portions):
    for portion in prange(portions):
        mean_images(x, rows, columns, y, images, unused, images * portion // portions,
                    images * (portion + 1) // portions)


@compiled
def mean_grad_images(g, rows, columns, grad, images, _, first, last):
    shares = np.empty(grad.shape[2], np.float32)
    for image in range(first, last):
        grad[image] = ZERO
        for row in range(len(rows)):
            above, below = rows[row]
            shares[:] = ZERO
            for column in range(len(columns)):
                left, right = columns[column]
                share = g[image, row, column] / np.float32((below - above) * (right - left))
                for i in range(left, right):
                    shares[i] += share
            for line in range(above, below):
                add_row(shares, grad[image, line])


@compiled_parallel
def mean_grad_portions(g, rows, columns, grad, images, unused, portions):
    for portion in prange(portions):
        mean_grad_images(g, rows, columns, grad, images, unused, images * portion // portions,
                         images * (portion + 1) // portions)


@compiled
def place_of(x, start, size, value):
    """Where among `size` numbers from x[start] on `value` is found first; it is there."""
    for place in range(start, start + size - LANES, LANES):
        lane = first_lane(x, place, value)
        if lane < LANES:
            return place + lane - start
    last = size - LANES  # the last vector ends with the numbers
    return last + first_lane(x, start + last, value)


@compiled
def largest_whole_images(x, y, winners, images, size, first, last):
    for image in range(first, last):
        start = image * size
        if size >= LANES:
            y[image] = largest_lanes(x, start, size)
            winners[image] = place_of(x, start, size, y[image])
            continue
        best, winner = x[start], 0
        for i in range(1, size):
            value = x[start + i]
            if value > best or (value != value and best == best):
                best, winner = value, i
        y[image], winners[image] = best, winner


@compiled_parallel
def largest_whole_portions(x, y, winners, images, size, portions):
    for portion in prange(portions):
        largest_whole_images(x, y, winners, images, size, images * portion // portions,
                             images * (portion + 1) // portions)


@compiled
def largest_images(x, rows, columns, y, winners, images, _, first, last):
    width = x.shape[2]
    for image in range(first, last):
        for row in range(len(rows)):
            above, below = rows[row]
            for column in range(len(columns)):
                left, right = columns[column]
                best, winner = x[image, above, left], above * width + left
                for line in range(above, below):
                    for i in range(left, right):
                        value = x[image, line, i]
                        if value > best or (value != value and best == best):
                            best, winner = value, line * width + i
                y[image, row, column], winners[image, row, column] = best, winner


@compiled_parallel
def largest_portions(x, rows, columns, y, winners, images, unused, portions):
    for portion in prange(portions):
        largest_images(x, rows, columns, y, winners, images, unused, images * portion // portions,
                       images * (portion + 1) // portions)


@compiled
def winner_images(g, winners, grad, images, _, first, last):
    for image in range(first, last):
        grad[image] = ZERO
        for window in range(g.shape[1]):
            grad[image, winners[image, window]] += g[image, window]


@compiled_parallel
def winner_portions(g, winners, grad, images, unused, portions):
    for portion in prange(portions):
        winner_images(g, winners, grad, images, unused, images * portion // portions,
                      images * (portion + 1) // portions)
