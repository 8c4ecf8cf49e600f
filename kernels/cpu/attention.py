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
    BOOLEANS,
    COLUMNS,
    FAR,
    INFINITY,
    NO_MASK,
    NUMBERS,
    ROW,
    add_mask,
    copy_rows,
    drop,
    fill,
    hide_later,
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
from minidl.kernels.cpu.attention_grad import backward, backward_serial
from minidl.kernels.cpu.exponential import exp
from minidl.kernels.cpu.runtime import FLOAT32, compiled, compiled_parallel, empty, parallel

__all__ = ["attention", "attention_grad"]

BLOCK = 128  # keys whose scores are held at a time
PIECE = 512  # queries of a head that one task takes, at most
SMALL = 1 << 20  # multiplications of queries with keys, below which one thread is faster than two


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
    if query.size * key.shape[1] < SMALL:
        serial(*arguments)
    else:
        parallel(loop, *arguments)


def _suited(*arrays) -> bool:
    """Whether the loops take these arrays (N, T, H, E): float32, the numbers of a row side by side."""
    for x in arrays:
        if type(x) is not np.ndarray or x.dtype != FLOAT32 or not x.size:
            return False
        sample, row, head, step = x.strides
        together = sample | row | head  # negative if one of them is, a multiple of 4 if all are
        if step != 4 or together < 0 or together & 3 or not x.flags.aligned:
            return False
    return True


def _mask_suits(mask) -> bool:
    if mask is None:
        return True
    return (type(mask) is np.ndarray and mask.dtype in (FLOAT32, np.bool_) and mask.flags.aligned
            and all(distance >= 0 and distance % mask.itemsize == 0 for distance in mask.strides))


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
def update_peaks(scores, keys, peaks, totals, factors):
    """Raise the peak of each query to its largest score; factors: e^(old peak - new), for what was summed before.

    Four keys at a time, so that few steps wait for the one before; a nan is passed over, since every sum will meet it.
    Whether any peak has changed.
    """
    for i in range(COLUMNS):
        factors[i] = peaks[i]
    for j in range(0, keys, 4):
        rows = part(scores, j * COLUMNS, 4 * COLUMNS)
        for i in range(COLUMNS):
            a, b = rows[i], rows[COLUMNS + i]
            c, d = rows[2 * COLUMNS + i], rows[3 * COLUMNS + i]
            a, c = (b if b > a else a), (d if d > c else c)
            a = c if c > a else a
            peaks[i] = a if a > peaks[i] else peaks[i]
    changed = 0
    for i in range(COLUMNS):
        changed += factors[i] != peaks[i]
        factors[i] = exp(factors[i] - finite(peaks[i]))
        totals[i] *= factors[i]
    return changed > 0


@compiled(forceinline=True)
def finite(peak):
    """The peak, or 0 for that of a query that has seen no key: all of its weights become e^-inf."""
    return np.float32(0) if peak == -INFINITY else peak


@compiled
def to_weights(scores, keys, peaks, totals):
    """scores = e^(scores - peak), added to the totals of their queries."""
    for j in range(0, keys, 4):
        rows = part(scores, j * COLUMNS, 4 * COLUMNS)
        for i in range(COLUMNS):
            shift = finite(peaks[i])
            a, b = exp(rows[i] - shift), exp(rows[COLUMNS + i] - shift)
            c, d = exp(rows[2 * COLUMNS + i] - shift), exp(rows[3 * COLUMNS + i] - shift)
            rows[i], rows[COLUMNS + i], rows[2 * COLUMNS + i], rows[3 * COLUMNS + i] = a, b, c, d
            totals[i] += (a + b) + (c + d)


@compiled
def scale_rows(sums, width, rows, factors):
    for i in range(rows):
        row, factor = part(sums, i * width, width), factors[i]
        for e in range(width):
            row[e] *= factor


@compiled
def finish(peaks, totals, factors, peaks_out, totals_out):
    """Hand out peaks and totals; factors: 1 / total, or 0 for a query that has seen no key, whose total counts as 1."""
    for i in range(COLUMNS):
        alone = totals[i] == 0
        totals[i] = np.float32(1) if alone else totals[i]
        factors[i] = np.float32(0) if alone else np.float32(1) / totals[i]
    for i in range(peaks_out.size):
        peaks_out[i], totals_out[i] = peaks[i], totals[i]


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
    wide = padded(value_width)
    mask_size = BLOCK * COLUMNS if kind != NO_MASK else 0
    whole, at = room(seen * width + seen * wide + (width + BLOCK + 4 + wide + 5) * COLUMNS + 2 * mask_size)
    key_rows, at = taken(whole, at, seen * width)
    value_rows, at = taken(whole, at, seen * wide)
    panel, at = taken(whole, at, width * COLUMNS)
    scores, at = taken(whole, at, (BLOCK + 4) * COLUMNS)
    sums, at = taken(whole, at, COLUMNS * wide)
    peaks, at = taken(whole, at, COLUMNS)
    totals, at = taken(whole, at, COLUMNS)
    factors, at = taken(whole, at, COLUMNS)
    row_bits, at = taken(whole, at, 2 * COLUMNS)
    mask_rows, at = taken(whole, at, mask_size)
    mask_panel, at = taken(whole, at, mask_size)
    low, high = row_bits[:COLUMNS].view(np.uint32), row_bits[COLUMNS:].view(np.uint32)
    copy_rows(key, 0, places[2, ROW], seen, width, key_rows, width)
    copy_rows(value, 0, places[3, ROW], seen, value_width, value_rows, wide)
    for i in range(first, end, COLUMNS):
        count = min(COLUMNS, end - i)
        pack_panel(query, i * places[1, ROW], places[1, ROW], count, width, scale, panel)
        fill(peaks, 0, COLUMNS, -INFINITY)
        fill(totals, 0, COLUMNS, np.float32(0))
        fill(sums, 0, COLUMNS * wide, np.float32(0))
        if threshold > 0:
            row_keys(seed, matrix * queries + i, count, low, high)
        limit = max(0, min(keys, i + count + ahead))
        for j in range(0, limit, BLOCK):
            block = min(BLOCK, limit - j)
            product(key_rows, j * width, width, 1, block, panel, 0, COLUMNS, COLUMNS, width, scores, 0, COLUMNS, False,
                    -FAR, FAR)
            if kind != NO_MASK:
                add_mask(places[0], kind, sample, head, i, count, j, block, scores, 0, COLUMNS, mask_rows, mask_panel)
            hide_later(scores, 0, COLUMNS, block, i + ahead - j)
            fill(scores, block * COLUMNS, 3 * COLUMNS, -INFINITY)
            if update_peaks(scores, block, peaks, totals, factors) and j > 0:
                scale_rows(sums, wide, count, factors)
            to_weights(scores, block, peaks, totals)
            if threshold > 0:
                drop(scores, 0, COLUMNS, block, j, low, high, threshold, factor)
            product(scores, 0, 1, COLUMNS, count, value_rows, j * wide, wide, wide, block, sums, 0, wide, True, -FAR,
                    i + ahead - j)
        finish(peaks, totals, factors, part(peaks_out, matrix * queries + i, count),
               part(totals_out, matrix * queries + i, count))
        scale_rows(sums, wide, count, factors)
        write_rows(sums, wide, np.float32(1), output, i * places[4, ROW], places[4, ROW], count, value_width)


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
