"""Softmax, log-softmax and the loops of cross_entropy: a row at a time, which stays in the cache between its passes.

A row's largest number is found first and taken off, so that no exponential overflows; the exponentials come from a
polynomial that LLVM turns into vector instructions. Axes other than the last one are the reference's, whose
formulas are these. `loss.py` calls the loops of cross_entropy: Numba's cache wants those that share `exp` in one file.
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
    return _rows(softmax_rows, softmax_rows_parallel, x)


def softmax_grad(g, y, dim):
    if not _last(y, dim) or not fits(g):
        return reference.softmax_grad(g, y, dim)
    return _rows(softmax_grad_rows, softmax_grad_rows_parallel, g, y)


def log_softmax(x, dim):
    if not _last(x, dim):
        return reference.log_softmax(x, dim)
    return _rows(log_softmax_rows, log_softmax_rows_parallel, x)


def log_softmax_grad(g, y, dim):
    if not _last(y, dim) or not fits(g):
        return reference.log_softmax_grad(g, y, dim)
    return _rows(log_softmax_grad_rows, log_softmax_grad_rows_parallel, g, y)


def _last(x, dim) -> bool:
    return fits(x) and dim in (-1, x.ndim - 1)


def _rows(serial, several, *arrays):
    """The result of a loop over the rows (last axes) of arrays of one shape."""
    result = empty(arrays[0].shape)
    rows = [array.reshape(-1, array.shape[-1]) for array in (*arrays, result)]
    if result.size < SMALL:
        serial(*rows)
    else:
        parallel(several, *rows)
    return result


@intrinsic
def largest_lane(typing_context, x):
    """The largest of at least LANES numbers x; a nan is passed over.

    LLVM keeps the order of comparisons, for the sake of nan, and so does not vectorise a loop that seeks the largest.
    """

    def generate(context, builder, signature, arguments):
        x = make_array(signature.args[0])(context, builder, arguments[0])
        length, size = builder.extract_value(x.shape, 0), ir.Constant(ir.IntType(64), LANES)
        last = builder.sub(length, size)  # the last vector ends with x, over part of the one before
        best = cgutils.alloca_once_value(builder, _load(builder, x.data, last))
        with cgutils.for_range_slice(builder, ir.Constant(ir.IntType(64), 0), last, size) as (start, _):
            value, before = _load(builder, x.data, start), builder.load(best)
            builder.store(builder.select(builder.fcmp_ordered(">", value, before), value, before), best)
        lanes = builder.load(best)
        for half in (LANES // 2 >> i for i in range(LANES.bit_length() - 1)):
            places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [(lane + half) % LANES for lane in range(LANES)])
            other = builder.shuffle_vector(lanes, lanes, places)
            lanes = builder.select(builder.fcmp_ordered(">", other, lanes), other, lanes)
        return builder.extract_element(lanes, ir.Constant(ir.IntType(32), 0))

    return types.float32(x), generate


def _load(builder, data, start):
    kind = ir.VectorType(ir.FloatType(), LANES).as_pointer()
    return builder.load(builder.bitcast(builder.gep(data, [start]), kind), align=4)


@compiled
def largest_of(x):
    """The largest number of x; a nan may be passed over, since every sum of exponentials will meet it."""
    if x.size >= LANES:
        return largest_lane(x)
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
def softmax_row(row, x, y):
    share = 1 / exponentials(x[row], largest_of(x[row]), y[row])
    for i in range(x.shape[1]):
        y[row, i] *= share


@compiled
def softmax_rows(x, y):
    for row in range(len(x)):
        softmax_row(row, x, y)


@compiled_parallel
def softmax_rows_parallel(x, y):
    for row in prange(len(x)):
        softmax_row(row, x, y)


@compiled
def softmax_grad_row(row, g, y, grad):
    mean = dot(g[row], y[row])
    for i in range(g.shape[1]):
        grad[row, i] = y[row, i] * (g[row, i] - mean)


@compiled
def softmax_grad_rows(g, y, grad):
    for row in range(len(g)):
        softmax_grad_row(row, g, y, grad)


@compiled_parallel
def softmax_grad_rows_parallel(g, y, grad):
    for row in prange(len(g)):
        softmax_grad_row(row, g, y, grad)


@compiled
def log_softmax_row(row, x, y):
    peak = largest_of(x[row])
    log_sum = np.log(sum_of_exponentials(x[row], peak))
    for i in range(x.shape[1]):
        y[row, i] = x[row, i] - peak - log_sum


@compiled
def log_softmax_rows(x, y):
    for row in range(len(x)):
        log_softmax_row(row, x, y)


@compiled_parallel
def log_softmax_rows_parallel(x, y):
    for row in prange(len(x)):
        log_softmax_row(row, x, y)


@compiled
def log_softmax_grad_row(row, g, y, grad):
    total = sum_of(g[row])
    for i in range(g.shape[1]):
        grad[row, i] = g[row, i] - exp(y[row, i]) * total


@compiled
def log_softmax_grad_rows(g, y, grad):
    for row in range(len(g)):
        log_softmax_grad_row(row, g, y, grad)


@compiled_parallel
def log_softmax_grad_rows_parallel(g, y, grad):
    for row in prange(len(g)):
        log_softmax_grad_row(row, g, y, grad)


@compiled
def cross_entropy_row(row, x, target, losses, peaks, log_sums):
    peak = largest_of(x[row])
    log_sum = np.log(sum_of_exponentials(x[row], peak))
    peaks[row], log_sums[row] = peak, log_sum
    losses[row] = log_sum - (x[row, target[row]] - peak)


@compiled
def cross_entropy_rows(x, target, losses, peaks, log_sums):
    for row in range(len(x)):
        cross_entropy_row(row, x, target, losses, peaks, log_sums)


@compiled_parallel
def cross_entropy_rows_parallel(x, target, losses, peaks, log_sums):
    for row in prange(len(x)):
        cross_entropy_row(row, x, target, losses, peaks, log_sums)


@compiled
def cross_entropy_grad_row(row, g, x, target, peaks, log_sums, grad):
    peak, log_sum, slope = peaks[row], log_sums[row], g[row]
    for i in range(x.shape[1]):
        grad[row, i] = exp(x[row, i] - peak - log_sum) * slope
    grad[row, target[row]] -= slope


@compiled
def cross_entropy_grad_rows(g, x, target, peaks, log_sums, grad):
    for row in range(len(x)):
        cross_entropy_grad_row(row, g, x, target, peaks, log_sums, grad)


@compiled_parallel
def cross_entropy_grad_rows_parallel(g, x, target, peaks, log_sums, grad):
    for row in prange(len(x)):
        cross_entropy_grad_row(row, g, x, target, peaks, log_sums, grad)
