"""Losses of input and target element by element: mse, l1, smooth_l1, huber, and binary cross-entropy of both kinds.

All run through three loops. A loss or its slope is computed for BLOCK elements, which stay in the cache while they
are weighted and summed; so a mean reads its input once and writes nothing. Sums are taken in float32 within a block,
in float64 over blocks, in an order that the size alone decides.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.activation import log_of_one_plus, logistic
from minidl.kernels.cpu.exponential import exp
from minidl.kernels.cpu.logarithm import log, log_of_one_less
from minidl.kernels.cpu.runtime import FLAGS, compiled, compiled_parallel, empty, fits, parallel

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_grad_input", "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_grad_input", "huber_loss", "huber_loss_grad", "l1_loss", "l1_loss_grad",
    "mse_loss", "mse_loss_grad", "smooth_l1_loss", "smooth_l1_loss_grad",
]

FEW, MANY = 400, 30_000  # elements from which a compiled loop is called, and threads share it
BLOCK, PART = 1024, 16384  # elements that are computed together, and what a thread takes at a time
SUMS = {*FLAGS, "reassoc"}  # sums in as many parts as a vector has lanes; in the same ones every time
SQUARE, ABSOLUTE, SMOOTH, HUBER, PROBABILITY, LOGIT, FAVOURED = range(7)

F = np.float32
ZERO, HALF, ONE, TWO = F(0), F(0.5), F(1), F(2)
LOWEST, LEAST = F(-100), F(1e-12)
NONE = np.ones(1, np.float32)


def mse_loss(x, y, total=False):
    if not _fit(x, y):
        return reference.mse_loss(x, y, total)
    return _losses(SQUARE, 0, x, y, total)


def mse_loss_grad(g, x, y):
    if not _fit(x, y):
        return reference.mse_loss_grad(g, x, y)
    return _gradient(SQUARE, 0, g, x, y)


def l1_loss(x, y, total=False):
    if not _fit(x, y):
        return reference.l1_loss(x, y, total)
    return _losses(ABSOLUTE, 0, x, y, total)


def l1_loss_grad(g, x, y):
    if not _fit(x, y):
        return reference.l1_loss_grad(g, x, y)
    return _gradient(ABSOLUTE, 0, g, x, y)


def smooth_l1_loss(x, y, beta, total=False):
    if not _fit(x, y):
        return reference.smooth_l1_loss(x, y, beta, total)
    return _losses(SMOOTH, beta, x, y, total)


def smooth_l1_loss_grad(g, x, y, beta):
    if not _fit(x, y):
        return reference.smooth_l1_loss_grad(g, x, y, beta)
    return _gradient(SMOOTH, beta, g, x, y)


def huber_loss(x, y, delta, total=False):
    if not _fit(x, y):
        return reference.huber_loss(x, y, delta, total)
    return _losses(HUBER, delta, x, y, total)


def huber_loss_grad(g, x, y, delta):
    if not _fit(x, y):
        return reference.huber_loss_grad(g, x, y, delta)
    return _gradient(HUBER, delta, g, x, y)


def binary_cross_entropy(p, target, weight=None, total=False):
    if not _fit(p, target):
        return reference.binary_cross_entropy(p, target, weight, total)
    return _losses(PROBABILITY, 0, p, target, total, weight)


def binary_cross_entropy_grad_input(g, p, target, weight=None):
    if not _fit(p, target):
        return reference.binary_cross_entropy_grad_input(g, p, target, weight)
    return _gradient(PROBABILITY, 0, g, p, target, weight)


def binary_cross_entropy_with_logits(x, target, weight=None, pos_weight=None, total=False):
    if not _fit(x, target):
        return reference.binary_cross_entropy_with_logits(x, target, weight, pos_weight, total)
    return _losses(LOGIT if pos_weight is None else FAVOURED, 0, x, target, total, weight, pos_weight)


def binary_cross_entropy_with_logits_grad_input(g, x, target, weight=None, pos_weight=None):
    if not _fit(x, target):
        return reference.binary_cross_entropy_with_logits_grad_input(g, x, target, weight, pos_weight)
    return _gradient(LOGIT if pos_weight is None else FAVOURED, 0, g, x, target, weight, pos_weight)


def _fit(x, y) -> bool:
    return x.size >= FEW and x.shape == y.shape and fits(x, y)


def _losses(kind, parameter, x, y, total, weight=None, favour=None):
    arguments = kind, float(parameter), x.reshape(-1), y.reshape(-1), _flat(weight), _flat(favour)
    limit = 1 if x.size < MANY else None
    if total:
        return np.float32(parallel(total_loop, *arguments, limit=limit))
    losses = empty(x.shape)
    parallel(losses_loop, *arguments, losses.reshape(-1), limit=limit)
    return losses


def _gradient(kind, parameter, g, x, y, weight=None, favour=None):
    grad = empty(x.shape)
    parallel(gradient_loop, kind, float(parameter), _flat(np.asarray(g, np.float32)), x.reshape(-1), y.reshape(-1),
             _flat(weight), _flat(favour), grad.reshape(-1), limit=1 if x.size < MANY else None)
    return grad


def _flat(array):
    """A writable vector of the array's elements; a single one, which the loops do not use, for no array."""
    if array is None:
        return NONE
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat if flat.flags.writeable else flat.copy()


@compiled
def losses_of(kind, parameter, x, y, favour, losses):
    if kind == SQUARE:
        for i in range(x.size):
            d = x[i] - y[i]
            losses[i] = d * d
    elif kind == ABSOLUTE:
        for i in range(x.size):
            losses[i] = abs(x[i] - y[i])
    elif kind == SMOOTH:
        steepness, shift = HALF / parameter, HALF * parameter
        for i in range(x.size):
            d = x[i] - y[i]
            inside, outside = d * d * steepness, abs(d) - shift
            losses[i] = inside if abs(d) < parameter else outside
    elif kind == HUBER:
        shift = HALF * parameter
        for i in range(x.size):
            d = x[i] - y[i]
            inside, outside = HALF * d * d, parameter * (abs(d) - shift)
            losses[i] = inside if abs(d) < parameter else outside
    elif kind == PROBABILITY:
        for i in range(x.size):
            log_p, log_q = log(x[i]), log_of_one_less(x[i])
            log_p = LOWEST if log_p < LOWEST else log_p
            log_q = LOWEST if log_q < LOWEST else log_q
            losses[i] = -(y[i] * log_p + (ONE - y[i]) * log_q)
    elif kind == LOGIT:
        for i in range(x.size):
            losses[i] = softplus_of_minus(x[i]) + (ONE - y[i]) * x[i]
    else:
        for i in range(x.size):
            losses[i] = softplus_of_minus(x[i]) * (ONE + (favour[i] - ONE) * y[i]) + (ONE - y[i]) * x[i]


@compiled
def slopes_of(kind, parameter, x, y, favour, slopes):
    if kind == SQUARE:
        for i in range(x.size):
            slopes[i] = TWO * (x[i] - y[i])
    elif kind == ABSOLUTE:
        for i in range(x.size):
            d = x[i] - y[i]
            slope = ONE if d > ZERO else d  # 0 and nan are their own slopes
            slopes[i] = -ONE if d < ZERO else slope
    elif kind == SMOOTH or kind == HUBER:
        bound = ONE if kind == SMOOTH else parameter
        factor = ONE / parameter if kind == SMOOTH else ONE
        for i in range(x.size):
            d = (x[i] - y[i]) * factor
            slope = bound if d > bound else d
            slopes[i] = -bound if d < -bound else slope
    elif kind == PROBABILITY:
        for i in range(x.size):
            divisor = x[i] * (ONE - x[i])
            divisor = LEAST if divisor < LEAST else divisor
            slopes[i] = (x[i] - y[i]) / divisor
    elif kind == LOGIT:
        for i in range(x.size):
            slopes[i] = logistic(x[i]) - y[i]
    else:
        for i in range(x.size):
            slopes[i] = logistic(x[i]) * (ONE + (favour[i] - ONE) * y[i]) - favour[i] * y[i]


@compiled(forceinline=True)
def softplus_of_minus(x):
    """log(1 + e^-x) without overflow."""
    return (-x if x < ZERO else ZERO) + log_of_one_plus(exp(-abs(x)))


@compiled
def multiplied(x, factors):
    for i in range(x.size):
        x[i] *= factors[i]


@compiled
def scaled(x, factor):
    for i in range(x.size):
        x[i] *= factor


@compiled(fastmath=SUMS)
def sum_of(x):
    total = ZERO
    for i in range(x.size):
        total += x[i]
    return total


@compiled
def part_losses(first, last, kind, parameter, x, y, weight, favour, losses):
    losses_of(kind, parameter, x[first:last], y[first:last], favour[first:last], losses)
    if weight.size == x.size:
        multiplied(losses, weight[first:last])


@compiled
def part_total(first, last, kind, parameter, x, y, weight, favour):
    losses, total = np.empty(BLOCK, np.float32), 0.0
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        part_losses(start, stop, kind, parameter, x, y, weight, favour, losses[:stop - start])
        total += sum_of(losses[:stop - start])
    return total


@compiled_parallel
def total_loop(kind, parameter, x, y, weight, favour):
    parts = -(-x.size // PART)
    totals = np.empty(parts)
    for part in prange(parts):
        totals[part] = part_total(part * PART, min((part + 1) * PART, x.size), kind, F(parameter), x, y, weight, favour)
    total = 0.0
    for part in range(parts):
        total += totals[part]
    return total


@compiled_parallel
def losses_loop(kind, parameter, x, y, weight, favour, losses):
    for part in prange(-(-x.size // PART)):
        first, last = part * PART, min((part + 1) * PART, x.size)
        part_losses(first, last, kind, F(parameter), x, y, weight, favour, losses[first:last])


@compiled
def part_gradient(first, last, kind, parameter, g, x, y, weight, favour, grad):
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        slopes = grad[start:stop]
        slopes_of(kind, parameter, x[start:stop], y[start:stop], favour[start:stop], slopes)
        if weight.size == x.size:
            multiplied(slopes, weight[start:stop])
        if g.size == x.size:
            multiplied(slopes, g[start:stop])
        else:
            scaled(slopes, g[0])


@compiled_parallel
def gradient_loop(kind, parameter, g, x, y, weight, favour, grad):
    for part in prange(-(-x.size // PART)):
        part_gradient(part * PART, min((part + 1) * PART, x.size), kind, F(parameter), g, x, y, weight, favour, grad)
