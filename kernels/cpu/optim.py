"""One optimiser step for one parameter in a single pass: every array is read once and written once.

The reference makes a pass for each operation; here the bytes bound the time: Adam moves 28 for each number.
"""

import math

import numpy as np
from numba import prange

from minidl.kernels.cpu.runtime import compiled_parallel, fits, parallel
from minidl.kernels.reference import optim as reference

__all__ = ["adam_step", "rmsprop_step", "sgd_step"]

MANY = 15_000  # elements from which threads share a loop

F = np.float32
ZERO, ONE = F(0), F(1)


@compiled_parallel
def plain_sgd_loop(p, g, lr, weight_decay, sign):
    rate, decay, direction = F(lr), F(weight_decay), F(sign)
    for i in prange(p.size):
        p[i] -= rate * (direction * g[i] + decay * p[i])


@compiled_parallel
def momentum_sgd_loop(p, g, b, lr, weight_decay, sign, momentum, undamped, nesterov):
    rate, decay, direction, inertia, fresh = F(lr), F(weight_decay), F(sign), F(momentum), F(undamped)
    straight = ONE if nesterov else ZERO  # p <- p - lr (straight d + ahead b)
    ahead = inertia if nesterov else ONE
    for i in prange(p.size):
        d = direction * g[i] + decay * p[i]
        b[i] = inertia * b[i] + fresh * d
        p[i] -= rate * (straight * d + ahead * b[i])


@compiled_parallel
def adam_loop(p, g, m, v, rate, shrink, decay, sign, beta1, beta2, root_correction, epsilon):
    step, kept, l2, direction = F(rate), F(shrink), F(decay), F(sign)
    fresh1, old2, fresh2 = F(1 - beta1), F(beta2), F(1 - beta2)
    correction, eps = F(root_correction), F(epsilon)
    for i in prange(p.size):
        parameter = kept * p[i]
        d = direction * g[i] + l2 * parameter
        m[i] += fresh1 * (d - m[i])
        v[i] = old2 * v[i] + fresh2 * d * d
        p[i] = parameter - step * (m[i] / (F(math.sqrt(v[i])) / correction + eps))


@compiled_parallel
def amsgrad_loop(p, g, m, v, largest, rate, shrink, decay, sign, beta1, beta2, root_correction, epsilon):
    step, kept, l2, direction = F(rate), F(shrink), F(decay), F(sign)
    fresh1, old2, fresh2 = F(1 - beta1), F(beta2), F(1 - beta2)
    correction, eps = F(root_correction), F(epsilon)
    for i in prange(p.size):
        parameter = kept * p[i]
        d = direction * g[i] + l2 * parameter
        m[i] += fresh1 * (d - m[i])
        v[i] = old2 * v[i] + fresh2 * d * d
        largest[i] = largest[i] if largest[i] > v[i] or largest[i] != largest[i] else v[i]  # NaN stays
        p[i] = parameter - step * (m[i] / (F(math.sqrt(largest[i])) / correction + eps))


@compiled_parallel
def rmsprop_loop(p, g, v, lr, decay, sign, alpha, epsilon):
    rate, l2, direction, old, fresh, eps = F(lr), F(decay), F(sign), F(alpha), F(1 - alpha), F(epsilon)
    for i in prange(p.size):
        d = direction * g[i] + l2 * p[i]
        v[i] = old * v[i] + fresh * d * d
        p[i] -= rate * (d / (F(math.sqrt(v[i])) + eps))


@compiled_parallel
def momentum_rmsprop_loop(p, g, v, b, lr, decay, sign, alpha, epsilon, momentum):
    rate, l2, direction, old, fresh, eps = F(lr), F(decay), F(sign), F(alpha), F(1 - alpha), F(epsilon)
    inertia = F(momentum)
    for i in prange(p.size):
        d = direction * g[i] + l2 * p[i]
        v[i] = old * v[i] + fresh * d * d
        b[i] = inertia * b[i] + d / (F(math.sqrt(v[i])) + eps)
        p[i] -= rate * b[i]


def _flat(parameter, arrays):
    """All arrays as vectors, or None if the loops do not take them."""
    if not fits(parameter, *arrays) or any(array.shape != parameter.shape for array in arrays):
        return None
    return [parameter.reshape(-1), *[array.reshape(-1) for array in arrays]]


def _run(loop, vectors, *options):
    parallel(loop, *vectors, *options, limit=1 if vectors[0].size < MANY else None)


def sgd_step(parameter, gradient, momentum_buffer=None, *, lr, momentum, dampening, weight_decay, nesterov, maximize):
    vectors = _flat(parameter, [array for array in (gradient, momentum_buffer) if array is not None])
    if vectors is None:
        return reference.sgd_step(parameter, gradient, momentum_buffer, lr=lr, momentum=momentum, dampening=dampening,
                                  weight_decay=weight_decay, nesterov=nesterov, maximize=maximize)
    sign = -1.0 if maximize else 1.0
    if momentum_buffer is None:
        _run(plain_sgd_loop, vectors, float(lr), float(weight_decay), sign)
    else:
        _run(momentum_sgd_loop, vectors, float(lr), float(weight_decay), sign, float(momentum),
             1.0 - dampening, bool(nesterov))


def adam_step(parameter, gradient, exp_avg, exp_avg_sq, max_exp_avg_sq=None, *, step, lr, beta1, beta2, eps,
              weight_decay, decoupled_weight_decay, maximize):
    arrays = [gradient, exp_avg, exp_avg_sq]
    vectors = _flat(parameter, arrays if max_exp_avg_sq is None else [*arrays, max_exp_avg_sq])
    if vectors is None:
        return reference.adam_step(parameter, gradient, exp_avg, exp_avg_sq, max_exp_avg_sq, step=step, lr=lr,
                                   beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay,
                                   decoupled_weight_decay=decoupled_weight_decay, maximize=maximize)
    shrink, decay = (1.0 - lr * weight_decay, 0.0) if decoupled_weight_decay else (1.0, float(weight_decay))
    _run(adam_loop if max_exp_avg_sq is None else amsgrad_loop, vectors, lr / (1.0 - beta1**step), shrink, decay,
         -1.0 if maximize else 1.0, float(beta1), float(beta2), (1.0 - beta2**step) ** 0.5, float(eps))


def rmsprop_step(parameter, gradient, square_avg, momentum_buffer=None, grad_avg=None, *, lr, alpha, eps, momentum,
                 weight_decay, maximize):
    arrays = [gradient, square_avg]
    vectors = _flat(parameter, arrays if momentum_buffer is None else [*arrays, momentum_buffer])
    if vectors is None or grad_avg is not None:
        return reference.rmsprop_step(parameter, gradient, square_avg, momentum_buffer, grad_avg, lr=lr, alpha=alpha,
                                      eps=eps, momentum=momentum, weight_decay=weight_decay, maximize=maximize)
    options = (float(lr), float(weight_decay), -1.0 if maximize else 1.0, float(alpha), float(eps))
    if momentum_buffer is None:
        _run(rmsprop_loop, vectors, *options)
    else:
        _run(momentum_rmsprop_loop, vectors, *options, float(momentum))
