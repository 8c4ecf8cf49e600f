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

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.conv_filters import layout_of, pack_filter_panel, pack_weights
from minidl.kernels.cpu.conv_strips import copy_strip, pack_runs, strip_layout, tap_places
from minidl.kernels.cpu.conv_tiles import copy_row, multiply_finished, workspace
from minidl.kernels.cpu.microkernel import COLUMNS, ROWS, address, balanced_rows
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, get_num_threads, parallel

DEPTH = 768  # products summed in one pass: a panel of weights this deep stays in the first-level cache
BLOCK = 128 * 1024  # floats in the panels of a block of positions, which stay in the second-level cache
WIDEST = 32  # panels of a block at the most
FEW = 3  # blocks for which weights are packed panel by panel when needed: no others come from memory and go there


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
    row_length: int  # of the strip, or of x
    plane: int  # floats of one channel in the strip, or in x
    y_row_step: int  # how far apart in y neighbours of the grid go
    y_column_step: int
    blocks: int
    panels: int
    pitch: int  # floats from one panel of a block to the next
    filters: int  # floats for a panel of weights, if it is packed only when needed
    space: int  # floats that a thread works in


def window_product(x, weight, weights, taps, y, *, channels, outputs, stride, bias=None, floor=-np.inf):
    """Fill y[:, outputs] with the sums over channels and taps of x.

    x (N, C, H, W) and y (N, O, H', W'); channels, outputs: (first, count) of those of x and y that take part.
    taps: x's row and column that position (0, 0) reads; those of the next position lie `stride` further.
    bias (O,) is added; sums below `floor` become it (0: ReLU).
    """
    plan, places = plan_windows(x.shape, y.shape, taps, channels, outputs, stride, weights.output_step == 1)
    row_panels = -(-plan.outputs // plan.height)
    packed = weight.reshape(-1) if plan.filters else pack_weights(
        weight, weights, plan.channels, plan.channels_at_once, plan.outputs, plan.height)
    first = np.zeros(row_panels * plan.height + ROWS, np.float32)  # zeros at the end: for the passes after the first
    if bias is not None:
        first[:plan.outputs] = bias[plan.first_output:plan.first_output + plan.outputs]
    threads = min(get_num_threads(), plan.blocks * row_panels)
    parallel(multiply_windows, x, packed, *layout_of(weights), places, first, np.float32(floor), y,
             workspace(threads, plan.space), plan)


@lru_cache(maxsize=4096)
def plan_windows(x_shape, y_shape, taps, channels, outputs, stride, beside) -> tuple[Windows, np.ndarray]:
    """How the product is cut, by the shapes alone, and how far into a channel's plane each tap reads: (T,).

    beside: whether the weights of outputs lie side by side, so that packing all panels at once is the faster way.
    """
    grid, height = y_shape[2:], balanced_rows(outputs[1])
    at_once = -(-channels[1] // -(-channels[1] * len(taps) // DEPTH)) if len(taps) < DEPTH else 1
    depth = at_once * len(taps)
    pitch = depth * COLUMNS + COLUMNS
    panels = -(-x_shape[0] * grid[0] * grid[1] // COLUMNS)
    blocks = -(-panels // max(1, min(BLOCK // pitch, WIDEST)))
    positions = (panels // blocks + 1) * COLUMNS
    strip = strip_layout(x_shape, taps, grid, stride, positions)
    filters = 0 if beside or blocks > FEW else height * depth + COLUMNS
    space = ROWS * COLUMNS + filters + (panels // blocks + 1) * pitch + 2 * COLUMNS
    space += 0 if strip["direct"] else at_once * strip["plane"] + 4 * COLUMNS
    plan = Windows(
        first_channel=channels[0], channels=channels[1], channels_at_once=at_once, first_output=outputs[0],
        outputs=outputs[1], height=height, rows=grid[0], columns=grid[1], row_stride=stride[0],
        column_stride=stride[1], y_row_step=1, y_column_step=1, blocks=blocks, panels=panels, pitch=pitch,
        filters=filters, space=space, **strip,
    )
    return plan, tap_places(np.array(taps, np.int64), plan)


@compiled_parallel
def multiply_windows(x, packed, layout, offsets, in_order, taps, bias, floor, y, space, plan):
    """Share the blocks of positions, and in a block the panels of weights, evenly among the threads.

    Each has a row of `space` to work in.
    """
    threads, row_panels = space.shape[0], (plan.outputs + plan.height - 1) // plan.height
    items = plan.blocks * row_panels
    for thread in prange(threads):
        item, stop = items * thread // threads, items * (thread + 1) // threads
        while item < stop:
            down = item % row_panels
            until = min(row_panels, down + stop - item)
            multiply_block(x, packed, layout, offsets, in_order, taps, bias, floor, y, space, thread * space.shape[1],
                           plan, item // row_panels, down, until)
            item += until - down


@compiled
def multiply_block(x, packed, layout, offsets, in_order, taps, bias, floor, y, space, start, plan, block, down, until):
    """Multiply panels down..until of the weights by one block of positions."""
    first, last = plan.panels * block // plan.blocks, plan.panels * (block + 1) // plan.blocks
    begin, end = first * COLUMNS, min(last * COLUMNS, x.shape[0] * plan.rows * plan.columns)
    runs, stores, ends = find_runs(x, y, plan, begin, end)
    filters = start + ROWS * COLUMNS
    panels = filters + plan.filters
    strip = panels + (plan.panels // plan.blocks + 1) * plan.pitch + 2 * COLUMNS
    for c0 in range(0, plan.channels, plan.channels_at_once):
        count = min(plan.channels_at_once, plan.channels - c0)
        depth = count * len(taps)
        if plan.direct:
            pack_runs(x, (plan.first_channel + c0) * plan.plane, count, taps, False, runs, space, panels, plan)
        else:
            copy_strip(x, plan.first_channel + c0, count, begin, end, space, strip, plan)
            pack_runs(space, strip, count, taps, False, runs, space, panels, plan)
        for panel in range(down, until):
            row = panel * plan.height
            rows = min(plan.height, plan.outputs - row)
            weights = address(packed, plan.outputs * c0 * len(taps) + row * depth)
            if plan.filters:
                pack_filter_panel(packed, layout, offsets, in_order, c0, count, row, rows, space.reshape(-1), filters)
                weights = address(space, filters)
            multiply_panels(weights, space, panels, start, depth, y, row,
                            rows, stores, ends, c0 > 0, address(bias, row if c0 == 0 else len(bias) - ROWS),
                            floor if c0 + count == plan.channels else np.float32(-np.inf), plan)


@compiled
def multiply_panels(weights, space, panels, tile, depth, y, first, rows, stores, ends, accumulate, bias, floor, plan):
    """Multiply one panel of weights by every panel of the block; whole tiles go to y, others by way of `tile`."""
    plane = y.shape[2] * y.shape[3]
    output = (plan.first_output + first) * plane
    begin = 0
    for panel in range(len(ends)):
        end = ends[panel]
        b = address(space, panels + panel * plan.pitch)
        if stores[begin, 1] == COLUMNS:
            multiply_finished(rows, weights, b, address(y, output + stores[begin, 2]), depth, plane, int(accumulate),
                              bias, floor)
        else:
            if accumulate:
                gather_tile(space.reshape(-1), tile, y.reshape(-1), output, plane, rows, stores, begin, end)
            multiply_finished(rows, weights, b, address(space, tile), depth, COLUMNS, int(accumulate), bias, floor)
            scatter_tile(space, tile, y, output, plane, rows, stores, begin, end)
        begin = end


@compiled
def gather_tile(space, tile, y, output, plane, rows, stores, begin, end):
    """Fetch the sums so far of a tile that does not lie in y as a whole."""
    for run in range(begin, end):
        target, source = tile + stores[run, 0], output + stores[run, 2]
        for _ in range(rows):
            for j in range(stores[run, 1]):
                space[target + j] = y[source + j]
            target += COLUMNS
            source += plane


@compiled
def scatter_tile(space, tile, y, output, plane, rows, stores, begin, end):
    """Store the rows of a tile run by run."""
    for run in range(begin, end):
        source, target = tile + stores[run, 0], output + stores[run, 2]
        for _ in range(rows):
            copy_row(y, target, space, source, stores[run, 1])
            source += COLUMNS
            target += plane


@compiled
def find_runs(x, y, plan, start, stop):
    """Cut the panels of positions start..stop where their rows end in the source (or the strip), and where in y.

    Rows of (place in the panels, length, place in the source), of (lane, length, place in y), and for each panel where
    the latter end. Rows of y that follow on one another are one.
    """
    pixels = plan.rows * plan.columns
    panels = (stop - start + COLUMNS - 1) // COLUMNS
    most = (stop - start) // plan.columns + 2 + panels
    runs, stores = np.empty((most, 3), np.int64), np.empty((most, 3), np.int64)
    ends = np.empty(panels, np.int64)
    count, stored, strip_row, p = 0, 0, 0, start
    for n in range(start // pixels, (stop - 1) // pixels + 1):
        top = (p - n * pixels) // plan.columns
        until = min(stop, (n + 1) * pixels)
        while p < until:
            row, column = (p - n * pixels) // plan.columns, (p - n * pixels) % plan.columns
            panel, lane = (p - start) // COLUMNS, (p - start) % COLUMNS
            length = min(min(plan.columns - column, until - p), COLUMNS - lane)
            if plan.direct:
                source = n * x.shape[1] * plan.plane + row * plan.row_stride * plan.row_length + column
            else:
                source = (strip_row + (row - top) * (plan.row_stride // plan.row_step)) * plan.row_length + column
            runs[count, 0], runs[count, 1], runs[count, 2] = panel * plan.pitch + lane, length, source
            count += 1
            place = (n * y.shape[1] * y.shape[2] + row * plan.y_row_step) * y.shape[3] + column * plan.y_column_step
            if lane and plan.y_column_step == 1 and stores[stored - 1, 2] + stores[stored - 1, 1] == place:
                stores[stored - 1, 1] += length
            else:
                stores[stored, 0], stores[stored, 1], stores[stored, 2] = lane, length, place
                stored += 1
            ends[panel] = stored
            p += length
        bottom = (until - 1 - n * pixels) // plan.columns
        strip_row += (bottom - top) * (plan.row_stride // plan.row_step) + plan.span + 1
    return runs[:count], stores, ends
