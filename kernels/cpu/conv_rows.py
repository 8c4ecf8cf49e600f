"""The innermost steps of depthwise convolution: a strip of LANES columns, some rows deep, in vector registers.

Each step walks down the rows of x that its outputs see. A row is loaded once for each of its taps, kw registers that
begin one column after another, and is then multiplied into every output row that holds it:

    row 0 of x      w00 w01 w02 ->  row 0 of y
    row 1           w10 w11 w12 ->  row 0     w00 w01 w02 ->  row 1
    row 2           w20 w21 w22 ->  row 0     w10 w11 w12 ->  row 1     w00 w01 w02 ->  row 2
    ...

so that for 3 x 3 taps and a block of 7 rows, 27 loads feed 63 FMAs. With a stride of two, the register of a tap is
every second number of two. Nothing is copied: columns beyond x are not loaded and count as zeros (a masked load), rows
beyond it are read from `zeros`, and of y only what there is is stored.

Each step exists for the kernels and strides in KINDS; the loops of conv_depthwise.py pass the index of one. LLVM knows
masked loads for every processor: AVX-512 and AVX have them, elsewhere they become branches.
"""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu.microkernel import LANES, _broadcast, _load, _multiply_add, _number, _vector_at
from minidl.kernels.cpu.vectors import fetch, in_every_lane, load_masked, store_masked


class Kind(NamedTuple):
    """Windows of kernel x kernel taps, `stride` apart, of which `rows` rows are computed at once."""

    kernel: int
    stride: int
    rows: int


# As many rows as leave room for the weights of 3 x 3 taps beside their sums; maps are often multiples of 7 rows high.
KINDS = tuple(Kind(kernel, stride, 7 if LANES == 16 else 4) for kernel in (3, 5) for stride in (1, 2))
REGISTER = {"x86_64": "v", "aarch64": "w"}.get(binding.get_process_triple().split("-")[0])  # LLVM's letter for vectors

_VECTOR, _FLAGS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(1), LANES)
_INDEX = ir.IntType(32)
_INDICES = ir.VectorType(_INDEX, LANES)
_ZERO = ir.Constant(_VECTOR, [0.0] * LANES)
_POINTER = types.CPointer(types.float32)


AHEAD = 2048  # numbers by which memory is asked for before it is used: rows begin too often anew for the processor to


class Plane(NamedTuple):
    """What a step reads of a channel: from row `row` and column `column` on, either of which may lie outside."""

    data: ir.Value
    height: ir.Value
    width: ir.Value
    row: ir.Value
    column: ir.Value
    zeros: ir.Value  # the address of 4 LANES zeros


@intrinsic
def convolve_rows(typing_context, kind, x, height, width, row, column, zeros, weights, first, least, y, pitch, rows,
                  count, known):
    """y[r * pitch + s] = max(least, first + the sum of weights[i, j] x[row + r stride + i, column + s stride + j])

    for r < rows (or what the kind computes at once, if that is less) and s < count (or LANES). Where `known` is not 0,
    the sums begin with what y holds instead of `first`. x, zeros, weights and y are addresses.
    """

    def generate(context, builder, signature, arguments):
        kind, x, height, width, row, column, zeros, weights, first, least, y, pitch, rows, count, known = arguments
        plane = Plane(x, height, width, row, column, zeros)

        def step(kind):
            factors, floor = _weights(builder, kind, weights), _broadcast(builder, least)
            targets = [builder.gep(y, [builder.mul(pitch, _number(r))]) for r in range(kind.rows)]
            masks = [_below(builder, _if(builder, builder.icmp_signed(">", rows, _number(r)), count))
                     for r in range(kind.rows)]
            sums = _known_or(builder, known, targets, masks, _broadcast(builder, first))
            for k, values in enumerate(_rows_of(builder, kind, plane)):
                for r in range(kind.rows):
                    i = k - r * kind.stride
                    if 0 <= i < kind.kernel:
                        for value, factor in zip(values, factors[i]):
                            sums[r] = _multiply_add(builder, factor, value, sums[r])
                        sums[r] = _now(builder, sums[r])
            for total, target, mask in zip(sums, targets, masks):
                fetch(builder, builder.gep(target, [_number(AHEAD)]), to_write=True)
                store_masked(builder, _at_least(builder, total, floor), target, mask)

        _for_kind(builder, kind, KINDS, step)
        return context.get_dummy_value()

    return types.void(
        types.intp, _POINTER, *[types.intp] * 4, _POINTER, _POINTER, types.float32, types.float32, _POINTER,
        *[types.intp] * 4
    ), generate


@intrinsic
def spread_rows(typing_context, kind, g, height, width, row, column, zeros, weights, x, x_height, x_width, top, left,
                known):
    """x[top + 2 r + i, left + 2 s + j] += g[row + r, column + s] weights[i, j]: the gradient for windows two apart.

    For r below twice the kind's rows and s < 2 LANES, where that lies in x; g counts as zero outside. With known = 0,
    x is overwritten.
    """

    def generate(context, builder, signature, arguments):
        kind, g, height, width, row, column, zeros, weights, x, x_height, x_width, top, left, known = arguments

        def step(kind):
            back = (kind.kernel - 1) // 2  # so many outputs before the one that begins here still reach this far
            plane = Plane(g, height, width, builder.sub(row, _number(back)), builder.sub(column, _number(back)), zeros)
            factors, seen = _weights(builder, kind, weights), Kind(back + 1, 1, kind.rows)
            values = list(_rows_of(builder, seen, plane))
            for r in range(2 * kind.rows):
                line = builder.add(top, _number(r))
                there = _if(builder, builder.icmp_unsigned("<", line, x_height), x_width)
                target = builder.gep(x, [builder.add(builder.mul(line, x_width), left)])
                targets = [builder.gep(target, [_number(shift)]) for shift in (0, LANES)]
                masks = [_inside(builder, builder.add(left, _number(shift)), there) for shift in (0, LANES)]
                phases = [_ZERO, _ZERO]
                for i in range(r % 2, kind.kernel, 2):
                    for j in range(kind.kernel):
                        value = values[r // 2 + back - i // 2][back - j // 2]
                        phases[j % 2] = _multiply_add(builder, factors[i][j], value, phases[j % 2])
                sums = _known_or(builder, known, targets, masks, _ZERO)
                for half, (before, target, mask) in enumerate(zip(sums, targets, masks)):
                    lanes = [half * LANES // 2 + lane // 2 + lane % 2 * LANES for lane in range(LANES)]
                    fetch(builder, builder.gep(target, [_number(AHEAD)]), to_write=True)
                    store_masked(builder, builder.fadd(_shuffle(builder, *phases, lanes), before), target, mask)

        _for_kind(builder, kind, [kind for kind in KINDS if kind.stride == 2], step)
        return context.get_dummy_value()

    return types.void(
        types.intp, _POINTER, *[types.intp] * 4, _POINTER, _POINTER, _POINTER, *[types.intp] * 5
    ), generate


def correlate_step(single: bool):
    """The step of the weights' gradient, for as many rows as the kind computes at once or for a single one."""

    @intrinsic
    def correlate(typing_context, kind, x, height, width, row, column, zeros, g, pitch, count, sums):
        """sums[i, j, s] += sum over r of g[r * pitch + s] x[row + r stride + i, column + s stride + j], s < count.

        sums is the address of LANES numbers for each tap.
        """

        def generate(context, builder, signature, arguments):
            kind, x, height, width, row, column, zeros, g, pitch, count, sums = arguments
            plane = Plane(x, height, width, row, column, zeros)

            def step(kind):
                kind = kind._replace(rows=1) if single else kind
                valid = _below(builder, count)
                places = [builder.gep(g, [builder.mul(pitch, _number(r))]) for r in range(kind.rows)]
                for place in places:
                    fetch(builder, builder.gep(place, [_number(AHEAD)]))
                lines = [load_masked(builder, place, valid, _ZERO) for place in places]
                totals = [[_ZERO] * kind.kernel for _ in range(kind.kernel)]
                for k, values in enumerate(_rows_of(builder, kind, plane, valid)):
                    for r in range(kind.rows):
                        i = k - r * kind.stride
                        if 0 <= i < kind.kernel:
                            totals[i] = [_now(builder, _multiply_add(builder, lines[r], value, total))
                                         for value, total in zip(values, totals[i])]
                for t, total in enumerate(sum(totals, [])):
                    place = _number(t * LANES)
                    total = builder.fadd(_load(builder, sums, place), total)
                    builder.store(total, _vector_at(builder, sums, place), align=4)

            _for_kind(builder, kind, KINDS, step)
            return context.get_dummy_value()

        return types.void(
            types.intp, _POINTER, *[types.intp] * 4, _POINTER, _POINTER, types.intp, types.intp, _POINTER
        ), generate

    return correlate


correlate_rows, correlate_row = correlate_step(single=False), correlate_step(single=True)


@intrinsic
def sum_lanes(typing_context, numbers):
    """The sum of LANES numbers: the upper half is added to the lower, until one is left."""

    def generate(context, builder, signature, arguments):
        total, half = _load(builder, arguments[0], _number(0)), LANES // 2
        while half:
            lanes = [lane + half if lane < half else lane for lane in range(LANES)]
            total = builder.fadd(total, _shuffle(builder, total, total, lanes))
            half //= 2
        return builder.extract_element(total, ir.Constant(_INDEX, 0))

    return types.float32(_POINTER), generate


def _for_kind(builder, number, kinds, step):
    """Append step(kind) for each of the kinds, of which the one with index `number` in KINDS is taken."""
    after = builder.append_basic_block("after")
    choice = builder.switch(number, after)
    for kind in kinds:
        builder.position_at_end(builder.append_basic_block(f"kernel{kind.kernel}_stride{kind.stride}"))
        choice.add_case(_number(KINDS.index(kind)), builder.block)
        step(kind)
        builder.branch(after)
    builder.position_at_end(after)


def _rows_of(builder, kind, plane, valid=None):
    """For each row that the windows of a step see: a register for each tap of a row, lane s for window s.

    valid: the lanes that matter; without it, all. What the others hold then is 0.
    """
    masks = {}
    for start in _starts(kind):
        mask = _inside(builder, builder.add(plane.column, _number(start)), plane.width)
        masks[start] = builder.and_(mask, valid) if valid is not None and kind.stride == 1 else mask
    offset = builder.add(builder.mul(plane.row, plane.width), plane.column)
    for k in range((kind.rows - 1) * kind.stride + kind.kernel):
        inside = builder.icmp_unsigned("<", builder.add(plane.row, _number(k)), plane.height)
        line = builder.select(inside, builder.gep(plane.data, [offset]), plane.zeros)
        if k < kind.rows * kind.stride:
            for half in range(kind.stride):
                fetch(builder, builder.gep(plane.data, [builder.add(offset, _number(AHEAD + half * LANES))]))
        offset = builder.add(offset, plane.width)
        parts = {start: load_masked(builder, builder.gep(line, [_number(start)]), mask, _ZERO)
                 for start, mask in masks.items()}
        if kind.stride == 1:
            yield [parts[j] for j in range(kind.kernel)]
        else:
            values = []
            for j in range(kind.kernel):
                lanes = [lane * 2 + j % 2 for lane in range(LANES)]
                value = _shuffle(builder, parts[j - j % 2], parts[j - j % 2 + LANES], lanes)
                values.append(value if valid is None else builder.select(valid, value, _ZERO))
            yield values


def _starts(kind):
    """The columns, counted from the first window's, from which a row is loaded."""
    if kind.stride == 1:
        return range(kind.kernel)
    return [j + half for j in range(0, kind.kernel, 2) for half in (0, LANES)]


def _weights(builder, kind, weights):
    numbers = [builder.load(builder.gep(weights, [_number(t)])) for t in range(kind.kernel**2)]
    vectors = [_broadcast(builder, number) for number in numbers]
    return [vectors[i:i + kind.kernel] for i in range(0, len(vectors), kind.kernel)]


def _at_least(builder, vector, floor):
    """The larger of two numbers, lane by lane; NaN in `vector` stays."""
    return builder.select(builder.fcmp_ordered(">", floor, vector), floor, vector)


def _inside(builder, first, size):
    """Which lanes s have first + s in 0..size."""
    columns = builder.add(in_every_lane(builder, first, LANES), ir.Constant(_INDICES, list(range(LANES))))
    return builder.icmp_unsigned("<", columns, in_every_lane(builder, size, LANES))


def _below(builder, count):
    return builder.icmp_signed("<", ir.Constant(_INDICES, list(range(LANES))), in_every_lane(builder, count, LANES))


def _if(builder, flag, number):
    return builder.select(flag, number, _number(0))


def _known_or(builder, known, targets, masks, first):
    """What the sums begin with: the numbers at the targets, or `first` where known is 0."""
    flag = builder.icmp_signed("!=", known, _number(0))
    with builder.if_else(flag) as (then, otherwise):
        with then:
            before = [load_masked(builder, target, mask, _ZERO) for target, mask in zip(targets, masks)]
            loaded = builder.block
        with otherwise:
            fresh = builder.block
    sums = [builder.phi(_VECTOR) for _ in targets]
    for variable, number in zip(sums, before):
        variable.add_incoming(number, loaded)
        variable.add_incoming(first, fresh)
    return sums


def _now(builder, vector):
    """The vector, with its computation kept before what reads memory after this point.

    LLVM would load all rows first, into many more registers than there are.
    """
    if REGISTER is None:
        return vector
    return builder.asm(ir.FunctionType(_VECTOR, [_VECTOR]), "", f"={REGISTER},0", [vector], True)


def _shuffle(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(_INDICES, lanes))
