"""Batch, layer and group normalisation: statistics in one pass over memory, result or gradient in a second.

Both passes read memory from its first number to its last: planes (H, W) in the order in which they lie, each in
blocks that fit the first cache. A block's mean, then its distances from it and their squares, are float32 sums; blocks
are joined in float64 (Chan, Golub and LeVeque 1983), then the planes of a channel or group, always in one order.
The formulas of the gradients stand in `../reference/norm.py`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.runtime import FLAGS, compiled, compiled_parallel, empty, fits, parallel

__all__ = [
    "batch_norm", "batch_norm_grad", "batch_norm_inference", "batch_norm_inference_grad_input",
    "batch_norm_inference_grad_weight", "group_norm", "group_norm_grad", "layer_norm", "layer_norm_grad",
]

BLOCK = 2048  # numbers whose sums are float32
SMALL = 2**14  # numbers, below which one thread is faster than two
PORTIONS = 16  # of the rows, whose weight gradients are summed apart
SUMS = {*FLAGS, "reassoc"}  # sums in as many parts as a vector has lanes; in the same ones every time


def batch_norm(x, weight, bias, eps):
    if not _fit(x, weight, bias):
        return reference.batch_norm(x, weight, bias, eps)
    mean, variance = _statistics(x, x.shape[1], x.shape[0], 1, x.shape[1])
    scale = _scale(variance, eps)
    y = _affine(x, mean, scale if weight is None else scale * weight, _or_constant(bias, 0, x.shape[1]))
    return y, mean, variance


def batch_norm_grad(g, x, weight, mean, variance, eps):
    if not _fit(x, weight) or not fits(g, mean, variance):
        return reference.batch_norm_grad(g, x, weight, mean, variance, eps)
    totals, dots = _dots(g, x, mean)
    grad_x, grad_weight, grad_bias = empty(x.shape), empty(mean.shape), empty(mean.shape)
    factor, slope, offset = empty((3, x.shape[1]))
    channel_sums(totals, dots, x[:, 0].size, _or_constant(weight, 1, x.shape[1]), _scale(variance, eps), grad_weight,
                 grad_bias, factor, slope, offset)
    _run(x.size, planes_backward, planes_backward_parallel, _planes(g), _planes(x), mean, factor, slope, offset,
         _planes(grad_x))
    return grad_x, grad_weight, grad_bias


def batch_norm_inference(x, weight, bias, mean, variance, eps):
    if not _fit(x, weight, bias) or not fits(mean, variance):
        return reference.batch_norm_inference(x, weight, bias, mean, variance, eps)
    scale = _scale(variance, eps)
    return _affine(x, mean, scale if weight is None else scale * weight, _or_constant(bias, 0, x.shape[1]))


def batch_norm_inference_grad_input(g, weight, variance, eps):
    if not _fit(g, weight) or not fits(variance):
        return reference.batch_norm_inference_grad_input(g, weight, variance, eps)
    scale, zero = _scale(variance, eps), np.zeros(g.shape[1], np.float32)
    return _affine(g, zero, scale if weight is None else scale * weight, zero)


def batch_norm_inference_grad_weight(g, x, mean, variance, eps):
    if not _fit(x) or not fits(g, mean, variance):
        return reference.batch_norm_inference_grad_weight(g, x, mean, variance, eps)
    dots = _dots(g, x, mean)[1].sum(axis=0) * _scale(variance, eps)
    return dots.astype(np.float32)


def layer_norm(x, weight, bias, eps):
    if not fits(*[array for array in (x, weight, bias) if array is not None]):
        return reference.layer_norm(x, weight, bias, eps)
    rows, length = x.shape
    y, mean, variance = empty(x.shape), empty(rows), empty(rows)
    _run(x.size, rows_forward, rows_forward_parallel, x, _or_constant(weight, 1, length), _or_constant(bias, 0, length),
         eps, y, mean, variance)
    return y, mean, variance


def layer_norm_grad(g, x, weight, mean, variance, eps):
    if not fits(*[array for array in (g, x, weight, mean, variance) if array is not None]):
        return reference.layer_norm_grad(g, x, weight, mean, variance, eps)
    grad_x, portions = empty(x.shape), min(PORTIONS, -(-len(x) // 8))
    sums = np.zeros((2, portions, x.shape[1]), np.float32)
    _run(x.size, rows_backward, rows_backward_parallel, g, x, _or_constant(weight, 1, x.shape[1]), mean,
         _scale(variance, eps), grad_x, *sums)
    grad_weight, grad_bias = sums.sum(axis=1)
    return grad_x, grad_weight, grad_bias


def group_norm(x, num_groups, weight, bias, eps):
    if not _fit(x, weight, bias):
        return reference.group_norm(x, num_groups, weight, bias, eps)
    channels = x.shape[1] // num_groups
    mean, variance = _statistics(x, x.shape[0] * num_groups, channels, channels, 1)
    factor = _each_channel(_scale(variance, eps), channels, x)
    shift = np.broadcast_to(_or_constant(bias, 0, x.shape[1]), factor.shape)
    if weight is not None:
        factor *= weight
    y = _affine(x, np.repeat(mean, channels), factor.reshape(-1), shift.reshape(-1))
    return y, mean, variance


def group_norm_grad(g, x, num_groups, weight, mean, variance, eps):
    if not _fit(x, weight) or not fits(g, mean, variance):
        return reference.group_norm_grad(g, x, num_groups, weight, mean, variance, eps)
    channels, scale = x.shape[1] // num_groups, _scale(variance, eps)
    means, scales = np.repeat(mean, channels), _each_channel(scale, channels, x)
    totals, dots = _dots(g, x, means)
    weights = _or_constant(weight, 1, x.shape[1])
    count = x.size // mean.size  # of numbers in a group
    offset, slope = [-(part * weights).reshape(mean.size, channels).sum(axis=1) * scale / count
                     for part in (totals, dots)]  # N * groups
    slope *= scale * scale
    grad_x = empty(x.shape)
    vectors = [np.repeat(vector.astype(np.float32), channels) for vector in (slope, offset)]
    _run(x.size, planes_backward, planes_backward_parallel, _planes(g), _planes(x), means,
         (scales * weights).reshape(-1), *vectors, _planes(grad_x))
    return grad_x, (dots * scales).sum(axis=0).astype(np.float32), totals.sum(axis=0).astype(np.float32)


def _fit(x, *vectors) -> bool:
    return fits(x, *[vector for vector in vectors if vector is not None])


def _planes(x):
    return x.reshape(x.shape[0] * x.shape[1], -1)  # N * C, H * W


def _or_constant(vector, constant, length):
    return np.full(length, constant, np.float32) if vector is None else vector


def _each_channel(values, channels, x):
    return np.repeat(values, channels).reshape(x.shape[:2])  # N * groups -> N, C


def _scale(variance, eps):
    return 1 / np.sqrt(variance + eps)


def _run(work, serial, several, *arguments):
    if work < SMALL:
        serial(*arguments)
    else:
        parallel(several, *arguments)


def _statistics(x, sets, members, set_step, member_step):
    """Mean and variance of `sets` sets of planes: plane s set_step + i member_step belongs to set s, i < members."""
    planes = _planes(x)
    means, squares = np.empty((2, len(planes)))
    _run(x.size, planes_statistics, planes_statistics_parallel, planes, means, squares)
    mean, variance = empty(sets), empty(sets)
    join_planes(means, squares, planes.shape[1], members, set_step, member_step, mean, variance)
    return mean, variance


def _affine(x, mean, factor, shift):
    """(x - mean) factor + shift, the vectors one number a channel or one a plane."""
    y = empty(x.shape)
    _run(x.size, planes_affine, planes_affine_parallel, _planes(x), mean, factor, shift, _planes(y))
    return y


def _dots(g, x, mean):
    """The sums of g and of g (x - mean) over each plane: (N, C) in float64."""
    totals, dots = np.empty((2, x.shape[0], x.shape[1]))
    _run(x.size, planes_dots, planes_dots_parallel, _planes(g), _planes(x), mean, totals.reshape(-1), dots.reshape(-1))
    return totals, dots


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
def joined(count, mean, squares, x):
    """Count, mean and squared distances from it, joined with those of the vector x."""
    for start in range(0, x.size, BLOCK):
        block = x[start:start + BLOCK]
        origin = sum_of(block) / np.float32(block.size)  # the block's mean, but for the rounding of a sum far from 0
        rest, block_squares = distances_of(block, origin)
        rest = np.float64(rest) / block.size
        block_mean = origin + rest
        block_squares = block_squares - block.size * rest * rest
        distance, total = block_mean - mean, count + block.size
        mean += distance * block.size / total
        squares += block_squares + distance * distance * count * block.size / total
        count = total
    return count, mean, squares


@compiled
def dots_joined(g, x, mean, total, dot):
    for start in range(0, g.size, BLOCK):
        part_total, part_dot = dots_of(g[start:start + BLOCK], x[start:start + BLOCK], mean)
        total += part_total
        dot += part_dot
    return total, dot


@compiled
def plane_statistics(plane, x, means, squares):
    _, means[plane], squares[plane] = joined(0, 0.0, 0.0, x[plane])


@compiled
def planes_statistics(x, means, squares):
    for plane in range(len(x)):
        plane_statistics(plane, x, means, squares)


@compiled_parallel
def planes_statistics_parallel(x, means, squares):
    for plane in prange(len(x)):
        plane_statistics(plane, x, means, squares)


@compiled
def join_planes(means, squares, length, members, set_step, member_step, mean, variance):
    for s in range(len(mean)):
        average, total = 0.0, 0.0
        for i in range(members):
            average += means[s * set_step + i * member_step]
        average /= members
        for i in range(members):
            plane = s * set_step + i * member_step
            total += squares[plane] + length * (means[plane] - average) ** 2
        mean[s], variance[s] = average, total / (members * length)


@compiled
def plane_affine(plane, x, mean, factor, shift, y):
    c = plane % len(mean)
    for i in range(x.shape[1]):
        y[plane, i] = (x[plane, i] - mean[c]) * factor[c] + shift[c]


@compiled
def planes_affine(x, mean, factor, shift, y):
    for plane in range(len(x)):
        plane_affine(plane, x, mean, factor, shift, y)


@compiled_parallel
def planes_affine_parallel(x, mean, factor, shift, y):
    for plane in prange(len(x)):
        plane_affine(plane, x, mean, factor, shift, y)


@compiled
def plane_dots(plane, g, x, mean, totals, dots):
    totals[plane], dots[plane] = dots_joined(g[plane], x[plane], mean[plane % len(mean)], 0.0, 0.0)


@compiled
def planes_dots(g, x, mean, totals, dots):
    for plane in range(len(x)):
        plane_dots(plane, g, x, mean, totals, dots)


@compiled_parallel
def planes_dots_parallel(g, x, mean, totals, dots):
    for plane in prange(len(x)):
        plane_dots(plane, g, x, mean, totals, dots)


@compiled
def channel_sums(totals, dots, count, weight, scale, grad_weight, grad_bias, factor, slope, offset):
    """From the sums over planes (N, C): the gradients of weight and bias, and what planes_backward needs."""
    for c in range(totals.shape[1]):
        total, dot = 0.0, 0.0
        for n in range(totals.shape[0]):
            total += totals[n, c]
            dot += dots[n, c]
        wide = np.float64(scale[c])
        grad_weight[c], grad_bias[c] = dot * wide, total
        factor[c] = wide * weight[c]
        slope[c] = -wide * weight[c] * dot * wide * wide / count
        offset[c] = -wide * weight[c] * total / count


@compiled
def plane_backward(plane, g, x, mean, factor, slope, offset, grad):
    """grad = factor g + slope (x - mean) + offset."""
    c = plane % len(mean)
    for i in range(g.shape[1]):
        grad[plane, i] = g[plane, i] * factor[c] + ((x[plane, i] - mean[c]) * slope[c] + offset[c])


@compiled
def planes_backward(g, x, mean, factor, slope, offset, grad):
    for plane in range(len(x)):
        plane_backward(plane, g, x, mean, factor, slope, offset, grad)


@compiled_parallel
def planes_backward_parallel(g, x, mean, factor, slope, offset, grad):
    for plane in prange(len(x)):
        plane_backward(plane, g, x, mean, factor, slope, offset, grad)


@compiled
def row_forward(row, x, weight, bias, eps, y, mean, variance):
    count, average, squares = joined(0, 0.0, 0.0, x[row])
    mean[row], variance[row] = average, squares / count
    scale = np.float32(1 / np.sqrt(squares / count + eps))
    for i in range(x.shape[1]):
        y[row, i] = (x[row, i] - mean[row]) * scale * weight[i] + bias[i]


@compiled
def rows_forward(x, weight, bias, eps, y, mean, variance):
    for row in range(x.shape[0]):
        row_forward(row, x, weight, bias, eps, y, mean, variance)


@compiled_parallel
def rows_forward_parallel(x, weight, bias, eps, y, mean, variance):
    for row in prange(x.shape[0]):
        row_forward(row, x, weight, bias, eps, y, mean, variance)


@compiled(fastmath=SUMS)
def weighted_dots_of(g, weight, x, mean):
    """The sum of h = g weight and of h (x - mean)."""
    total, dot = np.float32(0), np.float32(0)
    for i in range(g.size):
        total += g[i] * weight[i]
        dot += g[i] * weight[i] * (x[i] - mean)
    return total, dot


@compiled
def weighted_backward(g, weight, x, mean, scale, slope, offset, grad, grad_weight, grad_bias):
    for i in range(g.size):
        normalised = (x[i] - mean) * scale
        grad[i] = g[i] * weight[i] * scale + (normalised * slope + offset)
        grad_weight[i] += g[i] * normalised
        grad_bias[i] += g[i]


@compiled
def row_backward(row, g, x, weight, mean, scale, grad, grad_weight, grad_bias):
    length, total, dot = g.shape[1], 0.0, 0.0
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        part_total, part_dot = weighted_dots_of(g[row, start:stop], weight[start:stop], x[row, start:stop], mean[row])
        total += part_total
        dot += part_dot
    slope, offset = -dot * scale[row] * scale[row] / length, -total * scale[row] / length
    weighted_backward(g[row], weight, x[row], mean[row], scale[row], np.float32(slope), np.float32(offset), grad[row],
                      grad_weight, grad_bias)


@compiled
def portion_backward(portion, g, x, weight, mean, scale, grad, grad_weight, grad_bias):
    portions = len(grad_weight)
    for row in range(len(g) * portion // portions, len(g) * (portion + 1) // portions):
        row_backward(row, g, x, weight, mean, scale, grad, grad_weight[portion], grad_bias[portion])


@compiled
def rows_backward(g, x, weight, mean, scale, grad, grad_weight, grad_bias):
    for portion in range(len(grad_weight)):
        portion_backward(portion, g, x, weight, mean, scale, grad, grad_weight, grad_bias)


@compiled_parallel
def rows_backward_parallel(g, x, weight, mean, scale, grad, grad_weight, grad_bias):
    for portion in prange(len(grad_weight)):
        portion_backward(portion, g, x, weight, mean, scale, grad, grad_weight, grad_bias)
