"""C = A B, with bias and ReLU on the way out: the matrix product behind linear layers, matmul and convolutions.

Read microkernel.py and panels.py first. Each thread computes a block of C of its own, DEPTH steps of k at a time: a
panel of B (DEPTH x COLUMNS) and the panels of A that pass by (ROWS x DEPTH each) come from the second-level cache, in
the order in which the processor fetches ahead; the panels of B wait in the third for the next rows of A. The thread
packs both just before it needs them, or reads the matrix as it lies where that is as fast. Every number of C is summed
in one order, which follows from the depth alone: whoever computes it, its bits do not depend on the threads. Read
linear.py next.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.lib.stride_tricks import as_strided

from minidl.kernels.cpu.blas import small_products
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, ROWS, address, multiply_tile
from minidl.kernels.cpu.panels import ROOM, pack_columns, pack_rows, panel_of
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, get_num_threads, parallel

DEPTH = 768  # steps of k in one go, at most: each reads and writes C anew
BLOCK_ROWS = 16 * ROWS  # rows of A whose panels are kept, at most
GROUP = 4 * COLUMNS  # columns of B that are packed at a time
WIDTH = 64 * COLUMNS  # columns of B whose panels are kept for all rows, at most
NEAR = 512  # a step through a matrix of so many numbers or fewer costs no more than one through a panel
PACK_A, PACK_B = 0.35, 0.6  # what it costs to pack a panel of A or of B, in tiles


@compiled
def finish(c, at, stride, rows, columns, bias, bias_at, relu):
    """Add the bias to a tile of C and set its negative numbers to zero (a NaN stays)."""
    for i in range(rows):
        row = at + i * stride
        if bias_at >= 0:
            for j in range(columns):
                c[row + j] += bias[bias_at + j]
        if relu:
            for j in range(columns):
                c[row + j] = np.float32(0) if c[row + j] < 0 else c[row + j]


@compiled
def add_tile(tile, c, at, stride, rows, columns, accumulate):
    """Put what belongs to C from a tile computed beside it into its place, added if there is something already."""
    for i in range(rows):
        for j in range(columns):
            old = c[at + i * stride + j] if accumulate else np.float32(0)
            c[at + i * stride + j] = old + tile[i * COLUMNS + j]


@compiled
def even(total, largest, multiple):
    """The size, a multiple of `multiple`, of equal pieces of `total` that are not above `largest` (a multiple, too)."""
    pieces = (total + largest - 1) // largest
    return ((total + pieces - 1) // pieces + multiple - 1) // multiple * multiple


@compiled
def share(total, pieces, piece):
    """Where piece number `piece` of `total` begins, cut into pieces as equal as can be."""
    return total * piece // pieces


@compiled
def multiply_block(a, a_at, a_row, a_step, a_lies, b, b_at, b_column, b_step, b_lies, c, at, stride, rows, columns,
                   depth, accumulate, last, bias, bias_at, relu, a_panels, b_panels, tile, packed, kept):
    """rows x columns numbers of C from c[at] on, over `depth` steps of k: stored, or added to what is there.

    The panels of B are packed group by group just before they are needed, unless they are packed already; they stay
    for the next rows of A if kept. A tile that is not full is computed beside C where the micro-kernel would write on
    what belongs to others. last: whether bias and ReLU follow.
    """
    panels = -(-rows // ROWS)
    if not a_lies:
        pack_rows(a, a_at, a_row, a_step, rows, depth, a_panels)
    for j in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - j)
        beside = width < COLUMNS
        b_start = b_at + j * b_column
        b_panel = (j if kept else j % GROUP) * depth
        if beside and b_lies:
            b_panel = 0
            pack_columns(b, b_start, b_column, b_step, width, depth, b_panels)
        elif not b_lies and not packed and j % GROUP == 0:
            pack_columns(b, b_start, b_column, b_step, min(GROUP, columns - j), depth, b_panels[b_panel:])
        b_here, b_distance = address(b_panels, b_panel), COLUMNS
        if b_lies and not beside:
            b_here, b_distance = address(b, b_start), b_step
        for p in range(panels):
            first, height, a_panel = panel_of(rows, depth, p)
            c_at = at + first * stride + j
            if a_lies:
                a_here, row, distance = address(a, a_at + first * a_row), a_row, a_step
            else:
                a_here, row, distance = address(a_panels, a_panel), 1, height
            target, target_stride = (address(tile, 0), COLUMNS) if beside else (address(c, c_at), stride)
            multiply_tile(height, a_here, row, distance, b_here, b_distance, target, target_stride, depth,
                          accumulate and not beside)
            if beside:
                add_tile(tile, c, c_at, stride, height, width, accumulate)
            if last and (bias_at >= 0 or relu):
                finish(c, c_at, stride, height, width, bias, bias_at + j if bias_at >= 0 else -1, relu)


@compiled
def grid(m, n, a_lies, b_lies, threads):
    """Into how many parts to cut rows and columns of C for so many threads: the cheapest for the busiest thread.

    Each part packs its panels of A and B itself, so that more rows of parts pack B more often.
    """
    best, best_cost = (1, 1), np.inf
    for down in range(1, threads + 1):
        across = max(1, min(threads // down, -(-n // COLUMNS)))
        a_panels, b_panels = -(-m // (down * ROWS)), -(-n // (across * COLUMNS))
        cost = a_panels * b_panels + (0 if a_lies else PACK_A * a_panels) + (0 if b_lies else PACK_B * b_panels)
        if down <= m and cost < best_cost:
            best, best_cost = (down, across), cost
    return best


@compiled
def multiply_task(task, down, across, a, a_starts, a_row, a_step, a_lies, b, b_starts, b_column, b_step, b_lies,
                  c, m, n, k, bias, use_bias, relu):
    """One part of one of the products: part task % (down * across), row by row, of product task // (down * across)."""
    item, part = task // (down * across), task % (down * across)
    first, end = share(m, down, part // across), share(m, down, part // across + 1)
    b_panels = -(-n // COLUMNS)
    left = share(b_panels, across, part % across) * COLUMNS
    columns = min(n, share(b_panels, across, part % across + 1) * COLUMNS) - left
    step, most = even(end - first, BLOCK_ROWS, ROWS), even(k, DEPTH, LANES)
    wide, kept = even(columns, WIDTH, COLUMNS), end - first > step
    a_panels = np.empty(1 if a_lies else step * most + (step // ROWS + 1) * ROOM, np.float32)
    b_panels = np.empty((COLUMNS if b_lies else wide if kept else min(GROUP, wide)) * most, np.float32)
    tile = np.empty(ROWS * COLUMNS, np.float32)
    for j in range(left, left + columns, wide):
        for k0 in range(0, k, most):
            for i in range(first, end, step):
                multiply_block(a, a_starts[item] + i * a_row + k0 * a_step, a_row, a_step, a_lies,
                               b, b_starts[item] + j * b_column + k0 * b_step, b_column, b_step, b_lies,
                               c, (item * m + i) * n + j, n, min(step, end - i), min(wide, left + columns - j),
                               min(most, k - k0), k0 > 0, k0 + most >= k, bias, j if use_bias else -1, relu,
                               a_panels, b_panels, tile, i > first, kept)


@compiled
def lies_well(distance, uses):
    """Whether to read a matrix as it lies: its lines are near each other, or its panels would not be used often."""
    return distance <= NEAR or uses <= 2


@compiled
def products_serial(a, a_starts, a_row, a_step, b, b_starts, b_column, b_step, c, m, n, k, bias, use_bias, relu):
    """One product for each of the starts in the flat arrays a and b, into c: see `gemm` and `flat`."""
    a_lies = lies_well(max(a_row, a_step), -(-n // COLUMNS))
    b_lies = b_column == 1 and lies_well(b_step, -(-m // ROWS))
    for item in range(len(a_starts)):
        multiply_task(item, 1, 1, a, a_starts, a_row, a_step, a_lies, b, b_starts, b_column, b_step, b_lies,
                      c, m, n, k, bias, use_bias, relu)


@compiled_parallel
def products_parallel(a, a_starts, a_row, a_step, b, b_starts, b_column, b_step, c, m, n, k, bias, use_bias, relu,
                      threads):
    """`products_serial` by several threads: each takes whole products, or a part of the block of C of each."""
    a_lies = lies_well(max(a_row, a_step), -(-n // COLUMNS))
    b_lies = b_column == 1 and lies_well(b_step, -(-m // ROWS))
    down, across = grid(m, n, a_lies, b_lies, -(-threads // len(a_starts)))
    for i in numba.prange(len(a_starts) * down * across):
        task = np.int64(i)  # one type for all callers of the task, or it is compiled twice
        multiply_task(task, down, across, a, a_starts, a_row, a_step, a_lies, b, b_starts, b_column, b_step, b_lies,
                      c, m, n, k, bias, use_bias, relu)


_NO_BIAS = empty(1)
_ONE_START = np.zeros(1, np.int64)
_PARALLEL_FROM = 3 << 19  # multiplications
_BLAS_DEPTH, _BLAS_ALONE = 256, 1 << 18


def chosen(m: int, n: int, k: int) -> str:
    """Who multiplies (m, k) by (k, n): "gemm", the loops of this file, or "numpy", the BLAS that NumPy brings.

    BLAS is trusted with a large depth only where OpenBLAS stays on one thread: beyond, how it cuts the sums over k
    depends on its threads.
    """
    limit = small_products() if k <= _BLAS_DEPTH else min(_BLAS_ALONE, small_products())
    return "numpy" if m * n * k <= limit or m == 1 or n == 1 else "gemm"


def gemm(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None, relu: bool = False) -> np.ndarray:
    """a @ b, + bias (N,) to each row if given, negative numbers to 0 if relu: float32 (M, K) and (K, N) to (M, N).

    A transposed operand (`weight.T`) is read as it lies; one that is strided in another way is copied first.
    """
    (m, k), n = a.shape, b.shape[1]
    if chosen(m, n, k) == "numpy":
        return _finished(a.dot(b), bias, relu)  # the same product as np.matmul, half a microsecond earlier
    c = empty((m, n))
    _multiply(a, _ONE_START, b, _ONE_START, c, bias, relu)
    return c


def _multiply(a, a_starts, b, b_starts, c, bias, relu):
    """Fill c (..., M, N) with the products of a (..., M, K) and b (..., K, N) that start at a_starts and b_starts."""
    m, k, n = *a.shape[-2:], b.shape[-1]
    a, a_row, a_step = flat(a)
    b, b_step, b_column = flat(b)
    arguments = (a, a_starts, a_row, a_step, b, b_starts, b_column, b_step, c.reshape(-1), m, n, k,
                 _NO_BIAS if bias is None else bias, bias is not None, relu)
    threads = get_num_threads()
    if len(a_starts) * m * n * k < _PARALLEL_FROM or threads == 1:
        products_serial(*arguments)
    else:
        parallel(products_parallel, *arguments, threads)


def gemm_batched(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The products a[i] @ b[i] for float32 (..., M, K) and (..., K, N), leading axes broadcast: (..., M, N)."""
    m, k, n = *a.shape[-2:], b.shape[-1]
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    items = math.prod(leading)
    if items * m * n * k <= small_products():
        return np.matmul(a, b)
    c = empty((*leading, m, n))
    _multiply(a, _starts(a, leading), b, _starts(b, leading), c, None, False)
    return c


def flat(x: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The numbers of x (..., R, C) one after the other, and the distances from row to row and from column to column."""
    rows, columns = x.shape[-2:]
    if x.flags.carray:
        return x.reshape(-1), columns, 1
    turned = x.swapaxes(-1, -2)
    if turned.flags.carray:
        return turned.reshape(-1), 1, rows
    for part, by_rows in ((x, True), (turned, False)):  # columns of a wider matrix, or those of its transpose
        distance, step = part.strides[-2:]
        apart = step == x.itemsize and distance >= part.shape[1] * step and not distance % step
        if x.ndim == 2 and apart and x.flags.writeable and x.flags.aligned:
            distance //= step
            numbers = as_strided(part, ((part.shape[0] - 1) * distance + part.shape[1],), (step,))
            return (numbers, distance, 1) if by_rows else (numbers, 1, distance)
    return x.copy().reshape(-1), columns, 1


def _starts(x: np.ndarray, leading: tuple[int, ...]) -> np.ndarray:
    """Where each matrix of x, broadcast to the leading axes, starts among the numbers of x."""
    size = x.shape[-2] * x.shape[-1]
    return np.broadcast_to(np.arange(0, x.size, size).reshape(x.shape[:-2]), leading).flatten()


def _finished(c: np.ndarray, bias: np.ndarray | None, relu: bool) -> np.ndarray:
    if bias is not None:
        c += bias
    return np.maximum(c, 0, out=c) if relu else c
