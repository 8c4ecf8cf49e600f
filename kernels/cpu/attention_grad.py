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
    COLUMNS,
    FAR,
    INFINITY,
    NO_MASK,
    ROW,
    add_mask,
    copy_rows,
    fill,
    hide_later,
    kept,
    matrix_at,
    pack_panel,
    padded,
    part,
    product,
    room,
    row_keys,
    taken,
    write_rows,
)
from minidl.kernels.cpu.exponential import exp
from minidl.kernels.cpu.runtime import FLAGS, compiled, compiled_parallel

BLOCK = 4 * COLUMNS  # queries at a time
KEYS = 64  # keys at a time
SUMS = {*FLAGS, "reassoc"}  # sums in as many parts as a vector has lanes; in the same ones every time


@compiled(fastmath=SUMS)
def dot(x, y):
    total = np.float32(0)
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@compiled
def weights_and_gradient(scores, grads, at, stride, keys, shifts, dots):
    """scores become weights, P = e^(scores - shift), and grads, which hold dP, become P (dP - dot)."""
    for j in range(keys):
        row, grad = part(scores, at + j * stride, COLUMNS), part(grads, at + j * stride, COLUMNS)
        for i in range(COLUMNS):
            weight = exp(row[i] - shifts[i])
            row[i] = weight
            grad[i] = weight * (grad[i] - dots[i])


@compiled
def dropped_weights_and_gradient(scores, grads, at, stride, keys, shifts, dots, key, low, high, threshold, factor):
    """The same with dropout: the weights that are left, and P (kept dP - dot)."""
    for j in range(keys):
        row, grad = part(scores, at + j * stride, COLUMNS), part(grads, at + j * stride, COLUMNS)
        number = np.uint32(key + j)
        for i in range(COLUMNS):
            weight = exp(row[i] - shifts[i])
            left = factor if kept(low[i], high[i], number, threshold) else np.float32(0)
            row[i] = weight * left
            grad[i] = weight * (grad[i] * left - dots[i])


@compiled
def clear_rows(target, at, stride, rows):
    for j in range(rows):
        fill(target, at + j * stride, COLUMNS, np.float32(0))


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
    grad_key = matrix_at(places[7], sample, head, keys, width)
    grad_value = matrix_at(places[8], sample, head, keys, value_width)
    wide, value_wide, mask_size = padded(width), padded(value_width), KEYS * COLUMNS if kind != NO_MASK else 0
    most = min(BLOCK, padded(queries))  # queries at a time
    whole, at = room(2 * (keys + most) * wide + (2 * keys + most) * value_wide + 2 * KEYS * most
                     + (width + value_width + 4) * most + 2 * mask_size)
    key_rows, at = taken(whole, at, keys * wide)
    value_rows, at = taken(whole, at, keys * value_wide)
    grad_keys, at = taken(whole, at, keys * wide)
    grad_values, at = taken(whole, at, keys * value_wide)
    query_rows, at = taken(whole, at, most * wide)
    grad_queries, at = taken(whole, at, most * wide)
    g_rows, at = taken(whole, at, most * value_wide)
    query_panels, at = taken(whole, at, most * width)
    g_panels, at = taken(whole, at, most * value_width)
    scores, at = taken(whole, at, KEYS * most)
    grads, at = taken(whole, at, KEYS * most)
    shifts, at = taken(whole, at, most)
    dots, at = taken(whole, at, most)
    row_bits, at = taken(whole, at, 2 * most)
    mask_rows, at = taken(whole, at, mask_size)
    mask_panel, at = taken(whole, at, mask_size)
    low, high = row_bits[:most].view(np.uint32), row_bits[most:].view(np.uint32)
    copy_rows(key, 0, places[2, ROW], keys, width, key_rows, wide)
    copy_rows(value, 0, places[3, ROW], keys, value_width, value_rows, value_wide)
    fill(grad_keys, 0, keys * wide, np.float32(0))
    fill(grad_values, 0, keys * value_wide, np.float32(0))
    for i in range(0, queries, BLOCK):
        count = min(BLOCK, queries - i)
        stride = padded(count)
        copy_rows(query, i * places[1, ROW], places[1, ROW], count, width, query_rows, wide)
        copy_rows(g, i * places[5, ROW], places[5, ROW], count, value_width, g_rows, value_wide)
        fill(shifts, 0, most, np.float32(0))
        fill(dots, 0, most, np.float32(0))
        for start in range(0, count, COLUMNS):
            height = min(COLUMNS, count - start)
            pack_panel(query_rows, start * wide, wide, height, width, scale,
                       part(query_panels, start * width, COLUMNS * width))
            pack_panel(g_rows, start * value_wide, value_wide, height, value_width, np.float32(1),
                       part(g_panels, start * value_width, COLUMNS * value_width))
        for row in range(count):
            shift = logsumexp[matrix * queries + i + row]
            shifts[row] = np.float32(0) if shift == -INFINITY else shift
            dots[row] = dot(part(output, (i + row) * places[4, ROW], value_width),
                            part(g_rows, row * value_wide, value_width))
        if threshold > 0:
            row_keys(seed, matrix * queries + i, count, low, high)
        fill(grad_queries, 0, count * wide, np.float32(0))
        for j in range(0, max(0, min(keys, i + count + ahead)), KEYS):
            block = min(KEYS, keys - j)
            for start in range(0, count, COLUMNS):
                height, before = min(COLUMNS, count - start), i + start + ahead - j
                seen = max(0, min(block, before + height))
                if seen > 0:
                    product(key_rows, j * wide, wide, 1, seen, query_panels, start * width, COLUMNS, COLUMNS, width,
                            scores, start, stride, False, -FAR, FAR)
                    product(value_rows, j * value_wide, value_wide, 1, seen, g_panels, start * value_width, COLUMNS,
                            COLUMNS, value_width, grads, start, stride, False, -FAR, FAR)
                    if kind != NO_MASK:
                        add_mask(places[0], kind, sample, head, i + start, height, j, seen, scores, start, stride,
                                 mask_rows, mask_panel)
                    hide_later(scores, start, stride, seen, before)
                    if threshold > 0:
                        dropped_weights_and_gradient(
                            scores, grads, start, stride, seen, part(shifts, start, COLUMNS),
                            part(dots, start, COLUMNS), j, low[start:], high[start:], threshold, factor)
                    else:
                        weights_and_gradient(scores, grads, start, stride, seen, part(shifts, start, COLUMNS),
                                             part(dots, start, COLUMNS))
                clear_rows(scores, start + seen * stride, stride, block - seen)
                clear_rows(grads, start + seen * stride, stride, block - seen)
            skip = j - ahead - i
            product(scores, 0, stride, 1, block, g_rows, 0, value_wide, value_wide, count,
                    grad_values, j * value_wide, value_wide, True, skip, FAR)
            product(grads, 0, stride, 1, block, query_rows, 0, wide, wide, count,
                    grad_keys, j * wide, wide, True, skip, FAR)
            product(grads, 0, 1, stride, count, key_rows, j * wide, wide, wide, block, grad_queries, 0, wide, True,
                    -FAR, -skip)
        write_rows(grad_queries, wide, scale, grad_query, i * places[6, ROW], places[6, ROW], count, width)
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
