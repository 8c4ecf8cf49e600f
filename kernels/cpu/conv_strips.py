"""From an image to panels of windows, by way of a strip where windows leave the image. Read `conv_windows.py` first."""

from __future__ import annotations

import numpy as np

from minidl.kernels.cpu.conv_tiles import (
    LINE,
    copy_lanes,
    copy_padded,
    deal_padded,
    fetch_line,
    pick_padded,
    zero_lanes,
)
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, address
from minidl.kernels.cpu.runtime import compiled

AHEAD = 2  # channels: memory needs longer to answer than it takes to copy the rows of one


def strip_layout(x_shape, taps, grid, stride, positions, in_place=True) -> dict[str, int]:
    """How the input rows of a block lie in the strip, as fields of Windows.

    No strip if no window leaves x and windows may be read in place.
    """
    low, high = [tuple(map(pick, zip(*taps))) for pick in (min, max)]
    inside = [first >= 0 and (size - 1) * s + last < length
              for first, last, size, s, length in zip(low, high, grid, stride, x_shape[2:])]
    span = high[0] - low[0]
    direct = int(in_place and all(inside) and stride[1] == 1)
    layout = {"low_row": low[0], "low_column": low[1], "span": span, "direct": direct}
    if direct:
        length = x_shape[3]
        return layout | {"row_step": 1, "phases": 1, "phase_length": length, "row_length": length,
                         "plane": x_shape[2] * length}
    row_step = 1 if span else stride[0]
    phases = stride[1] if low[1] != high[1] else 1
    phase_length = ((grid[1] - 1) * stride[1] + high[1] - low[1]) // stride[1] + 1
    rows = min(positions // grid[1] + 2, x_shape[0] * grid[0])
    samples = min(positions // (grid[0] * grid[1]) + 2, x_shape[0])
    plane = (rows * (stride[0] // row_step) + samples * (span + 1)) * phases * phase_length
    return layout | {"row_step": row_step, "phases": phases, "phase_length": phase_length,
                     "row_length": phases * phase_length, "plane": plane}


def tap_places(taps, plan) -> np.ndarray:
    """How far into a channel's plane each tap reads, from where the run starts."""
    if plan.direct:
        return taps[:, 0] * plan.row_length + taps[:, 1]
    row, column = taps[:, 0] - plan.low_row, taps[:, 1] - plan.low_column
    phase = column % plan.column_stride
    return row // plan.row_step * plan.row_length + phase * plan.phase_length + column // plan.column_stride


@compiled
def copy_strip(x, first_channel, channels, start, stop, space, strip, plan):
    """Copy the rows of x that positions start..stop read, with zeros where windows leave x."""
    pixels = plan.rows * plan.columns
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
                for u in range(0, x.shape[3], LINE):
                    fetch_line(address(x, source + AHEAD * x.shape[2] * x.shape[3] + u))
                if row < 0 or row >= x.shape[2]:
                    for u in range(0, plan.row_length, LANES):
                        zero_lanes(address(space, place + u))
                elif plan.column_stride == 1:
                    copy_padded(x, source, x.shape[3], plan.low_column, space, place, plan.row_length)
                elif plan.column_stride == 2 and plan.phases == 2:
                    deal_padded(x, source, x.shape[3], plan.low_column, space, place, plan.phase_length)
                else:
                    for phase in range(plan.phases):
                        pick_padded(x, source, x.shape[3], plan.low_column + phase, plan.column_stride, space,
                                    place + phase * plan.phase_length, plan.phase_length)
                place += plan.row_length


@compiled
def pack_runs(source, start, channels, taps, by_tap, runs, space, panels, plan):
    """Copy runs of the source to the panels of a block, whose rows are channel after channel, or tap after tap.

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
    ahead = AHEAD * plan.plane if plan.direct else 0
    row = panels
    for i in range(len(taps) if by_tap else channels):
        for k in range(channels if by_tap else len(taps)):
            c, t = (k, i) if by_tap else (i, k)
            place = start + c * plan.plane + taps[t]
            if place + furthest <= source.size:
                for piece in range(count):
                    if ahead:
                        fetch_line(address(source, place + ahead + pieces[piece, 1]))
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
