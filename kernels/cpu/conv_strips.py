"""From an image to panels of windows, by way of a strip where windows leave the image. Read `conv_windows.py` first."""

from __future__ import annotations

import numpy as np

from minidl.kernels.cpu.conv_tiles import copy_lanes, copy_padded, pick_padded, zero_lanes
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, address
from minidl.kernels.cpu.runtime import compiled


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
                    for phase in range(plan.phases):
                        pick_padded(x, source, x.shape[3], plan.low_column + phase, plan.column_stride, space,
                                    place + phase * plan.phase_length, plan.phase_length)
                place += plan.row_length


@compiled
def pack_runs(source, start, channels, taps, runs, space, panels, plan):
    """Copy runs of the source to the panels of a block.

    Whole registers are copied: what one run leaves too much is overwritten by the next run or row, or lies in the room
    between two panels.
    """
    pieces = np.empty((len(runs) * (COLUMNS // LANES), 2), np.int64)  # where each register goes and comes from
    count = 0
    for run in range(len(runs)):
        for j in range(0, runs[run, 1], LANES):
            pieces[count, 0], pieces[count, 1] = runs[run, 0] + j, runs[run, 2] + j
            count += 1
    furthest = pieces[:count, 1].max() + LANES
    row = panels
    for c in range(channels):
        for t in range(len(taps)):
            place = start + c * plan.plane + taps[t]
            if place + furthest <= source.size:
                for piece in range(count):
                    copy_lanes(address(space, row + pieces[piece, 0]), address(source, place + pieces[piece, 1]))
            else:
                copy_exactly(source.reshape(-1), place, pieces, count, space.reshape(-1), row)
            row += COLUMNS


@compiled
def copy_exactly(source, place, pieces, count, space, row):
    """The same without a step beyond the end of the source."""
    for piece in range(count):
        origin, target = place + pieces[piece, 1], row + pieces[piece, 0]
        for j in range(min(LANES, len(source) - origin)):
            space[target + j] = source[origin + j]
