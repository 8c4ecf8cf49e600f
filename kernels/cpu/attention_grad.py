"""The gradients of attention, from weights that are computed again block by block. Read attention.py first.

With the log sum exp of each query known, a block of weights is P = e^(scores - log sum exp), and a block of the
gradient of the scores is dZ = P (dP - D); `../reference/attention.py` has the formulas. A task takes one head: for
BLOCK queries at a time, it passes over the keys, adds to the gradients of keys and values what these queries give,
and completes that of the queries.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels.cpu.attention_blocks import (
    COLUMNS, FAR, INFINITY, NO_MASK, ROW, add_mask, copy_rows, hide_later, kept, matrix_at, pack_panel, padded, product,
    row_keys, write_rows,
)
from minidl.kernels.cpu.exponential import exp
from minidl.kernels.cpu.runtime import FLAGS, compiled, compiled_parallel

BLOCK = 4 * COLUMNS  # queries at a time
KEYS = 64  # keys at a time
SUMS = {*FLAGS, "reassoc"}  # sums in as many parts as a vector has lanes; in the same ones every time


@compiled(fastmath=SUMS)
def dot(x, x_at, y, y_at, length):
    total = np.float32(0)
    for i in range(length):
        total += x[x_at + i] * y[y_at + i]
    return total


@compiled
def weights_and_gradient(scores, grads, at, stride, keys, shifts, dots):
    """scores become weights, P = e^(scores - shift), and grads, which hold dP, become P (dP - dot)."""
    for j in range(keys):
        row = at + j * stride
        for i in range(COLUMNS):
            weight = exp(scores[row + i] - shifts[i])
            scores[row + i] = weight
            grads[row + i] = weight * (grads[row + i] - dots[i])


@compiled
def dropped_weights_and_gradient(scores, grads, at, stride, keys, shifts, dots, key, low, high, threshold, factor):
    """The same with dropout: the weights that are left, and P (kept dP - dot)."""
    for j in range(keys):
        row, number = at + j * stride, np.uint32(key + j)
        for i in range(COLUMNS):
            weight = exp(scores[row + i] - shifts[i])
            left = factor if kept(low[i], high[i], number, threshold) else np.float32(0)
            scores[row + i] = weight * left
            grads[row + i] = weight * (grads[row + i] * left - dots[i])


@compiled
def clear_rows(target, at, stride, rows):
    for j in range(rows):
        row = at + j * stride
        for i in range(COLUMNS):
            target[row + i] = np.float32(0)


@compiled
def backward_task(matrix, places, heads, queries, keys, width, value_width, kind, ahead, scale, threshold, factor, seed,
                  logsumexp):
    """The gradients of one head."""
    sample, head = matrix // heads, matrix % heads
    query, key = matrix_at(places[1], sample, head, queries, width), matrix_at(places[2], sample, head, keys, width)
    value = matrix_at(places[3], sample, head, keys, value_width)
    output = matrix_at(places[4], sample, head, queries, value_width)
    g = matrix_at(places[5], sample, head, queries, value_width)
    grad_query = matrix_at(places[6], sample, head, queries, width)
    wide, value_wide = padded(width), padded(value_width)
    key_rows, grad_keys = np.empty(keys * wide, np.float32), np.zeros(keys * wide, np.float32)
    value_rows, grad_values = np.empty(keys * value_wide, np.float32), np.zeros(keys * value_wide, np.float32)
    copy_rows(key, 0, places[2, ROW], keys, width, key_rows, wide)
    copy_rows(value, 0, places[3, ROW], keys, value_width, value_rows, value_wide)
    query_rows, grad_queries = np.empty((2, BLOCK * wide), np.float32)
    g_rows = np.empty(BLOCK * value_wide, np.float32)
    query_panels, g_panels = np.empty((4, width * COLUMNS), np.float32), np.empty((4, value_width * COLUMNS), np.float32)
    scores, grads = np.empty((2, KEYS * BLOCK), np.float32)
    masks = np.empty((2, KEYS * COLUMNS if kind != NO_MASK else 0), np.float32)
    shifts, dots = np.empty((2, 4, COLUMNS), np.float32)
    low, high = np.empty((2, 4, COLUMNS), np.uint32)
    for i in range(0, queries, BLOCK):
        count = min(BLOCK, queries - i)
        panels = (count + COLUMNS - 1) // COLUMNS
        stride = panels * COLUMNS
        copy_rows(query, i * places[1, ROW], places[1, ROW], count, width, query_rows, wide)
        copy_rows(g, i * places[5, ROW], places[5, ROW], count, value_width, g_rows, value_wide)
        shifts[:], dots[:], low[:], high[:] = 0, 0, 0, 0
        for panel in range(panels):
            start = i + panel * COLUMNS
            height = min(COLUMNS, queries - start)
            pack_panel(query, start * places[1, ROW], places[1, ROW], height, width, scale, query_panels[panel])
            pack_panel(g, start * places[5, ROW], places[5, ROW], height, value_width, np.float32(1), g_panels[panel])
            for row in range(height):
                shift = logsumexp[matrix * queries + start + row]
                shifts[panel, row] = np.float32(0) if shift == -INFINITY else shift
                dots[panel, row] = dot(output, (start + row) * places[4, ROW], g, (start + row) * places[5, ROW],
                                       value_width)
            if threshold > 0:
                row_keys(seed, matrix * queries + start, height, low[panel], high[panel])
        grad_queries[:count * wide] = 0
        for j in range(0, max(0, min(keys, i + count + ahead)), KEYS):
            block = min(KEYS, keys - j)
            for panel in range(panels):
                start, at = i + panel * COLUMNS, panel * COLUMNS
                height = min(COLUMNS, queries - start)
                seen = max(0, min(block, start + height + ahead - j))
                if seen > 0:
                    product(key_rows, j * wide, wide, 1, seen, query_panels[panel], 0, COLUMNS, COLUMNS, width,
                            scores, at, stride, False, -FAR, FAR)
                    product(value_rows, j * value_wide, value_wide, 1, seen, g_panels[panel], 0, COLUMNS, COLUMNS,
                            value_width, grads, at, stride, False, -FAR, FAR)
                if kind != NO_MASK:
                    add_mask(places[0], kind, sample, head, start, height, j, seen, scores, at, stride, masks[0],
                             masks[1])
                hide_later(scores, at, stride, seen, start + ahead - j)
                if threshold > 0:
                    dropped_weights_and_gradient(scores, grads, at, stride, seen, shifts[panel], dots[panel], j,
                                                 low[panel], high[panel], threshold, factor)
                else:
                    weights_and_gradient(scores, grads, at, stride, seen, shifts[panel], dots[panel])
                clear_rows(scores, at + seen * stride, stride, block - seen)
                clear_rows(grads, at + seen * stride, stride, block - seen)
            skip, limit = j - ahead - i, i + ahead - j
            product(scores, 0, stride, 1, block, g_rows, 0, value_wide, value_wide, count,
                    grad_values, j * value_wide, value_wide, True, skip, FAR)
            product(grads, 0, stride, 1, block, query_rows, 0, wide, wide, count,
                    grad_keys, j * wide, wide, True, skip, FAR)
            product(grads, 0, 1, stride, count, key_rows, j * wide, wide, wide, block, grad_queries, 0, wide, True,
                    -FAR, limit)
        write_rows(grad_queries, wide, scale, grad_query, i * places[6, ROW], places[6, ROW], count, width)
    grad_key = matrix_at(places[7], sample, head, keys, width)
    grad_value = matrix_at(places[8], sample, head, keys, value_width)
    write_rows(grad_keys, wide, scale, grad_key, 0, places[7, ROW], keys, width)
    write_rows(grad_values, value_wide, np.float32(1), grad_value, 0, places[8, ROW], keys, value_width)


@compiled
def backward_serial(places, samples, heads, queries, keys, width, value_width, kind, ahead, scale, threshold, factor,
                    seed, logsumexp):
    for matrix in range(samples * heads):
        backward_task(matrix, places, heads, queries, keys, width, value_width, kind, ahead, scale, threshold, factor,
                      seed, logsumexp)


@compiled_parallel
def backward(places, samples, heads, queries, keys, width, value_width, kind, ahead, scale, threshold, factor, seed,
             logsumexp):
    for i in prange(samples * heads):
        matrix = np.int64(i)  # one type for all callers of the task, or it is compiled twice
        backward_task(matrix, places, heads, queries, keys, width, value_width, kind, ahead, scale, threshold, factor,
                      seed, logsumexp)
