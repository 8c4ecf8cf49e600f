"""The gradient of 3x3 filters by Winograd's convolution: the forward formula, differentiated by the filter.

    y = A^T [(G w G^T) * (B^T d B)] A      so      dw = G^T [sum over tiles of (A g A^T) * (B^T d B)] G

for the inputs d (6x6) and the gradients g (4x4) of each tile. For all channels and outputs the sum is 36 products of
matrices again, (outputs x tiles) times (tiles x channels), whose panels want channels side by side. So the rows of
LANES channels are transformed as they lie, then transposed in registers, then transformed along the row.
Tiles are taken in blocks, whose sums are added in their order. Read winograd_forward.py first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.conv_tiles import copy_row, transpose_lanes, workspace
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, address, balanced_rows, multiply_rows
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, get_num_threads, parallel
from minidl.kernels.cpu.winograd_lanes import (
    transform_columns,
    transform_gradient_columns,
    transform_gradient_rows,
    transform_rows,
    transform_sums,
)
from minidl.kernels.cpu.winograd_matrices import INPUTS, OUTPUTS, PRODUCTS, TAPS

AREA = TAPS * TAPS
PANEL_FLOATS = 6 * 2**20  # in the transformed inputs and gradients of a block of tiles
TILES = 512  # at most so many in a block: the sums of one are added in registers
PIXELS = 48  # of a row that are transposed at once
PIECE = (PIXELS - INPUTS + OUTPUTS) // OUTPUTS  # tiles that they hold
SCRATCH = 2 * INPUTS * PIXELS * LANES + 2 * LANES


class Sums(NamedTuple):
    """What the loops need to know; every number is an int."""

    first_channel: int
    channels: int
    first_output: int
    outputs: int
    height: int  # outputs in a panel
    row_padding: int
    column_padding: int
    rows: int  # of tiles in an image
    columns: int
    tiles: int  # in all samples
    blocks: int
    depth: int  # tiles in a block, at most
    wide: int  # channels, rounded up to whole panels
    input_step: int  # floats from one product's inputs to the next
    gradient_panel: int  # floats from one panel of gradients to the next
    gradient_step: int  # floats from one product's gradients to the next
    sum_step: int  # floats from one product's sums to the next
    align: int  # floats to skip in the workspace, so that it starts with a cache line
    threads: int


def filter_sums(g, x, grad, *, channels, outputs, padding):
    """Fill grad[outputs] (O, C/G, 3, 3) from g (N, O, H', W') and x (N, C, H, W).

    channels, outputs: (first, count) of those of x and g that take part.
    """
    rows, columns = -(-g.shape[2] // OUTPUTS), -(-g.shape[3] // OUTPUTS)
    tiles = g.shape[0] * rows * columns
    height, wide = balanced_rows(outputs[1]), -(-channels[1] // COLUMNS) * COLUMNS
    row_panels = -(-outputs[1] // height)
    most = max(COLUMNS, min(TILES, PANEL_FLOATS // (PRODUCTS * (wide + row_panels * height))))
    blocks = -(-tiles // most)
    depth = -(-tiles // blocks)
    input_step = depth * wide + LANES
    gradient_panel = depth * height + LANES
    gradient_step = row_panels * gradient_panel
    threads = get_num_threads()
    size = PRODUCTS * (input_step + gradient_step) + threads * SCRATCH
    space = workspace(1, size + 3 * LANES)[0]
    sum_step = row_panels * height * wide + LANES
    plan = Sums(
        first_channel=channels[0], channels=channels[1], first_output=outputs[0], outputs=outputs[1], height=height,
        row_padding=padding[0], column_padding=padding[1], rows=rows, columns=columns, tiles=tiles, blocks=blocks,
        depth=depth, wide=wide, input_step=input_step, gradient_panel=gradient_panel, gradient_step=gradient_step,
        sum_step=sum_step, align=-space.ctypes.data // 4 % LANES, threads=threads,
    )
    parallel(sum_tiles, g, x, grad.reshape(-1), empty(PRODUCTS * sum_step), space, plan)


@compiled_parallel
def sum_tiles(g, x, grad, sums, space, plan):
    threads = plan.threads
    gradients = plan.align + PRODUCTS * plan.input_step
    scratch = space.size - threads * SCRATCH
    for block in range(plan.blocks):
        first, last = plan.tiles * block // plan.blocks, plan.tiles * (block + 1) // plan.blocks
        pieces = find_pieces(plan, first, last)
        for thread in prange(threads):
            transform_block(g, x, space, gradients, scratch + thread * SCRATCH, pieces, plan, thread)
        for thread in prange(threads):
            multiply_block(space, gradients, sums, last - first, block > 0, plan, thread)
    for thread in prange(threads):
        transform_back(sums, grad, plan, thread)


@compiled
def find_pieces(plan, first, last):
    """Cut tiles first..last into pieces of a row: (place in the block, length, sample, row of tiles, column)."""
    image, in_row = plan.rows * plan.columns, (plan.columns + PIECE - 1) // PIECE
    most = (plan.columns + in_row - 1) // in_row
    pieces = np.empty((last - first, 5), np.int64)
    count, t = 0, first
    while t < last:
        column = t % plan.columns
        length = min(min(plan.columns - column, last - t), most)
        pieces[count, 0], pieces[count, 1], pieces[count, 2] = t - first, length, t // image
        pieces[count, 3], pieces[count, 4] = t % image // plan.columns, column
        count += 1
        t += length
    return pieces[:count]


@compiled
def transform_block(g, x, space, gradients, scratch, pieces, plan, thread):
    """One thread's share: of the pieces of all groups of LANES channels, and of the panels of outputs."""
    count = len(pieces)
    groups = (plan.channels + LANES - 1) // LANES
    panels = (plan.outputs + plan.height - 1) // plan.height
    units = count * (groups + panels)
    for unit in range(units * thread // plan.threads, units * (thread + 1) // plan.threads):
        number = unit // count
        if number < groups:
            c, piece = number * LANES, pieces[unit % count]
            target = plan.align + c // COLUMNS * (pieces[count - 1, 0] + pieces[count - 1, 1]) * COLUMNS + c % COLUMNS
            transform_inputs(x, space, scratch, piece, plan, plan.first_channel + c, min(LANES, plan.channels - c),
                             target)
        elif unit % count == 0:
            panel = number - groups
            for i in range(count):
                transform_gradients(g, space, scratch, pieces[i], plan, panel * plan.height,
                                    gradients + panel * plan.gradient_panel)


@compiled
def transform_inputs(x, space, scratch, piece, plan, channel, count, target):
    """B^T d B of a piece's tiles in `count` <= LANES channels."""
    place, length, sample = piece[0], piece[1], piece[2]
    height, width = x.shape[2], x.shape[3]
    row, column = OUTPUTS * piece[3] - plan.row_padding, OUTPUTS * piece[4] - plan.column_padding
    pixels = OUTPUTS * length + INPUTS - OUTPUTS
    for c in range(count):
        plane = address(x, (sample * x.shape[1] + channel + c) * height * width)
        for u in range(0, pixels, LANES):
            transform_rows(plane, row, height, column + u, width, address(space, scratch + c * PIXELS + u),
                           LANES * PIXELS)
    turned = scratch + INPUTS * LANES * PIXELS
    transpose_pixels(space, scratch, turned, pixels)
    for i in range(INPUTS):
        for t in range(length):
            transform_columns(
                address(space, turned + (i * PIXELS + OUTPUTS * t) * LANES), LANES,
                address(space, target + i * INPUTS * plan.input_step + (place + t) * COLUMNS), plan.input_step,
            )


@compiled
def transform_gradients(g, space, scratch, piece, plan, output, target):
    """A g A^T of a piece's tiles for one panel of outputs, from `output` on.

    What a register holds too much is overwritten by the next tile, and by the outputs before.
    """
    place, length, sample = piece[0], piece[1], piece[2]
    height, width = g.shape[2], g.shape[3]
    row, column = OUTPUTS * piece[3], OUTPUTS * piece[4]
    pixels = OUTPUTS * length
    turned = scratch + INPUTS * LANES * PIXELS
    for o in range((plan.height - 1) // LANES * LANES, -1, -LANES):
        for i in range(min(LANES, plan.outputs - output - o)):
            plane = address(g, (sample * g.shape[1] + plan.first_output + output + o + i) * height * width)
            for u in range(0, pixels, LANES):
                transform_gradient_rows(plane, row, height, column + u, width,
                                        address(space, scratch + i * PIXELS + u), LANES * PIXELS)
        transpose_pixels(space, scratch, turned, pixels)
        for i in range(INPUTS):
            for t in range(length):
                transform_gradient_columns(
                    address(space, turned + (i * PIXELS + OUTPUTS * t) * LANES), LANES,
                    address(space, target + i * INPUTS * plan.gradient_step + (place + t) * plan.height + o),
                    plan.gradient_step,
                )


@compiled
def transpose_pixels(space, source, target, pixels):
    """Six rows of LANES channels: channels come first, then pixels -> pixels first, then channels."""
    for i in range(INPUTS):
        for u in range(0, pixels, LANES):
            transpose_lanes(address(space, target + (i * PIXELS + u) * LANES), LANES,
                            address(space, source + i * LANES * PIXELS + u), PIXELS)


@compiled
def multiply_block(space, gradients, sums, depth, accumulate, plan, thread):
    """One thread's share of the 36 products: (outputs x tiles) times (tiles x channels)."""
    panels = (plan.outputs + plan.height - 1) // plan.height
    items = PRODUCTS * panels
    for item in range(items * thread // plan.threads, items * (thread + 1) // plan.threads):
        xi, down = item // panels, item % panels
        a = address(space, gradients + xi * plan.gradient_step + down * plan.gradient_panel)
        b, c = plan.align + xi * plan.input_step, xi * plan.sum_step + down * plan.height * plan.wide
        for column in range(0, plan.wide, COLUMNS):
            multiply_rows(plan.height, a, address(space, b + column * depth), address(sums, c + column), depth,
                          plan.wide, np.int64(accumulate))


@compiled
def transform_back(sums, grad, plan, thread):
    """One thread's share of the outputs: G^T M G, by way of a small block in which taps come first, then channels."""
    taps, turned = np.empty((AREA + LANES) * LANES, np.float32), np.empty((AREA + 2) * LANES + AREA, np.float32)
    for output in range(plan.outputs * thread // plan.threads, plan.outputs * (thread + 1) // plan.threads):
        for c in range(0, plan.channels, LANES):
            transform_sums(address(sums, output * plan.wide + c), plan.sum_step, address(taps, 0))
            for t in range((AREA - 1) // LANES * LANES, -1, -LANES):
                transpose_lanes(address(turned, t), AREA, address(taps, t * LANES), LANES)
            copy_row(grad, ((plan.first_output + output) * plan.channels + c) * AREA, turned, 0,
                     AREA * min(LANES, plan.channels - c))
