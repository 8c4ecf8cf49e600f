"""Convolutions with few outputs, as the gradient of an image's three channels: windows are read where they lie.

The sum is that of `conv_windows.py`. There every window is copied to a panel, which pays as many tiles of outputs read
it again; with one to three outputs the copy would cost more than the product. So the tile, of few rows but WIDE
columns, takes each vector from the strip itself. Read `conv_windows.py` first.
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
from minidl.kernels.cpu.conv_filters import pack_weights
from minidl.kernels.cpu.conv_masks import spread_first
from minidl.kernels.cpu.conv_strips import copy_strip, strip_layout, tap_places
from minidl.kernels.cpu.conv_tiles import copy_row, workspace
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, address
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, get_num_threads, parallel

NARROW = 3  # outputs at the most
WIDE = 4 * LANES
STRIP = 96 * 1024  # floats of a strip, which stay in the second-level cache


class Narrow(NamedTuple):
    """What the loops need to know, as in `conv_windows.Windows`; every number is an int."""

    first_channel: int
    channels: int
    first_output: int
    outputs: int
    rows: int
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
    y_row: int
    y_column: int
    y_row_step: int
    y_column_step: int
    row_blocks: int  # of a sample
    space: int


def narrow_product(x, weight, weights, taps, y, *, channels, outputs, stride, bias=None, floor=-np.inf, grid=None,
                   place=(0, 0), step=(1, 1)):
    """As `conv_windows.window_product`, but fill only y[:, outputs][place + step * (r, s)] for all (r, s) of a grid."""
    grid = grid or y.shape[2:]
    plan, places = plan_narrow(x.shape, taps, channels, outputs, grid, stride, place, step)
    packed = pack_weights(weight, weights, plan.channels, plan.channels, plan.outputs, plan.outputs)
    first = np.zeros(NARROW, np.float32)
    if bias is not None:
        first[:plan.outputs] = bias[plan.first_output:plan.first_output + plan.outputs]
    threads = min(get_num_threads(), x.shape[0] * plan.row_blocks)
    parallel(multiply_rows_of_images, x, packed, places, first, np.float32(floor), y, workspace(threads, plan.space),
             plan)


@lru_cache(maxsize=4096)
def plan_narrow(x_shape, taps, channels, outputs, grid, stride, place, step) -> tuple[Narrow, np.ndarray]:
    """How the product is cut, by the shapes alone, and where in the strip each weight's window starts."""
    row_floats = channels[1] * stride[0] * (grid[1] * stride[1] + LANES)
    row_blocks = -(-grid[0] // max(1, STRIP // row_floats))
    strip = strip_layout(x_shape, taps, grid, stride, -(-grid[0] // row_blocks) * grid[1], in_place=False)
    plan = Narrow(
        first_channel=channels[0], channels=channels[1], first_output=outputs[0], outputs=outputs[1], rows=grid[0],
        columns=grid[1], row_stride=stride[0], column_stride=stride[1], y_row=place[0], y_column=place[1],
        y_row_step=step[0], y_column_step=step[1], row_blocks=row_blocks,
        space=NARROW * WIDE + channels[1] * strip["plane"] + WIDE + 4 * COLUMNS, **strip,
    )
    return plan, np.add.outer(np.arange(channels[1]) * plan.plane, tap_places(np.array(taps), plan)).ravel()


@compiled_parallel
def multiply_rows_of_images(x, packed, places, bias, floor, y, space, plan):
    """Share blocks of rows among the threads, each with a row of `space` to work in."""
    threads, blocks = space.shape[0], x.shape[0] * plan.row_blocks
    for thread in prange(threads):
        for block in range(blocks * thread // threads, blocks * (thread + 1) // threads):
            multiply_image_rows(x, packed, places, bias, floor, y, space, thread * space.shape[1], plan, block)


@compiled
def multiply_image_rows(x, packed, places, bias, floor, y, space, tile, plan, block):
    n, part = block // plan.row_blocks, block % plan.row_blocks
    top, bottom = plan.rows * part // plan.row_blocks, plan.rows * (part + 1) // plan.row_blocks
    strip, start = tile + NARROW * WIDE, n * plan.rows * plan.columns
    copy_strip(x, plan.first_channel, plan.channels, start + top * plan.columns, start + bottom * plan.columns, space,
               strip, plan)
    plane, row_step = y.shape[2] * y.shape[3], plan.row_stride // plan.row_step * plan.row_length
    for row in range(top, bottom):
        target = (n * y.shape[1] + plan.first_output) * plane + (
            plan.y_row + row * plan.y_row_step) * y.shape[3] + plan.y_column
        for column in range(0, plan.columns, WIDE):
            length = min(WIDE, plan.columns - column)
            multiply_narrow(plan.outputs, int(length > WIDE // 2), address(packed, 0), address(bias, 0), floor,
                            address(space, strip + (row - top) * row_step + column), places, address(space, tile))
            for o in range(plan.outputs):
                store_row(space, tile + o * WIDE, y, target + o * plane + column * plan.y_column_step, length,
                          plan.y_column_step)


@compiled
def store_row(space, source, y, target, length, step):
    """y[target + j * step] = space[source + j] for j < length; LANES numbers at a time are read."""
    if step == 1:
        copy_row(y, target, space, source, length)
    elif step == 2:
        for j in range(0, length, LANES):
            spread_first(address(y, target + 2 * j), address(space, source + j), length - j)
    else:
        numbers, place = space.reshape(-1), y.reshape(-1)
        for j in range(length):
            place[target + j * step] = numbers[source + j]


@intrinsic
def multiply_narrow(typing_context, rows, wide, weights, bias, floor, source, places, tile):
    """tile[i * WIDE + j] = bias[i] + the sum over k of weights[k * rows + i] * source[places[k] + j], at least floor.

    For i < rows <= NARROW, and j < WIDE if wide, else j < WIDE / 2; a NaN stays.
    """

    def generate(context, builder, signature, arguments):
        rows, wide, weights, bias, floor, source, places, tile = arguments
        places = make_array(signature.args[6])(context, builder, places)
        depth, data = builder.extract_value(places.shape, 0), places.data
        floor, after = microkernel._broadcast(builder, floor), builder.append_basic_block("narrow")
        choice = builder.switch(builder.add(builder.mul(wide, ir.Constant(wide.type, NARROW)), rows), after)
        for parts in (2, 4):
            for height in range(1, NARROW + 1):
                builder.position_at_end(builder.append_basic_block(f"narrow{height}x{parts}"))
                choice.add_case(ir.Constant(rows.type, parts // 4 * NARROW + height), builder.block)
                sums = _sum_in_place(builder, height, parts, weights, bias, source, data, depth)
                for i, row in enumerate(sums):
                    for j, value in enumerate(row):
                        value = builder.select(builder.fcmp_ordered(">", floor, value), floor, value)
                        place = microkernel._vector_at(builder, tile, microkernel._number(i * WIDE + j * LANES))
                        builder.store(value, place, align=4)
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    pointer, size = types.CPointer(types.float32), types.intp
    return types.void(size, size, pointer, pointer, types.float32, pointer, types.int64[::1], pointer), generate


def _sum_in_place(builder, height, parts, weights, bias, source, places, depth):
    """Append the loop over k; the result is a list of rows of vectors."""
    number, vector = microkernel._number, ir.VectorType(ir.FloatType(), LANES)
    first = [microkernel._broadcast(builder, builder.load(builder.gep(bias, [number(i)]))) for i in range(height)]
    before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("sum")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(ir.IntType(64))
    sums = [[builder.phi(vector) for _ in range(parts)] for _ in range(height)]
    place = builder.load(builder.gep(places, [k]))
    across = [microkernel._load(builder, source, builder.add(place, number(j * LANES))) for j in range(parts)]
    tile = []
    for i, row in enumerate(sums):
        at = builder.add(builder.mul(k, number(height)), number(i))
        down = microkernel._broadcast(builder, builder.load(builder.gep(weights, [at])))
        tile.append([microkernel._multiply_add(builder, down, part, total) for part, total in zip(across, row)])
    following = builder.add(k, number(1))
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    k.add_incoming(number(0), before)
    k.add_incoming(following, loop)
    for start, row, new in zip(first, sums, tile):
        for variable, value in zip(row, new):
            variable.add_incoming(start, before)
            variable.add_incoming(value, loop)
    builder.position_at_end(after)
    return tile
