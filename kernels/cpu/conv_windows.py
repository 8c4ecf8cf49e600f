"""The product of weights and windows that is a convolution, without the matrix of windows: implicit GEMM.

    y[m, p] = sum over channels c and taps t of w[m, c, t] * x[c, position p shifted by t]

The positions p count the pixels of all samples in one line. A block of them at a time is multiplied: the input rows
that it reads are copied, padded, to a *strip*, in which a stride over columns is undone (column u lies in phase
u mod stride), so that a run of positions is a run of memory for every tap. From there runs are copied to panels of
COLUMNS positions, and `multiply_rows` writes tiles of y in their place. The panels stay in the cache while all the
weights pass by. Which taps there are and where results go is the caller's choice: with flipped weights the product
is the gradient of the input. Read `conv.py` next.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.conv_tiles import (
    balanced_rows,
    copy_lanes,
    copy_padded,
    multiply_rows,
    take_every,
    transpose_lanes,
    workspace,
    zero_lanes,
)
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, ROWS, address
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, get_num_threads, parallel

DEPTH = 384  # products summed in one pass: a panel of weights this deep stays in the first-level cache
BLOCK = 96 * 1024  # floats in the panels of a block of positions, which stay in the second-level cache


class Weights(NamedTuple):
    """Where the weight of an output, a channel and a tap lies in a flat array."""

    start: int
    output_step: int
    channel_step: int


class Windows(NamedTuple):
    """What the loops need to know of a product; every number is an int."""

    first_channel: int
    channels: int
    channels_at_once: int
    first_output: int
    outputs: int
    height: int  # rows of a tile
    rows: int  # of the grid of positions
    columns: int
    row_stride: int  # of the window, in x
    column_stride: int
    low_row: int  # of the taps
    low_column: int
    span: int  # rows from the first tap to the last
    direct: int  # whether runs are read from x itself
    row_step: int  # rows of x from one row of the strip to the next
    phases: int
    phase_length: int
    cut: int  # floats of a row of x, padded, before it is cut into phases
    row_length: int  # of the strip, or of x
    plane: int  # floats of one channel in the strip, or in x
    y_row: int  # where grid position (0, 0) goes, and how far apart its neighbours
    y_column: int
    y_row_step: int
    y_column_step: int
    has_bias: int
    in_order: int  # whether the weights of an output lie in memory as the products follow one another
    blocks: int
    parts: int
    panels: int


def window_product(x, weight, weights, offsets, taps, y, *, channels, outputs, grid, stride, place, step, bias=None):
    """Fill y[:, outputs][place + step * (r, s)] for all (r, s) of a grid with the sums over channels and taps of x.

    x (N, C, H, W) and y (N, O, H', W'); channels, outputs: (first, count) of those of x and y that take part.
    offsets (T,): where the taps' weights lie, from `weights` on. taps (T, 2): x's row and column that grid position
    (0, 0) reads; those of the next position lie `stride` further.
    """
    count, tap_count = outputs[1], len(taps)
    height = balanced_rows(count)
    at_once = -(-channels[1] // -(-channels[1] * tap_count // DEPTH)) if tap_count < DEPTH else 1
    depth = at_once * tap_count + 1
    panels = -(-x.shape[0] * grid[0] * grid[1] // COLUMNS)
    blocks = -(-panels // max(1, min(BLOCK // (depth * COLUMNS), 32)))
    blocks = min(panels, -(-blocks // 4) * 4)
    row_panels = -(-count // height)
    strip = strip_layout(x, taps, grid, stride, at_once, (panels // blocks + 1) * COLUMNS)
    plan = Windows(
        first_channel=channels[0], channels=channels[1], channels_at_once=at_once, first_output=outputs[0],
        outputs=count, height=height, rows=grid[0], columns=grid[1], row_stride=stride[0], column_stride=stride[1],
        y_row=place[0], y_column=place[1], y_row_step=step[0], y_column_step=step[1], has_bias=int(bias is not None),
        in_order=int(weights.channel_step == tap_count and np.array_equal(offsets, np.arange(tap_count))),
        blocks=blocks, parts=min(row_panels, 4) if blocks < 4 else 1, panels=panels, **strip,
    )
    packed = empty(row_panels * height * (channels[1] * tap_count + 1))
    flat = weight.reshape(-1)
    parallel(pack_weights, flat, weights, offsets, flat if bias is None else bias, plan, packed)
    size = (panels // blocks + 1) * depth * COLUMNS + 2 * COLUMNS + ROWS * COLUMNS
    size += 0 if plan.direct else at_once * plan.plane + plan.cut + 6 * COLUMNS
    threads = min(get_num_threads(), blocks * plan.parts)
    parallel(multiply_windows, x, packed, tap_places(taps, plan), y, workspace(threads, size), plan)


def strip_layout(x, taps, grid, stride, channels, positions) -> dict[str, int]:
    """How the input rows of a block lie in the strip, as fields of Windows; no strip if no window leaves x."""
    low, high = taps.min(0).tolist(), taps.max(0).tolist()
    inside = [first >= 0 and (size - 1) * s + last < length
              for first, last, size, s, length in zip(low, high, grid, stride, x.shape[2:])]
    span = high[0] - low[0]
    layout = {"low_row": low[0], "low_column": low[1], "span": span, "direct": int(all(inside) and stride[1] == 1)}
    if layout["direct"]:
        length = x.shape[3]
        return layout | {"row_step": 1, "phases": 1, "phase_length": length, "cut": 0, "row_length": length,
                         "plane": x.shape[2] * length}
    row_step = 1 if span else stride[0]
    phases = stride[1] if low[1] != high[1] else 1
    phase_length = ((grid[1] - 1) * stride[1] + high[1] - low[1]) // stride[1] + 1
    rows = min(positions // grid[1] + 2, x.shape[0] * grid[0])
    samples = min(positions // (grid[0] * grid[1]) + 2, x.shape[0])
    plane = (rows * (stride[0] // row_step) + samples * (span + 1)) * phases * phase_length
    return layout | {"row_step": row_step, "phases": phases, "phase_length": phase_length,
                     "cut": phase_length * stride[1], "row_length": phases * phase_length, "plane": plane}


def tap_places(taps, plan) -> np.ndarray:
    """How far into a channel's plane each tap reads, from where the run starts."""
    if plan.direct:
        return taps[:, 0] * plan.row_length + taps[:, 1]
    row, column = taps[:, 0] - plan.low_row, taps[:, 1] - plan.low_column
    phase = column % plan.column_stride
    return row // plan.row_step * plan.row_length + phase * plan.phase_length + column // plan.column_stride


@compiled_parallel
def pack_weights(weight, weights, offsets, bias, plan, packed):
    """Copy weights to panels of `height` outputs, for one run of channels after another; the bias ends the last."""
    row_panels = (plan.outputs + plan.height - 1) // plan.height
    for panel in prange(row_panels):
        pack_weight_panel(weight, weights, offsets, bias, plan, packed, panel, row_panels)


@compiled
def pack_weight_panel(weight, weights, offsets, bias, plan, packed, panel, row_panels):
    taps, height, first = len(offsets), plan.height, panel * plan.height
    for c0 in range(0, plan.channels, plan.channels_at_once):
        c1 = min(plan.channels, c0 + plan.channels_at_once)
        with_bias = plan.has_bias != 0 and c1 == plan.channels
        depth = (c1 - c0) * taps + int(with_bias)
        base = row_panels * height * c0 * taps + panel * height * depth
        row, count = weights.start + first * weights.output_step, min(height, plan.outputs - first)
        k, source = 0, row + c0 * weights.channel_step
        if plan.in_order and height <= LANES and source + (LANES - 1) * weights.output_step + depth <= len(weight):
            while k + 2 * LANES <= depth:  # a step writes up to LANES more than it should: not in the next panel
                transpose_lanes(address(packed, base + k * height), height, address(weight, source + k),
                                weights.output_step)
                k += LANES
        k = pack_weights_exactly(weight, row, weights, offsets, c0, c1, k, packed, base, height, count)
        if with_bias:
            for i in range(height):
                packed[base + k * height + i] = bias[plan.first_output + first + i] if i < count else 0


@compiled
def pack_weights_exactly(weight, row, weights, offsets, c0, c1, k, packed, base, height, count):
    """The same number by number, from the k-th product on."""
    c, t = c0 + k // len(offsets), k % len(offsets)
    place = base + k * height
    while c < c1:
        source = row + c * weights.channel_step + offsets[t]
        for i in range(count):
            packed[place + i] = weight[source + i * weights.output_step]
        for i in range(count, height):
            packed[place + i] = 0
        place += height
        k += 1
        t += 1
        if t == len(offsets):
            c, t = c + 1, 0
    return k


@compiled_parallel
def multiply_windows(x, packed, taps, y, space, plan):
    """Share the blocks of positions among the threads, each of which has a row of `space` to work in."""
    threads, items = space.shape[0], plan.blocks * plan.parts
    for thread in prange(threads):
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            multiply_block(x, packed, taps, y, space, thread * space.shape[1], plan, item // plan.parts,
                           item % plan.parts)


@compiled
def multiply_block(x, packed, taps, y, space, start, plan, block, part):
    """Multiply the weights, or those of one part of the outputs, by one block of positions."""
    first, last = plan.panels * block // plan.blocks, plan.panels * (block + 1) // plan.blocks
    runs, ends = find_runs(x, y, plan, first, last)
    tile = start
    panels = tile + ROWS * COLUMNS
    strip = panels + (plan.panels // plan.blocks + 1) * (plan.channels_at_once * len(taps) + 1) * COLUMNS + 2 * COLUMNS
    row_panels = (plan.outputs + plan.height - 1) // plan.height
    for c0 in range(0, plan.channels, plan.channels_at_once):
        c1 = min(plan.channels, c0 + plan.channels_at_once)
        with_bias = plan.has_bias != 0 and c1 == plan.channels
        depth = (c1 - c0) * len(taps) + int(with_bias)
        weights = row_panels * plan.height * c0 * len(taps)
        if plan.direct:
            source = (plan.first_channel + c0) * plan.plane
            pack_runs(x, source, c1 - c0, taps, runs, ends, space, panels, depth, plan)
        else:
            copy_strip(x, plan.first_channel + c0, c1 - c0, first, last, space, strip, plan)
            pack_runs(space, strip, c1 - c0, taps, runs, ends, space, panels, depth, plan)
        for down in range(row_panels * part // plan.parts, row_panels * (part + 1) // plan.parts):
            multiply_panels(packed, weights + down * plan.height * depth, space, panels, tile, depth, y,
                            down * plan.height, runs, ends, c0 > 0, plan)


@compiled
def multiply_panels(packed, weights, space, panels, tile, depth, y, first, runs, ends, accumulate, plan):
    """Multiply one panel of weights by every panel of the block; whole tiles go to y, others by way of `tile`."""
    plane = y.shape[2] * y.shape[3]
    output = (plan.first_output + first) * plane
    count = min(plan.height, plan.outputs - first)
    begin = 0
    for panel in range(len(ends)):
        end = ends[panel]
        b = address(space, panels + panel * depth * COLUMNS)
        lanes = runs[end - 1, 0] + runs[end - 1, 1]
        whole = count == plan.height and lanes == COLUMNS and plan.y_column_step == 1
        for run in range(begin + 1, end):
            whole = whole and runs[run, 3] == runs[begin, 3] + runs[run, 0]
        c, stride = address(space, tile), COLUMNS
        if whole:
            c, stride = address(y, output + runs[begin, 3]), plane
        multiply_rows(plan.height, address(packed, weights), b, c, depth, stride, int(accumulate and whole))
        if not whole:
            scatter_tile(space.reshape(-1), tile, y.reshape(-1), output, plane, count, runs, begin, end, accumulate,
                         plan.y_column_step)
        begin = end


@compiled
def scatter_tile(space, tile, y, output, plane, count, runs, begin, end, accumulate, step):
    """Store, or add, the rows of a tile run by run."""
    for run in range(begin, end):
        source, target, length = tile + runs[run, 0], output + runs[run, 3], runs[run, 1]
        for _ in range(count):
            if accumulate:
                for j in range(length):
                    y[target + j * step] += space[source + j]
            else:
                for j in range(length):
                    y[target + j * step] = space[source + j]
            source += COLUMNS
            target += plane


@compiled
def find_runs(x, y, plan, first, last):
    """Cut panels first..last where a row of positions ends: rows of (lane, length, place in the source, in y).

    `ends` tells for each panel where its runs end.
    """
    pixels = plan.rows * plan.columns
    start, stop = first * COLUMNS, min(last * COLUMNS, x.shape[0] * pixels)
    runs = np.empty((((stop - start) // plan.columns + 2) + last - first, 4), np.int64)
    ends = np.empty(last - first, np.int64)
    count, strip_row, p = 0, 0, start
    for n in range(start // pixels, (stop - 1) // pixels + 1):
        top = (p - n * pixels) // plan.columns
        until = min(stop, (n + 1) * pixels)
        while p < until:
            row, column = (p - n * pixels) // plan.columns, (p - n * pixels) % plan.columns
            lane = (p - start) % COLUMNS
            length = min(min(plan.columns - column, until - p), COLUMNS - lane)
            if plan.direct:
                source = n * x.shape[1] * plan.plane + row * plan.row_stride * plan.row_length + column
            else:
                source = (strip_row + (row - top) * (plan.row_stride // plan.row_step)) * plan.row_length + column
            runs[count, 0], runs[count, 1], runs[count, 2] = lane, length, source
            runs[count, 3] = (n * y.shape[1] * y.shape[2] + plan.y_row + row * plan.y_row_step) * y.shape[3] + (
                plan.y_column + column * plan.y_column_step)
            count += 1
            ends[(p - start) // COLUMNS] = count
            p += length
        bottom = (until - 1 - n * pixels) // plan.columns
        strip_row += (bottom - top) * (plan.row_stride // plan.row_step) + plan.span + 1
    return runs[:count], ends


@compiled
def copy_strip(x, first_channel, channels, first, last, space, strip, plan):
    """Copy the rows of x that panels first..last read, with zeros where windows leave x."""
    pixels = plan.rows * plan.columns
    start, stop = first * COLUMNS, min(last * COLUMNS, x.shape[0] * pixels)
    for c in range(channels):
        place = strip + c * plan.plane
        for n in range(start // pixels, (stop - 1) // pixels + 1):
            top = (max(start, n * pixels) - n * pixels) // plan.columns
            bottom = (min(stop, (n + 1) * pixels) - 1 - n * pixels) // plan.columns
            count = (bottom - top) * (plan.row_stride // plan.row_step) + plan.span + 1
            image = (n * x.shape[1] + first_channel + c) * x.shape[2]
            for i in range(count):
                row = top * plan.row_stride + i * plan.row_step + plan.low_row
                source = (image + row) * x.shape[3]
                if row < 0 or row >= x.shape[2]:
                    for u in range(0, plan.row_length, LANES):
                        zero_lanes(address(space, place + u))
                elif plan.column_stride == 1:
                    copy_padded(x, source, x.shape[3], plan.low_column, space, place, plan.row_length)
                else:
                    line = strip + plan.channels_at_once * plan.plane + 2 * COLUMNS  # the row before it is cut
                    copy_padded(x, source, x.shape[3], plan.low_column, space, line, plan.cut)
                    for phase in range(plan.phases):
                        take_every(space, line + phase, plan.column_stride, place + phase * plan.phase_length,
                                   plan.phase_length)
                place += plan.row_length


@compiled
def pack_runs(source, start, channels, taps, runs, ends, space, panels, depth, plan):
    """Copy runs of the source to panels, and a row of ones to where the bias is multiplied.

    Whole registers are copied: what one run leaves too much is overwritten by the run, the row or the panel after it.
    """
    pieces = np.empty((COLUMNS * 2, 2), np.int64)  # where each register goes in its row, and where it comes from
    begin = 0
    for panel in range(len(ends)):
        end = ends[panel]
        row = panels + panel * depth * COLUMNS
        furthest = start + (channels - 1) * plan.plane + taps.max() + runs[end - 1, 2] + 2 * COLUMNS
        if furthest <= source.size:
            count = 0
            for run in range(begin, end):
                for j in range(0, runs[run, 1], LANES):
                    pieces[count, 0], pieces[count, 1] = runs[run, 0] + j, runs[run, 2] + j
                    count += 1
            pack_registers(source, start, channels, taps, pieces, count, space, row, plan.plane)
        else:
            pack_exactly(source.reshape(-1), start, channels, taps, runs, begin, end, space.reshape(-1), row,
                         plan.plane)
        if channels * len(taps) < depth:
            fill_ones(space.reshape(-1), row + (depth - 1) * COLUMNS)
        begin = end


@compiled
def pack_registers(source, start, channels, taps, pieces, count, space, row, plane):
    if count == 2 and pieces[1, 0] == LANES and pieces[1, 1] == pieces[0, 1] + LANES:  # one run fills the panel
        for c in range(channels):
            for t in range(len(taps)):
                place = start + c * plane + taps[t] + pieces[0, 1]
                copy_lanes(address(space, row), address(source, place))
                copy_lanes(address(space, row + LANES), address(source, place + LANES))
                row += COLUMNS
        return
    for c in range(channels):
        for t in range(len(taps)):
            place = start + c * plane + taps[t]
            for piece in range(count):
                copy_lanes(address(space, row + pieces[piece, 0]), address(source, place + pieces[piece, 1]))
            row += COLUMNS


@compiled
def pack_exactly(source, start, channels, taps, runs, begin, end, space, row, plane):
    """The same without a step beyond the end of the source."""
    for c in range(channels):
        for t in range(len(taps)):
            place = start + c * plane + taps[t]
            for run in range(begin, end):
                for j in range(runs[run, 1]):
                    space[row + runs[run, 0] + j] = source[place + runs[run, 2] + j]
            row += COLUMNS


@compiled
def fill_ones(space, place):
    for j in range(COLUMNS):
        space[place + j] = 1
