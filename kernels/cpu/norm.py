"""Normalisation as compiled loops that pass twice over the numbers: forward for the statistics and for the result,
backward for the sums that the gradient needs and for the gradient.

Groups and rows are passed one at a time, so that the second pass finds them in the cache. The planes of a channel lie
far apart: batch norm passes over whole arrays, in the order of memory (of tiny maps: `norm_columns.py`). Numbers are
summed in float32, BLOCK of them at most, and these sums in float64. For the variance, distances are taken from the
mean of a first block, so that a mean far from zero costs no digits.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.norm_columns import LARGEST, columns_backward, columns_forward
from minidl.kernels.cpu.runtime import FLAGS, compiled, compiled_parallel, empty, fits, parallel

__all__ = [
    "batch_norm", "batch_norm_grad", "batch_norm_inference", "batch_norm_inference_grad_input",
    "batch_norm_inference_grad_weight", "group_norm", "group_norm_grad", "layer_norm", "layer_norm_grad",
]

BLOCK = 1024  # numbers whose sums are float32
SMALL = 2**14  # numbers, below which one thread is faster than two
PORTIONS = 16  # of the rows, whose weight gradients are summed apart
SUMS = {*FLAGS, "reassoc"}  # sums in as many parts as a vector has lanes; in the same ones every time


def batch_norm(x, weight, bias, eps):
    if not _fit(x, weight, bias):
        return reference.batch_norm(x, weight, bias, eps)
    y, mean, variance = empty(x.shape), empty(x.shape[1]), empty(x.shape[1])
    loop, cut = (columns_forward, _columns) if _small(x) else (channels_forward, _planes)
    _run(loop, x.size, cut(x), _or_constant(weight, 1, x.shape[1]), _or_constant(bias, 0, x.shape[1]), float(eps),
         cut(y), mean, variance)
    return y, mean, variance


def batch_norm_grad(g, x, weight, mean, variance, eps):
    if not _fit(x, weight) or not fits(g, mean, variance):
        return reference.batch_norm_grad(g, x, weight, mean, variance, eps)
    grad, grad_weight, grad_bias = empty(x.shape), empty(x.shape[1]), empty(x.shape[1])
    loop, cut = (columns_backward, _columns) if _small(x) else (channels_backward, _planes)
    _run(loop, x.size, cut(g), cut(x), _or_constant(weight, 1, x.shape[1]), mean, variance, float(eps), cut(grad),
         grad_weight, grad_bias)
    return grad, grad_weight, grad_bias


def group_norm(x, num_groups, weight, bias, eps):
    if not _fit(x, weight, bias):
        return reference.group_norm(x, num_groups, weight, bias, eps)
    y, mean, variance = empty(x.shape), empty(x.shape[0] * num_groups), empty(x.shape[0] * num_groups)
    _run(groups_forward, x.size, _planes(x), _or_constant(weight, 1, x.shape[1]), _or_constant(bias, 0, x.shape[1]),
         float(eps), _planes(y), mean, variance)
    return y, mean, variance


def group_norm_grad(g, x, num_groups, weight, mean, variance, eps):
    if not _fit(x, weight) or not fits(g, mean, variance):
        return reference.group_norm_grad(g, x, num_groups, weight, mean, variance, eps)
    grad, grad_weight, grad_bias = empty(x.shape), empty(x.shape[1]), empty(x.shape[1])
    totals, dots = np.empty((2, *x.shape[:2]))
    _run(groups_backward, x.size, _planes(g), _planes(x), _or_constant(weight, 1, x.shape[1]), mean, variance,
         float(eps), _planes(grad), totals.reshape(-1), dots.reshape(-1))
    grad_weight[:], grad_bias[:] = dots.sum(axis=0), totals.sum(axis=0)
    return grad, grad_weight, grad_bias


def batch_norm_inference(x, weight, bias, mean, variance, eps):
    if not _fit(x, weight, bias) or not fits(mean, variance):
        return reference.batch_norm_inference(x, weight, bias, mean, variance, eps)
    return _affine(x, mean, _factor(weight, variance, eps), _or_constant(bias, 0, x.shape[1]))


def batch_norm_inference_grad_input(g, weight, variance, eps):
    if not _fit(g, weight) or not fits(variance):
        return reference.batch_norm_inference_grad_input(g, weight, variance, eps)
    zero = np.zeros(g.shape[1], np.float32)
    return _affine(g, zero, _factor(weight, variance, eps), zero)


def batch_norm_inference_grad_weight(g, x, mean, variance, eps):
    if not _fit(x) or not fits(g, mean, variance):
        return reference.batch_norm_inference_grad_weight(g, x, mean, variance, eps)
    dots = np.empty(x.shape[:2])
    _run(planes_dots, x.size, _planes(g), _planes(x), mean, dots.reshape(-1))
    return (dots.sum(axis=0) / np.sqrt(variance + eps)).astype(np.float32)


def layer_norm(x, weight, bias, eps):
    if not _fit(x, weight, bias):
        return reference.layer_norm(x, weight, bias, eps)
    rows, length = x.shape
    y, mean, variance = empty(x.shape), empty(rows), empty(rows)
    _run(rows_forward, x.size, x, _or_constant(weight, 1, length), _or_constant(bias, 0, length), float(eps), y, mean,
         variance)
    return y, mean, variance


def layer_norm_grad(g, x, weight, mean, variance, eps):
    if not _fit(x, weight) or not fits(g, mean, variance):
        return reference.layer_norm_grad(g, x, weight, mean, variance, eps)
    grad, portions = empty(x.shape), min(PORTIONS, -(-len(x) // 8))
    sums = np.zeros((2, portions, x.shape[1]), np.float32)
    _run(rows_backward, x.size, g, x, _or_constant(weight, 1, x.shape[1]), mean, variance, float(eps), grad, *sums)
    grad_weight, grad_bias = sums.sum(axis=1)
    return grad, grad_weight, grad_bias


def _fit(x, *vectors) -> bool:
    return fits(x, *[vector for vector in vectors if vector is not None])


def _planes(x):
    return x.reshape(x.shape[0] * x.shape[1], -1)  # N * C, H * W


def _columns(x):
    return x.reshape(len(x), -1)  # N, C * H * W


def _small(x) -> bool:
    return x.size <= LARGEST * x.shape[0] * x.shape[1]


def _or_constant(vector, constant, length):
    return np.full(length, constant, np.float32) if vector is None else vector


def _factor(weight, variance, eps):
    scale = 1 / np.sqrt(variance + eps)
    return scale if weight is None else scale * weight


def _affine(x, mean, factor, shift):
    """(x - mean) factor + shift, the vectors one number a channel."""
    y = empty(x.shape)
    _run(planes_affine, x.size, _planes(x), mean, factor, shift, _planes(y))
    return y


def _run(loop, work, *arguments):
    parallel(loop, *arguments, limit=1 if work < SMALL else None)


@compiled(fastmath=SUMS)
def sum_of(x):
    total = np.float32(0)
    for i in range(x.size):
        total += x[i]
    return total


@compiled(fastmath=SUMS)
def distances_of(x, origin):
    """The sums of x - origin and of its square."""
    total, squares = np.float32(0), np.float32(0)
    for i in range(x.size):
        distance = x[i] - origin
        total += distance
        squares += distance * distance
    return total, squares


@compiled(fastmath=SUMS)
def dots_of(g, x, mean):
    """The sum of g and of g (x - mean)."""
    total, dot = np.float32(0), np.float32(0)
    for i in range(g.size):
        total += g[i]
        dot += g[i] * (x[i] - mean)
    return total, dot


@compiled
def origin_of(x):
    """A number near which those of a set may lie: the mean of its first block, up to rounding."""
    block = x[:BLOCK]
    return sum_of(block) / np.float32(block.size)


@compiled
def distances_added(x, origin, total, squares):
    for start in range(0, x.size, BLOCK):
        part_total, part_squares = distances_of(x[start:start + BLOCK], origin)
        total += part_total
        squares += part_squares
    return total, squares


@compiled
def dots_added(g, x, mean, total, dot):
    for start in range(0, g.size, BLOCK):
        part_total, part_dot = dots_of(g[start:start + BLOCK], x[start:start + BLOCK], mean)
        total += part_total
        dot += part_dot
    return total, dot


@compiled
def moments(origin, total, squares, count):
    """Mean and variance, from the sums of the distances from `origin` and of their squares."""
    rest = total / count
    variance = squares / count - rest * rest
    return origin + rest, 0.0 if variance < 0 else variance


@compiled
def affine(x, mean, factor, shift, y):
    for i in range(x.size):
        y[i] = (x[i] - mean) * factor + shift


@compiled
def backward(g, x, mean, factor, slope, offset, grad):
    for i in range(g.size):
        grad[i] = g[i] * factor + ((x[i] - mean) * slope + offset)


@compiled_parallel
def channels_forward(x, weight, bias, eps, y, mean, variance):
    planes, channels = len(x), len(mean)
    totals, squares = np.empty((2, planes))
    origins, scales = np.empty((2, channels), np.float32)
    for c in range(channels):
        origins[c] = origin_of(x[c])
    for plane in prange(planes):
        totals[plane], squares[plane] = distances_added(x[plane], origins[plane % channels], 0.0, 0.0)
    for c in range(channels):
        total, square = 0.0, 0.0
        for plane in range(c, planes, channels):
            total += totals[plane]
            square += squares[plane]
        mean[c], spread = moments(origins[c], total, square, planes // channels * x.shape[1])
        variance[c], scales[c] = spread, weight[c] / np.sqrt(spread + eps)
    for plane in prange(planes):
        c = plane % channels
        affine(x[plane], mean[c], scales[c], bias[c], y[plane])


@compiled_parallel
def channels_backward(g, x, weight, mean, variance, eps, grad, grad_weight, grad_bias):
    planes, channels = len(x), len(mean)
    count = planes // channels * x.shape[1]
    totals, dots = np.empty((2, planes))
    factors, slopes, offsets = np.empty((3, channels), np.float32)
    for plane in prange(planes):
        totals[plane], dots[plane] = dots_added(g[plane], x[plane], mean[plane % channels], 0.0, 0.0)
    for c in range(channels):
        total, dot = 0.0, 0.0
        for plane in range(c, planes, channels):
            total += totals[plane]
            dot += dots[plane]
        scale = 1 / np.sqrt(variance[c] + eps)
        grad_weight[c], grad_bias[c], factors[c] = dot * scale, total, weight[c] * scale
        slopes[c] = -weight[c] * dot * scale * scale * scale / count
        offsets[c] = -weight[c] * total * scale / count
    for plane in prange(planes):
        c = plane % channels
        backward(g[plane], x[plane], mean[c], factors[c], slopes[c], offsets[c], grad[plane])


@compiled
def group_forward(group, channels, x, weight, bias, eps, y, mean, variance):
    first = group * channels  # the group's first plane
    origin, total, squares = origin_of(x[first]), 0.0, 0.0
    for plane in range(first, first + channels):
        total, squares = distances_added(x[plane], origin, total, squares)
    mean[group], spread = moments(origin, total, squares, channels * x.shape[1])
    variance[group], scale = spread, 1 / np.sqrt(spread + eps)
    for plane in range(first, first + channels):
        c = plane % len(weight)
        affine(x[plane], mean[group], np.float32(scale * weight[c]), bias[c], y[plane])


@compiled_parallel
def groups_forward(x, weight, bias, eps, y, mean, variance):
    for group in prange(len(mean)):
        group_forward(group, len(x) // len(mean), x, weight, bias, eps, y, mean, variance)


@compiled
def group_backward(group, channels, g, x, weight, mean, variance, eps, grad, totals, dots):
    """Leaves in totals and dots the sums, over each plane, of g and of g (x - mean) / sqrt(variance + eps)."""
    first, count = group * channels, channels * x.shape[1]
    centre, scale, total, dot = mean[group], 1 / np.sqrt(variance[group] + eps), 0.0, 0.0
    for plane in range(first, first + channels):
        plane_total, plane_dot = dots_added(g[plane], x[plane], centre, 0.0, 0.0)
        totals[plane], dots[plane] = plane_total, plane_dot * scale
        total += plane_total * weight[plane % len(weight)]
        dot += plane_dot * weight[plane % len(weight)]
    slope, offset = np.float32(-dot * scale * scale * scale / count), np.float32(-total * scale / count)
    for plane in range(first, first + channels):
        factor = np.float32(scale * weight[plane % len(weight)])
        backward(g[plane], x[plane], centre, factor, slope, offset, grad[plane])


@compiled_parallel
def groups_backward(g, x, weight, mean, variance, eps, grad, totals, dots):
    for group in prange(len(mean)):
        group_backward(group, len(x) // len(mean), g, x, weight, mean, variance, eps, grad, totals, dots)


@compiled_parallel
def planes_affine(x, mean, factor, shift, y):
    for plane in prange(len(x)):
        c = plane % len(mean)
        affine(x[plane], mean[c], factor[c], shift[c], y[plane])


@compiled_parallel
def planes_dots(g, x, mean, dots):
    for plane in prange(len(x)):
        _, dots[plane] = dots_added(g[plane], x[plane], mean[plane % len(mean)], 0.0, 0.0)


@compiled
def row_forward(row, x, weight, bias, eps, y, mean, variance):
    origin = origin_of(x[row])
    total, squares = distances_added(x[row], origin, 0.0, 0.0)
    mean[row], spread = moments(origin, total, squares, x.shape[1])
    variance[row], centre, scale = spread, mean[row], np.float32(1 / np.sqrt(spread + eps))
    for i in range(x.shape[1]):
        y[row, i] = (x[row, i] - centre) * scale * weight[i] + bias[i]


@compiled_parallel
def rows_forward(x, weight, bias, eps, y, mean, variance):
    for row in prange(x.shape[0]):
        row_forward(row, x, weight, bias, eps, y, mean, variance)


@compiled(fastmath=SUMS)
def weighted_dots_of(g, weight, x, mean):
    """The sums of h = g weight and of h (x - mean)."""
    total, dot = np.float32(0), np.float32(0)
    for i in range(g.size):
        h = g[i] * weight[i]
        total += h
        dot += h * (x[i] - mean)
    return total, dot


@compiled
def weighted_dots_added(g, weight, x, mean):
    total, dot = 0.0, 0.0
    for start in range(0, g.size, BLOCK):
        stop = start + BLOCK
        part_total, part_dot = weighted_dots_of(g[start:stop], weight[start:stop], x[start:stop], mean)
        total += part_total
        dot += part_dot
    return total, dot


@compiled
def weighted_backward(g, weight, x, mean, scale, slope, offset, grad):
    for i in range(g.size):
        grad[i] = g[i] * weight[i] * scale + ((x[i] - mean) * slope + offset)


@compiled
def add_row(g, x, mean, scale, grad_weight, grad_bias):
    for i in range(g.size):
        grad_weight[i] += g[i] * ((x[i] - mean) * scale)
        grad_bias[i] += g[i]


@compiled
def row_backward(row, g, x, weight, mean, variance, eps, grad, grad_weight, grad_bias):
    length, scale = g.shape[1], 1 / np.sqrt(variance[row] + eps)
    total, dot = weighted_dots_added(g[row], weight, x[row], mean[row])
    slope, offset = np.float32(-dot * scale * scale * scale / length), np.float32(-total * scale / length)
    weighted_backward(g[row], weight, x[row], mean[row], np.float32(scale), slope, offset, grad[row])
    add_row(g[row], x[row], mean[row], np.float32(scale), grad_weight, grad_bias)


@compiled_parallel
def rows_backward(g, x, weight, mean, variance, eps, grad, grad_weight, grad_bias):
    portions = len(grad_weight)
    for portion in prange(portions):
        for row in range(len(g) * portion // portions, len(g) * (portion + 1) // portions):
            row_backward(row, g, x, weight, mean, variance, eps, grad, grad_weight[portion], grad_bias[portion])
