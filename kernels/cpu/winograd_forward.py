"""Convolution by Winograd's F(4x4, 3x3): tiles and filters are transformed, multiplied in 36 products, and back.

    M[xi] = U[xi] V[xi]        xi = 0 … 35: (outputs x channels) times (channels x tiles)

The tiles of all samples are numbered in one line and taken in blocks; V and M of a block stay in the third-level
cache. Three steps follow one another, each shared among the threads:

    inputs     x -> V, the panels that the micro-kernel reads: COLUMNS tiles of one channel side by side
    products   M[xi] = U[xi] V[xi], for one part of the outputs
    outputs    M -> y, with bias and ReLU; then the next part

Each number is computed by one thread in an order that follows from the shapes alone. U comes from
`winograd_filters.py`; with filters turned round, and a padding of 2 - p, the result is the gradient of the input.
Read winograd_lanes.py first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.conv_tiles import copy_row, workspace
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, address, multiply_rows
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, get_num_threads, parallel
from minidl.kernels.cpu.winograd_lanes import (
    deal_pixels,
    transform_columns,
    transform_products,
    transform_rows,
)
from minidl.kernels.cpu.winograd_matrices import INPUTS, OUTPUTS, PRODUCTS

INPUT_FLOATS = 2 * 2**20  # in V of a block of tiles
PRODUCT_FLOATS = 2**18  # in M of a part of the outputs
DEPTH = 512  # channels summed in one pass
LINE = OUTPUTS * COLUMNS + 2 * LANES  # floats in a row of pixels of a panel of tiles
DEALT = COLUMNS + 2 * LANES  # floats from one pixel of the tiles to the next
ENDS = 2 * COLUMNS + LANES  # floats for the two pixels behind each run of tiles
SCRATCH = INPUTS * (LINE + ENDS + INPUTS * DEALT) + 2 * LANES


class Tiles(NamedTuple):
    """What the loops need to know of a product; every number is an int."""

    first_channel: int
    channels: int
    first_output: int
    outputs: int
    height: int  # rows of U in a panel
    filter_panel: int  # floats from one panel of U to the next
    filter_step: int  # floats from one product's U to the next
    row_padding: int
    column_padding: int
    rows: int  # of tiles in an image
    columns: int
    panels: int  # of tiles, in all samples
    blocks: int
    input_step: int  # floats from one product's V to the next
    part: int  # panels of U whose M is held at once
    product_row: int  # floats from one output's M to the next
    relu: int
    has_bias: int
    align: int  # floats to skip in the workspace, so that it starts with a cache line
    threads: int


def tile_product(x, filters, y, *, channels, outputs, padding, bias=None, relu=False):
    """Fill y[:, outputs] (N, O, H', W') from x (N, C, H, W) and the transformed filters of `winograd_filters.py`.

    channels, outputs: (first, count) of those of x and y that take part.
    """
    rows, columns = -(-y.shape[2] // OUTPUTS), -(-y.shape[3] // OUTPUTS)
    panels = -(-x.shape[0] * rows * columns // COLUMNS)
    blocks = -(-panels * PRODUCTS * channels[1] * COLUMNS // INPUT_FLOATS)
    blocks = min(panels, blocks)
    in_block = -(-panels // blocks)
    row_panels = -(-outputs[1] // filters.height)
    product_row = PRODUCTS * COLUMNS + LANES
    parts = -(-in_block * row_panels * filters.height * product_row // PRODUCT_FLOATS)
    part = -(-row_panels // min(row_panels, parts))
    input_step = in_block * channels[1] * COLUMNS + LANES
    threads = get_num_threads()
    size = PRODUCTS * input_step + in_block * part * filters.height * product_row + threads * SCRATCH
    space = workspace(1, size + 2 * LANES)[0]
    plan = Tiles(
        first_channel=channels[0], channels=channels[1], first_output=outputs[0], outputs=outputs[1],
        height=filters.height, filter_panel=filters.panel, filter_step=filters.step, row_padding=padding[0],
        column_padding=padding[1], rows=rows, columns=columns, panels=panels, blocks=blocks, input_step=input_step,
        part=part, product_row=product_row, relu=int(relu), has_bias=int(bias is not None),
        align=-space.ctypes.data // 4 % LANES, threads=threads,
    )
    parallel(convolve_tiles, x, filters.numbers, filters.numbers if bias is None else bias, y, space, plan)


@compiled_parallel
def convolve_tiles(x, filters, bias, y, space, plan):
    threads = plan.threads
    row_panels = (plan.outputs + plan.height - 1) // plan.height
    products = plan.align + PRODUCTS * plan.input_step
    scratch = space.size - LANES - threads * SCRATCH
    for block in range(plan.blocks):
        first, last = plan.panels * block // plan.blocks, plan.panels * (block + 1) // plan.blocks
        runs, ends = find_runs(x.shape[0], plan, first, last)
        for thread in prange(threads):
            transform_inputs(x, space, scratch + thread * SCRATCH, runs, ends, plan, thread)
        for start in range(0, row_panels, plan.part):
            stop = min(row_panels, start + plan.part)
            for thread in prange(threads):
                multiply_filters(filters, space, products, start, stop, last - first, plan, thread)
            for thread in prange(threads):
                transform_outputs(bias, y, space, products, scratch + thread * SCRATCH, runs, ends, start, stop, plan,
                                  thread)


@compiled
def find_runs(samples, plan, first, last):
    """Cut panels first..last where a row of tiles ends: rows of (lane, length, sample, row of tiles, column).

    `ends` tells for each panel where its runs end.
    """
    tiles = plan.rows * plan.columns
    start, stop = first * COLUMNS, min(last * COLUMNS, samples * tiles)
    runs = np.empty(((stop - start) // plan.columns + 2 + last - first, 5), np.int64)
    ends = np.empty(last - first, np.int64)
    count, t = 0, start
    while t < stop:
        column, lane = t % plan.columns, (t - start) % COLUMNS
        length = min(min(plan.columns - column, stop - t), COLUMNS - lane)
        runs[count, 0], runs[count, 1], runs[count, 2] = lane, length, t // tiles
        runs[count, 3], runs[count, 4] = t % tiles // plan.columns, column
        count += 1
        ends[(t - start) // COLUMNS] = count
        t += length
    return runs, ends


@compiled
def transform_inputs(x, space, scratch, runs, ends, plan, thread):
    """One thread's share of the panels' channels: x -> V."""
    items = len(ends) * plan.channels
    for item in range(items * thread // plan.threads, items * (thread + 1) // plan.threads):
        panel, channel = item // plan.channels, item % plan.channels
        begin = ends[panel - 1] if panel else 0
        transform_panel(x, space, scratch, runs, begin, ends[panel], plan, plan.first_channel + channel,
                        plan.align + item * COLUMNS)


@compiled
def transform_panel(x, space, scratch, runs, begin, end, plan, channel, target):
    """B^T d B of COLUMNS tiles of one channel."""
    behind = scratch + INPUTS * LINE
    dealt = behind + INPUTS * ENDS + LANES
    height, width = x.shape[2], x.shape[3]
    for run in range(begin, end):
        lane, length, sample = runs[run, 0], runs[run, 1], runs[run, 2]
        plane = address(x, (sample * x.shape[1] + channel) * height * width)
        row = OUTPUTS * runs[run, 3] - plan.row_padding
        column = OUTPUTS * runs[run, 4] - plan.column_padding
        for u in range(0, OUTPUTS * length, LANES):
            transform_rows(plane, row, height, column + u, width, address(space, scratch + OUTPUTS * lane + u), LINE)
        transform_rows(plane, row, height, column + OUTPUTS * length, width,
                       address(space, behind + 2 * (run - begin)), ENDS)
    lanes = runs[end - 1, 0] + runs[end - 1, 1]
    for i in range(INPUTS):
        for t in range(0, lanes, LANES):
            deal_pixels(address(space, scratch + i * LINE + OUTPUTS * t),
                        address(space, dealt + i * INPUTS * DEALT + t), DEALT)
    numbers = space.reshape(-1)
    for run in range(begin, end):
        last = runs[run, 0] + runs[run, 1] - 1
        for i in range(INPUTS):
            for j in range(2):
                place = dealt + (i * INPUTS + OUTPUTS + j) * DEALT + last
                numbers[place] = numbers[behind + i * ENDS + 2 * (run - begin) + j]
    for i in range(INPUTS):
        for t in range(0, lanes, LANES):
            transform_columns(address(space, dealt + i * INPUTS * DEALT + t), DEALT,
                              address(space, target + i * INPUTS * plan.input_step + t), plan.input_step)


@compiled
def multiply_filters(filters, space, products, start, stop, panels, plan, thread):
    """One thread's share of the 36 products, for panels start..stop of the filters."""
    rows = (stop - start) * plan.height
    passes = (plan.channels + DEPTH - 1) // DEPTH
    items = PRODUCTS * (stop - start)
    for item in range(items * thread // plan.threads, items * (thread + 1) // plan.threads):
        xi, down = item // (stop - start), item % (stop - start)
        for number in range(passes):
            c0, c1 = plan.channels * number // passes, plan.channels * (number + 1) // passes
            u = address(filters, xi * plan.filter_step + (start + down) * plan.filter_panel + c0 * plan.height)
            v = plan.align + xi * plan.input_step + c0 * COLUMNS
            m = products + down * plan.height * plan.product_row + xi * COLUMNS
            for panel in range(panels):
                multiply_rows(plan.height, u, address(space, v + panel * plan.channels * COLUMNS),
                              address(space, m + panel * rows * plan.product_row), c1 - c0, plan.product_row,
                              np.int64(number > 0))


@compiled
def transform_outputs(bias, y, space, products, scratch, runs, ends, start, stop, plan, thread):
    """One thread's share of the outputs in panels start..stop of the filters: M -> y."""
    rows = (stop - start) * plan.height
    count = min(rows, plan.outputs - start * plan.height)
    height, width = y.shape[2], y.shape[3]
    for item in range(count * thread // plan.threads, count * (thread + 1) // plan.threads):
        output = plan.first_output + start * plan.height + item
        shift = bias[output] if plan.has_bias else np.float32(0)
        begin = 0
        for panel in range(len(ends)):
            end = ends[panel]
            source = products + (panel * rows + item) * plan.product_row
            lanes = runs[end - 1, 0] + runs[end - 1, 1]
            for t in range(0, lanes, LANES):
                transform_products(address(space, source + t), COLUMNS, shift, plan.relu,
                                   address(space, scratch + OUTPUTS * t), LINE)
            for run in range(begin, end):
                row, column = OUTPUTS * runs[run, 3], OUTPUTS * runs[run, 4]
                place = ((runs[run, 2] * y.shape[1] + output) * height + row) * width + column
                length = min(OUTPUTS * runs[run, 1], width - column)
                for i in range(min(OUTPUTS, height - row)):
                    copy_row(y, place + i * width, space, scratch + i * LINE + OUTPUTS * runs[run, 0], length)
            begin = end
