"""Attention without its matrix of weights: block after block of keys, with the largest score and the sum so far.

Softmax needs the largest score of a row first, and their sum last. Both can be had on the way (Milakov and Gimelshein
2018, "Online normalizer calculation for softmax"): when a block holds a larger score than those before, what was
summed is multiplied by e^(old - new). So the output needs only one block of scores at a time (Rabe and Staats 2021,
"Self-attention does not need O(n^2) memory"; Dao et al. 2022, "FlashAttention"), which stays in the nearest cache.
Read attention_blocks.py first, attention_grad.py next.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.attention_blocks import (
    BOOLEANS, COLUMNS, FAR, NO_MASK, NUMBERS, ROW, add_mask, copy_rows, drop, hide_later, matrix_at, pack_panel, padded,
    product, row_keys, write_rows,
)
from minidl.kernels.cpu.attention_grad import backward, backward_serial
from minidl.kernels.cpu.exponential import exp
from minidl.kernels.cpu.runtime import FLOAT32, compiled, compiled_parallel, empty, parallel

__all__ = ["attention", "attention_grad"]

BLOCK = 128  # keys whose scores are held at a time
PIECE = 512  # queries of a head that one task takes, at most
SMALL = 1 << 17  # products of query and key, below which one thread is faster than two
INFINITY = np.float32(np.inf)


def attention(output, query, key, value, mask, causal, scale, p, seed):
    if not _suited(output, query, key, value) or not _mask_suits(mask):
        return reference.attention(output, query, key, value, mask, causal, scale, p, seed)
    (samples, queries, heads, _), keys = query.shape, key.shape[1]
    peaks, totals = empty((samples, heads, queries)), empty((samples, heads, queries))
    kind, places = _places(mask, query, key, value, output)
    _run(forward, forward_serial, query, key, (
        places, samples, heads, queries, keys, query.shape[3], value.shape[3], kind, _ahead(causal), np.float32(scale),
        *_dropout(p), seed, -(-queries // PIECE), peaks.reshape(-1), totals.reshape(-1)))
    np.log(totals, out=totals)
    totals += peaks
    return totals


def attention_grad(grad_query, grad_key, grad_value, g, query, key, value, output, logsumexp, mask, causal, scale, p,
                   seed):
    arrays = query, key, value, output, g, grad_query, grad_key, grad_value
    if not _suited(*arrays) or not _mask_suits(mask) or not logsumexp.flags.carray:
        reference.attention_grad(grad_query, grad_key, grad_value, g, query, key, value, output, logsumexp, mask,
                                 causal, scale, p, seed)
        return
    (samples, queries, heads, _), keys = query.shape, key.shape[1]
    kind, places = _places(mask, *arrays)
    _run(backward, backward_serial, query, key, (
        places, samples, heads, queries, keys, query.shape[3], value.shape[3], kind, _ahead(causal), np.float32(scale),
        *_dropout(p), seed, logsumexp.reshape(-1)))


def _run(loop, serial, query, key, arguments):
    if query.size * key.shape[1] < SMALL * 8:
        serial(*arguments)
    else:
        parallel(loop, *arguments)


def _suited(*arrays) -> bool:
    """Whether the loops take these arrays (N, T, H, E): float32, the numbers of a row side by side."""
    for x in arrays:
        if (type(x) is not np.ndarray or x.dtype != FLOAT32 or not x.size or not x.flags.aligned
                or x.strides[3] != 4 or min(x.strides) < 0 or any(distance % 4 for distance in x.strides)):
            return False
    return True


def _mask_suits(mask) -> bool:
    return mask is None or type(mask) is np.ndarray and mask.dtype in (FLOAT32, np.bool_) and mask.flags.aligned


def _ahead(causal) -> int:
    return FAR if causal is None else causal


def _dropout(p):
    """p 2^24, and what kept weights are multiplied by."""
    return round(p * 2**24), np.float32(1 / (1 - p) if p < 1 else 0)


def _places(mask, *arrays):
    """The kind of mask, and for it and for each array (N, T, H, E) its address and its distances in numbers.

    The mask's are those from sample to sample, head to head, query to query and key to key.
    """
    lines, kind = [[0] * 5], NO_MASK
    if mask is not None:
        kind = NUMBERS if mask.dtype == FLOAT32 else BOOLEANS
        steps = [0 if length == 1 else distance // mask.itemsize
                 for length, distance in zip(mask.shape, mask.strides)]
        lines = [[_address(mask), *[0] * (4 - mask.ndim), *steps]]
    for x in arrays:
        sample, row, head, _ = x.strides
        lines.append([_address(x), sample // 4, head // 4, row // 4, 1])
    return kind, np.array(lines)


def _address(x) -> int:
    return x.__array_interface__["data"][0]


@compiled
def update_peaks(scores, keys, peaks, factors):
    """Raise the peak of each query to its largest score; factors: e^(old peak - new). Whether any is not 1.

    Four keys at a time, so that few steps wait for the one before; a nan is passed over, since every sum will meet it.
    """
    for i in range(COLUMNS):
        factors[i] = peaks[i]
    for j in range(0, keys, 4):
        row = j * COLUMNS
        for i in range(COLUMNS):
            a, b = scores[row + i], scores[row + COLUMNS + i]
            c, d = scores[row + 2 * COLUMNS + i], scores[row + 3 * COLUMNS + i]
            a, c = (b if b > a else a), (d if d > c else c)
            a = c if c > a else a
            peaks[i] = a if a > peaks[i] else peaks[i]
    changed = False
    for i in range(COLUMNS):
        changed |= factors[i] != peaks[i]
        shift = np.float32(0) if peaks[i] == -INFINITY else peaks[i]
        factors[i] = exp(factors[i] - shift)
    return changed


@compiled
def to_weights(scores, keys, peaks, totals):
    """scores = e^(scores - peak), added to the totals of their queries; a peak of -inf counts as 0."""
    for j in range(0, keys, 4):
        row = j * COLUMNS
        for i in range(COLUMNS):
            shift = np.float32(0) if peaks[i] == -INFINITY else peaks[i]
            a, b = exp(scores[row + i] - shift), exp(scores[row + COLUMNS + i] - shift)
            c, d = exp(scores[row + 2 * COLUMNS + i] - shift), exp(scores[row + 3 * COLUMNS + i] - shift)
            scores[row + i], scores[row + COLUMNS + i] = a, b
            scores[row + 2 * COLUMNS + i], scores[row + 3 * COLUMNS + i] = c, d
            totals[i] += (a + b) + (c + d)


@compiled
def scale_rows(sums, width, rows, factors):
    for i in range(rows):
        row = i * width
        for e in range(width):
            sums[row + e] *= factors[i]


@compiled
def forward_task(task, pieces, places, heads, queries, keys, width, value_width, kind, ahead, scale, threshold, factor,
                 seed, peaks_out, totals_out):
    """The outputs of one piece of the queries of one head."""
    matrix, piece = task // pieces, task % pieces
    sample, head = matrix // heads, matrix % heads
    first, end = queries * piece // pieces, queries * (piece + 1) // pieces
    query, key = matrix_at(places[1], sample, head, queries, width), matrix_at(places[2], sample, head, keys, width)
    value = matrix_at(places[3], sample, head, keys, value_width)
    output = matrix_at(places[4], sample, head, queries, value_width)
    seen = max(0, min(keys, end + ahead))
    value_wide = padded(value_width)
    key_rows, value_rows = np.empty(seen * width, np.float32), np.empty(seen * value_wide, np.float32)
    copy_rows(key, 0, places[2, ROW], seen, width, key_rows, width)
    copy_rows(value, 0, places[3, ROW], seen, value_width, value_rows, value_wide)
    panel, scores = np.empty(width * COLUMNS, np.float32), np.empty((BLOCK + 3) * COLUMNS, np.float32)
    masks = np.empty((2, BLOCK * COLUMNS if kind != NO_MASK else 0), np.float32)  # as rows, and as a panel
    sums = np.empty(COLUMNS * value_wide, np.float32)
    peaks, totals, factors = np.empty((3, COLUMNS), np.float32)
    low, high = np.empty((2, COLUMNS), np.uint32)
    for i in range(first, end, COLUMNS):
        count = min(COLUMNS, end - i)
        pack_panel(query, i * places[1, ROW], places[1, ROW], count, width, scale, panel)
        peaks[:], totals[:], sums[:] = -INFINITY, 0, 0
        if threshold > 0:
            low[:], high[:] = 0, 0
            row_keys(seed, matrix * queries + i, count, low, high)
        limit = max(0, min(keys, i + count + ahead))
        for j in range(0, limit, BLOCK):
            block = min(BLOCK, limit - j)
            product(key_rows, j * width, width, 1, block, panel, 0, COLUMNS, COLUMNS, width, scores, 0, COLUMNS, False,
                    -FAR, FAR)
            if kind != NO_MASK:
                add_mask(places[0], kind, sample, head, i, count, j, block, scores, 0, COLUMNS, masks[0], masks[1])
            hide_later(scores, 0, COLUMNS, block, i + ahead - j)
            scores[block * COLUMNS:(block + 3) * COLUMNS] = -INFINITY
            if update_peaks(scores, block, peaks, factors) and j > 0:
                scale_rows(sums, value_wide, count, factors)
                for column in range(COLUMNS):
                    totals[column] *= factors[column]
            to_weights(scores, block, peaks, totals)
            if threshold > 0:
                drop(scores, 0, COLUMNS, block, j, low, high, threshold, factor)
            product(scores, 0, 1, COLUMNS, count, value_rows, j * value_wide, value_wide, value_wide, block, sums, 0,
                    value_wide, True, -FAR, i + ahead - j)
        for row in range(count):
            alone = totals[row] == 0
            at = matrix * queries + i + row
            peaks_out[at], totals_out[at] = peaks[row], np.float32(1) if alone else totals[row]
            write_rows(sums[row * value_wide:], value_wide, np.float32(0) if alone else np.float32(1) / totals[row],
                       output, (i + row) * places[4, ROW], 0, 1, value_width)


@compiled
def forward_serial(places, samples, heads, queries, keys, width, value_width, kind, ahead, scale, threshold, factor,
                   seed, pieces, peaks, totals):
    for task in range(samples * heads * pieces):
        forward_task(task, pieces, places, heads, queries, keys, width, value_width, kind, ahead, scale, threshold,
                     factor, seed, peaks, totals)


@compiled_parallel
def forward(places, samples, heads, queries, keys, width, value_width, kind, ahead, scale, threshold, factor, seed,
            pieces, peaks, totals):
    for i in prange(samples * heads * pieces):
        task = np.int64(i)  # one type for all callers of the task, or it is compiled twice
        forward_task(task, pieces, places, heads, queries, keys, width, value_width, kind, ahead, scale, threshold,
                     factor, seed, peaks, totals)
