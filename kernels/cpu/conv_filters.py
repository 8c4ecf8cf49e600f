"""Weights of a convolution in panels, the order in which tiles are multiplied. Read `conv_windows.py` first."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.conv_masks import copy_first
from minidl.kernels.cpu.conv_tiles import transpose_lanes
from minidl.kernels.cpu.microkernel import LANES, address
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, parallel

SMALL = 1 << 14  # weights that one thread packs


class Weights(NamedTuple):
    """Where the weight of an output, a channel and a tap lies in a flat array."""

    start: int
    output_step: int
    channel_step: int
    offsets: tuple[int, ...]  # of the taps


@lru_cache(maxsize=1024)
def layout_of(weights: Weights) -> tuple[np.ndarray, np.ndarray, bool]:
    """The same for the loops, and whether the taps lie in their order."""
    offsets = np.array(weights.offsets, np.int64)
    return np.array(weights[:3], np.int64), offsets, weights.offsets == tuple(range(len(offsets)))


def pack_weights(weight, weights, channels, at_once, outputs, height) -> np.ndarray:
    """The weights in panels of `height` outputs (the last may have fewer), for one run of channels after another."""
    packed = empty(outputs * channels * len(weights.offsets))
    loop = pack_beside if weights.output_step == 1 else pack_filters
    parallel(loop, weight.reshape(-1), *layout_of(weights),
             np.array((channels, at_once, outputs, height), np.int64), packed, limit=1 if packed.size < SMALL else None)
    return packed


@compiled_parallel
def pack_beside(weight, layout, offsets, in_order, sizes, packed):
    """Where the outputs lie side by side (and there is one tap): channel by channel, in the order of memory."""
    channels, outputs, height = sizes[0], sizes[2], sizes[3]
    for group in prange((channels + LANES - 1) // LANES):
        for c in range(group * LANES, min(channels, (group + 1) * LANES)):
            first_channel = c // sizes[1] * sizes[1]
            depth = min(sizes[1], channels - first_channel)
            source, place = layout[0] + c * layout[2] + offsets[0], outputs * first_channel
            for first in range(0, outputs, height):
                rows = min(height, outputs - first)
                copy_row(weight, source + first, packed, place + (c - first_channel) * rows, rows)
                place += rows * depth


@compiled
def copy_row(weight, source, packed, place, rows):
    for i in range(0, rows, LANES):
        if source + i + LANES <= len(weight):
            copy_first(address(packed, place + i), address(weight, source + i), rows - i)
        else:
            for j in range(i, rows):
                packed[place + j] = weight[source + j]


@compiled_parallel
def pack_filters(weight, layout, offsets, in_order, sizes, packed):
    channels, at_once, outputs, height = sizes[0], sizes[1], sizes[2], sizes[3]
    for panel in prange((outputs + height - 1) // height):
        for c0 in range(0, channels, at_once):
            first, count = panel * height, min(at_once, channels - c0)
            pack_filter_panel(weight, layout, offsets, in_order, c0, count, first, min(height, outputs - first), packed,
                              (outputs * c0 + first * count) * len(offsets))


@compiled
def pack_filter_panel(weight, layout, offsets, in_order, c0, channels, first, rows, packed, place):
    """Outputs first..first + rows of `channels` channels from c0 on: (channel, tap, output), from `place` on."""
    taps, channel_step = len(offsets), layout[2]
    source = layout[0] + first * layout[1] + c0 * channel_step
    end = place + rows * channels * taps
    if in_order and channel_step == taps:
        pack_run(weight, source, layout[1], offsets, in_order, channels * taps, rows, packed, place, end)
        return
    block = np.empty(LANES * LANES, np.float32)
    near = not in_order and rows <= LANES and offsets.max() < LANES
    for _ in range(channels):
        if near and source + (LANES - 1) * layout[1] + LANES <= len(weight):
            transpose_lanes(address(block, 0), LANES, address(weight, source), layout[1])
            for t in range(taps):
                copy_first(address(packed, place + t * rows), address(block, offsets[t] * LANES), rows)
        else:
            pack_run(weight, source, layout[1], offsets, in_order, taps, rows, packed, place, end)
        source += channel_step
        place += rows * taps


@compiled
def pack_run(weight, source, step, offsets, in_order, length, rows, packed, place, end):
    """packed[place + k * rows + i] = the k-th number after weight[source + i * step], for k < length.

    What a register holds too much is overwritten later, as runs follow one another; nothing is written from `end` on.
    """
    k = 0
    if in_order and rows <= LANES:
        while (k < length and place + (LANES - 1) * rows + LANES <= end
               and source + (LANES - 1) * step + k + LANES <= len(weight)):
            transpose_lanes(address(packed, place), rows, address(weight, source + k), step)
            done = min(LANES, length - k)
            place += done * rows
            k += done
    while k < length:
        origin = source + (k if in_order else offsets[k])
        for i in range(rows):
            packed[place + i] = weight[origin + i * step]
        place += rows
        k += 1


def pack_taps(weight, order, first_output, outputs, at_once, channels, height) -> np.ndarray:
    """The weights (O, C, kh, kw) of some outputs in panels of `height` channels, tap by tap in the order given.

    For the gradient of the input: (run of outputs, panel, tap, output, channel); the last panel may be lower.
    """
    packed = empty(outputs * channels * len(order))
    parallel(pack_tap_panels, weight.reshape(*weight.shape[:2], -1), order, packed,
             (first_output, outputs, at_once, channels, height), limit=1 if packed.size < SMALL else None)
    return packed


@compiled_parallel
def pack_tap_panels(weight, order, packed, sizes):
    first_output, outputs, at_once, channels, height = sizes
    for panel in prange((channels + height - 1) // height):
        for o in range(0, outputs, at_once):
            first, count = panel * height, min(at_once, outputs - o)
            pack_tap_panel(weight, order, packed, first_output + o, count, first, min(height, channels - first),
                           (o * channels + first * count) * len(order))


@compiled
def pack_tap_panel(weight, order, packed, output, count, first, rows, place):
    """One panel of one run of outputs. LANES channels are transposed at a time: each register then holds a tap."""
    area, flat, numbers = weight.shape[2], weight.reshape(-1), packed.reshape(-1)
    block = np.empty((area + LANES) * LANES, np.float32)
    for o in range(count):
        source = ((output + o) * weight.shape[1] + first) * area
        if rows <= LANES and source + LANES * (area + 1) + area <= len(flat):
            if area > 1:
                for t in range(0, area, LANES):
                    transpose_lanes(address(block, t * LANES), LANES, address(flat, source + t), area)
            for k in range(len(order)):
                tap = address(block, order[k] * LANES) if area > 1 else address(flat, source)
                copy_first(address(packed, place + (k * count + o) * rows), tap, rows)
        else:
            for k in range(len(order)):
                for i in range(rows):
                    numbers[place + (k * count + o) * rows + i] = flat[source + i * area + order[k]]
