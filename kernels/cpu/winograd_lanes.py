"""Winograd's transforms for LANES tiles (or filters) at a time, in vector instructions.

A vector holds the same number of LANES neighbouring tiles. Tiles start every fourth pixel, so a row of pixels has to
be dealt out to them: pixel 4 t + j to lane t of vector j. As this is the same for all rows, B^T is applied to the
rows as they lie, before (`transform_rows`), then they are dealt out (`deal_pixels`) and transformed along the row
(`transform_columns`). The results go the other way, in one step (`transform_products`).
Read winograd_matrices.py first.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu import microkernel
from minidl.kernels.cpu.microkernel import LANES
from minidl.kernels.cpu.vectors import INDEX, in_every_lane, load_masked
from minidl.kernels.cpu.winograd_matrices import AT, BT, INPUTS, OUTPUTS, TAPS, G, transformed, transformed_both

_FLOAT, _INT, _BIT = ir.FloatType(), ir.IntType(64), ir.IntType(1)
_VECTOR, _MASK, _PLACES = [ir.VectorType(kind, LANES) for kind in (_FLOAT, _BIT, INDEX)]
_POINTER = types.CPointer(types.float32)
_ZERO = ir.Constant(_VECTOR, [0.0] * LANES)
_EVEN, _ODD = [[2 * lane + odd for lane in range(LANES)] for odd in (0, 1)]
_LOW, _HIGH = [[start + lane // 2 + lane % 2 * LANES for lane in range(LANES)] for start in (0, LANES // 2)]


@intrinsic
def transform_rows(typing_context, plane, row, height, column, width, target, pitch):
    """target[i * pitch + u] = sum over r of BT[i, r] plane[row + r, column + u] for i < 6, u < LANES.

    plane (height, width) is 0 outside.
    """

    def generate(context, builder, signature, arguments):
        _transform_rows(builder, BT, *arguments)
        return context.get_dummy_value()

    return types.void(_POINTER, *[types.intp] * 4, _POINTER, types.intp), generate


@intrinsic
def transform_gradient_rows(typing_context, plane, row, height, column, width, target, pitch):
    """target[i * pitch + u] = sum over r of A[i, r] plane[row + r, column + u] for i < 6, u < LANES.

    plane (height, width) is 0 outside.
    """

    def generate(context, builder, signature, arguments):
        _transform_rows(builder, AT.T, *arguments)
        return context.get_dummy_value()

    return types.void(_POINTER, *[types.intp] * 4, _POINTER, types.intp), generate


def _transform_rows(builder, matrix, plane, row, height, column, width, target, pitch):
    count = matrix.shape[1]
    inside = _within(builder, row, count, height)
    inside = builder.and_(inside, _within(builder, column, LANES, width))
    start = builder.add(builder.mul(row, width), column)
    places = [builder.add(start, builder.mul(width, _number(r))) for r in range(count)]
    with builder.if_else(inside) as (then, otherwise):
        with then:
            whole = [microkernel._load(builder, plane, place) for place in places]
            whole_block = builder.block
        with otherwise:
            lanes = _lanes_within(builder, column, width)
            partial = []
            for r, place in enumerate(places):
                there = _within(builder, builder.add(row, _number(r)), 1, height)
                mask = builder.select(there, lanes, ir.Constant(_MASK, [False] * LANES))
                partial.append(load_masked(builder, builder.gep(plane, [place]), mask, _ZERO))
            partial_block = builder.block
    vectors = []
    for full, part in zip(whole, partial):
        vector = builder.phi(_VECTOR)
        vector.add_incoming(full, whole_block)
        vector.add_incoming(part, partial_block)
        vectors.append(vector)
    _store_all(builder, transformed(builder, matrix, vectors), target, pitch)


@intrinsic
def deal_pixels(typing_context, source, target, pitch):
    """target[j * pitch + t] = source[4 t + j] for t < LANES, j < 6; not for j > 3 in the last lane, whose pixels lie
    behind the 4 LANES that are read.
    """

    def generate(context, builder, signature, arguments):
        source, target, pitch = arguments
        parts = [microkernel._load(builder, source, _number(k * LANES)) for k in range(OUTPUTS)]
        even, odd = [[_shuffled(builder, *parts[k:k + 2], mask) for k in (0, 2)] for mask in (_EVEN, _ODD)]
        phases = [_shuffled(builder, *half, mask) for mask in (_EVEN, _ODD) for half in (even, odd)]
        _store_all(builder, phases, target, pitch)
        for j in range(OUTPUTS, INPUTS):
            place = builder.sub(builder.mul(pitch, _number(j)), _number(1))
            builder.store(phases[j - OUTPUTS], microkernel._vector_at(builder, target, place), align=4)
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER, types.intp), generate


@intrinsic
def transform_columns(typing_context, source, pitch, target, step):
    """target[j * step + t] = sum over k of BT[j, k] source[k * pitch + t] for j < 6, t < LANES."""

    def generate(context, builder, signature, arguments):
        source, pitch, target, step = arguments
        vectors = _load_all(builder, INPUTS, source, pitch)
        _store_all(builder, transformed(builder, BT, vectors), target, step)
        return context.get_dummy_value()

    return types.void(_POINTER, types.intp, _POINTER, types.intp), generate


@intrinsic
def transform_gradient_columns(typing_context, source, pitch, target, step):
    """target[j * step + t] = sum over k of A[j, k] source[k * pitch + t] for j < 6, t < LANES."""

    def generate(context, builder, signature, arguments):
        source, pitch, target, step = arguments
        vectors = _load_all(builder, OUTPUTS, source, pitch)
        _store_all(builder, transformed(builder, AT.T, vectors), target, step)
        return context.get_dummy_value()

    return types.void(_POINTER, types.intp, _POINTER, types.intp), generate


@intrinsic
def transform_sums(typing_context, source, step, target):
    """target[(3 i + j) * LANES + t] = (G^T M G)[i, j] for lane t of M[k, l] = source[(6 k + l) * step + t]."""

    def generate(context, builder, signature, arguments):
        source, step, target = arguments
        products = _load_all(builder, INPUTS**2, source, step)
        rows = transformed_both(builder, G.T, [products[i:i + INPUTS] for i in range(0, INPUTS**2, INPUTS)])
        _store_all(builder, [number for row in rows for number in row], target, _number(LANES))
        return context.get_dummy_value()

    return types.void(_POINTER, types.intp, _POINTER), generate


@intrinsic
def transform_products(typing_context, source, step, bias, relu, target, pitch):
    """target[i * pitch + 4 t + j] = bias + (A^T M A)[i, j] for lane t of M[k, l] = source[(6 k + l) * step + t].

    With relu, what is below 0 becomes 0.
    """

    def generate(context, builder, signature, arguments):
        source, step, bias, relu, target, pitch = arguments
        products = _load_all(builder, INPUTS**2, source, step)
        rows = transformed_both(builder, AT, [products[i:i + INPUTS] for i in range(0, INPUTS**2, INPUTS)])
        bias = microkernel._broadcast(builder, bias)
        # A comparison with -infinity is never true of "less": so relu costs no branch, and NaN passes.
        bound = builder.select(builder.icmp_signed("!=", relu, _number(0)), ir.Constant(_FLOAT, 0.0),
                               ir.Constant(_FLOAT, float("-inf")))
        bound = microkernel._broadcast(builder, bound)
        for i, row in enumerate(rows):
            sums = [builder.fadd(number, bias) for number in row]
            cut = [builder.select(builder.fcmp_ordered("<", number, bound), bound, number) for number in sums]
            pairs = [_shuffled(builder, *cut[j::2], mask) for j in (0, 1) for mask in (_LOW, _HIGH)]
            parts = [_shuffled(builder, pairs[k], pairs[k + 2], mask) for k in (0, 1) for mask in (_LOW, _HIGH)]
            start = builder.mul(pitch, _number(i))
            for k, part in enumerate(parts):
                place = builder.add(start, _number(k * LANES))
                builder.store(part, microkernel._vector_at(builder, target, place), align=4)
        return context.get_dummy_value()

    return types.void(_POINTER, types.intp, types.float32, types.intp, _POINTER, types.intp), generate


@intrinsic
def transform_filters(typing_context, source, tap_step, target, step):
    """target[(6 i + j) * step + t] = (G w G^T)[i, j] for lane t of w[k, l] = source[(3 k + l) * tap_step + t]."""

    def generate(context, builder, signature, arguments):
        source, tap_step, target, step = arguments
        taps = _load_all(builder, TAPS**2, source, tap_step)
        rows = transformed_both(builder, G, [taps[i:i + TAPS] for i in range(0, TAPS**2, TAPS)])
        _store_all(builder, [number for row in rows for number in row], target, step)
        return context.get_dummy_value()

    return types.void(_POINTER, types.intp, _POINTER, types.intp), generate


def _load_all(builder, count, source, step):
    return [microkernel._load(builder, source, builder.mul(step, _number(k))) for k in range(count)]


def _store_all(builder, vectors, target, step):
    for k, vector in enumerate(vectors):
        place = builder.mul(step, _number(k))
        builder.store(vector, microkernel._vector_at(builder, target, place), align=4)


def _lanes_within(builder, first, limit):
    """For each lane whether 0 <= first + lane < limit."""
    lanes = ir.Constant(_PLACES, list(range(LANES)))
    places = builder.add(in_every_lane(builder, first, LANES), lanes)
    return builder.icmp_unsigned("<", places, in_every_lane(builder, limit, LANES))


def _within(builder, first, count, limit):
    """Whether first .. first + count lies in 0 .. limit."""
    low = builder.icmp_signed(">=", first, _number(0))
    return builder.and_(low, builder.icmp_signed("<=", builder.add(first, _number(count)), limit))


def _shuffled(builder, x, y, mask):
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask))


def _number(value):
    return ir.Constant(_INT, value)
