"""The gradient of a strided convolution's input: as many products as there are strides, over the same panels of g.

The pixels that share their remainders modulo the stride, rows and columns, are reached by the same taps, and by no
others. For 3 x 3 taps two apart, padded by one:

    even row, even column   g[r, s] w[1, 1]                                    pixels (2 r, 2 s), (2 r, 2 s + 1) and
    even row, odd column    g[r, s] w[1, 2] + g[r, s + 1] w[1, 0]              the two below them: each share is a
    odd row, odd column     g[r, s] w[2, 2] + g[r, s + 1] w[2, 0] + …          product of its own, without zeros

All shares see some of the same *places*, g shifted by a row or a column; these are copied to panels once, place by
place, and the taps of a share lie in their order. So what a share multiplies are a few runs of the panel. The tiles of
the shares of a row are stored together, a column of each in turn. Read `conv_windows.py` first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.conv_filters import Weights, pack_tap_panel, pack_taps, pack_weights
from minidl.kernels.cpu.conv_masks import interleave_first
from minidl.kernels.cpu.conv_strips import copy_strip, pack_runs, strip_layout, tap_places
from minidl.kernels.cpu.conv_tiles import copy_row, fetch_to_write, multiply_finished, shifted, workspace, zero_lanes
from minidl.kernels.cpu.conv_windows import find_runs
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, LINE, ROWS, address, balanced_rows
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, get_num_threads, parallel

DEPTH = 1024  # rows of a panel at the most: the places times the channels that are summed in one pass
BLOCK = 128 * 1024  # floats in the panels of a block of positions, which stay in the second-level cache
WIDEST = 32  # panels of a block at the most
FEW = 2  # blocks for which weights are packed panel by panel when needed


class Shares(NamedTuple):
    """What the loops need to know, as in `conv_windows.Windows`; every number is an int."""

    first_channel: int
    channels: int
    channels_at_once: int
    first_output: int
    outputs: int
    height: int
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
    y_row_step: int  # the stride of the convolution
    y_column_step: int
    row_shares: int  # as many, or as there are rows
    column_shares: int
    taps: int
    blocks: int
    panels: int
    pitch: int
    filters: int  # floats for a panel of weights, if it is packed only when needed
    space: int


class Share(NamedTuple):
    """Every stride-th input of an axis, from `first` on: the taps that reach it, and what outputs these come from."""

    first: int
    length: int
    taps: tuple[int, ...]
    places: tuple[int, ...]  # the output whose tap reaches the first of the inputs


@lru_cache
def shares(size: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[Share, ...]:
    """Cut an axis of inputs by their remainder modulo the stride: the taps of each share move on with its inputs.

    Input h is reached from output o by tap i if h = o stride + i dilation - padding.
    """
    cut = []
    for first in range(min(stride, size)):
        taps = tuple([i for i in range(kernel) if (first + padding - i * dilation) % stride == 0])
        places = tuple([(first + padding - i * dilation) // stride for i in taps])
        cut.append(Share(first, -(-(size - first) // stride), taps, places))
    return tuple(cut)


def shared_product(g, weight, y, *, channels, outputs, stride, padding, dilation):
    """Fill y[:, outputs] (N, C, H, W) with the gradient of the input from g (N, O, H', W'), weight (O, C/G, kh, kw).

    channels, outputs: (first, count) of those of g and y that take part.
    """
    kernel = weight.shape[2:]
    plan, places, order, segments, ends = plan_shares(
        g.shape, y.shape, kernel, channels, outputs, stride, padding, dilation)
    sizes = plan.channels, plan.channels_at_once, plan.outputs, plan.height
    if plan.filters:
        packed = weight.reshape(-1)
    elif kernel == (1, 1):
        packed = pack_weights(weight, Weights(plan.first_channel * plan.outputs, 1, plan.outputs, (0,)), *sizes)
    else:
        packed = pack_taps(weight, order, plan.first_channel, *sizes)
    threads = min(get_num_threads(), plan.blocks * -(-plan.outputs // plan.height))
    parallel(multiply_shares, g, packed, weight.reshape(*weight.shape[:2], -1), order, places, segments, ends, y,
             workspace(threads, plan.space), plan)


@lru_cache(maxsize=1024)
def plan_shares(g_shape, y_shape, kernel, channels, outputs, stride, padding, dilation):
    """How the products are cut, by the shapes alone; the places; the taps in the order in which they are packed; the
    runs of the panels that are multiplied, as rows of (first tap in this order, first place, length), and for each
    share where its runs end.
    """
    rows, columns = [shares(*axis) for axis in zip(y_shape[2:], kernel, stride, padding, dilation)]
    row_places, column_places = [
        sorted({place for share in axis for place in share.places}) for axis in (rows, columns)
    ]
    places = tuple([(i, j) for i in row_places for j in column_places]) or ((0, 0),)
    order, segments, ends = [], [], []
    for row in rows:
        for column in columns:
            taps = sorted((places.index((row.places[i], column.places[j])), row.taps[i] * kernel[1] + column.taps[j])
                          for i in range(len(row.taps)) for j in range(len(column.taps)))
            start = len(segments)
            for place, tap in taps:
                if len(segments) > start and place == segments[-1][1] + segments[-1][2]:
                    segments[-1][2] += 1
                else:
                    segments.append([len(order), place, 1])
                order.append(tap)
            ends.append(len(segments))
    at_once = -(-channels[1] // -(-channels[1] * len(places) // DEPTH)) if len(places) < DEPTH else 1
    pitch = at_once * len(places) * COLUMNS + COLUMNS
    grid = rows[0].length, columns[0].length
    panels = -(-g_shape[0] * grid[0] * grid[1] // COLUMNS)
    blocks = -(-panels // max(1, min(BLOCK // pitch, WIDEST)))
    strip = strip_layout(g_shape, places, grid, (1, 1), (panels // blocks + 1) * COLUMNS)
    height = balanced_rows(outputs[1])
    filters = 0 if kernel == (1, 1) or blocks > FEW else height * at_once * len(order) + COLUMNS
    space = filters + len(columns) * ROWS * COLUMNS + (panels // blocks + 1) * pitch + 3 * COLUMNS
    space += 0 if strip["direct"] else at_once * strip["plane"] + 4 * COLUMNS
    plan = Shares(
        first_channel=channels[0], channels=channels[1], channels_at_once=at_once, first_output=outputs[0],
        outputs=outputs[1], height=height, rows=grid[0], columns=grid[1], row_stride=1,
        column_stride=1, y_row_step=stride[0], y_column_step=stride[1], row_shares=len(rows),
        column_shares=len(columns), taps=len(order), blocks=blocks, panels=panels, pitch=pitch,
        filters=filters, space=space, **strip,
    )
    order, segments, ends = [np.array(numbers, np.int64) for numbers in (order, segments, ends)]
    return plan, tap_places(np.array(places, np.int64), plan), order, segments.reshape(-1, 3), ends


@compiled_parallel
def multiply_shares(g, packed, weight, order, places, segments, ends, y, space, plan):
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
            multiply_block(g, packed, weight, order, places, segments, ends, y, space, thread * space.shape[1], plan,
                           item // row_panels, down, until)
            item += until - down


@compiled
def multiply_block(g, packed, weight, order, places, segments, ends, y, space, tiles, plan, block, down, until):
    """Multiply panels down..until of the weights by one block of positions."""
    first, last = plan.panels * block // plan.blocks, plan.panels * (block + 1) // plan.blocks
    begin, end = first * COLUMNS, min(last * COLUMNS, g.shape[0] * plan.rows * plan.columns)
    runs, stores, stops = find_runs(g, y, plan, begin, end)
    filters = tiles + plan.column_shares * ROWS * COLUMNS + COLUMNS
    panels = filters + plan.filters
    strip = panels + (plan.panels // plan.blocks + 1) * plan.pitch + 2 * COLUMNS
    plane, zeros = y.shape[2] * y.shape[3], np.zeros(ROWS, np.float32)
    for c0 in range(0, plan.channels, plan.channels_at_once):
        count = min(plan.channels_at_once, plan.channels - c0)
        if plan.direct:
            pack_runs(g, (plan.first_channel + c0) * plan.plane, count, places, True, runs, space, panels, plan)
        else:
            copy_strip(g, plan.first_channel + c0, count, begin, end, space, strip, plan)
            pack_runs(space, strip, count, places, True, runs, space, panels, plan)
        for panel in range(down, until):
            row = panel * plan.height
            rows = min(plan.height, plan.outputs - row)
            weights = address(packed, (plan.outputs * c0 + row * count) * plan.taps)
            if plan.filters:
                pack_tap_panel(weight, order, space, plan.first_channel + c0, count, row, rows, filters)
                weights = address(space, filters)
            output, start = (plan.first_output + row) * plane, 0
            for number in range(len(stops)):
                b = panels + number * plan.pitch
                for share in range(plan.row_shares):
                    if c0:
                        gather_tiles(space.reshape(-1), tiles, y.reshape(-1), output, rows, stores, start,
                                     stops[number], share, y.shape[2], y.shape[3], plan)
                    fetch_targets(y, output, rows, stores, start, stops[number], share, plan)
                    multiply_tiles(weights, zeros, space, b, tiles, segments, ends, rows, count, share, c0 > 0,
                                   plan)
                    store_tiles(space, tiles, y, output, rows, stores, start, stops[number], share, plan)
                start = stops[number]


@compiled
def multiply_tiles(weights, zeros, space, panel, tiles, segments, ends, rows, channels, share, add, plan):
    """The tiles of all the shares of a row, side by side."""
    for column in range(plan.column_shares):
        number, tile = share * plan.column_shares + column, tiles + column * ROWS * COLUMNS
        first = ends[number - 1] if number else 0
        if first == ends[number] and not add:
            for k in range(tile, tile + rows * COLUMNS, LANES):
                zero_lanes(address(space, k))
        for segment in range(first, ends[number]):
            multiply_finished(
                rows, shifted(weights, segments[segment, 0] * channels * rows),
                address(space, panel + segments[segment, 1] * channels * COLUMNS), address(space, tile),
                segments[segment, 2] * channels, COLUMNS, int(add or segment > first), address(zeros, 0),
                np.float32(-np.inf),
            )


@compiled
def fetch_targets(y, output, rows, stores, begin, end, share, plan):
    """Ask for the lines that a row of shares will be stored to, which come while the tiles are summed."""
    for run in range(begin, end):
        target, length = output + stores[run, 2] + share * y.shape[3], stores[run, 1] * plan.y_column_step
        for _ in range(rows):
            for j in range(0, length, LINE):
                fetch_to_write(address(y, target + j))
            target += y.shape[2] * y.shape[3]


@compiled
def store_tiles(space, tiles, y, output, rows, stores, begin, end, share, plan):
    """Store the tiles of a row of shares run by run, a column of each in turn."""
    height, width, step = y.shape[2], y.shape[3], plan.y_column_step
    for run in range(begin, end):
        place, length = stores[run, 2], stores[run, 1]
        if place // width % height + share < height:
            source, target = tiles + stores[run, 0], output + place + share * width
            count = min(length * step, width - place % width)
            for _ in range(rows):
                if step == 1:
                    copy_row(y, target, space, source, length)
                elif step == 2 and plan.column_shares == 2:
                    for j in range(0, length, LANES):
                        interleave_first(address(y, target + 2 * j), address(space, source + j),
                                         address(space, source + j + ROWS * COLUMNS), count - 2 * j)
                else:
                    store_each(space.reshape(-1), source, y.reshape(-1), target, count, plan.column_shares, step)
                source += COLUMNS
                target += height * width


@compiled
def store_each(space, source, y, target, count, shares, step):
    for column in range(shares):
        for j in range((count - column + step - 1) // step):
            y[target + j * step + column] = space[source + column * ROWS * COLUMNS + j]


@compiled
def gather_tiles(space, tiles, y, output, rows, stores, begin, end, share, height, width, plan):
    """Fetch the sums so far of a row of shares: what `store_tiles` has stored."""
    step = plan.y_column_step
    for run in range(begin, end):
        place = stores[run, 2]
        if place // width % height + share < height:
            target, source = tiles + stores[run, 0], output + place + share * width
            count = min(stores[run, 1] * step, width - place % width)
            for _ in range(rows):
                for column in range(plan.column_shares):
                    for j in range((count - column + step - 1) // step):
                        space[target + column * ROWS * COLUMNS + j] = y[source + j * step + column]
                target += COLUMNS
                source += height * width
