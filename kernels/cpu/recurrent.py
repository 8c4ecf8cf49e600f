"""Recurrent layers over whole sequences: weights packed once a sequence, gates fused with the products of each step.

The threads share the sequences, cut so that each has about as many rows of all steps, and each walks through all steps
by itself (recurrent_loops.py). Float64 and empty arrays take the reference.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.microkernel import COLUMNS
from minidl.kernels.cpu.panels import pack_columns
from minidl.kernels.cpu.recurrent_loops import (
    gru_backward_rows,
    gru_forward_rows,
    lstm_backward_rows,
    lstm_forward_rows,
    padded,
    rnn_backward_rows,
    rnn_forward_rows,
)
from minidl.kernels.cpu.runtime import FLOAT32, compiled, compiled_parallel, empty, fits, get_num_threads, parallel

__all__ = ["gru", "gru_grad", "lstm", "lstm_grad", "rnn", "rnn_grad"]

FEWEST = 4  # sequences of a thread: with fewer, the multiply-adds of a tile wait for each other
SMALL = 2**18  # multiplications, below which one thread is faster than two


def rnn(inputs, h0, weight_hh, batch_sizes, nonlinearity, reverse):
    if not _fit(inputs, h0, weight_hh):
        return reference.rnn(inputs, h0, weight_hh, batch_sizes, nonlinearity, reverse)
    states = empty((len(inputs) + len(h0), h0.shape[1]))
    starts, bounds = _shares(batch_sizes, weight_hh)
    _run(rnn_forward_parts, bounds, weight_hh, inputs, h0, starts, nonlinearity == "relu", reverse, h0.shape[1], states)
    return states


def rnn_grad(g, states, weight_hh, batch_sizes, nonlinearity, reverse):
    if not _fit(g, states, weight_hh):
        return reference.rnn_grad(g, states, weight_hh, batch_sizes, nonlinearity, reverse)
    starts, bounds = _shares(batch_sizes, weight_hh)
    count, width = int(batch_sizes[0]), states.shape[1]
    grad, grad_h0, sums = empty((int(starts[-1]), width)), empty((count, width)), empty((count, width))
    _run(rnn_backward_parts, bounds, weight_hh, g, states, starts, nonlinearity == "relu", reverse, width, grad,
         grad_h0, sums)
    return grad, sums.sum(axis=0), grad_h0


def lstm(gates, h0, c0, weight_hh, batch_sizes, reverse):
    if not _fit(gates, h0, c0, weight_hh):
        return reference.lstm(gates, h0, c0, weight_hh, batch_sizes, reverse)
    (count, width), size = h0.shape, len(gates)
    states, cells = empty((size + 2 * count, width)), empty((size, width))
    starts, bounds = _shares(batch_sizes, weight_hh)
    _run(lstm_forward_parts, bounds, weight_hh, gates, h0, c0, starts, reverse, width, states, cells)
    return states, cells


def lstm_grad(g, gates, cells, c0, weight_hh, batch_sizes, reverse):
    if not _fit(g, gates, cells, c0, weight_hh):
        return reference.lstm_grad(g, gates, cells, c0, weight_hh, batch_sizes, reverse)
    count, width = c0.shape
    grad, grad_h0, grad_c0 = empty(gates.shape), empty(c0.shape), empty(c0.shape)
    sums = empty((count, 4 * width))
    starts, bounds = _shares(batch_sizes, weight_hh)
    _run(lstm_backward_parts, bounds, weight_hh, g, gates, cells, c0, starts, reverse, width, grad, grad_h0, grad_c0,
         sums)
    return grad, sums.sum(axis=0), grad_h0, grad_c0


def gru(gates, h0, weight_hh, bias_hn, batch_sizes, reverse):
    if not _fit(gates, h0, weight_hh) or not (bias_hn is None or _fit(bias_hn)):
        return reference.gru(gates, h0, weight_hh, bias_hn, batch_sizes, reverse)
    (count, width), size = h0.shape, len(gates)
    states, inner = empty((size + count, width)), empty((size, width))
    bias_hn = np.zeros(width, np.float32) if bias_hn is None else bias_hn
    starts, bounds = _shares(batch_sizes, weight_hh)
    _run(gru_forward_parts, bounds, weight_hh, gates, h0, bias_hn, starts, reverse, width, states, inner)
    return states, inner


def gru_grad(g, gates, inner, states, h0, weight_hh, batch_sizes, reverse):
    if not _fit(g, gates, inner, states, h0, weight_hh):
        return reference.gru_grad(g, gates, inner, states, h0, weight_hh, batch_sizes, reverse)
    count, width = h0.shape
    grad, grad_inner, grad_h0 = empty(gates.shape), empty(inner.shape), empty(h0.shape)
    sums = empty((count, 4 * width))
    starts, bounds = _shares(batch_sizes, weight_hh)
    _run(gru_backward_parts, bounds, weight_hh, g, gates, inner, states, h0, starts, reverse, width, grad, grad_inner,
         grad_h0, sums)
    return grad, grad_inner, sums.sum(axis=0), grad_h0


def _fit(first, *arrays) -> bool:
    """Whether all are float32 and not empty; `first`, which may be written to, must be in C order as well."""
    return fits(first) and all(type(array) is np.ndarray and array.dtype == FLOAT32 and array.size for array in arrays)


def _shares(batch_sizes, weight_hh):
    """Where the rows of each step start, and which sequences each thread takes."""
    starts = np.zeros(len(batch_sizes) + 1, np.int64)
    np.cumsum(batch_sizes, out=starts[1:])
    count, size = int(batch_sizes[0]), int(starts[-1])
    parts = 1 if size * weight_hh.size < SMALL else max(1, min(get_num_threads(), count // FEWEST))
    bounds = np.arange(parts + 1) * count // parts
    if parts > 1 and size < count * len(batch_sizes):
        lengths = (np.asarray(batch_sizes) > np.arange(count)[:, None]).sum(axis=1)
        ends = np.cumsum(lengths)
        bounds[1:-1] = np.searchsorted(ends, np.arange(1, parts) * size // parts) + 1
    return starts, bounds


def _run(loop, bounds, weight_hh, *arguments):
    flat = [np.ascontiguousarray(x).reshape(-1) if isinstance(x, np.ndarray) else x for x in (weight_hh, *arguments)]
    width = weight_hh.shape[1]
    parallel(loop, bounds, empty(padded(width) * len(weight_hh)), *flat, limit=len(bounds) - 1)


@compiled
def pack_forward(weight, width, piece, panels):
    """Panel `piece` of W_hh^T: up to COLUMNS columns of one gate, which starts a panel of its own."""
    across = padded(width) // COLUMNS
    gate, first = piece // across, piece % across * COLUMNS
    pack_columns(weight, (gate * width + first) * width, width, 1, min(COLUMNS, width - first), width,
                 panels[piece * COLUMNS * width:])


@compiled
def pack_backward(weight, width, piece, panels):
    """Panel `piece` of W_hh, as deep as all gates together."""
    first, depth = piece * COLUMNS, len(weight) // width
    pack_columns(weight, first, 1, width, min(COLUMNS, width - first), depth, panels[first * depth:])


@compiled_parallel
def rnn_forward_parts(bounds, panels, weight, inputs, h0, starts, relu, reverse, width, states):
    for piece in prange(len(panels) // (width * COLUMNS)):
        pack_forward(weight, width, np.int64(piece), panels)
    for part in prange(len(bounds) - 1):
        rnn_forward_rows(bounds[part], bounds[part + 1], inputs, h0, panels, starts, relu, reverse, width, states)


@compiled_parallel
def rnn_backward_parts(bounds, panels, weight, g, states, starts, relu, reverse, width, grad, grad_h0, sums):
    for piece in prange(padded(width) // COLUMNS):
        pack_backward(weight, width, np.int64(piece), panels)
    for part in prange(len(bounds) - 1):
        rnn_backward_rows(bounds[part], bounds[part + 1], g, states, panels, starts, relu, reverse, width, grad,
                          grad_h0, sums)


@compiled_parallel
def lstm_forward_parts(bounds, panels, weight, gates, h0, c0, starts, reverse, width, states, cells):
    for piece in prange(len(panels) // (width * COLUMNS)):
        pack_forward(weight, width, np.int64(piece), panels)
    for part in prange(len(bounds) - 1):
        lstm_forward_rows(bounds[part], bounds[part + 1], gates, h0, c0, panels, starts, reverse, width, states, cells)


@compiled_parallel
def lstm_backward_parts(bounds, panels, weight, g, gates, cells, c0, starts, reverse, width, grad, grad_h0, grad_c0,
                        sums):
    for piece in prange(padded(width) // COLUMNS):
        pack_backward(weight, width, np.int64(piece), panels)
    for part in prange(len(bounds) - 1):
        lstm_backward_rows(bounds[part], bounds[part + 1], g, gates, cells, c0, panels, starts, reverse, width, grad,
                           grad_h0, grad_c0, sums)


@compiled_parallel
def gru_forward_parts(bounds, panels, weight, gates, h0, bias_hn, starts, reverse, width, states, inner):
    for piece in prange(len(panels) // (width * COLUMNS)):
        pack_forward(weight, width, np.int64(piece), panels)
    for part in prange(len(bounds) - 1):
        gru_forward_rows(bounds[part], bounds[part + 1], gates, h0, bias_hn, panels, starts, reverse, width, states,
                         inner)


@compiled_parallel
def gru_backward_parts(bounds, panels, weight, g, gates, inner, states, h0, starts, reverse, width, grad, grad_inner,
                       grad_h0, sums):
    for piece in prange(padded(width) // COLUMNS):
        pack_backward(weight, width, np.int64(piece), panels)
    for part in prange(len(bounds) - 1):
        gru_backward_rows(bounds[part], bounds[part + 1], g, gates, inner, states, h0, panels, starts, reverse, width,
                          grad, grad_inner, grad_h0, sums)
