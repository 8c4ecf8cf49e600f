"""The gradient of a convolution's input where maps are small and batches large: samples side by side.

    grad[c, q, n] = sum over the taps t that reach pixel q, and outputs o, of weight[o, c, t] * g[o, pixel of t, n]

On a map of 6 x 6 more than half of a 3 x 3 window's taps may fall beside g. Panels of neighbouring positions multiply
zeros there. So here a panel holds COLUMNS samples of one pixel, and each pixel takes the taps that reach it and no
others, whatever stride and padding are. g is turned for that, samples last, and the results are turned back.
Read `conv_windows.py` and `conv_shares.py` first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.conv_filters import pack_taps
from minidl.kernels.cpu.conv_masks import copy_first
from minidl.kernels.cpu.conv_tiles import copy_lanes, transpose_lanes, workspace, zero_lanes
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, address, balanced_rows, multiply_rows
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, get_num_threads, parallel
from minidl.kernels.cpu.winograd_matrices import OUTPUTS, PRODUCTS

CHUNK = 2 * LANES  # pixels that are multiplied before they are turned back: their sums stay in the nearer caches
PIECE = 64 * LANES  # numbers of a sample that are turned at a time
USED = 0.92  # part of the products of positions and taps that are not with zeros, at the most
PANEL = 1 << 19  # floats of g in a panel at the most, 2 MB: the far cache holds some
WEIGHTS = 5 << 19  # floats of the weights at the most: every few pixels read them all
TRANSFORM = 1280  # products that take as long as Winograd's transform of a tile of one channel


class Samples(NamedTuple):
    """What the loops need to know; every number is an int."""

    first_channel: int  # of g
    channels: int
    first_output: int  # of the gradient
    outputs: int
    height: int  # rows of a tile
    taps: int
    pixels: int  # of a map of g
    targets: int  # of a map of the gradient
    panels: int  # of samples
    space: int  # floats that a thread works in


def pays(samples, channels, outputs, size, g_size, kernel, stride, padding, dilation, winograd) -> bool:
    """Whether this is faster than panels of positions or, if it may be taken, than Winograd: by measuring all three.

    On maps of 4 to 15 pixels, 32 and 64 samples, 6 to 512 channels.
    """
    area, panels = kernel[0] * kernel[1], -(-samples // COLUMNS)
    if (area == 1 or samples < 0.75 * panels * COLUMNS or channels < LANES
            or channels * g_size[0] * g_size[1] * COLUMNS > PANEL or channels * outputs * area > WEIGHTS):
        return False
    rows, columns = [part_used(*axis) for axis in zip(size, g_size, kernel, stride, padding, dilation)]
    if not winograd:
        return rows * columns <= USED
    tiles = -(-size[0] // OUTPUTS) * -(-size[1] // OUTPUTS)
    products = 1.1 * size[0] * size[1] * area * rows * columns * channels * outputs
    return products < tiles * (PRODUCTS * channels * outputs + TRANSFORM * (channels + outputs))


@lru_cache
def part_used(size, g_size, kernel, stride, padding, dilation) -> float:
    """Along an axis: the part of the products of positions and taps whose output is one of g."""
    pairs = sum(0 <= o * stride + i * dilation - padding < size for o in range(g_size) for i in range(kernel))
    return pairs * stride / (size * kernel)


def samples_product(g, weight, y, *, channels, outputs, stride, padding, dilation):
    """Fill y[:, outputs] (N, C, H, W) with the gradient of the input from g (N, O, H', W'), weight (O, C/G, kh, kw).

    channels, outputs: (first, count) of those of g and y that take part.
    """
    plan, order, segments, ends = plan_samples(
        g.shape, y.shape, weight.shape[2:], channels, outputs, stride, padding, dilation)
    packed = pack_taps(weight, order, plan.first_channel, plan.channels, plan.channels, plan.outputs, plan.height)
    threads = min(get_num_threads(), plan.panels * plan.targets)
    turned = empty((plan.panels, plan.pixels * plan.channels * COLUMNS))
    parallel(multiply_samples, g, packed, segments, ends, y, turned, workspace(threads, plan.space), plan)


@lru_cache(maxsize=1024)
def plan_samples(g_shape, y_shape, kernel, channels, outputs, stride, padding, dilation):
    """Sizes; the order of the taps in the panels of weights; what each pixel of y is summed from.

    The latter as rows of (first tap in this order, first pixel of g, how many of both), and for each pixel their end.
    """
    taps = [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]
    taps.sort(key=lambda tap: (-tap[0], tap[1] % stride[1], -tap[1]))  # as the pixels of g follow on one another
    segments, ends = [], []
    for h in range(y_shape[2]):
        for w in range(y_shape[3]):
            start = len(segments)
            for number, (i, j) in enumerate(taps):
                row, column = h + padding[0] - i * dilation[0], w + padding[1] - j * dilation[1]
                if row % stride[0] or column % stride[1]:
                    continue
                row, column = row // stride[0], column // stride[1]
                if not (0 <= row < g_shape[2] and 0 <= column < g_shape[3]):
                    continue
                pixel = row * g_shape[3] + column
                last = segments[-1] if len(segments) > start else (0, 0, 0)
                if last[2] and last[0] + last[2] == number and last[1] + last[2] == pixel:
                    last[2] += 1
                else:
                    segments.append([number, pixel, 1])
            ends.append(len(segments))
    height = balanced_rows(outputs[1])
    plan = Samples(
        first_channel=channels[0], channels=channels[1], first_output=outputs[0], outputs=outputs[1], height=height,
        taps=len(taps), pixels=g_shape[2] * g_shape[3], targets=y_shape[2] * y_shape[3],
        panels=-(-g_shape[0] // COLUMNS), space=(CHUNK + LANES) * height * COLUMNS,
    )
    order = np.array([i * kernel[1] + j for i, j in taps], np.int64)
    return plan, order, np.array(segments, np.int64).reshape(-1, 3), np.array(ends, np.int64)


@compiled_parallel
def multiply_samples(g, packed, segments, ends, y, turned, space, plan):
    """Turn g, then share the pixels of all panels evenly among the threads, each with a row of `space` to work in."""
    length = plan.pixels * plan.channels
    pieces = (length + PIECE - 1) // PIECE
    for item in prange(plan.panels * pieces):
        first = item % pieces * PIECE
        turn_samples(g, turned, plan, item // pieces, first, min(length, first + PIECE))
    threads, items = space.shape[0], plan.panels * plan.targets
    for thread in prange(threads):
        item, stop = items * thread // threads, items * (thread + 1) // threads
        while item < stop:
            first = item % plan.targets
            count = min(plan.targets - first, stop - item)
            chunks = (count + CHUNK - 1) // CHUNK
            count = (count + chunks - 1) // chunks
            multiply_pixels(packed, segments, ends, y, turned, space, thread * space.shape[1], plan,
                            item // plan.targets, first, count)
            item += count


@compiled
def turn_samples(g, turned, plan, panel, first, last):
    """Numbers first..last of each sample in a panel, (channel, pixel), to (pixel, channel, sample)."""
    block = np.empty(LANES * LANES, np.float32)
    step = g.shape[1] * plan.pixels
    flat, numbers = g.reshape(-1), turned.reshape(-1)
    for lane in range(0, COLUMNS, LANES):
        sample = panel * COLUMNS + lane
        count = min(LANES, g.shape[0] - sample)
        source = sample * step + plan.first_channel * plan.pixels
        target = panel * turned.shape[1] + lane
        for start in range(first, last, LANES):
            begin = max(first, min(start, last - LANES))
            if count == LANES and begin + LANES <= last:
                transpose_lanes(address(block, 0), LANES, address(g, source + begin), step)
            else:
                for i in range(min(LANES, last - begin)):
                    for n in range(LANES):
                        block[i * LANES + n] = flat[source + n * step + begin + i] if n < count else np.float32(0)
            channel, pixel = begin // plan.pixels, begin % plan.pixels
            for i in range(min(LANES, last - begin)):
                copy_lanes(address(numbers, target + (pixel * plan.channels + channel) * COLUMNS),
                           address(block, i * LANES))
                pixel += 1
                if pixel == plan.pixels:
                    channel, pixel = channel + 1, 0


@compiled
def multiply_pixels(packed, segments, ends, y, turned, space, tiles, plan, panel, first, count):
    """Sum some pixels of a panel of samples, one panel of weights after another."""
    samples = panel * turned.shape[1]
    for row in range(0, plan.outputs, plan.height):
        rows = min(plan.height, plan.outputs - row)
        weights = row * plan.channels * plan.taps
        for k in range(count):
            tile = tiles + k * rows * COLUMNS
            begin, end = ends[first + k - 1] if first + k else 0, ends[first + k]
            if begin == end:
                for j in range(tile, tile + rows * COLUMNS, LANES):
                    zero_lanes(address(space, j))
            for segment in range(begin, end):
                multiply_rows(
                    rows, address(packed, weights + segments[segment, 0] * plan.channels * rows),
                    address(turned, samples + segments[segment, 1] * plan.channels * COLUMNS), address(space, tile),
                    segments[segment, 2] * plan.channels, COLUMNS, int(segment > begin),
                )
        store_pixels(space, tiles, y, plan, panel, first, count, row, rows)


@compiled
def store_pixels(space, tiles, y, plan, panel, first, count, row, rows):
    """Turn the tiles (pixel, output, sample) of some pixels back: y's pixels lie side by side."""
    block = np.empty(LANES * LANES, np.float32)
    step = y.shape[1] * plan.targets
    for lane in range(0, COLUMNS, LANES):
        sample = panel * COLUMNS + lane
        samples = min(LANES, y.shape[0] - sample)
        for i in range(rows):
            target = sample * step + (plan.first_output + row + i) * plan.targets + first
            for start in range(0, count, LANES):
                begin = max(0, min(start, count - LANES))
                source = tiles + (begin * rows + i) * COLUMNS + lane
                if samples == LANES and count >= LANES:
                    transpose_lanes(address(y, target + begin), step, address(space, source), rows * COLUMNS)
                else:
                    transpose_lanes(address(block, 0), LANES, address(space, source), rows * COLUMNS)
                    for n in range(samples):
                        copy_first(address(y, target + n * step + begin), address(block, n * LANES), count - begin)
