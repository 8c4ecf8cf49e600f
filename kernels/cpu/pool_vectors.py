"""The innermost steps of pooling: LANES windows side by side, in vector registers. Read next: pool.py.

Windows that are two columns apart read every second number of a row. A compiler seldom turns loops over such rows
into vector instructions, the less if the rows are short; here they are written in LLVM's own instructions, with
Numba's `@intrinsic`, as in microkernel.py. Each step takes whole vectors: what it reads and writes beyond the end of
a row is harmless only where the caller says so, by the order in which it writes and by what it checks before.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from minidl.kernels.cpu.runtime import compiled, parallel

PORTIONS = 32  # of the images, for the threads to share
SMALL = 2**15  # numbers, below which one thread is faster than two
LANES = 16  # LLVM splits a vector where the processor's registers are shorter
NEVER = 250  # a tap that no window of at most 3 x 3 has

_FLOATS, _BYTES, _INT = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(8), LANES), ir.IntType(64)


def run(work, loop, portions, *arguments):
    """The loop over all images, or its parallel form if there is enough work (numbers) for it."""
    images = arguments[-2]
    if work < SMALL or images == 1:
        loop(*arguments, 0, images)
    else:
        parallel(portions, *arguments, min(images, PORTIONS))


def geometry_of(size, outputs, kernel_size, stride, padding, dilation) -> tuple:
    """All that a loop needs to know of the windows, in the order in which the loops unpack it."""
    return (*size, *outputs, *kernel_size, *stride, *padding, *dilation)


def largest_step(stride: int):
    """For windows `stride` columns apart, the step of max pooling; stride is 1 or 2."""

    @intrinsic
    def largest(typing_context, x, corner, line, step, rows, columns, tap, row_taps, y, winners, place):
        """The largest of rows x columns taps of LANES windows, and which it was, to y and winners from `place` on.

        The first window's first tap is x[corner]; its taps are `step`, its rows `line` numbers apart. The first tap's
        number is `tap`, the first one of the next row is row_taps later.
        """

        def generate(context, builder, signature, arguments):
            x, corner, line, step, rows, columns, tap, row_taps, y, winners, place = arguments
            source = _data(context, builder, signature.args[0], x)
            best = cgutils.alloca_once_value(builder, _load_strided(builder, source, corner, stride))
            winner = cgutils.alloca_once_value(builder, _splat_byte(builder, tap))
            for offset, number in _walk(builder, corner, line, step, rows, columns, tap, row_taps):
                value, before = _load_strided(builder, source, offset, stride), builder.load(best)
                larger = builder.fcmp_ordered(">", value, before)
                larger = builder.or_(larger, builder.fcmp_unordered("uno", value, value))
                builder.store(builder.select(larger, value, before), best)
                builder.store(builder.select(larger, _splat_byte(builder, number), builder.load(winner)), winner)
            _store(builder, builder.load(best), _data(context, builder, signature.args[8], y), place)
            _store(builder, builder.load(winner), _data(context, builder, signature.args[9], winners), place)
            return context.get_dummy_value()

        return types.void(x, *[types.intp] * 7, y, winners, types.intp), generate

    return largest


def sum_step(stride: int):
    """For windows `stride` columns apart, the step of average pooling; stride is 1 or 2."""

    @intrinsic
    def means(typing_context, x, corner, line, step, rows, columns, divisor, y, place):
        """The sums of rows x columns taps of LANES windows, divided by `divisor`, to y; else as `largest`."""

        def generate(context, builder, signature, arguments):
            x, corner, line, step, rows, columns, divisor, y, place = arguments
            source, zero = _data(context, builder, signature.args[0], x), ir.Constant(_INT, 0)
            total = cgutils.alloca_once_value(builder, ir.Constant(_FLOATS, [0.0] * LANES))
            for offset, _ in _walk(builder, corner, line, step, rows, columns, zero, zero):
                builder.store(builder.fadd(builder.load(total), _load_strided(builder, source, offset, stride)), total)
            mean = builder.fdiv(builder.load(total), _splat(builder, divisor, _FLOATS))
            _store(builder, mean, _data(context, builder, signature.args[7], y), place)
            return context.get_dummy_value()

        return types.void(x, *[types.intp] * 5, types.float32, y, types.intp), generate

    return means


largest_1, largest_2 = largest_step(1), largest_step(2)
means_1, means_2 = sum_step(1), sum_step(2)


@intrinsic
def spread_pair(typing_context, g, winners, place, grad, target, width):
    """The gradient of LANES windows of 2 x 2: 2 LANES numbers to grad from `target` on, as many in the row below.

    The windows are those from g[place] on; a row of grad has `width` numbers, and the upper is written first.
    """

    def generate(context, builder, signature, arguments):
        g, winners, place, grad, target, width = arguments
        values = _load(builder, _data(context, builder, signature.args[0], g), place, _FLOATS)
        winner = _load(builder, _data(context, builder, signature.args[1], winners), place, _BYTES)
        zero, to = ir.Constant(_FLOATS, [0.0] * LANES), _data(context, builder, signature.args[3], grad)
        parts = []
        for tap in range(4):
            won = builder.icmp_unsigned("==", winner, ir.Constant(_BYTES, [tap] * LANES))
            parts.append(builder.select(won, values, zero))
        _store_pair(builder, parts[0], parts[1], to, target)
        _store_pair(builder, parts[2], parts[3], to, builder.add(target, width))
        return context.get_dummy_value()

    return types.void(g, winners, types.intp, grad, types.intp, types.intp), generate


def triple_step(padding: int):
    """For padding 0 or 1, the step of the gradient of 3 x 3 windows, two columns apart."""

    @intrinsic
    def spread_triple(typing_context, g, winners, place, tap, above, tap_above, column, columns, grad, target):
        """The gradient of one row of the image: 2 LANES numbers to grad from `target` on.

        Every second number is the middle of a window (tap + 1), the others are the first of a window (tap) and the
        last of the one before it (tap + 2). The row lies in the windows at `place`, as their row that starts with
        `tap`, and in those at `above`, as the one that starts with tap_above; NEVER for a tap says that it does not.
        """

        def generate(context, builder, signature, arguments):
            g, winners, place, tap, above, tap_above, column, columns, grad, target = arguments
            data = [_data(context, builder, kind, array) for kind, array in zip(signature.args, (g, winners))]
            zero = ir.Constant(_FLOATS, [0.0] * LANES)
            middle, outer = cgutils.alloca_once_value(builder, zero), cgutils.alloca_once_value(builder, zero)
            for start, first in ((place, tap), (above, tap_above)):
                with builder.if_then(builder.icmp_signed("!=", first, ir.Constant(_INT, NEVER))):
                    for side, total, ahead in ((0, outer, padding), (1, middle, 0), (2, outer, padding - 1)):
                        part = _won(builder, data, start, _add(builder, column, ahead), columns,
                                    _add(builder, first, side))
                        builder.store(builder.fadd(builder.load(total), part), total)
            middle, outer = builder.load(middle), builder.load(outer)
            pair = (middle, outer) if padding else (outer, middle)
            _store_pair(builder, *pair, _data(context, builder, signature.args[8], grad), target)
            return context.get_dummy_value()

        return types.void(g, winners, *[types.intp] * 6, grad, types.intp), generate

    return spread_triple


triple_0, triple_1 = triple_step(0), triple_step(1)


@intrinsic
def spread_share(typing_context, g, place, divisor, grad, target):
    """g / divisor of LANES windows from `place` on, each twice: 2 LANES numbers to grad from `target` on."""

    def generate(context, builder, signature, arguments):
        g, place, divisor, grad, target = arguments
        values = _load(builder, _data(context, builder, signature.args[0], g), place, _FLOATS)
        share = builder.fdiv(values, _splat(builder, divisor, _FLOATS))
        _store_pair(builder, share, share, _data(context, builder, signature.args[3], grad), target)
        return context.get_dummy_value()

    return types.void(g, types.intp, types.float32, grad, types.intp), generate


@intrinsic
def sum_lanes(typing_context, x, start, length):
    """The sum of `length` numbers from x[start] on, at least LANES."""

    def generate(context, builder, signature, arguments):
        data, (start, length) = _data(context, builder, signature.args[0], arguments[0]), arguments[1:]
        size, zero = ir.Constant(_INT, LANES), ir.Constant(_FLOATS, [0.0] * LANES)
        last = builder.sub(length, size)
        total = cgutils.alloca_once_value(builder, zero)
        with cgutils.for_range_slice(builder, ir.Constant(_INT, 0), last, size) as (index, count):
            value = _load(builder, data, builder.add(start, index), _FLOATS)
            builder.store(builder.fadd(builder.load(total), value), total)
        fresh = _fresh_lanes(builder, length, last)
        value = builder.select(fresh, _load(builder, data, builder.add(start, last), _FLOATS), zero)
        sums = builder.fadd(builder.load(total), value)
        for half in (8, 4, 2, 1):
            sums = builder.fadd(sums, _shuffle(builder, sums, sums, [(lane + half) % LANES for lane in range(LANES)]))
        return builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))

    return types.float32(x, types.intp, types.intp), generate


@intrinsic
def sum_rows(typing_context, x, start, length, divisor, y, place):
    """For LANES rows of `length` numbers each, at least LANES, from x[start] on: their sums / divisor, to y[place…].

    A row is summed as in sum_lanes; the last lanes of all rows are added together.
    """

    def generate(context, builder, signature, arguments):
        x, start, length, divisor, y, place = arguments
        data, zero = _data(context, builder, signature.args[0], x), ir.Constant(_FLOATS, [0.0] * LANES)
        size = ir.Constant(_INT, LANES)
        last = builder.sub(length, size)
        starts = [builder.add(start, builder.mul(length, ir.Constant(_INT, row))) for row in range(LANES)]
        totals = [cgutils.alloca_once_value(builder, zero) for _ in starts]
        with cgutils.for_range_slice(builder, ir.Constant(_INT, 0), last, size) as (index, count):
            for row, total in zip(starts, totals):
                value = _load(builder, data, builder.add(row, index), _FLOATS)
                builder.store(builder.fadd(builder.load(total), value), total)
        fresh = _fresh_lanes(builder, length, last)
        sums = []
        for row, total in zip(starts, totals):
            value = builder.select(fresh, _load(builder, data, builder.add(row, last), _FLOATS), zero)
            sums.append(builder.fadd(builder.load(total), value))
        for half in (8, 4, 2, 1):  # of two vectors, the first and the second halves of each row's lanes
            firsts = [side + group + lane for side in (0, LANES) for group in range(0, LANES, 2 * half)
                      for lane in range(half)]
            seconds = [lane + half for lane in firsts]
            sums = [builder.fadd(_shuffle(builder, *pair, firsts), _shuffle(builder, *pair, seconds))
                    for pair in zip(sums[::2], sums[1::2])]
        means = builder.fdiv(sums[0], _splat(builder, divisor, _FLOATS))
        _store(builder, means, _data(context, builder, signature.args[4], y), place)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, types.float32, y, types.intp), generate


@intrinsic
def largest_lanes(typing_context, x, start, length):
    """The largest of `length` numbers from x[start] on, at least LANES; nan if there is one."""

    def generate(context, builder, signature, arguments):
        data, (start, length) = _data(context, builder, signature.args[0], arguments[0]), arguments[1:]
        size, place = ir.Constant(_INT, LANES), builder.add(start, builder.sub(length, ir.Constant(_INT, LANES)))
        best = cgutils.alloca_once_value(builder, _load(builder, data, place, _FLOATS))
        with cgutils.for_range_slice(builder, start, place, size) as (index, count):
            builder.store(_larger(builder, _load(builder, data, index, _FLOATS), builder.load(best)), best)
        lanes = builder.load(best)
        for half in (8, 4, 2, 1):
            turned = _shuffle(builder, lanes, lanes, [(lane + half) % LANES for lane in range(LANES)])
            lanes = _larger(builder, turned, lanes)
        return builder.extract_element(lanes, ir.Constant(ir.IntType(32), 0))

    return types.float32(x, types.intp, types.intp), generate


@intrinsic
def first_lane(typing_context, x, start, value):
    """The first of LANES numbers from x[start] on that is `value`, or nan where that is nan; LANES if none is."""

    def generate(context, builder, signature, arguments):
        array, start, value = arguments
        numbers = _load(builder, _data(context, builder, signature.args[0], array), start, _FLOATS)
        sought = _splat(builder, value, _FLOATS)
        both = builder.and_(builder.fcmp_unordered("uno", numbers, numbers),
                            builder.fcmp_unordered("uno", sought, sought))
        mask = ir.IntType(LANES)
        found = builder.bitcast(builder.or_(builder.fcmp_ordered("==", numbers, sought), both), mask)
        return builder.zext(builder.cttz(found, ir.Constant(ir.IntType(1), 0)), _INT)

    return types.intp(x, types.intp, types.float32), generate


@intrinsic
def fill_lanes(typing_context, x, start, length, value):
    """`value` in `length` numbers from x[start] on, at least LANES."""

    def generate(context, builder, signature, arguments):
        data, (start, length, value) = _data(context, builder, signature.args[0], arguments[0]), arguments[1:]
        size, vector = ir.Constant(_INT, LANES), _splat(builder, value, _FLOATS)
        last = builder.sub(length, size)
        with cgutils.for_range_slice(builder, ir.Constant(_INT, 0), last, size) as (index, count):
            _store(builder, vector, data, builder.add(start, index))
        _store(builder, vector, data, builder.add(start, last))
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, types.float32), generate


@compiled
def inside(size, outputs, kernel, stride, padding, dilation):
    """The windows start..stop of an axis that do not reach into the padding."""
    start = (padding + stride - 1) // stride
    stop = (size - 1 + padding - (kernel - 1) * dilation) // stride + 1
    return min(start, outputs), max(min(stop, outputs), min(start, outputs))


@compiled
def tap_range(corner, size, kernel, dilation):
    """The taps start..stop of a window along an axis that are not padding."""
    if corner >= 0 and corner + (kernel - 1) * dilation < size:
        return 0, kernel
    return max(0, (dilation - 1 - corner) // dilation), min(kernel, (size - corner + dilation - 1) // dilation)


@compiled
def fill(x, start, length, value):
    if length >= LANES:
        fill_lanes(x, start, length, value)
    else:
        for i in range(start, start + length):
            x[i] = value


def _walk(builder, corner, line, step, rows, columns, tap, row_taps):
    """Append the loop over a window's taps; yields, inside it, a tap's place in x and its number."""
    with cgutils.for_range(builder, rows) as row:
        with cgutils.for_range(builder, columns) as column:
            offset = builder.add(builder.mul(row.index, line), builder.mul(column.index, step))
            number = builder.add(builder.mul(row.index, row_taps), column.index)
            yield builder.add(corner, offset), builder.add(tap, number)


def _data(context, builder, kind, array):
    return make_array(kind)(context, builder, array).data


def _load_strided(builder, data, offset, stride):
    """LANES numbers that are `stride` apart, from two whole vectors if it is 2."""
    low = _load(builder, data, offset, _FLOATS)
    if stride == 1:
        return low
    # The second vector starts one number early, so that nothing is read beyond the last number that is asked for.
    high = _load(builder, data, _add(builder, offset, LANES - 1), _FLOATS)
    return _shuffle(builder, low, high, [*range(0, LANES, 2), *range(LANES + 1, 2 * LANES, 2)])


def _fresh_lanes(builder, length, last):
    """Of the vector from `last` on, which ends with the row: the lanes that no whole vector before it had."""
    size = ir.Constant(_INT, LANES)
    done = builder.mul(builder.sdiv(_add(builder, length, -1), size), size)
    lanes = ir.Constant(ir.VectorType(_INT, LANES), list(range(LANES)))
    return builder.icmp_signed(">=", lanes, _splat(builder, builder.sub(done, last), lanes.type))


def _larger(builder, value, before):
    larger = builder.fcmp_ordered(">", value, before)
    return builder.select(builder.or_(larger, builder.fcmp_unordered("uno", value, value)), value, before)


def _won(builder, data, start, column, columns, tap):
    """g of the windows from start + column on, where `tap` has won; 0 elsewhere and beyond the row's `columns`."""
    g, winners = data
    kind = ir.VectorType(ir.IntType(32), LANES)
    first, limit = [_splat(builder, builder.trunc(number, ir.IntType(32)), kind) for number in (column, columns)]
    within = builder.icmp_unsigned("<", builder.add(first, ir.Constant(kind, list(range(LANES)))), limit)
    place = builder.add(start, column)
    chosen = builder.icmp_unsigned("==", _load(builder, winners, place, _BYTES), _splat_byte(builder, tap))
    values = _load(builder, g, place, _FLOATS)
    return builder.select(builder.and_(chosen, within), values, ir.Constant(_FLOATS, [0.0] * LANES))


def _add(builder, number, constant):
    return builder.add(number, ir.Constant(_INT, constant))


def _store_pair(builder, even, odd, data, offset):
    """Even and odd numbers, one of each in turn."""
    half = LANES // 2
    for start in (0, half):
        places = [lane + start + side for lane in range(half) for side in (0, LANES)]
        _store(builder, _shuffle(builder, even, odd, places), data, _add(builder, offset, 2 * start))


def _load(builder, data, offset, kind):
    return builder.load(builder.bitcast(builder.gep(data, [offset]), kind.as_pointer()), align=1)


def _store(builder, vector, data, offset):
    builder.store(vector, builder.bitcast(builder.gep(data, [offset]), vector.type.as_pointer()), align=1)


def _shuffle(builder, low, high, places):
    return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(ir.IntType(32), LANES), places))


def _splat_byte(builder, number):
    return _splat(builder, builder.trunc(number, ir.IntType(8)), _BYTES)


def _splat(builder, number, kind):
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return _shuffle(builder, first, undefined, [0] * LANES)
