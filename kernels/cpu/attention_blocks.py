"""What the compiled attention and its gradient share: blocks of scores, keys down, a panel of queries across.

The scores of COLUMNS queries are held transposed, one row for each key. So the queries of a row fill whole vectors:
the largest score and the sum of exponentials of each query arise without adding up the lanes of a register; the tile
of the micro-kernel is written as it is read; and a mask of keys is one number a row. Read attention.py next.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from minidl.kernels.cpu.microkernel import COLUMNS, LINE, ROWS, address, multiply_tile
from minidl.kernels.cpu.panels import pack_columns
from minidl.kernels.cpu.runtime import compiled

INFINITY = np.float32(np.inf)
NO_MASK, NUMBERS, BOOLEANS = 0, 1, 2
ADDRESS, SAMPLE, HEAD, ROW, STEP = range(5)  # of a line of `places`: where an array begins, and its distances
ARRAYS = 16  # at most, in the scratch memory of a task, each of which may end in the middle of a line
FAR = 1 << 40  # more than there are queries or keys


def pointer_type(kind: types.Type, element: ir.Type):
    @intrinsic
    def pointer(typing_context, place):
        """The number at an address."""

        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], element.as_pointer())

        return types.CPointer(kind)(types.int64), generate

    return pointer


floats_at, bytes_at = pointer_type(types.float32, ir.FloatType()), pointer_type(types.uint8, ir.IntType(8))


@compiled
def matrix_at(place, sample, head, rows, columns):
    """The numbers of one head's matrix of `rows` rows, one after the other as they lie in memory."""
    start = place[ADDRESS] + 4 * (sample * place[SAMPLE] + head * place[HEAD])
    return carray(floats_at(start), ((rows - 1) * place[ROW] + columns,))


@compiled(forceinline=True)
def part(x, start, count):
    """x[start:start + count], without counting references to x, and known to begin at no negative index."""
    return carray(address(x, start), (count,))


@compiled(forceinline=True)
def room(size):
    """Memory for arrays of `size` numbers together, and where in it the first begins, on a cache line: see `taken`."""
    whole = np.empty(size + (ARRAYS + 1) * LINE, np.float32)
    return whole, -(whole.ctypes.data // 4) % LINE


@compiled(forceinline=True)
def taken(whole, start, size):
    """An array of `size` numbers from `start` on, and where the next one begins."""
    return whole[start:start + size], start + lines(size)


@compiled(forceinline=True)
def lines(size):
    """The next multiple of the numbers in a cache line."""
    return (size + LINE - 1) // LINE * LINE


@compiled
def fill(x, start, count, value):
    for_all = part(x, start, count)
    for i in range(count):
        for_all[i] = value


@compiled
def padded(columns):
    """The next multiple of COLUMNS."""
    return (columns + COLUMNS - 1) // COLUMNS * COLUMNS


@compiled
def copy_rows(source, start, row, rows, columns, target, width):
    """target[i * width + e] = source[start + i * row + e], with zeros from `columns` to `width`."""
    for i in range(rows):
        into, out_of = part(target, i * width, width), part(source, start + i * row, columns)
        for e in range(columns):
            into[e] = out_of[e]
        for e in range(columns, width):
            into[e] = np.float32(0)


@compiled
def write_rows(source, width, factor, target, start, row, rows, columns):
    """target[start + i * row + e] = factor source[i * width + e]."""
    for i in range(rows):
        into, out_of = part(target, start + i * row, columns), part(source, i * width, columns)
        for e in range(columns):
            into[e] = out_of[e] * factor


@compiled
def pack_panel(source, start, row, rows, columns, factor, panel):
    """panel[e * COLUMNS + i] = factor source[start + i * row + e]; what stands behind the last row is finite."""
    if rows < COLUMNS:
        fill(panel, 0, columns * COLUMNS, np.float32(0))
    pack_columns(source, start, row, 1, rows, columns, panel)
    if factor != 1:
        for i in range(columns * COLUMNS):
            panel[i] *= factor


@compiled
def product(a, a_at, a_row, a_step, rows, b, b_at, b_step, columns, depth, c, c_at, stride, accumulate, skip, limit):
    """c[i, j] += the sum over k of a[i, k] b[k, j], for columns a multiple of COLUMNS; stored if not accumulate.

    In causal attention, parts of a are zero: row i begins at step skip + i, and ends before step limit + i + 1.
    """
    pieces = (rows + ROWS - 1) // ROWS
    low = rows // pieces
    high, first = rows - low * pieces, 0
    for piece in range(pieces):
        height = low + (piece < high)
        begin, end = max(0, skip + first), min(depth, limit + first + height)
        if begin < end:
            for j in range(0, columns, COLUMNS):
                multiply_tile(height, address(a, a_at + first * a_row + begin * a_step), a_row, a_step,
                              address(b, b_at + begin * b_step + j), b_step,
                              address(c, c_at + first * stride + j), stride, end - begin, accumulate)
        first += height


@compiled
def bias_rows(mask, kind, at, row, step, rows, keys, target, width):
    """target[i * width + j] = what the mask adds to the score of query i and key j."""
    for i in range(rows):
        into, start = part(target, i * width, keys), at + i * row
        if kind == NUMBERS:
            numbers = carray(floats_at(mask + 4 * start), (1,))
            for j in range(keys):
                into[j] = numbers[j * step]
        else:
            booleans = carray(bytes_at(mask + start), (1,))
            for j in range(keys):
                into[j] = np.float32(0) if booleans[j * step] else -INFINITY


@compiled
def add_key_bias(mask, kind, at, step, keys, scores, scores_at, stride):
    """A mask that is the same for all queries: one number a row of scores."""
    numbers, booleans = carray(floats_at(mask), (1,)), carray(bytes_at(mask), (1,))
    for j in range(keys):
        if kind == NUMBERS:
            bias = numbers[at + j * step]
        else:
            bias = np.float32(0) if booleans[at + j * step] else -INFINITY
        row = part(scores, scores_at + j * stride, COLUMNS)
        if bias != 0:
            for i in range(COLUMNS):
                row[i] += bias


@compiled
def add_mask(place, kind, sample, head, query, queries, key, keys, scores, scores_at, stride, biases, panel):
    """Add the mask to the scores of `queries` queries from `query` on and `keys` keys from `key` on."""
    at = sample * place[SAMPLE] + head * place[HEAD] + query * place[ROW] + key * place[STEP]
    if place[ROW] == 0:
        add_key_bias(place[ADDRESS], kind, at, place[STEP], keys, scores, scores_at, stride)
        return
    bias_rows(place[ADDRESS], kind, at, place[ROW], place[STEP], queries, keys, biases, keys)
    pack_columns(biases, 0, keys, 1, queries, keys, panel)
    for j in range(keys):
        row, bias = part(scores, scores_at + j * stride, COLUMNS), part(panel, j * COLUMNS, COLUMNS)
        for i in range(COLUMNS):
            row[i] += bias[i]


@compiled
def hide_later(scores, scores_at, stride, keys, ahead):
    """-inf for what is later than a query: key j of the block for queries i < j - ahead."""
    for j in range(max(0, ahead + 1), keys):
        row = part(scores, scores_at + j * stride, COLUMNS)
        for i in range(min(j - ahead, COLUMNS)):
            row[i] = -INFINITY


@compiled
def mixed(x):
    """64 bits that depend on all bits of x, as in the reference."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def row_keys(seed, first, rows, low, high):
    """What the hash of the dropped weights begins with, for `rows` rows of scores from number `first` on."""
    for i in range(rows):
        bits = mixed(np.uint64(seed) + np.uint64(first + i) * np.uint64(0x9E3779B97F4A7C15))
        low[i], high[i] = np.uint32(bits & np.uint64(0xFFFFFFFF)), np.uint32(bits >> np.uint64(32))


@compiled(forceinline=True)
def kept(low, high, key, threshold):
    """Whether a weight stays: its query's two row keys, the number of its key, and p 2^24."""
    x = np.uint32(np.uint32(low + key) * np.uint32(0x9E3779B1))
    x = np.uint32(x ^ np.uint32(np.uint32(x >> np.uint32(16)) ^ high))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(16)))
    return np.uint32(x >> np.uint32(8)) >= threshold


@compiled
def drop(weights, weights_at, stride, keys, key, low, high, threshold, factor):
    """Drop weights in place; the others are multiplied by factor."""
    for j in range(keys):
        row, number = part(weights, weights_at + j * stride, COLUMNS), np.uint32(key + j)
        for i in range(COLUMNS):
            row[i] *= factor if kept(low[i], high[i], number, threshold) else np.float32(0)
