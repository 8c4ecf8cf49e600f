"""Batch norm of tiny maps: all numbers of a sample at once, as columns of a matrix (N, C H W).

A map of 2 x 2 is four numbers, too few for a loop of its own. So a block of channels is summed sample by sample, each
column apart, and then the columns of each channel; mean and scale are spread over the columns for the second pass.
Blocks do not need each other. Sums are float32 for ROWS samples, then float64. Read `norm.py` first.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels.cpu.runtime import compiled, compiled_parallel

LARGEST = 8  # numbers in a map
COLUMNS = 256  # in a block of channels, at most
ROWS = 64  # samples whose sums are float32


@compiled
def mean_of_first(x, first, area):
    total = np.float32(0)
    for j in range(first, first + area):
        total += x[0, j]
    return total / np.float32(area)


@compiled
def spread(value, columns, first, area):
    for j in range(first, first + area):
        columns[j] = value


@compiled
def add_distances(x, origin, totals, squares):
    for j in range(x.size):
        distance = x[j] - origin[j]
        totals[j] += distance
        squares[j] += distance * distance


@compiled
def add_dots(g, x, mean, totals, dots):
    for j in range(x.size):
        totals[j] += g[j]
        dots[j] += g[j] * (x[j] - mean[j])


@compiled
def move(parts, sums):
    """Add float32 sums to float64 ones, and begin them anew."""
    for j in range(parts.size):
        sums[j] += parts[j]
        parts[j] = 0


@compiled
def scaled(x, mean, scale, shift, y):
    for j in range(x.size):
        y[j] = (x[j] - mean[j]) * scale[j] + shift[j]


@compiled
def propagated(g, x, mean, factor, slope, offset, grad):
    for j in range(g.size):
        grad[j] = g[j] * factor[j] + ((x[j] - mean[j]) * slope[j] + offset[j])


@compiled
def sum_range(numbers, first, count):
    total = 0.0
    for j in range(first, first + count):
        total += numbers[j]
    return total


@compiled_parallel
def columns_forward(x, weight, bias, eps, y, mean, variance):
    """Fill y (N, C H W), mean and variance (C,)."""
    channels, area = len(mean), x.shape[1] // len(mean)
    each = max(1, COLUMNS // area)
    for block in prange((channels + each - 1) // each):
        forward_block(x, block * each, min(channels, block * each + each), area, weight, bias, eps, y, mean, variance)


@compiled
def forward_block(x, begin, end, area, weight, bias, eps, y, mean, variance):
    first, last = begin * area, end * area
    parts, sums = np.zeros((2, last - first), np.float32), np.zeros((2, last - first))
    centres, scales, shifts = np.empty((3, last - first), np.float32)
    for c in range(begin, end):
        spread(mean_of_first(x, c * area, area), centres, c * area - first, area)
    for n in range(len(x)):
        add_distances(x[n, first:last], centres, parts[0], parts[1])
        if n % ROWS == ROWS - 1 or n == len(x) - 1:
            move(parts[0], sums[0])
            move(parts[1], sums[1])
    count = len(x) * area
    for c in range(begin, end):
        j = c * area - first
        rest = sum_range(sums[0], j, area) / count
        width = sum_range(sums[1], j, area) / count - rest * rest
        width = 0.0 if width < 0 else width
        mean[c], variance[c] = centres[j] + rest, width
        spread(mean[c], centres, j, area)
        spread(np.float32(weight[c] / np.sqrt(width + eps)), scales, j, area)
        spread(bias[c], shifts, j, area)
    for n in range(len(x)):
        scaled(x[n, first:last], centres, scales, shifts, y[n, first:last])


@compiled_parallel
def columns_backward(g, x, weight, mean, variance, eps, grad, grad_weight, grad_bias):
    """Fill grad (N, C H W), grad_weight and grad_bias (C,)."""
    channels, area = len(mean), x.shape[1] // len(mean)
    each = max(1, COLUMNS // area)
    for block in prange((channels + each - 1) // each):
        backward_block(g, x, block * each, min(channels, block * each + each), area, weight, mean, variance, eps, grad,
                       grad_weight, grad_bias)


@compiled
def backward_block(g, x, begin, end, area, weight, mean, variance, eps, grad, grad_weight, grad_bias):
    first, last = begin * area, end * area
    parts, sums = np.zeros((2, last - first), np.float32), np.zeros((2, last - first))
    centres, factors, slopes, offsets = np.empty((4, last - first), np.float32)
    for c in range(begin, end):
        spread(mean[c], centres, c * area - first, area)
    for n in range(len(x)):
        add_dots(g[n, first:last], x[n, first:last], centres, parts[0], parts[1])
        if n % ROWS == ROWS - 1 or n == len(x) - 1:
            move(parts[0], sums[0])
            move(parts[1], sums[1])
    count = len(x) * area
    for c in range(begin, end):
        j = c * area - first
        total, dot = sum_range(sums[0], j, area), sum_range(sums[1], j, area)
        scale = 1 / np.sqrt(variance[c] + eps)
        grad_weight[c], grad_bias[c] = dot * scale, total
        spread(np.float32(weight[c] * scale), factors, j, area)
        spread(np.float32(-weight[c] * dot * scale * scale * scale / count), slopes, j, area)
        spread(np.float32(-weight[c] * total * scale / count), offsets, j, area)
    for n in range(len(x)):
        propagated(g[n, first:last], x[n, first:last], centres, factors, slopes, offsets, grad[n, first:last])
