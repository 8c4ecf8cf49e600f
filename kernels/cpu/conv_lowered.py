"""Convolution by its matrix of windows, written out, where there are few positions and many weights.

    X[(c, t), p] = x[c, position p shifted by tap t]        the matrix (C taps, N H' W'), called im2col

    y = W X        grad of W = g X^T        grad of X = W^T g, each number of which is added to its pixel of x

On the last maps of a network, of 2 x 2 or 7 x 7 pixels, the weights are what is large: here they are read as they lie,
or in the panels of `gemm.py`, and the gradient of the weights is written in its place at once. To write the matrix is
little against that, and all threads share it; the loops of `conv_windows.py` would copy the rows of the map for each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.conv_tiles import copy_padded, pick_padded, zero_lanes
from minidl.kernels.cpu.gemm import gemm
from minidl.kernels.cpu.microkernel import LANES, address
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, parallel

MOST = 512  # positions: a row of so many numbers is read by the product as it lies
MANY = 7  # weights for each number of the matrices that are copied, at least, where windows overlap
TURNED = 0.6  # the same for the input gradient of a 1x1 kernel with more outputs than channels; of others, 1


class Lowered(NamedTuple):
    """What the loops need to know; every number is an int."""

    rows: int  # of the grid of positions
    columns: int
    row_stride: int
    column_stride: int


def pays(samples, channels, outputs, size, taps, groups, *, turned=False) -> bool:
    """Whether this is faster than panels of positions, on maps of `size` outputs: by measuring both.

    turned: whether it is about the gradient of the input.
    """
    positions, depth = samples * size[0] * size[1], channels * taps
    share = MANY if taps > 1 else TURNED if turned and outputs > channels else 1
    return groups == 1 and positions <= MOST and share * positions * (depth + outputs) <= depth * outputs


def forward(x, weight, bias, y, taps, stride, relu):
    """Fill y (N, O, H', W') with conv2d's result. taps: x's row and column that position (0, 0) reads."""
    plan, offsets = plan_of(y.shape, taps, stride)
    sums = gemm(weight.reshape(len(weight), -1), windows_of(x, offsets, plan))
    shift = np.zeros(len(weight), np.float32) if bias is None else bias
    parallel(store_outputs, sums, shift, np.float32(0 if relu else -np.inf), y.reshape(*y.shape[:2], -1))


def grad_weight(g, x, taps, stride):
    """conv2d's weight gradient, as a matrix (O, C taps)."""
    plan, offsets = plan_of(g.shape, taps, stride)
    return gemm(outputs_first(g), windows_of(x, offsets, plan).T)


def grad_input(g, weight, grad, taps, stride):
    """Fill grad (N, C, H, W) with conv2d's input gradient."""
    plan, offsets = plan_of(g.shape, taps, stride)
    parallel(add_windows, gemm(weight.reshape(len(weight), -1).T, outputs_first(g)), offsets, grad, plan)


@lru_cache(maxsize=1024)
def plan_of(shape, taps, stride) -> tuple[Lowered, np.ndarray]:
    return Lowered(*shape[2:], *stride), np.array(taps, np.int64)


def windows_of(x, offsets, plan):
    """The matrix of windows (C taps, N H' W'), with room behind each row for the rest of a register."""
    positions = len(x) * plan.rows * plan.columns
    matrix = empty((x.shape[1] * len(offsets), positions + LANES))
    parallel(copy_windows, x, offsets, matrix, plan)
    return matrix[:, :positions]


def outputs_first(g):
    """g (N, O, H', W') as a matrix (O, N H' W')."""
    positions = g.shape[0] * g.shape[2] * g.shape[3]
    matrix = empty((g.shape[1], positions + LANES))
    parallel(copy_outputs, g.reshape(*g.shape[:2], -1), matrix)
    return matrix[:, :positions]


@compiled
def inside(offset, step, count, length):
    """Which of `count` positions an axis apart read inside of it: from the first to the one after the last."""
    first = 0 if offset >= 0 else min(count, (step - 1 - offset) // step)
    return first, max(first, min(count, (length - 1 - offset) // step + 1))


@compiled_parallel
def copy_windows(x, offsets, matrix, plan):
    for row in prange(len(matrix)):
        c, t = row // len(offsets), row % len(offsets)
        copy_tap(x, c, offsets[t, 0], offsets[t, 1], matrix, row * matrix.shape[1], plan)


@compiled
def copy_tap(x, c, low_row, low_column, matrix, place, plan):
    """A row of the matrix: what a register holds too much is overwritten by the next."""
    width = x.shape[3]
    for n in range(x.shape[0]):
        image = (n * x.shape[1] + c) * x.shape[2]
        for i in range(plan.rows):
            row = i * plan.row_stride + low_row
            if row < 0 or row >= x.shape[2]:
                for u in range(0, plan.columns, LANES):
                    zero_lanes(address(matrix, place + u))
            elif plan.column_stride == 1:
                copy_padded(x, (image + row) * width, width, low_column, matrix, place, plan.columns)
            else:
                pick_padded(x, (image + row) * width, width, low_column, plan.column_stride, matrix, place,
                            plan.columns)
            place += plan.columns


@compiled_parallel
def copy_outputs(g, matrix):
    for o in prange(g.shape[1]):
        for n in range(g.shape[0]):
            copy_padded(g, (n * g.shape[1] + o) * g.shape[2], g.shape[2], 0, matrix,
                        o * matrix.shape[1] + n * g.shape[2], g.shape[2])


@compiled_parallel
def store_outputs(sums, bias, floor, y):
    for o in prange(y.shape[1]):
        for n in range(y.shape[0]):
            store_plane(sums[o], n * y.shape[2], bias[o], floor, y[n, o])


@compiled
def store_plane(sums, first, bias, floor, y):
    for p in range(y.size):
        total = sums[first + p] + bias
        y[p] = floor if total < floor else total


@compiled_parallel
def add_windows(matrix, offsets, grad, plan):
    for c in prange(grad.shape[1]):
        add_channel(matrix.reshape(-1), c, offsets, grad, plan)


@compiled
def add_channel(matrix, c, offsets, grad, plan):
    """Add the numbers of one channel's windows to the pixels they were read from, tap by tap."""
    flat, place = grad.reshape(-1), c * len(offsets) * grad.shape[0] * plan.rows * plan.columns
    for n in range(grad.shape[0]):
        grad[n, c] = 0
    for t in range(len(offsets)):
        top, bottom = inside(offsets[t, 0], plan.row_stride, plan.rows, grad.shape[2])
        left, right = inside(offsets[t, 1], plan.column_stride, plan.columns, grad.shape[3])
        for n in range(grad.shape[0]):
            target = ((n * grad.shape[1] + c) * grad.shape[2] + offsets[t, 0]) * grad.shape[3] + offsets[t, 1]
            for row in range(plan.rows):
                if top <= row < bottom:
                    add_run(flat, target, matrix, place, plan.column_stride, left, right)
                place += plan.columns
                target += plan.row_stride * grad.shape[3]


@compiled
def add_run(target, place, numbers, source, step, first, last):
    for s in range(first, last):
        target[place + s * step] += numbers[source + s]
