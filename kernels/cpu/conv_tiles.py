"""Vector instructions that the convolutions share: copies and transposes of whole registers, sums over taps.

Read `microkernel.py` first, whose tiles of any height they use, and `conv_windows.py` next.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from minidl.kernels.cpu import microkernel
from minidl.kernels.cpu.conv_masks import copy_first, copy_part, deal_part, pick_part
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, LINE, ROWS, address
from minidl.kernels.cpu.runtime import compiled, empty
from minidl.kernels.cpu.vectors import fetch

AHEAD = 1024  # weights by which memory is asked for before they are used: they may come from far, page after page

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDEX = ir.IntType(32)
_POINTER = types.CPointer(types.float32)


def workspace(threads: int, size: int) -> np.ndarray:
    """Scratch memory (threads, size), from the pool of large results: between two uses it serves those."""
    return empty((threads, size))


@intrinsic
def multiply_finished(typing_context, rows, a, b, c, depth, stride, accumulate, bias, floor):
    """`microkernel.multiply_rows` with bias[i] added to row i, and no number of the sums below `floor`; a NaN stays.

    c is fetched while the products are summed, so that the stores at the end need not wait for it.
    """

    def generate(context, builder, signature, arguments):
        rows, a, b, c, depth, stride, accumulate, bias, floor = arguments
        floor = microkernel._broadcast(builder, floor)
        for height in _each_height(builder, rows):
            first = []
            for i in range(height):
                _fetch_row(builder, c, builder.mul(stride, microkernel._number(i)))
                number = builder.load(builder.gep(bias, [microkernel._number(i)]))
                first.append(microkernel._broadcast(builder, number))
            tile = _sum_over_depth(builder, height, a, b, depth, first)
            _store_or_add(builder, tile, c, stride, accumulate, floor)
        return context.get_dummy_value()

    numbers = types.intp, types.intp, types.intp
    return types.void(types.intp, _POINTER, _POINTER, _POINTER, *numbers, _POINTER, types.float32), generate


def _each_height(builder, rows):
    """A block for each height, to be filled by the caller one after the other; the right one is run."""
    after = builder.append_basic_block("multiplied")
    choice = builder.switch(rows, after)
    for height in range(1, ROWS + 1):
        block = builder.append_basic_block(f"rows{height}")
        choice.add_case(ir.Constant(rows.type, height), block)
        builder.position_at_end(block)
        yield height
        builder.branch(after)
    builder.position_at_end(after)


def _store_or_add(builder, tile, c, stride, accumulate, floor=None):
    flag = builder.icmp_signed("!=", accumulate, ir.Constant(accumulate.type, 0))
    with builder.if_else(flag) as branches:
        for add, branch in zip((True, False), branches):
            with branch:
                for i, row in enumerate(tile):
                    start = builder.mul(stride, microkernel._number(i))
                    for j, value in enumerate(row):
                        offset = builder.add(start, microkernel._number(j * LANES))
                        if add:
                            value = builder.fadd(microkernel._load(builder, c, offset), value)
                        if floor is not None:  # in this order, for a NaN compares false
                            value = builder.select(builder.fcmp_ordered(">", floor, value), floor, value)
                        builder.store(value, microkernel._vector_at(builder, c, offset), align=4)


def _fetch_row(builder, pointer, offset):
    """Ask for the cache lines of COLUMNS numbers, to write to them."""
    for j in range(0, COLUMNS, LINE):
        fetch(builder, builder.gep(pointer, [builder.add(offset, microkernel._number(j))]), to_write=True)


@intrinsic
def shifted(typing_context, pointer, count):
    """The address so many numbers further."""

    def generate(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return _POINTER(_POINTER, types.intp), generate


@intrinsic
def fetch_line(typing_context, source):
    """Ask for the cache line of an address, which need not be one of the array: it will be read soon."""

    def generate(context, builder, signature, arguments):
        fetch(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(_POINTER), generate


@intrinsic
def fetch_to_write(typing_context, target):
    """The same for a line that will be written to."""

    def generate(context, builder, signature, arguments):
        fetch(builder, arguments[0], to_write=True)
        return context.get_dummy_value()

    return types.void(_POINTER), generate


def _sum_over_depth(builder, height, a, b, depth, first):
    """As in `microkernel.py`, for a tile of `height` rows, each of which starts at a vector of `first`."""
    number = microkernel._number
    before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("sum")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(ir.IntType(64))
    sums = [[builder.phi(_VECTOR) for _ in range(COLUMNS // LANES)] for _ in range(height)]
    column, row = builder.mul(k, number(height)), builder.mul(k, number(COLUMNS))
    across = [microkernel._load(builder, b, builder.add(row, number(j))) for j in range(0, COLUMNS, LANES)]
    fetch(builder, builder.gep(a, [builder.add(column, number(AHEAD))]))
    tile = []
    for i in range(height):
        down = microkernel._broadcast(builder, builder.load(builder.gep(a, [builder.add(column, number(i))])))
        tile.append([microkernel._multiply_add(builder, down, part, total) for part, total in zip(across, sums[i])])
    following = builder.add(k, number(1))
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    k.add_incoming(number(0), before)
    k.add_incoming(following, loop)
    for row_sums, row_tile, start in zip(sums, tile, first):
        for variable, value in zip(row_sums, row_tile):
            variable.add_incoming(start, before)
            variable.add_incoming(value, loop)
    builder.position_at_end(after)
    return tile


@intrinsic
def copy_lanes(typing_context, target, source):
    """target[j] = source[j] for j < LANES, as one load and one store."""

    def generate(context, builder, signature, arguments):
        target, source = [builder.bitcast(pointer, _VECTOR.as_pointer()) for pointer in arguments]
        builder.store(builder.load(source, align=4), target, align=4)
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER), generate


@intrinsic
def pick_lanes(typing_context, target, source):
    """target[j] = source[2 * j] for j < LANES; 2 * LANES numbers are read."""

    def generate(context, builder, signature, arguments):
        target, source = arguments
        parts = [microkernel._load(builder, source, microkernel._number(start)) for start in (0, LANES)]
        even = ir.Constant(ir.VectorType(_INDEX, LANES), list(range(0, 2 * LANES, 2)))
        place = builder.bitcast(target, _VECTOR.as_pointer())
        builder.store(builder.shuffle_vector(*parts, even), place, align=4)
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER), generate


@intrinsic
def sum_taps(typing_context, target, source, places, weights, bias):
    """target[j] = bias + sum over t of weights[t] * source[places[t] + j] for j < 4 LANES; places is an array."""

    def generate(context, builder, signature, arguments):
        target, source, places, weights, bias = arguments
        number = microkernel._number
        places = make_array(signature.args[2])(context, builder, places)
        count = builder.extract_value(places.shape, 0)
        before, loop, after = builder.block, builder.append_basic_block("tap"), builder.append_basic_block("taps")
        first = microkernel._broadcast(builder, bias)
        builder.branch(loop)
        builder.position_at_end(loop)
        t = builder.phi(ir.IntType(64))
        sums = [builder.phi(_VECTOR) for _ in range(4)]
        weight = microkernel._broadcast(builder, builder.load(builder.gep(weights, [t])))
        place = builder.load(builder.gep(places.data, [t]))
        values = [microkernel._load(builder, source, builder.add(place, number(k * LANES))) for k in range(4)]
        new = [microkernel._multiply_add(builder, weight, value, part) for value, part in zip(values, sums)]
        following = builder.add(t, number(1))
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        for variable, start, later in zip([t, *sums], [number(0)] + [first] * 4, [following, *new]):
            variable.add_incoming(start, before)
            variable.add_incoming(later, loop)
        builder.position_at_end(after)
        for k, value in enumerate(new):
            builder.store(value, microkernel._vector_at(builder, target, number(k * LANES)), align=4)
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER, types.int64[::1], _POINTER, types.float32), generate


@intrinsic
def dot_lanes(typing_context, a, b, steps):
    """The sum of a[k] * b[k] for k < steps * LANES, lane by lane first; steps is at least 1."""

    def generate(context, builder, signature, arguments):
        a, b, steps = arguments
        number = microkernel._number
        before, loop, after = builder.block, builder.append_basic_block("step"), builder.append_basic_block("sum")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, total = builder.phi(ir.IntType(64)), builder.phi(_VECTOR)
        offset = builder.mul(k, number(LANES))
        new = microkernel._multiply_add(
            builder, microkernel._load(builder, a, offset), microkernel._load(builder, b, offset), total
        )
        following = builder.add(k, number(1))
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        for variable, start, later in ((k, number(0), following), (total, ir.Constant(_VECTOR, [0.0] * LANES), new)):
            variable.add_incoming(start, before)
            variable.add_incoming(later, loop)
        builder.position_at_end(after)
        half = LANES // 2
        while half:  # the upper half of the lanes is added to the lower
            mask = [lane + half if lane < half else lane for lane in range(LANES)]
            upper = builder.shuffle_vector(new, new, ir.Constant(ir.VectorType(_INDEX, LANES), mask))
            new = builder.fadd(new, upper)
            half //= 2
        return builder.extract_element(new, ir.Constant(_INDEX, 0))

    return types.float32(_POINTER, _POINTER, types.intp), generate


@intrinsic
def zero_lanes(typing_context, target):
    """target[j] = 0 for j < LANES, as one store."""

    def generate(context, builder, signature, arguments):
        target = builder.bitcast(arguments[0], _VECTOR.as_pointer())
        builder.store(ir.Constant(_VECTOR, [0.0] * LANES), target, align=4)
        return context.get_dummy_value()

    return types.void(_POINTER), generate


@intrinsic
def transpose_lanes(typing_context, target, target_stride, source, source_stride):
    """target[i * target_stride + j] = source[j * source_stride + i] for i, j < LANES.

    Rows of the block are interleaved in halves, log2(LANES) times: then every register holds one column.
    """

    def generate(context, builder, signature, arguments):
        target, target_stride, source, source_stride = arguments
        number = microkernel._number
        rows = [microkernel._load(builder, source, builder.mul(source_stride, number(i))) for i in range(LANES)]
        half = LANES // 2
        low = [lane // 2 + (lane % 2) * LANES for lane in range(LANES)]
        high = [index + half for index in low]
        masks = [ir.Constant(ir.VectorType(_INDEX, LANES), mask) for mask in (low, high)]
        step = 1
        while step < LANES:
            rows = [
                builder.shuffle_vector(rows[i // 2], rows[i // 2 + half], masks[i % 2]) for i in range(LANES)
            ]
            step *= 2
        for i, row in enumerate(rows):
            place = microkernel._vector_at(builder, target, builder.mul(target_stride, number(i)))
            builder.store(row, place, align=4)
        return context.get_dummy_value()

    return types.void(_POINTER, types.intp, _POINTER, types.intp), generate


@compiled
def copy_row(target, place, source, start, length):
    """target[place + u] = source[start + u] for u < length, by the vector; source goes on for LANES numbers more."""
    u = 0
    while u + LANES <= length:
        copy_lanes(address(target, place + u), address(source, start + u))
        u += LANES
    if u < length:
        copy_first(address(target, place + u), address(source, start + u), length - u)


@compiled
def copy_padded(x, source, width, low, space, place, length):
    """space[place + u] = x[source + low + u] for u < length, or 0 where low + u is not in 0..width.

    Writes whole registers: up to LANES numbers behind are overwritten, so that rows must be copied from the first on.
    """
    begin, end = -low, width - low
    source += low
    for u in range(0, length, LANES):
        if u >= begin and u + LANES <= end:
            copy_lanes(address(space, place + u), address(x, source + u))
        else:
            copy_part(address(space, place + u), address(x, source + u), begin - u, end - u)


@compiled
def pick_padded(x, source, width, low, step, space, place, length):
    """space[place + u] = x[source + low + step * u] for u < length, or 0; step is 2 or more. As `copy_padded`."""
    if step == 2:
        for u in range(0, length, LANES):
            begin, end, origin = -low - 2 * u, width - low - 2 * u, source + low + 2 * u
            if begin <= 0 and 2 * LANES <= end:
                pick_lanes(address(space, place + u), address(x, origin))
            else:
                pick_part(address(space, place + u), address(x, origin), begin, end)
        return
    numbers, target = x.reshape(-1), space.reshape(-1)
    for u in range(length):
        column = low + step * u
        target[place + u] = numbers[source + column] if 0 <= column < width else np.float32(0)


@compiled
def deal_padded(x, source, width, low, space, place, length):
    """Every second column to space[place + u], those between to space[place + length + u], for u < length.

    From x[source + low] on, or 0 outside of a row of x. As `copy_padded`.
    """
    for u in range(0, length, LANES):
        origin = low + 2 * u
        deal_part(address(space, place + u), address(space, place + length + u), address(x, source + origin), -origin,
                  width - origin, length - u)


@compiled
def take_every(space, source, step, place, length):
    """space[place + u] = space[source + step * u] for u < length; what lies behind is overwritten as in copy_padded."""
    if step == 2:
        for u in range(0, length, LANES):
            pick_lanes(address(space, place + u), address(space, source + 2 * u))
    else:
        numbers = space.reshape(-1)
        for u in range(length):
            numbers[place + u] = numbers[source + step * u]
