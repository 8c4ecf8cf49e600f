"""Filters transformed for Winograd's convolution: U = G w G^T, in panels for the micro-kernel.

LANES filters that stand below each other in a panel are loaded at once, their nine taps transposed in registers.
Read winograd_matrices.py first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.conv_tiles import transpose_lanes
from minidl.kernels.cpu.microkernel import LANES, address, balanced_rows
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, parallel
from minidl.kernels.cpu.winograd_lanes import transform_filters
from minidl.kernels.cpu.winograd_matrices import PRODUCTS, TAPS

AREA = TAPS * TAPS
READ = -(-AREA // LANES) * LANES  # numbers that are read of a filter


class Filters(NamedTuple):
    """numbers[xi * step + p * panel + c * height + i] belongs to output p * height + i and channel c."""

    numbers: np.ndarray
    height: int
    panel: int
    step: int


class Source(NamedTuple):
    """Where the filters lie in a flat array; every number is an int."""

    outputs: int
    channels: int
    start: int
    output_step: int
    channel_step: int
    turned: int  # whether by 180 degrees
    height: int
    panel: int
    step: int


def transformed_weights(weight, first, outputs, *, turned):
    """U of the filters weight[first:first + outputs] (O, C, 3, 3); if turned, with outputs and channels exchanged."""
    channels = weight.shape[1]
    count, depth = (channels, outputs) if turned else (outputs, channels)
    output_step, channel_step = (AREA, channels * AREA) if turned else (channels * AREA, AREA)
    height = balanced_rows(count)
    panel = depth * height + LANES
    step = -(-count // height) * panel
    source = Source(count, depth, first * channels * AREA, output_step, channel_step, int(turned), height, panel, step)
    numbers = empty(PRODUCTS * step + LANES)
    parallel(transform_weights, weight.reshape(-1), numbers, source, limit=None if numbers.size > 2**16 else 1)
    return Filters(numbers, height, panel, step)


@compiled_parallel
def transform_weights(weight, numbers, source):
    for panel in prange((source.outputs + source.height - 1) // source.height):
        transform_panel(weight, numbers, source, panel)


@compiled
def transform_panel(weight, numbers, source, panel):
    """One panel, channel by channel: what a register holds too much is overwritten by the next."""
    taps = np.empty(READ * LANES, np.float32)
    start, step = (AREA - 1, -1) if source.turned else (0, 1)
    for c in range(source.channels):
        for i in range(0, source.height, LANES):
            output = panel * source.height + i
            place = source.start + output * source.output_step + c * source.channel_step
            if place + (LANES - 1) * source.output_step + READ <= weight.size:
                for t in range(0, AREA, LANES):
                    transpose_lanes(address(taps, t * LANES), LANES, address(weight, place + t), source.output_step)
            else:
                gather_taps(weight, place, source.output_step, min(LANES, source.outputs - output), taps)
            transform_filters(address(taps, start * LANES), step * LANES,
                              address(numbers, panel * source.panel + c * source.height + i), source.step)


@compiled
def gather_taps(weight, place, output_step, count, taps):
    """The same at the end of the array, number by number."""
    for t in range(AREA):
        for i in range(count):
            taps[t * LANES + i] = weight[place + i * output_step + t]
        for i in range(max(0, count), LANES):
            taps[t * LANES + i] = 0
