"""Softmax and log-softmax: a row at a time, which stays in the cache between its passes.

A row's largest number is found first and taken off, so that no exponential overflows; the exponentials come from a
polynomial that LLVM turns into vector instructions. Axes other than the last one are the reference's, whose
formulas are these. Read `loss.py` next, where cross_entropy takes rows in the same way.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from minidl.kernels import reference
from minidl.kernels.cpu.exponential import exp
from minidl.kernels.cpu.runtime import FLAGS, compiled, compiled_parallel, empty, fits, parallel

__all__ = ["log_softmax", "log_softmax_grad", "softmax", "softmax_grad"]

LANES = 16  # LLVM splits a vector where the processor's registers are shorter
SMALL = 2**13  # numbers, below which one thread is faster than two
SUMS = {*FLAGS, "reassoc"}  # sums in as many parts as a vector has lanes; in the same ones every time


def softmax(x, dim):
    if not _last(x, dim):
        return reference.softmax(x, dim)
    return _rows(softmax_rows, x)


def softmax_grad(g, y, dim):
    if not _last(y, dim) or not fits(g):
        return reference.softmax_grad(g, y, dim)
    return _rows(softmax_grad_rows, g, y)


def log_softmax(x, dim):
    if not _last(x, dim):
        return reference.log_softmax(x, dim)
    return _rows(log_softmax_rows, x)


def log_softmax_grad(g, y, dim):
    if not _last(y, dim) or not fits(g):
        return reference.log_softmax_grad(g, y, dim)
    return _rows(log_softmax_grad_rows, g, y)


def _last(x, dim) -> bool:
    return fits(x) and dim in (-1, x.ndim - 1)


def _rows(loop, *arrays):
    """The result of a loop over the rows (last axes) of arrays of one shape."""
    result = empty(arrays[0].shape)
    rows = [array.reshape(-1, array.shape[-1]) for array in (*arrays, result)]
    run(loop, result.size, *rows)
    return result


def run(loop, work, *arguments):
    return parallel(loop, *arguments, limit=1 if work < SMALL else None)


def largest_step(count: int):
    """For vectors that are compared `count` at a time, so that none waits for the one before: the largest number."""

    @intrinsic
    def largest(typing_context, x):
        """The largest of at least `count` LANES numbers x; a nan is passed over.

        LLVM keeps the order of comparisons, for the sake of nan, and so does not vectorise a loop that seeks the
        largest.
        """

        def generate(context, builder, signature, arguments):
            x = make_array(signature.args[0])(context, builder, arguments[0])
            length, size = builder.extract_value(x.shape, 0), ir.Constant(ir.IntType(64), count * LANES)
            last = builder.sub(length, size)  # the last vectors end with x, over part of those before
            bests = [cgutils.alloca_once_value(builder, _load(builder, x.data, last, number))
                     for number in range(count)]
            with cgutils.for_range_slice(builder, ir.Constant(ir.IntType(64), 0), last, size) as (start, _):
                for number, best in enumerate(bests):
                    builder.store(_larger(builder, _load(builder, x.data, start, number), builder.load(best)), best)
            lanes = builder.load(bests[0])
            for best in bests[1:]:
                lanes = _larger(builder, builder.load(best), lanes)
            for half in (LANES // 2 >> i for i in range(LANES.bit_length() - 1)):
                places = [(lane + half) % LANES for lane in range(LANES)]
                mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), places)
                lanes = _larger(builder, builder.shuffle_vector(lanes, lanes, mask), lanes)
            return builder.extract_element(lanes, ir.Constant(ir.IntType(32), 0))

        return types.float32(x), generate

    return largest


def _larger(builder, value, before):
    return builder.select(builder.fcmp_ordered(">", value, before), value, before)


def _load(builder, data, start, number):
    place = builder.add(start, ir.Constant(ir.IntType(64), number * LANES))
    kind = ir.VectorType(ir.FloatType(), LANES).as_pointer()
    return builder.load(builder.bitcast(builder.gep(data, [place]), kind), align=4)


largest_1, largest_4 = largest_step(1), largest_step(4)


@compiled
def largest_of(x):
    """The largest number of x; a nan may be passed over, since every sum of exponentials will meet it."""
    if x.size >= 4 * LANES:
        return largest_4(x)
    if x.size >= LANES:
        return largest_1(x)
    peak = np.float32(-np.inf)
    for i in range(x.size):
        peak = x[i] if x[i] > peak else peak
    return peak


@compiled(fastmath=SUMS)
def exponentials(x, peak, y):
    """y = e^(x - peak); its sum."""
    total = np.float32(0)
    for i in range(x.size):
        value = exp(x[i] - peak)
        y[i] = value
        total += value
    return total


@compiled(fastmath=SUMS)
def sum_of_exponentials(x, peak):
    total = np.float32(0)
    for i in range(x.size):
        total += exp(x[i] - peak)
    return total


@compiled(fastmath=SUMS)
def sum_of(x):
    total = np.float32(0)
    for i in range(x.size):
        total += x[i]
    return total


@compiled(fastmath=SUMS)
def dot(x, y):
    total = np.float32(0)
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@compiled
def scaled(y, factor):
    for i in range(y.size):
        y[i] *= factor


@compiled
def shifted(x, peak, log_sum, y):
    for i in range(x.size):
        y[i] = x[i] - peak - log_sum


@compiled
def softmax_backward(g, y, mean, grad):
    for i in range(g.size):
        grad[i] = y[i] * (g[i] - mean)


@compiled
def log_softmax_backward(g, y, total, grad):
    for i in range(g.size):
        grad[i] = g[i] - exp(y[i]) * total


@compiled
def shares(x, peak, log_sum, factor, y):
    """y = factor e^(x - peak - log_sum)."""
    for i in range(x.size):
        y[i] = exp(x[i] - peak - log_sum) * factor


@compiled_parallel
def softmax_rows(x, y):
    for row in prange(len(x)):
        scaled(y[row], np.float32(1) / exponentials(x[row], largest_of(x[row]), y[row]))


@compiled_parallel
def softmax_grad_rows(g, y, grad):
    for row in prange(len(g)):
        softmax_backward(g[row], y[row], dot(g[row], y[row]), grad[row])


@compiled_parallel
def log_softmax_rows(x, y):
    for row in prange(len(x)):
        peak = largest_of(x[row])
        shifted(x[row], peak, np.log(sum_of_exponentials(x[row], peak)), y[row])


@compiled_parallel
def log_softmax_grad_rows(g, y, grad):
    for row in prange(len(g)):
        log_softmax_backward(g[row], y[row], sum_of(g[row]), grad[row])
