"""The gradient of a convolution's weights as dot products, for layers with few outputs or few windows.

    grad[o, k] = sum over positions p of g[o, p] * x[k, p],    k = (channel, tap): x[k, p] is what tap k reads for p

Both operands lie along p, and so do the vectors here: a tile of OUTPUTS x WINDOWS sums is held in registers, one
vector of partial sums each, and nothing is transposed or packed. That is less work than `conv_weights.py` has where
the operands are large and the gradient is small: there most of the time goes into panels. A strip as in
`conv_windows.py` undoes padding and strides; a 1x1 kernel reads x itself. Read `conv_windows.py` first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from minidl.kernels.cpu import microkernel
from minidl.kernels.cpu.conv_masks import load_part
from minidl.kernels.cpu.conv_strips import copy_strip, strip_layout, tap_places
from minidl.kernels.cpu.conv_tiles import LINE, fetch_line, workspace, zero_lanes
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, ROWS, address
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, get_num_threads, parallel

OUTPUTS, WINDOWS = (4, 6) if ROWS * COLUMNS >= 24 * LANES else (3, 4)
BLOCK = 96 * 1024  # floats of g and x in a block of rows, which stay in the second-level cache
MOST = 5000  # sums: LANES times as many are held for each thread, in the second-level cache as well
LONGEST = 1024  # numbers in a row of an image that a 1x1 kernel may cut as it likes
CHUNKS = 8

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_POINTER = types.CPointer(types.float32)


class Dots(NamedTuple):
    """What the loops need to know; every number is an int. The strip's are those of `conv_windows.Windows`."""

    first_channel: int
    channels: int
    first_output: int
    outputs: int
    rows: int  # of g
    columns: int
    row_stride: int
    column_stride: int
    low_row: int
    low_column: int
    span: int
    direct: int
    row_step: int
    phases: int
    phase_length: int
    row_length: int
    plane: int
    windows: int  # channels times taps
    output_groups: int
    window_groups: int
    row_blocks: int  # of a sample
    chunks: int
    sums: int  # floats
    space: int  # floats that a thread works in


def few_sums(outputs: int, windows: int, columns: int) -> bool:
    """Whether dot products are the faster way: rows fill registers, and the partial sums stay near."""
    steps = -(-columns // LANES)
    return outputs >= OUTPUTS and outputs * windows <= MOST and 4 * columns >= 3 * steps * LANES


def image_rows(pixels: int, columns: int) -> int:
    """The length of rows of whole registers into which an image can be cut where its rows do not matter."""
    if pixels <= LONGEST:
        return pixels
    return next((length for length in range(LONGEST, 0, -LANES) if pixels % length == 0), columns)


def weight_dots(g, x, grad, taps, *, channels, outputs, stride):
    """Fill grad[outputs] as `conv_weights.weight_sums` does."""
    plan, places = plan_dots(g.shape, x.shape, taps, channels, outputs, stride)
    parts = empty((plan.chunks, plan.outputs, plan.windows))
    threads = min(get_num_threads(), plan.chunks)
    parallel(sum_products, g, x, places, parts, workspace(threads, plan.space), plan)
    flat = grad.reshape(grad.shape[0], -1)
    np.add.reduce(parts, axis=0, out=flat[plan.first_output:plan.first_output + plan.outputs])


@lru_cache(maxsize=4096)
def plan_dots(g_shape, x_shape, taps, channels, outputs, stride) -> tuple[Dots, np.ndarray]:
    """How the sums are cut, by the shapes alone, and where each window starts in x or the strip."""
    grid = g_shape[2:]
    width = outputs[1] * grid[1] + channels[1] * (grid[1] + 2) * stride[0] * stride[1]
    row_blocks = -(-grid[0] // max(1, BLOCK // width))
    strip = strip_layout(x_shape, taps, grid, stride, -(-grid[0] // row_blocks) * grid[1])
    windows = channels[1] * len(taps)
    output_groups, window_groups = -(-outputs[1] // OUTPUTS), -(-windows // WINDOWS)
    sums = output_groups * window_groups * OUTPUTS * WINDOWS * LANES
    plan = Dots(
        first_channel=channels[0], channels=channels[1], first_output=outputs[0], outputs=outputs[1], rows=grid[0],
        columns=grid[1], row_stride=stride[0], column_stride=stride[1], windows=windows, output_groups=output_groups,
        window_groups=window_groups, row_blocks=row_blocks, chunks=min(CHUNKS, g_shape[0] * row_blocks), sums=sums,
        space=sums + (0 if strip["direct"] else channels[1] * strip["plane"]) + 4 * COLUMNS, **strip,
    )
    places = np.add.outer(np.arange(channels[1]) * plan.plane, tap_places(np.array(taps), plan)).ravel()
    return plan, np.append(places, np.full(window_groups * WINDOWS - windows, places[-1]))


@compiled_parallel
def sum_products(g, x, places, parts, space, plan):
    """Share the chunks of the samples' rows among the threads, each with a row of `space` to work in."""
    threads = space.shape[0]
    for thread in prange(threads):
        for chunk in range(plan.chunks * thread // threads, plan.chunks * (thread + 1) // threads):
            sum_rows(g, x, places, parts, space, thread * space.shape[1], plan, chunk)


@compiled
def sum_rows(g, x, places, parts, space, sums, plan, chunk):
    """The sums over one chunk: blocks of rows of the samples."""
    for k in range(sums, sums + plan.sums, LANES):
        zero_lanes(address(space, k))
    pixels, strip = plan.rows * plan.columns, sums + plan.sums
    blocks = g.shape[0] * plan.row_blocks
    for block in range(blocks * chunk // plan.chunks, blocks * (chunk + 1) // plan.chunks):
        n, top, bottom = rows_of(block, plan)
        gradients = (n * g.shape[1] + plan.first_output) * pixels + top * plan.columns
        later, later_top, _ = rows_of(block + 1, plan)
        step = (later - n) * g.shape[1] * pixels + (later_top - top) * plan.columns
        if plan.direct:
            source = (n * x.shape[1] + plan.first_channel) * plan.plane + top * plan.row_stride * plan.row_length
            add_block(g, gradients, step, x, source, places, space, sums, bottom - top, plan)
        else:
            start = n * pixels
            copy_strip(x, plan.first_channel, plan.channels, start + top * plan.columns, start + bottom * plan.columns,
                       space, strip, plan)
            add_block(g, gradients, step, space, strip, places, space, sums, bottom - top, plan)
    add_lanes(space.reshape(-1), sums, parts[chunk], plan)


@compiled
def rows_of(block, plan):
    """The sample of a block, its first row, and the row after its last."""
    n, part = block // plan.row_blocks, block % plan.row_blocks
    return n, plan.rows * part // plan.row_blocks, plan.rows * (part + 1) // plan.row_blocks


@compiled
def add_block(g, gradients, step, source, start, places, space, sums, rows, plan):
    """Add the products of a block of rows to the partial sums of all outputs and windows.

    Meanwhile the next block of g, `step` further, is fetched, a part with each group of windows.
    """
    pixels, row = plan.rows * plan.columns, plan.row_stride // plan.row_step * plan.row_length
    for windows in range(plan.window_groups):
        begin = rows * plan.columns * windows // plan.window_groups
        end = rows * plan.columns * (windows + 1) // plan.window_groups
        for outputs in range(plan.output_groups):
            first = min(outputs * OUTPUTS, plan.outputs - OUTPUTS)
            for o in range(first, first + OUTPUTS):
                for u in range(begin, end, LINE):
                    fetch_line(address(g, gradients + o * pixels + step + u))
            dot_rows(address(g, gradients + first * pixels), pixels, plan.columns, address(source, start), places,
                     windows * WINDOWS, row, rows, plan.columns, address(space, sums))
            sums += OUTPUTS * WINDOWS * LANES


@compiled
def add_lanes(space, sums, part, plan):
    """Add the lanes of each partial sum: part (O, K)."""
    for windows in range(plan.window_groups):
        for outputs in range(plan.output_groups):
            first = min(outputs * OUTPUTS, plan.outputs - OUTPUTS)
            for i in range(OUTPUTS):
                for j in range(WINDOWS):
                    if windows * WINDOWS + j < plan.windows:
                        total = np.float32(0)
                        for lane in range(LANES):
                            total += space[sums + lane]
                        part[first + i, windows * WINDOWS + j] = total
                    sums += LANES


@intrinsic
def dot_rows(typing_context, g, g_step, g_row, x, places, window, x_row, rows, columns, sums):
    """sums[(i * WINDOWS + j) * LANES + lane] += the sum over r and s of g[i * g_step + r * g_row + s] *
    x[places[window + j] + r * x_row + s], for r < rows and the s < columns of each lane."""

    def generate(context, builder, signature, arguments):
        g, g_step, g_row, x, places, window, x_row, rows, columns, sums = arguments
        number = microkernel._number
        data = make_array(signature.args[4])(context, builder, places).data
        g = [builder.gep(g, [builder.mul(g_step, number(i))]) for i in range(OUTPUTS)]
        x = [builder.gep(x, [builder.load(builder.gep(data, [builder.add(window, number(j))]))])
             for j in range(WINDOWS)]
        tail = builder.and_(columns, number(LANES - 1))
        full = builder.sub(columns, tail)

        def product(totals, g_place, x_place, load):
            down = [load(pointer, g_place) for pointer in g]
            across = [load(pointer, x_place) for pointer in x]
            return [microkernel._multiply_add(builder, a, b, totals[i * WINDOWS + j])
                    for i, a in enumerate(down) for j, b in enumerate(across)]

        def load_tail(pointer, place):
            return load_part(builder, builder.gep(pointer, [place]), number(0), tail, 0)

        def load_full(pointer, place):
            return microkernel._load(builder, pointer, place)

        zeros = [ir.Constant(_VECTOR, [0.0] * LANES)] * (OUTPUTS * WINDOWS)
        r, totals, next_row = _loop(builder, rows, number(1), zeros)
        g_start, x_start = builder.mul(r, g_row), builder.mul(r, x_row)
        totals = _if(builder, builder.icmp_signed(">", full, number(0)), totals, lambda totals: _step_through(
            builder, full, totals,
            lambda totals, s: product(totals, builder.add(g_start, s), builder.add(x_start, s), load_full)))
        totals = _if(builder, builder.icmp_signed(">", tail, number(0)), totals, lambda totals: product(
            totals, builder.add(g_start, full), builder.add(x_start, full), load_tail))
        next_row(totals)
        for k, total in enumerate(totals):
            place = microkernel._vector_at(builder, sums, number(k * LANES))
            builder.store(builder.fadd(builder.load(place, align=4), total), place, align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(_POINTER, size, size, _POINTER, types.int64[::1], size, size, size, size, _POINTER), generate


def _loop(builder, stop, step, values):
    """Begin a loop: its number, its values, and what to call with their successors; stop is above 0."""
    before, loop = builder.block, builder.append_basic_block("loop")
    builder.branch(loop)
    builder.position_at_end(loop)
    count = builder.phi(ir.IntType(64))
    variables = [builder.phi(_VECTOR) for _ in values]
    count.add_incoming(microkernel._number(0), before)
    for variable, value in zip(variables, values):
        variable.add_incoming(value, before)

    def close(new):
        following = builder.add(count, step)
        end, after = builder.block, builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", following, stop), loop, after)
        count.add_incoming(following, end)
        for variable, value in zip(variables, new):
            variable.add_incoming(value, end)
        builder.position_at_end(after)

    return count, variables, close


def _step_through(builder, stop, values, body):
    """values = body(values, s) for s = 0, LANES, … below stop."""
    s, variables, close = _loop(builder, stop, microkernel._number(LANES), values)
    new = body(variables, s)
    close(new)
    return new


def _if(builder, condition, values, body):
    """body(values) if the condition holds, else the values."""
    before, then, after = builder.block, builder.append_basic_block("then"), builder.append_basic_block("merged")
    builder.cbranch(condition, then, after)
    builder.position_at_end(then)
    new, end = body(values), builder.block
    builder.branch(after)
    builder.position_at_end(after)
    merged = []
    for old, value in zip(values, new):
        variable = builder.phi(_VECTOR)
        variable.add_incoming(old, before)
        variable.add_incoming(value, end)
        merged.append(variable)
    return merged
