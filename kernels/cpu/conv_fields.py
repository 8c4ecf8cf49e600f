"""Depthwise convolution for any kernel, stride and dilation, by runs over whole channels.

Taken where `conv_depthwise.py` has no step for the windows. A channel of a sample is copied, padded, to a *field*, in
which strides are undone: row u and column v of the padded channel lie in the part (u mod row stride, v mod column
stride), and each part keeps its rows in `pitch` floats. Then the outputs of a whole channel are one long run for every
tap: run[q] += weight[tap] * field[place of the tap + q].
The few sums that fall between two rows are not used. The gradients run the same way backwards.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.conv_tiles import (
    copy_lanes,
    copy_padded,
    dot_lanes,
    sum_taps,
    take_every,
    workspace,
    zero_lanes,
)
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, address
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, get_num_threads, parallel


class Field(NamedTuple):
    """How a channel lies in its field; every number is an int."""

    multiplier: int  # outputs of a channel
    row_stride: int
    column_stride: int
    row_padding: int
    column_padding: int
    lines: int  # rows of a part
    pitch: int  # columns of a part
    rows: int  # of the outputs
    columns: int
    size: int  # floats of the field
    run: int  # floats of a run, of which the outputs of each row begin `pitch` after those of the last
    space: int  # floats of the field, a run and a row, each with room to write registers beyond its end


def field_of(multiplier, kernel_size, rows, columns, stride, padding, dilation) -> tuple[Field, np.ndarray]:
    """The field for outputs of rows x columns, and where in it each tap of the first window lies: (T,)."""
    lines = rows + (kernel_size[0] - 1) * dilation[0] // stride[0]
    pitch = columns + (kernel_size[1] - 1) * dilation[1] // stride[1]
    part = lines * pitch
    places = []
    for i, j in np.ndindex(kernel_size):
        (down, u), (right, v) = divmod(i * dilation[0], stride[0]), divmod(j * dilation[1], stride[1])
        places.append((u * stride[1] + v) * part + down * pitch + right)
    size, run = stride[0] * stride[1] * part + 2 * COLUMNS, rows * pitch + 2 * COLUMNS
    space = size + run + pitch * stride[1] + 4 * COLUMNS
    field = Field(
        multiplier, stride[0], stride[1], padding[0], padding[1], lines, pitch, rows, columns, size, run, space
    )
    return field, np.array(places, np.int64)


def depthwise(x, weight, bias, y, stride, padding, dilation):
    """Fill y (N, C m, H', W') with the convolution of x (N, C, H, W) with weight (C m, 1, kh, kw)."""
    field, places = field_of(y.shape[1] // x.shape[1], weight.shape[2:], *y.shape[2:], stride, padding, dilation)
    flat = weight.reshape(weight.shape[0], -1)
    space = scratch(field, x.shape[0] * x.shape[1])
    parallel(convolve_channels, x, flat, flat[:, 0].copy() if bias is None else bias, int(bias is not None), places, y,
             space, field)


def depthwise_grad_input(g, weight, grad, stride, padding, dilation):
    """Fill grad (N, C, H, W) for g (N, C m, H', W')."""
    field, places = field_of(g.shape[1] // grad.shape[1], weight.shape[2:], *g.shape[2:], stride, padding, dilation)
    parallel(spread_channels, g, weight.reshape(weight.shape[0], -1), places, grad,
             scratch(field, grad.shape[0] * grad.shape[1]), field)


def depthwise_grad_weight(g, x, grad, stride, padding, dilation):
    """Fill grad (C m, 1, kh, kw) for g (N, C m, H', W') and x (N, C, H, W)."""
    field, places = field_of(g.shape[1] // x.shape[1], grad.shape[2:], *g.shape[2:], stride, padding, dilation)
    parallel(correlate_channels, g, x, places, grad.reshape(grad.shape[0], -1), scratch(field, x.shape[1]), field)


def scratch(field: Field, items: int) -> np.ndarray:
    return workspace(min(get_num_threads(), items), field.space)


@compiled_parallel
def convolve_channels(x, weight, bias, has_bias, places, y, space, field):
    threads, items = space.shape[0], x.shape[0] * x.shape[1]
    for thread in prange(threads):
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            convolve_channel(x, weight, bias, has_bias, places, y, space, thread * field.space, field, item)


@compiled
def convolve_channel(x, weight, bias, has_bias, places, y, space, start, field, item):
    fill_field(x, item, space, start, field)
    run, outputs, taps = start + field.size, weight.shape[0], len(places)
    length = (field.rows - 1) * field.pitch + field.columns
    for m in range(field.multiplier):
        o = item % x.shape[1] * field.multiplier + m
        for q in range(0, length, 4 * LANES):
            sum_taps(address(space, run + q), address(space, start + q), places, address(weight, o * taps),
                     bias[o] if has_bias else np.float32(0))
        place = (item // x.shape[1] * outputs + o) * field.rows * field.columns
        copy_rows(space, run, field.pitch, y, place, field)


@compiled
def copy_rows(space, source, pitch, y, place, field):
    """Copy the outputs of every row, by registers as long as these do not reach beyond the channel."""
    numbers, target, end = space.reshape(-1), y.reshape(-1), place + field.rows * field.columns
    for _ in range(field.rows):
        for s in range(0, field.columns, LANES):
            if place + s + LANES <= end:
                copy_lanes(address(y, place + s), address(space, source + s))
            else:
                for j in range(s, min(s + LANES, field.columns)):
                    target[place + j] = numbers[source + j]
        source += pitch
        place += field.columns


@compiled_parallel
def spread_channels(g, weight, places, grad, space, field):
    threads, items = space.shape[0], grad.shape[0] * grad.shape[1]
    for thread in prange(threads):
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            spread_channel(g, weight, places, grad, space, thread * field.space, field, item)


@compiled
def spread_channel(g, weight, places, grad, space, start, field, item):
    n, c = item // grad.shape[1], item % grad.shape[1]
    flat, run = space.reshape(-1), start + field.size
    length = (field.rows - 1) * field.pitch + field.columns
    for k in range(0, field.size, LANES):
        zero_lanes(address(space, start + k))
    for m in range(field.multiplier):
        o = c * field.multiplier + m
        fill_run(g, n * g.shape[1] + o, space, run, field)
        for t in range(len(places)):
            add_scaled(flat, start + places[t], run, weight[o, t], length)
    read_field(flat, start, grad[n, c], field)


@compiled_parallel
def correlate_channels(g, x, places, grad, space, field):
    threads, channels = space.shape[0], x.shape[1]
    for thread in prange(threads):
        for c in range(channels * thread // threads, channels * (thread + 1) // threads):
            correlate_channel(g, x, places, grad, space, thread * field.space, field, c)


@compiled
def correlate_channel(g, x, places, grad, space, start, field, c):
    run, steps = start + field.size, (field.rows * field.pitch + LANES - 1) // LANES
    for o in range(c * field.multiplier, (c + 1) * field.multiplier):
        for t in range(len(places)):
            grad[o, t] = 0
    for n in range(x.shape[0]):
        fill_field(x, n * x.shape[1] + c, space, start, field)
        for o in range(c * field.multiplier, (c + 1) * field.multiplier):
            fill_run(g, n * g.shape[1] + o, space, run, field)
            for t in range(len(places)):
                total = dot_lanes(address(space, run), address(space, start + places[t]), steps)
                if total != total:  # a NaN or Inf in between two rows, times 0
                    total = correlate_rows(space.reshape(-1), run, start + places[t], field)
                grad[o, t] += total


@compiled
def correlate_rows(space, run, place, field):
    total = np.float32(0)
    for r in range(field.rows):
        for s in range(r * field.pitch, r * field.pitch + field.columns):
            total += space[run + s] * space[place + s]
    return total


@compiled
def fill_field(x, channel, space, start, field):
    """Copy a channel of x to the parts of its field, with zeros where windows leave it."""
    height, width = x.shape[2], x.shape[3]
    place, line = start, start + field.size + field.run
    for u in range(field.row_stride):
        for v in range(field.column_stride):
            for i in range(field.lines):
                row = i * field.row_stride + u - field.row_padding
                source = (channel * height + row) * width
                if row < 0 or row >= height:
                    for k in range(0, field.pitch, LANES):
                        zero_lanes(address(space, place + k))
                elif field.column_stride == 1:
                    copy_padded(x, source, width, -field.column_padding, space, place, field.pitch)
                else:
                    copy_padded(x, source, width, -field.column_padding, space, line, field.pitch * field.column_stride)
                    take_every(space, line + v, field.column_stride, place, field.pitch)
                place += field.pitch
    for k in range(0, 2 * COLUMNS, LANES):
        zero_lanes(address(space, place + k))


@compiled
def fill_run(g, channel, space, run, field):
    """Copy a channel of g so that its rows lie as far apart as the field's, with zeros in between."""
    for r in range(field.rows):
        source = (channel * field.rows + r) * field.columns
        copy_padded(g, source, field.columns, 0, space, run + r * field.pitch, field.pitch)
    zero_lanes(address(space, run + field.rows * field.pitch))


@compiled
def read_field(space, start, channel, field):
    """The reverse of fill_field: every pixel of the channel from its place, 0 where no window came."""
    height, width = channel.shape
    for h in range(height):
        line, u = (h + field.row_padding) // field.row_stride, (h + field.row_padding) % field.row_stride
        for v in range(min(width, field.column_stride)):
            k, step = (v + field.column_padding) // field.column_stride, field.column_stride
            part = u * step + (v + field.column_padding) % step
            place = start + (part * field.lines + line) * field.pitch + k
            count = (width - 1 - v) // step + 1
            known = max(0, min(count, field.pitch - k)) if line < field.lines else 0
            if step == 1:
                for j in range(known):
                    channel[h, j] = space[place + j]
            else:
                for j in range(known):
                    channel[h, v + j * step] = space[place + j]
            for j in range(known, count):
                channel[h, v + j * step] = 0


@compiled
def add_scaled(space, place, source, factor, length):
    target, values = space[place:place + length], space[source:source + length]
    for q in range(length):
        target[q] += factor * values[q]
