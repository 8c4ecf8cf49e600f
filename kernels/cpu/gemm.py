"""C = A B, with bias and ReLU on the way out: the matrix product behind linear layers, matmul and convolutions.

Read microkernel.py and panels.py first. The product is cut so that each part of the data is read again while it is
still in a near cache: DEPTH steps of k at a time, so that a panel of A (ROWS x DEPTH) stays in the first-level cache
while it meets BLOCK_COLUMNS columns of B, which stay with their block of C in the second. All panels of a part of
A and B are packed first, then the blocks of C are computed one by one, by any number of threads: every number of C
is summed in the same order whoever computes it, so that its bits do not depend on the threads.
"""

from __future__ import annotations

import math
import threading

import numba
import numpy as np

from minidl.kernels.cpu.microkernel import COLUMNS, LANES, ROWS, address, multiply_left, multiply_panels, multiply_top
from minidl.kernels.cpu.panels import pack
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, parallel

HALF = COLUMNS // 2
DEPTH = 512  # steps of k in one go
BLOCK_ROWS = 16 * ROWS  # the block of C that one task computes
BLOCK_COLUMNS = 8 * COLUMNS
PART_ROWS = 12 * BLOCK_ROWS  # the part of A, of B and of the depth that is packed at once
PART_COLUMNS = 8 * BLOCK_COLUMNS
PART_DEPTH = 2 * DEPTH


@compiled
def pack_block(source, start, step, depth_step, count, depth, wide, panels, at):
    """Pack all panels of `count` rows (or columns) by `depth` steps, one panel behind the other."""
    full = COLUMNS if wide else ROWS
    for first in range(0, count, full):
        width = min(full, count - first)
        pack(source, start + first * step, step, depth_step, width, depth, wide, panels, at + first * depth)


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
def multiply_block(a, a_at, b, b_at, c, at, stride, rows, columns, depth, accumulate, last,
                   bias, bias_at, relu, tile):
    """One block of C from packed panels, DEPTH steps of k at the most.

    A tile that is not full is computed beside C where the micro-kernel would write on what belongs to others.
    """
    for i in range(0, rows, ROWS):
        height = min(ROWS, rows - i)
        a_panel = address(a, a_at + i * depth)
        for j in range(0, columns, COLUMNS):
            width = min(COLUMNS, columns - j)
            b_panel, c_at = address(b, b_at + j * depth), at + i * stride + j
            half = width <= HALF
            beside = width != COLUMNS and not (width == HALF and height == ROWS)
            target, target_stride = (address(tile, 0), COLUMNS) if beside else (address(c, c_at), stride)
            add = accumulate and not beside
            if half:
                multiply_left(a_panel, b_panel, target, depth, target_stride, add)
            elif height == ROWS:
                multiply_panels(a_panel, b_panel, target, depth, target_stride, add)
            else:
                multiply_top(a_panel, b_panel, target, depth, target_stride, add, height)
            if beside:
                add_tile(tile, c, c_at, stride, height, width, accumulate)
            if last and (bias_at >= 0 or relu):
                finish(c, c_at, stride, height, width, bias, bias_at + j if bias_at >= 0 else -1, relu)


@compiled
def even(total, largest, multiple):
    """The size, a multiple of `multiple`, of equal pieces of `total` that are not above `largest` (a multiple, too)."""
    pieces = (total + largest - 1) // largest
    return ((total + pieces - 1) // pieces + multiple - 1) // multiple * multiple


@compiled
def block_sizes(rows, columns):
    """Rows and columns of the blocks of C: halved while there are too few of them to share out evenly."""
    high, wide = BLOCK_ROWS, BLOCK_COLUMNS
    while -(-rows // high) * -(-columns // wide) < 8 and (high > 4 * ROWS or wide > 4 * COLUMNS):
        if high > 4 * ROWS:
            high //= 2
        else:
            wide //= 2
    return even(rows, high, ROWS), even(columns, wide, COLUMNS)


@compiled
def part_at(index, m, n, k):
    """Part `index` of the product: first row, rows, first column, columns, first k, depth, depth of a block."""
    step = even(k, DEPTH, LANES)
    part_depth = PART_DEPTH // DEPTH * step
    rows_parts, depth_parts = -(-m // PART_ROWS), -(-k // part_depth)
    row, index = index % rows_parts * PART_ROWS, index // rows_parts
    first, column = index % depth_parts * part_depth, index // depth_parts * PART_COLUMNS
    rows, columns = min(PART_ROWS, m - row), min(PART_COLUMNS, n - column)
    return row, rows, column, columns, first, min(part_depth, k - first), step


@compiled
def count_parts(m, n, k):
    """How many parts `part_at` knows of: for each part of the columns and of the depth, all parts of the rows."""
    part_depth = PART_DEPTH // DEPTH * even(k, DEPTH, LANES)
    return -(-m // PART_ROWS) * -(-n // PART_COLUMNS) * -(-k // part_depth)


@compiled
def count_packings(part):
    """How many tasks pack this part: a block of A or of B by one block of depth each; B's serve all parts below."""
    row, rows, column, columns, first, depth, step = part
    high, wide = block_sizes(rows, columns)
    return -(-depth // step) * (-(-rows // high) + (-(-columns // wide) if row == 0 else 0))


@compiled
def pack_task(task, part, a, a_at, a_step, a_depth_step, b, b_at, b_step, b_depth_step, a_panels, b_panels):
    """Pack one block of A or of B; each block of depth of the panels follows on the last."""
    row, rows, column, columns, first, depth, step = part
    high, wide = block_sizes(rows, columns)
    depth_blocks, row_blocks = -(-depth // step), -(-rows // high)
    k, block = task % depth_blocks * step, task // depth_blocks
    count = min(step, depth - k)
    if block < row_blocks:
        i = block * high
        start = a_at + (row + i) * a_step + (first + k) * a_depth_step
        padded = -(-rows // ROWS) * ROWS
        height, at = min(high, rows - i), k * padded + i * count
        pack_block(a, start, a_step, a_depth_step, height, count, False, a_panels, at)
    else:
        j = (block - row_blocks) * wide
        start = b_at + (column + j) * b_step + (first + k) * b_depth_step
        padded = -(-columns // COLUMNS) * COLUMNS
        width, at = min(wide, columns - j), k * padded + j * count
        pack_block(b, start, b_step, b_depth_step, width, count, True, b_panels, at)


@compiled
def count_blocks(part):
    """How many blocks of C a part has: one task each."""
    row, rows, column, columns, first, depth, step = part
    high, wide = block_sizes(rows, columns)
    return -(-rows // high) * -(-columns // wide)


@compiled
def multiply_task(task, part, a_panels, b_panels, c, c_at, n, k, bias, use_bias, relu):
    """Compute one block of C over the whole depth of the part: the first step of k stores, the later ones add."""
    row, rows, column, columns, first, depth, step = part
    high, wide = block_sizes(rows, columns)
    row_blocks = -(-rows // high)
    i, j = task % row_blocks * high, task // row_blocks * wide
    height, width = min(high, rows - i), min(wide, columns - j)
    a_padded, b_padded = -(-rows // ROWS) * ROWS, -(-columns // COLUMNS) * COLUMNS
    at = c_at + (row + i) * n + column + j
    bias_at = column + j if use_bias else -1
    tile = np.empty(ROWS * COLUMNS, np.float32)
    for k0 in range(0, depth, step):
        count = min(step, depth - k0)
        a_at, b_at = k0 * a_padded + i * count, k0 * b_padded + j * count
        multiply_block(a_panels, a_at, b_panels, b_at, c, at, n, height, width, count, first + k0 > 0,
                       first + k0 + count == k, bias, bias_at, relu, tile)


@compiled
def product_serial(a, a_at, a_step, a_depth_step, b, b_at, b_step, b_depth_step, c, c_at, m, n, k,
                   bias, use_bias, relu, a_panels, b_panels):
    """The product of a matrix in the flat array a, from a_at on, and one in b, into c: see `gemm` and `flat`."""
    for index in range(count_parts(m, n, k)):
        part = part_at(index, m, n, k)
        for task in range(count_packings(part)):
            pack_task(task, part, a, a_at, a_step, a_depth_step, b, b_at, b_step, b_depth_step, a_panels, b_panels)
        for task in range(count_blocks(part)):
            multiply_task(task, part, a_panels, b_panels, c, c_at, n, k, bias, use_bias, relu)


@compiled_parallel
def product_parallel(a, a_at, a_step, a_depth_step, b, b_at, b_step, b_depth_step, c, c_at, m, n, k,
                     bias, use_bias, relu, a_panels, b_panels):
    """`product_serial` by several threads: first all pack, then all multiply."""
    for index in range(count_parts(m, n, k)):
        part = part_at(index, m, n, k)
        for i in numba.prange(count_packings(part)):
            task = np.int64(i)  # one type for all callers of the task, or each is compiled twice
            pack_task(task, part, a, a_at, a_step, a_depth_step, b, b_at, b_step, b_depth_step, a_panels, b_panels)
        for i in numba.prange(count_blocks(part)):
            task = np.int64(i)
            multiply_task(task, part, a_panels, b_panels, c, c_at, n, k, bias, use_bias, relu)


@compiled_parallel
def products_parallel(a, a_starts, a_step, a_depth_step, b, b_starts, b_step, b_depth_step, c, m, n, k,
                      bias, use_bias, relu, sizes):
    """One product for each of the starts in A and B, each by one thread."""
    for i in numba.prange(len(a_starts)):
        item = np.int64(i)
        a_panels, b_panels = np.empty(sizes[0], np.float32), np.empty(sizes[1], np.float32)
        product_serial(a, a_starts[item], a_step, a_depth_step, b, b_starts[item], b_step, b_depth_step,
                       c, item * m * n, m, n, k, bias, use_bias, relu, a_panels, b_panels)


_NO_BIAS = empty(1)
_NUMPY_UP_TO = 192**3  # multiplications
_NUMPY_DEPTH, _NUMPY_ALONE = 256, 1 << 18
_PARALLEL_FROM = 3 << 20
_kept = threading.local()


def chosen(m: int, n: int, k: int) -> str:
    """Who multiplies (m, k) by (k, n): "gemm", the loops of this file, or "numpy", the BLAS that NumPy brings.

    Below some size packing costs more than it gains, and BLAS has kernels that do without. It is trusted with a
    large depth only where OpenBLAS stays on one thread: beyond, how it cuts the sums over k depends on the threads.
    """
    limit = _NUMPY_UP_TO if k <= _NUMPY_DEPTH else min(_NUMPY_UP_TO, _NUMPY_ALONE)
    return "numpy" if m * n * k <= limit or m == 1 or n == 1 else "gemm"


def gemm(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None, relu: bool = False) -> np.ndarray:
    """a @ b, + bias (N,) to each row if given, negative numbers to 0 if relu: float32 (M, K) and (K, N) to (M, N).

    A transposed operand (`weight.T`) is read as it lies; one that is strided in another way is copied first.
    """
    (m, k), n = a.shape, b.shape[1]
    if chosen(m, n, k) == "numpy":
        return _finished(a.dot(b), bias, relu)  # the same product as np.matmul, half a microsecond earlier
    a, a_step, a_depth_step = flat(a)
    b, b_depth_step, b_step = flat(b)
    c = empty((m, n))
    arguments = (a, 0, a_step, a_depth_step, b, 0, b_step, b_depth_step, c.reshape(-1), 0, m, n, k,
                 _NO_BIAS if bias is None else bias, bias is not None, relu, *workspaces(m, n, k))
    if m * n * k < _PARALLEL_FROM:
        product_serial(*arguments)
    else:
        parallel(product_parallel, *arguments)
    return c


def gemm_batched(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The products a[i] @ b[i] for float32 (..., M, K) and (..., K, N), leading axes broadcast: (..., M, N)."""
    m, k, n = *a.shape[-2:], b.shape[-1]
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    items = math.prod(leading)
    if chosen(m, n, k) == "numpy" and items * m * n * k < _PARALLEL_FROM:
        return np.matmul(a, b)
    c = empty((*leading, m, n))
    if m * n * k >= 8 * _PARALLEL_FROM:
        all_a, all_b = (np.broadcast_to(x, (*leading, *x.shape[-2:])) for x in (a, b))
        for index in np.ndindex(*leading):
            c[index] = gemm(all_a[index], all_b[index])
        return c
    a_starts, b_starts = _starts(a, leading), _starts(b, leading)
    a, a_step, a_depth_step = flat(a)
    b, b_depth_step, b_step = flat(b)
    parallel(products_parallel, a, a_starts, a_step, a_depth_step, b, b_starts, b_step, b_depth_step, c.reshape(-1),
             m, n, k, _NO_BIAS, False, False, workspace_sizes(m, n, k))
    return c


def flat(x: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The numbers of x (..., R, C) one after the other, and the distances from row to row and from column to column."""
    rows, columns = x.shape[-2:]
    if x.flags.carray:
        return x.reshape(-1), columns, 1
    turned = x.swapaxes(-1, -2)
    if turned.flags.carray:
        return turned.reshape(-1), 1, rows
    return x.copy().reshape(-1), columns, 1


def workspace_sizes(m: int, n: int, k: int) -> tuple[int, int]:
    """How many numbers the panels of A and those of B hold at the most."""
    depth = min(k, PART_DEPTH) + PART_DEPTH // DEPTH * LANES
    return depth * (min(m, PART_ROWS) + ROWS), depth * (min(n, PART_COLUMNS) + COLUMNS)


def workspaces(m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Memory for the panels of A and of B, kept by each Python thread from call to call (at most 13 + 10 MB)."""
    a_size, b_size = workspace_sizes(m, n, k)
    a_panels, b_panels = getattr(_kept, "panels", (_NO_BIAS, _NO_BIAS))
    if a_panels.size < a_size or b_panels.size < b_size:
        a_panels, b_panels = _kept.panels = empty(max(a_size, a_panels.size)), empty(max(b_size, b_panels.size))
    return a_panels, b_panels


def _starts(x: np.ndarray, leading: tuple[int, ...]) -> np.ndarray:
    """Where each matrix of x, broadcast to the leading axes, starts among the numbers of x."""
    size = x.shape[-2] * x.shape[-1]
    return np.broadcast_to(np.arange(0, x.size, size).reshape(x.shape[:-2]), leading).ravel()


def _finished(c: np.ndarray, bias: np.ndarray | None, relu: bool) -> np.ndarray:
    if bias is not None:
        c += bias
    return np.maximum(c, 0, out=c) if relu else c
