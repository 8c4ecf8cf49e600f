"""The gradient of a convolution's weights: a product whose long side, the sum, runs over the pixels of all samples.

    grad[o, c, t] = sum over positions p of g[o, p] * x[c, position p shifted by t]

Both operands lie along p, while panels want p outermost: so g is transposed into panels of COLUMNS outputs, and the
rows of x that a block of positions reads into a strip with its channels last. There the channels of neighbouring
taps lie side by side, and a panel of windows is copied in whole registers. The positions are cut into chunks, the
channels into blocks, by shapes alone; sums of the chunks are added in their order at the end.
Read `conv_windows.py` first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.conv_tiles import copy_lanes, copy_row, fetch_line, transpose_lanes, workspace
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, address, balanced_rows, multiply_rows
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, get_num_threads, parallel

DEPTH = 384  # positions summed in one pass
GRADIENTS = 128 * 1024  # floats of g in the panels of a pass
PARTS = 2**20  # floats of all the chunks' sums, if these are more than two
PIECE = 1 << 14  # floats that are added at a time
SMALL = 1 << 14  # sums that one thread adds
WINDOW = 512  # rows of the product for a block of channels: their taps


class Sums(NamedTuple):
    """What the loops need to know; every number is an int."""

    first_channel: int
    channels: int  # in the group
    block_channels: int  # in a block of them
    first_output: int
    outputs: int
    wide: int  # outputs, rounded up to whole panels
    height: int  # rows of a tile
    panels: int  # of windows in a block of channels
    row_stride: int
    column_stride: int
    low_row: int
    low_column: int
    span: int  # rows from the first tap to the last
    width: int  # pixels in a row of the strip
    strip: int  # floats in the strip
    depth: int
    blocks: int
    chunks: int
    space: int  # floats that a thread works in


def weight_sums(g, x, grad, taps, *, channels, outputs, stride):
    """Fill grad[outputs] (O, C/G, kh, kw) with the sums over the positions of g (N, O, H', W').

    channels, outputs: (first, count) of those of x and g that take part. taps: x's row and column that position
    (0, 0) reads.
    """
    plan, pieces, ends = plan_sums(g.shape, x.shape, taps, channels, outputs, stride)
    threads = min(get_num_threads(), plan.blocks * plan.chunks)
    parts = empty((plan.chunks, plan.blocks, plan.panels * plan.height, plan.wide))
    parallel(sum_windows, g, x, pieces, ends, parts, workspace(threads, plan.space), plan)
    parallel(add_chunks, parts, grad.reshape(grad.shape[0], -1), len(taps), plan,
             limit=1 if parts.size < SMALL else None)


@lru_cache(maxsize=1024)
def plan_sums(g_shape, x_shape, taps, channels, outputs, stride) -> tuple[Sums, np.ndarray, np.ndarray]:
    """How the product is cut, by the shapes alone, and the pieces of its windows."""
    samples, _, g_rows, g_columns = g_shape
    taps = np.array(taps)
    low, high = taps.min(0).tolist(), taps.max(0).tolist()
    block_channels = channels_in_block(channels[1], len(taps))
    blocks = -(-channels[1] // block_channels)
    wide = -(-outputs[1] // COLUMNS) * COLUMNS
    height = balanced_rows(block_channels * len(taps))
    positions = samples * g_rows * g_columns
    depth = min(positions, max(128, min(DEPTH, GRADIENTS // wide)))
    chunks = count_chunks(blocks, channels[1] * len(taps) * wide, -(-positions // depth))
    depth = even_depth(positions, depth, chunks)
    width = (g_columns - 1) * stride[1] + high[1] - low[1] + 1
    span = high[0] - low[0]
    row_step = 1 if span else stride[0]
    rows = min(depth // g_columns + 2, samples * g_rows) * (stride[0] // row_step)
    rows += min(depth // (g_rows * g_columns) + 2, samples) * (span + 1)
    strip = rows * width * block_channels + (LANES + 1) * block_channels + 2 * COLUMNS
    plan = Sums(
        first_channel=channels[0], channels=channels[1], block_channels=block_channels, first_output=outputs[0],
        outputs=outputs[1], wide=wide, height=height, panels=-(-block_channels * len(taps) // height),
        row_stride=stride[0], column_stride=stride[1], low_row=low[0], low_column=low[1], span=span, width=width,
        strip=strip, depth=depth, blocks=blocks, chunks=chunks,
        space=strip + (depth + LANES) * (wide + height) + 2 * COLUMNS,
    )
    away = taps - taps.min(0)
    return plan, *window_pieces(away[:, 0] * width + away[:, 1], block_channels, height)


def channels_in_block(channels: int, taps: int) -> int:
    """Blocks of about WINDOW rows, of whole registers of channels if they have more than one."""
    even = -(-channels // -(-channels * taps // WINDOW))
    if even <= LANES:
        return even
    sizes = range(-(-even * 3 // 2 // LANES) * LANES, even // 2, -LANES)
    return min(sizes, key=lambda size: -channels % size)  # of those that add the fewest channels, the largest


def count_chunks(blocks: int, sums: int, passes: int) -> int:
    """Enough chunks to share their blocks evenly among some threads, without too many sums to be added."""
    wanted = 8 if blocks == 1 else 4 if blocks < 4 else 2 if blocks < 8 or blocks % 2 and blocks < 32 else 1
    chunks = min(wanted, max(2, PARTS // sums), passes)
    return chunks - 1 if chunks == 3 else chunks


def even_depth(positions: int, depth: int, chunks: int) -> int:
    """A depth of about `depth` with as many passes in every chunk, so that no thread waits for another's last one."""
    passes = -(-positions // depth)
    each = max(1, passes // chunks if passes % chunks * 2 < chunks else -(-passes // chunks))
    return -(-positions // (each * chunks))


def window_pieces(places, channels: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Which registers make up each panel of windows: rows of (row of the panel, place in the strip), and their ends.

    A window lists the channels of its first tap, then those of the second, and so on; `places` are the taps' pixels.
    """
    flat = (np.asarray(places)[:, None] * channels + np.arange(channels)).ravel()
    pieces, ends = [], []
    for first in range(0, len(flat), height):
        k, last = first, min(first + height, len(flat))
        while k < last:
            pieces.append((k - first, flat[k]))
            start = k
            while k < last and k - start < LANES and flat[k] - flat[start] == k - start:
                k += 1
        ends.append(len(pieces))
    return np.array(pieces, np.int64), np.array(ends, np.int64)


@compiled_parallel
def sum_windows(g, x, pieces, ends, parts, space, plan):
    """Share chunks of positions and blocks of channels among the threads, each with a row of `space` to work in."""
    threads, items = space.shape[0], plan.blocks * plan.chunks
    for thread in prange(threads):
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            sum_chunk(g, x, pieces, ends, parts, space, thread * space.shape[1], plan, item // plan.blocks,
                      item % plan.blocks)


@compiled
def sum_chunk(g, x, pieces, ends, parts, space, start, plan, chunk, block):
    """Sum over one chunk of positions for one block of channels."""
    positions = g.shape[0] * g.shape[2] * g.shape[3]
    passes = (positions + plan.depth - 1) // plan.depth
    strip = start
    gradients = strip + plan.strip
    windows = gradients + (plan.depth + LANES) * plan.wide
    part = (chunk * plan.blocks + block) * plan.panels * plan.height * plan.wide
    first_pass = passes * chunk // plan.chunks
    for number in range(first_pass, passes * (chunk + 1) // plan.chunks):
        first, last = positions * number // passes, positions * (number + 1) // passes
        runs = copy_windows(g, x, block, first, last, space, strip, plan)
        for panel in range(0, plan.wide, COLUMNS):
            pack_gradients(g, panel, first, last, space, gradients + panel * (last - first), plan)
        begin = 0
        for panel in range(plan.panels):
            pack_windows(runs, pieces, begin, ends[panel], space, strip, windows, plan)
            begin = ends[panel]
            for column in range(0, plan.wide, COLUMNS):
                multiply_rows(
                    plan.height, address(space, windows), address(space, gradients + column * (last - first)),
                    address(parts, part + panel * plan.height * plan.wide + column), last - first, plan.wide,
                    int(number > first_pass),
                )


@compiled
def copy_windows(g, x, block, first, last, space, strip, plan):
    """Copy the rows of x that positions first..last read to the strip, channels last; where each run starts in it."""
    columns, pixels = g.shape[3], g.shape[2] * g.shape[3]
    channel = block * plan.block_channels
    count = min(plan.block_channels, plan.channels - channel)
    runs = np.empty(((last - first) // columns + 2 + (last - first) // pixels + 2, 2), np.int64)
    row_step = 1 if plan.span else plan.row_stride
    line = plan.width * plan.block_channels
    number, p, place = 0, first, strip
    for n in range(first // pixels, (last - 1) // pixels + 1):
        until = min(last, (n + 1) * pixels)
        top, bottom = (p - n * pixels) // columns, (until - 1 - n * pixels) // columns
        for row in range(top, bottom + 1):
            column = (p - n * pixels) % columns
            length = min(columns - column, until - p)
            runs[number, 0] = place + (row - top) * (plan.row_stride // row_step) * line + (
                column * plan.column_stride * plan.block_channels)
            runs[number, 1] = length
            number += 1
            p += length
        image = (n * x.shape[1] + plan.first_channel + channel) * x.shape[2]
        for i in range((bottom - top) * (plan.row_stride // row_step) + plan.span + 1):
            row = top * plan.row_stride + i * row_step + plan.low_row
            if row < 0 or row >= x.shape[2]:
                fill_zeros(space.reshape(-1), place, place + line)
            else:
                copy_channels(x, (image + row) * x.shape[3], count, space, place, plan)
            place += line
    return runs[:number]


@compiled
def copy_channels(x, source, count, space, place, plan):
    """Transpose one row of x, of `count` channels: columns come first, then channels; zeros where windows leave x."""
    channels, plane = plan.block_channels, x.shape[2] * x.shape[3]
    begin = min(plan.width, max(0, -plan.low_column))
    end = max(begin, min(plan.width, x.shape[3] - plan.low_column))
    source += plan.low_column
    fill_zeros(space.reshape(-1), place, place + begin * channels)
    c = 0
    if channels >= LANES:
        while c + LANES <= count and source + (c + LANES - 1) * plane + end + LANES <= x.size:
            for u in range(begin, end, LANES):
                for i in range(LANES, 2 * LANES):
                    fetch_line(address(x, source + (c + i) * plane + u))
                transpose_lanes(address(space, place + u * channels + c), channels, address(x, source + c * plane + u),
                                plane)
            c += LANES
    transpose_exactly(x.reshape(-1), source + begin, plane, c, count, space.reshape(-1), place + begin * channels,
                      channels, end - begin)
    transpose_zeros(count, space.reshape(-1), place + begin * channels, channels, end - begin)
    fill_zeros(space.reshape(-1), place + end * channels, place + plan.width * channels)


@compiled
def transpose_exactly(source, start, plane, first, last, target, place, pitch, length):
    for c in range(first, last):
        for u in range(length):
            target[place + u * pitch + c] = source[start + c * plane + u]


@compiled
def transpose_zeros(first, target, place, pitch, length):
    for c in range(first, pitch):
        for u in range(length):
            target[place + u * pitch + c] = 0


@compiled
def fill_zeros(space, start, stop):
    for j in range(start, stop):
        space[j] = 0


@compiled
def pack_gradients(g, panel, first, last, space, target, plan):
    """Transpose COLUMNS outputs of g at positions first..last: positions come first, then outputs."""
    pixels = g.shape[2] * g.shape[3]
    p = first
    while p < last:
        n = p // pixels
        until = min(last, (n + 1) * pixels)
        place = target + (p - first) * COLUMNS
        source = (n * g.shape[1] + plan.first_output + panel) * pixels + p - n * pixels
        o, count = 0, min(COLUMNS, plan.outputs - panel)
        while o + LANES <= count and source + (o + LANES - 1) * pixels + until - p + LANES <= g.size:
            for u in range(0, until - p, LANES):
                transpose_lanes(address(space, place + u * COLUMNS + o), COLUMNS, address(g, source + o * pixels + u),
                                pixels)
            o += LANES
        transpose_exactly(g.reshape(-1), source, pixels, o, count, space.reshape(-1), place, COLUMNS, until - p)
        transpose_zeros(count, space.reshape(-1), place, COLUMNS, until - p)
        p = until


@compiled
def pack_windows(runs, pieces, begin, end, space, strip, target, plan):
    """Copy one panel of windows, position by position; what a register holds too much is overwritten by the next."""
    step = plan.column_stride * plan.block_channels
    for run in range(len(runs)):
        place = runs[run, 0]
        if end == begin + 1:
            place += pieces[begin, 1]
            for _ in range(runs[run, 1]):
                copy_lanes(address(space, target), address(space, place))
                place += step
                target += plan.height
        else:
            for _ in range(runs[run, 1]):
                for piece in range(begin, end):
                    copy_lanes(address(space, target + pieces[piece, 0]), address(space, place + pieces[piece, 1]))
                place += step
                target += plan.height


@compiled_parallel
def add_chunks(parts, grad, taps, plan):
    """Add the chunks in their order, and transpose: rows (tap, channel) x outputs -> outputs x (channel, tap)."""
    flat = parts.reshape(-1)
    size = len(flat) // plan.chunks
    if plan.chunks > 1:
        for piece in prange((size + PIECE - 1) // PIECE):
            for chunk in range(1, plan.chunks):
                add_numbers(flat, piece * PIECE, chunk * size, min(PIECE, size - piece * PIECE))
    for group in prange((plan.outputs + LANES - 1) // LANES):
        turn_outputs(parts, grad, taps, plan, group * LANES)


@compiled
def add_numbers(numbers, place, step, length):
    target, values = numbers[place:place + length], numbers[place + step:place + step + length]
    for k in range(length):
        target[k] += values[k]


@compiled
def turn_outputs(parts, grad, taps, plan, first):
    """Transpose LANES outputs at a time, by way of a small block if there are taps, as rows then do not follow."""
    count, pitch = min(LANES, plan.outputs - first), grad.shape[1]
    block = np.empty((taps + LANES, LANES, LANES), np.float32)
    turned = np.empty((taps + 2) * LANES, np.float32)
    row_end = parts.size - (LANES - 1) * plan.wide - LANES
    for channel in range(0, plan.channels, plan.block_channels):
        block_end = min(plan.channels, channel + plan.block_channels)
        start = channel // plan.block_channels * plan.panels * plan.height * plan.wide + first
        for c in range(channel, block_end, LANES):
            channels = min(LANES, block_end - c)
            output = (plan.first_output + first) * pitch + c * taps
            whole = taps == 1 and count == LANES and channels == LANES
            for t in range(taps):
                row = start + (t * plan.block_channels + c - channel) * plan.wide
                if row > row_end:
                    whole = False
                    turn_exactly(parts.reshape(-1), row, plan.wide, channels, block[t])
                elif whole:
                    transpose_lanes(address(grad, output), pitch, address(parts, row), plan.wide)
                else:
                    transpose_lanes(address(block, t * LANES * LANES), LANES, address(parts, row), plan.wide)
            if not whole:
                for i in range(count):
                    spread_taps(block, i, taps, turned)
                    copy_row(grad, output + i * pitch, turned, 0, taps * channels)


@compiled
def turn_exactly(parts, row, wide, channels, block):
    for c in range(channels):
        for i in range(LANES):
            block[i, c] = parts[row + c * wide + i]


@compiled
def spread_taps(block, output, taps, turned):
    """turned (LANES channels, taps) from block (tap, output, channel).

    What a register holds too much is overwritten by the next channel, and by the taps before.
    """
    for t in range((taps - 1) // LANES * LANES, -1, -LANES):
        transpose_lanes(address(turned, t), taps, address(block, (t * LANES + output) * LANES), LANES * LANES)
