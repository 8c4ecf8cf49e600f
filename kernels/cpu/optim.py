"""One optimiser step for all parameters in a single loop: every array is read once and written once.

The reference makes a pass for each operation; here the bytes bound the time: Adam moves 28 for each number. Parameters
are cut into pieces, which the threads share, so that one call serves a network of many small ones. How many they are
differs from network to network; compiled code is given where each array object lies, and finds its numbers from there.
"""

import math
from functools import partial

import numpy as np
from numba import carray, prange, types
from numba.extending import intrinsic

from minidl.kernels.cpu.runtime import compiled, compiled_parallel, fits, parallel
from minidl.kernels.cpu.team import read
from minidl.kernels.reference import optim as reference

__all__ = ["adam_step", "rmsprop_step", "sgd_step"]

MANY = 15_000  # elements from which threads share a loop
PIECE = 8192  # elements at most that a thread takes at a time
HEAD = object.__basicsize__  # bytes that every object begins with; in NumPy's arrays the address of the data follows

F = np.float32
ZERO, ONE = F(0), F(1)


@intrinsic
def floats_at(typing_context, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))
    return types.CPointer(types.float32)(types.int64), generate


@compiled
def ends_of(sizes):
    """How many pieces the arrays up to each one have, itself included."""
    ends, end = np.empty(sizes.size, np.int64), 0
    for i in range(sizes.size):
        end += (sizes[i] + PIECE - 1) // PIECE
        ends[i] = end
    return ends


@compiled
def place_of(piece, sizes, ends):
    """Of which array it is a piece, from which of its numbers on, and how many."""
    i = np.searchsorted(ends, piece, "right")
    start = (piece - (ends[i - 1] if i else 0)) * PIECE
    return i, start, min(PIECE, sizes[i] - start)


@compiled
def numbers(addresses, kind, place):
    """A piece of the parameter (kind 0), of its gradient (1) or its state; addresses: kinds x arrays."""
    i, start, count = place
    return carray(floats_at(read(addresses[kind, i] + HEAD) + 4 * start), count)


@compiled
def plain_sgd(p, g, lr, weight_decay, sign):
    rate, decay, direction = F(lr), F(weight_decay), F(sign)
    for i in range(p.size):
        p[i] -= rate * (direction * g[i] + decay * p[i])


@compiled_parallel
def plain_sgd_loop(addresses, sizes, lr, weight_decay, sign):
    ends = ends_of(sizes)
    for piece in prange(ends[-1]):
        place = place_of(piece, sizes, ends)
        plain_sgd(numbers(addresses, 0, place), numbers(addresses, 1, place), lr, weight_decay, sign)


@compiled
def momentum_sgd(p, g, b, lr, weight_decay, sign, momentum, undamped, nesterov):
    rate, decay, direction, inertia, fresh = F(lr), F(weight_decay), F(sign), F(momentum), F(undamped)
    straight = ONE if nesterov else ZERO  # p <- p - lr (straight d + ahead b)
    ahead = inertia if nesterov else ONE
    for i in range(p.size):
        d = direction * g[i] + decay * p[i]
        b[i] = inertia * b[i] + fresh * d
        p[i] -= rate * (straight * d + ahead * b[i])


@compiled_parallel
def momentum_sgd_loop(addresses, sizes, lr, weight_decay, sign, momentum, undamped, nesterov):
    ends = ends_of(sizes)
    for piece in prange(ends[-1]):
        place = place_of(piece, sizes, ends)
        momentum_sgd(numbers(addresses, 0, place), numbers(addresses, 1, place), numbers(addresses, 2, place), lr,
                     weight_decay, sign, momentum, undamped, nesterov)


@compiled
def adam(p, g, m, v, rate, shrink, decay, sign, beta1, beta2, root_correction, epsilon):
    step, kept, l2, direction = F(rate), F(shrink), F(decay), F(sign)
    fresh1, old2, fresh2 = F(1 - beta1), F(beta2), F(1 - beta2)
    correction, eps = F(root_correction), F(epsilon)
    for i in range(p.size):
        parameter = kept * p[i]
        d = direction * g[i] + l2 * parameter
        m[i] += fresh1 * (d - m[i])
        v[i] = old2 * v[i] + fresh2 * d * d
        p[i] = parameter - step * (m[i] / (F(math.sqrt(v[i])) / correction + eps))


@compiled_parallel
def adam_loop(addresses, sizes, rate, shrink, decay, sign, beta1, beta2, root_correction, epsilon):
    ends = ends_of(sizes)
    for piece in prange(ends[-1]):
        place = place_of(piece, sizes, ends)
        adam(numbers(addresses, 0, place), numbers(addresses, 1, place), numbers(addresses, 2, place),
             numbers(addresses, 3, place), rate, shrink, decay, sign, beta1, beta2, root_correction, epsilon)


@compiled
def amsgrad(p, g, m, v, largest, rate, shrink, decay, sign, beta1, beta2, root_correction, epsilon):
    step, kept, l2, direction = F(rate), F(shrink), F(decay), F(sign)
    fresh1, old2, fresh2 = F(1 - beta1), F(beta2), F(1 - beta2)
    correction, eps = F(root_correction), F(epsilon)
    for i in range(p.size):
        parameter = kept * p[i]
        d = direction * g[i] + l2 * parameter
        m[i] += fresh1 * (d - m[i])
        v[i] = old2 * v[i] + fresh2 * d * d
        largest[i] = largest[i] if largest[i] > v[i] or largest[i] != largest[i] else v[i]  # NaN stays
        p[i] = parameter - step * (m[i] / (F(math.sqrt(largest[i])) / correction + eps))


@compiled_parallel
def amsgrad_loop(addresses, sizes, rate, shrink, decay, sign, beta1, beta2, root_correction, epsilon):
    ends = ends_of(sizes)
    for piece in prange(ends[-1]):
        place = place_of(piece, sizes, ends)
        amsgrad(numbers(addresses, 0, place), numbers(addresses, 1, place), numbers(addresses, 2, place),
                numbers(addresses, 3, place), numbers(addresses, 4, place), rate, shrink, decay, sign, beta1, beta2,
                root_correction, epsilon)


@compiled
def rmsprop(p, g, v, lr, decay, sign, alpha, epsilon):
    rate, l2, direction, old, fresh, eps = F(lr), F(decay), F(sign), F(alpha), F(1 - alpha), F(epsilon)
    for i in range(p.size):
        d = direction * g[i] + l2 * p[i]
        v[i] = old * v[i] + fresh * d * d
        p[i] -= rate * (d / (F(math.sqrt(v[i])) + eps))


@compiled_parallel
def rmsprop_loop(addresses, sizes, lr, decay, sign, alpha, epsilon):
    ends = ends_of(sizes)
    for piece in prange(ends[-1]):
        place = place_of(piece, sizes, ends)
        rmsprop(numbers(addresses, 0, place), numbers(addresses, 1, place), numbers(addresses, 2, place), lr, decay,
                sign, alpha, epsilon)


@compiled
def momentum_rmsprop(p, g, v, b, lr, decay, sign, alpha, epsilon, momentum):
    rate, l2, direction, old, fresh, eps = F(lr), F(decay), F(sign), F(alpha), F(1 - alpha), F(epsilon)
    inertia = F(momentum)
    for i in range(p.size):
        d = direction * g[i] + l2 * p[i]
        v[i] = old * v[i] + fresh * d * d
        b[i] = inertia * b[i] + d / (F(math.sqrt(v[i])) + eps)
        p[i] -= rate * b[i]


@compiled_parallel
def momentum_rmsprop_loop(addresses, sizes, lr, decay, sign, alpha, epsilon, momentum):
    ends = ends_of(sizes)
    for piece in prange(ends[-1]):
        place = place_of(piece, sizes, ends)
        momentum_rmsprop(numbers(addresses, 0, place), numbers(addresses, 1, place), numbers(addresses, 2, place),
                         numbers(addresses, 3, place), lr, decay, sign, alpha, epsilon, momentum)


def _run(loop, step, lists, *options):
    """Step the parameters whose arrays the loop takes, all at once; `step`, the reference, those it does not take."""
    fitting = []
    for arrays in zip(*lists):
        if fits(*arrays) and all([array.shape == arrays[0].shape for array in arrays]):
            fitting.append(arrays)
        else:
            step(*[[array] for array in arrays])
    if fitting:
        addresses = np.array([[id(array) for array in kind] for kind in zip(*fitting)])
        sizes = np.array([arrays[0].size for arrays in fitting])
        parallel(loop, addresses, sizes, *options, limit=1 if sizes.sum() < MANY else None)


def sgd_step(parameters, gradients, momentum_buffers=None, *, lr, momentum, dampening, weight_decay, nesterov,
             maximize):
    step = partial(reference.sgd_step, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                   nesterov=nesterov, maximize=maximize)
    options = float(lr), float(weight_decay), -1.0 if maximize else 1.0
    if momentum_buffers is None:
        _run(plain_sgd_loop, step, (parameters, gradients), *options)
    else:
        _run(momentum_sgd_loop, step, (parameters, gradients, momentum_buffers), *options, float(momentum),
             1.0 - dampening, bool(nesterov))


def adam_step(parameters, gradients, exp_avgs, exp_avg_sqs, max_exp_avg_sqs=None, *, step, lr, beta1, beta2, eps,
              weight_decay, decoupled_weight_decay, maximize):
    plain = partial(reference.adam_step, step=step, lr=lr, beta1=beta1, beta2=beta2, eps=eps,
                    weight_decay=weight_decay, decoupled_weight_decay=decoupled_weight_decay, maximize=maximize)
    shrink, decay = (1.0 - lr * weight_decay, 0.0) if decoupled_weight_decay else (1.0, float(weight_decay))
    options = (lr / (1.0 - beta1**step), shrink, decay, -1.0 if maximize else 1.0, float(beta1), float(beta2),
               (1.0 - beta2**step) ** 0.5, float(eps))
    if max_exp_avg_sqs is None:
        _run(adam_loop, plain, (parameters, gradients, exp_avgs, exp_avg_sqs), *options)
    else:
        _run(amsgrad_loop, plain, (parameters, gradients, exp_avgs, exp_avg_sqs, max_exp_avg_sqs), *options)


def rmsprop_step(parameters, gradients, square_avgs, momentum_buffers=None, grad_avgs=None, *, lr, alpha, eps, momentum,
                 weight_decay, maximize):
    step = partial(reference.rmsprop_step, lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay,
                   maximize=maximize)
    options = float(lr), float(weight_decay), -1.0 if maximize else 1.0, float(alpha), float(eps)
    if grad_avgs is not None:
        step(parameters, gradients, square_avgs, momentum_buffers, grad_avgs)
    elif momentum_buffers is None:
        _run(rmsprop_loop, step, (parameters, gradients, square_avgs), *options)
    else:
        _run(momentum_rmsprop_loop, step, (parameters, gradients, square_avgs, momentum_buffers), *options,
             float(momentum))
