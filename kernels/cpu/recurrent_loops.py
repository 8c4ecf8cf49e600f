"""The walk of one thread through time, over the sequences that are its own: no thread waits for another at any step.

At each step the rows that are still running are taken in panels of ROWS or fewer. Forward, a panel of states is
multiplied by the packed weights into `product`, which stays in the cache, and the cells (recurrent_cells.py) turn it
into new states in the place of the old. Backward, the cells write the gradients of a panel to `left`, and its product
with the weights is what reaches the states before. All arrays are flat; `starts` (T + 1) says where the rows of each
step begin. A row's numbers do not depend on the other rows of its panel, so the bits do not depend on the threads.
"""

from __future__ import annotations

import numpy as np

from minidl.kernels.cpu.microkernel import COLUMNS, LANES, LINE, ROWS, address, multiply_tile
from minidl.kernels.cpu.panels import panel_of
from minidl.kernels.cpu.recurrent_cells import (
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
    rnn_backward,
    rnn_forward,
)
from minidl.kernels.cpu.runtime import compiled


@compiled
def padded(width):
    """The columns of as many panels as hold `width`."""
    return (width + COLUMNS - 1) // COLUMNS * COLUMNS


@compiled
def multiply(a, a_row, rows, depth, panels, columns, c, at, c_row, accumulate):
    """c[at + i c_row + j] = (itself if accumulate) + the sum over k of a[i a_row + k] times column j of the panels."""
    for j in range(0, columns, COLUMNS):
        multiply_tile(rows, a, a_row, 1, address(panels, j * depth), COLUMNS, address(c, at + j), c_row, depth,
                      accumulate)


@compiled
def copy_rows(source, at, source_row, target, into, target_row, rows, width):
    for i in range(rows):
        for j in range(width):
            target[into + i * target_row + j] = source[at + i * source_row + j]


@compiled
def step_of(number, steps, backwards):
    return steps - 1 - number if backwards else number


@compiled
def running_of(starts, t, begin, end):
    """How many of the sequences from `begin` to `end` have a row at step t; below 1 if none has."""
    return min(end, starts[t + 1] - starts[t]) - begin


@compiled
def rnn_forward_rows(begin, end, inputs, h0, panels, starts, relu, reverse, width, states):
    count, pitch, steps = end - begin, padded(width), len(starts) - 1
    h_row = pitch + LINE  # no multiple of a page, lest the rows of a panel compete for one place of the cache
    h, product = np.empty(count * h_row, np.float32), np.empty(ROWS * pitch, np.float32)
    copy_rows(h0, begin * width, width, h, 0, h_row, count, width)
    for number in range(steps):
        t = step_of(number, steps, reverse)
        running = running_of(starts, t, begin, end)
        for piece in range(-(-running // ROWS)):
            top, height, _ = panel_of(running, 1, piece)
            multiply(address(h, top * h_row), h_row, height, width, panels, pitch, product, 0, pitch, False)
            for i in range(height):
                row = starts[t] + begin + top + i
                for j in range(0, width, LANES):
                    rnn_forward(address(inputs, row * width + j), address(product, i * pitch + j),
                                address(h, (top + i) * h_row + j), address(states, row * width + j), width - j, relu)
    copy_rows(h, 0, h_row, states, (starts[steps] + begin) * width, width, count, width)


@compiled
def rnn_backward_rows(begin, end, g, states, panels, starts, relu, reverse, width, grad, grad_h0, sums):
    count, pitch, steps = end - begin, padded(width), len(starts) - 1
    left_row = width + LINE
    dh, left = np.empty(count * pitch, np.float32), np.empty(ROWS * left_row, np.float32)
    copy_rows(g, (starts[steps] + begin) * width, width, dh, 0, pitch, count, width)
    sums[begin * width:end * width] = np.float32(0)
    for number in range(steps):
        t = step_of(number, steps, not reverse)
        running = running_of(starts, t, begin, end)
        for piece in range(-(-running // ROWS)):
            top, height, _ = panel_of(running, 1, piece)
            for i in range(height):
                n = begin + top + i
                row = starts[t] + n
                for j in range(0, width, LANES):
                    rnn_backward(address(g, row * width + j), address(dh, (top + i) * pitch + j),
                                 address(states, row * width + j), address(left, i * left_row + j),
                                 address(grad, row * width + j), address(sums, n * width + j), width - j, relu)
            multiply(address(left, 0), left_row, height, width, panels, pitch, dh, top * pitch, pitch, False)
    copy_rows(dh, 0, pitch, grad_h0, begin * width, width, count, width)


@compiled
def lstm_forward_rows(begin, end, gates, h0, c0, panels, starts, reverse, width, states, cells):
    count, pitch, steps = end - begin, padded(width), len(starts) - 1
    h_row = pitch + LINE
    h, c = np.empty(count * h_row, np.float32), np.empty(count * width, np.float32)
    product = np.empty(ROWS * 4 * pitch, np.float32)
    copy_rows(h0, begin * width, width, h, 0, h_row, count, width)
    copy_rows(c0, begin * width, width, c, 0, width, count, width)
    for number in range(steps):
        t = step_of(number, steps, reverse)
        running = running_of(starts, t, begin, end)
        for piece in range(-(-running // ROWS)):
            top, height, _ = panel_of(running, 1, piece)
            multiply(address(h, top * h_row), h_row, height, width, panels, 4 * pitch, product, 0, 4 * pitch, False)
            for i in range(height):
                row = starts[t] + begin + top + i
                for j in range(0, width, LANES):
                    lstm_forward(address(gates, row * 4 * width + j), address(product, i * 4 * pitch + j),
                                 address(h, (top + i) * h_row + j), address(c, (top + i) * width + j),
                                 address(states, row * width + j), address(cells, row * width + j),
                                 width, pitch, width - j)
    last = (starts[steps] + begin) * width
    copy_rows(h, 0, h_row, states, last, width, count, width)
    copy_rows(c, 0, width, states, last + len(h0), width, count, width)


@compiled
def lstm_backward_rows(begin, end, g, gates, cells, c0, panels, starts, reverse, width, grad, grad_h0, grad_c0, sums):
    count, pitch, steps = end - begin, padded(width), len(starts) - 1
    left_row = 4 * width + LINE
    dh, dc = np.empty(count * pitch, np.float32), np.empty(count * width, np.float32)
    left = np.empty(ROWS * left_row, np.float32)
    last = (starts[steps] + begin) * width
    copy_rows(g, last, width, dh, 0, pitch, count, width)
    copy_rows(g, last + len(c0), width, dc, 0, width, count, width)
    sums[begin * 4 * width:end * 4 * width] = np.float32(0)
    for number in range(steps):
        t = step_of(number, steps, not reverse)
        running = running_of(starts, t, begin, end)
        before, known = before_of(starts, t, steps, reverse)
        for piece in range(-(-running // ROWS)):
            top, height, _ = panel_of(running, 1, piece)
            for i in range(height):
                n = begin + top + i
                row = starts[t] + n
                for j in range(0, width, LANES):
                    cell = address(cells, (before + n) * width + j) if n < known else address(c0, n * width + j)
                    lstm_backward(address(g, row * width + j), address(dh, (top + i) * pitch + j),
                                  address(dc, (top + i) * width + j), address(gates, row * 4 * width + j),
                                  address(cells, row * width + j), cell, address(left, i * left_row + j),
                                  address(grad, row * 4 * width + j), address(sums, n * 4 * width + j),
                                  width, width - j)
            multiply(address(left, 0), left_row, height, 4 * width, panels, pitch, dh, top * pitch, pitch, False)
    copy_rows(dh, 0, pitch, grad_h0, begin * width, width, count, width)
    copy_rows(dc, 0, width, grad_c0, begin * width, width, count, width)


@compiled
def before_of(starts, t, steps, reverse):
    """Where the rows begin that stood before those of step t, and how many they are: 0 before the first step."""
    before = t + 1 if reverse else t - 1
    if before < 0 or before == steps:
        return 0, 0
    return starts[before], starts[before + 1] - starts[before]


@compiled
def gru_forward_rows(begin, end, gates, h0, bias_hn, panels, starts, reverse, width, states, inner):
    count, pitch, steps = end - begin, padded(width), len(starts) - 1
    h_row = pitch + LINE
    h, product = np.empty(count * h_row, np.float32), np.empty(ROWS * 3 * pitch, np.float32)
    copy_rows(h0, begin * width, width, h, 0, h_row, count, width)
    for number in range(steps):
        t = step_of(number, steps, reverse)
        running = running_of(starts, t, begin, end)
        for piece in range(-(-running // ROWS)):
            top, height, _ = panel_of(running, 1, piece)
            multiply(address(h, top * h_row), h_row, height, width, panels, 3 * pitch, product, 0, 3 * pitch, False)
            for i in range(height):
                row = starts[t] + begin + top + i
                for j in range(0, width, LANES):
                    gru_forward(address(gates, row * 3 * width + j), address(product, i * 3 * pitch + j),
                                address(bias_hn, j), address(inner, row * width + j),
                                address(h, (top + i) * h_row + j), address(states, row * width + j),
                                width, pitch, width - j)
    copy_rows(h, 0, h_row, states, (starts[steps] + begin) * width, width, count, width)


@compiled
def gru_backward_rows(begin, end, g, gates, inner, states, h0, panels, starts, reverse, width, grad, grad_inner,
                      grad_h0, sums):
    count, pitch, steps = end - begin, padded(width), len(starts) - 1
    left_row = 3 * width + LINE
    dh, left = np.empty(count * pitch, np.float32), np.empty(ROWS * left_row, np.float32)
    copy_rows(g, (starts[steps] + begin) * width, width, dh, 0, pitch, count, width)
    sums[begin * 4 * width:end * 4 * width] = np.float32(0)
    for number in range(steps):
        t = step_of(number, steps, not reverse)
        running = running_of(starts, t, begin, end)
        before, known = before_of(starts, t, steps, reverse)
        for piece in range(-(-running // ROWS)):
            top, height, _ = panel_of(running, 1, piece)
            for i in range(height):
                n = begin + top + i
                row = starts[t] + n
                for j in range(0, width, LANES):
                    state = address(states, (before + n) * width + j) if n < known else address(h0, n * width + j)
                    gru_backward(address(g, row * width + j), address(dh, (top + i) * pitch + j),
                                 address(gates, row * 3 * width + j), address(inner, row * width + j), state,
                                 address(left, i * left_row + j), address(grad, row * 3 * width + j),
                                 address(grad_inner, row * width + j), address(sums, n * 4 * width + j),
                                 width, width - j)
            multiply(address(left, 0), left_row, height, 3 * width, panels, pitch, dh, top * pitch, pitch, True)
    copy_rows(dh, 0, pitch, grad_h0, begin * width, width, count, width)
