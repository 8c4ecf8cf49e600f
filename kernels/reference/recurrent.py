"""Recurrent layers over whole sequences, step by step: the three cells, and the way back through time.

Forward, `h[:running]` are the states of the sequences that have a row at this step; the others keep what they have.
Backward, the steps come in the opposite order, and dh holds what reaches each state from the steps after it; the
gradient that comes from outside, g, is added on the way. A sigmoid s has the slope s (1 - s), a tanh t 1 - t^2.
"""

import numpy as np

from minidl.kernels.reference.activation import sigmoid
from minidl.kernels.steps import previous, steps


def rnn(inputs, h0, weight_hh, batch_sizes, nonlinearity, reverse):
    states, h = _room(inputs, h0, 1), h0.astype(inputs.dtype)
    for rows in steps(batch_sizes, reverse):
        running = rows.stop - rows.start
        z = inputs[rows] + h[:running] @ weight_hh.T
        h[:running] = states[rows] = np.tanh(z) if nonlinearity == "tanh" else np.maximum(z, 0)
    states[len(inputs):] = h
    return states


def rnn_grad(g, states, weight_hh, batch_sizes, nonlinearity, reverse):
    size = sum(batch_sizes)
    grad, dh = np.empty_like(states[:size]), g[size:].copy()
    for rows in steps(batch_sizes, not reverse):
        running = rows.stop - rows.start
        y = states[rows]
        slope = 1 - y * y if nonlinearity == "tanh" else y > 0
        grad[rows] = (dh[:running] + g[rows]) * slope
        dh[:running] = grad[rows] @ weight_hh
    return grad, grad.sum(axis=0), dh


def lstm(gates, h0, c0, weight_hh, batch_sizes, reverse):
    size, count = len(gates), len(h0)
    states, h, c = _room(gates, h0, 2), h0.astype(gates.dtype), c0.astype(gates.dtype)
    cells = np.empty_like(states[:size])
    for rows in steps(batch_sizes, reverse):
        running = rows.stop - rows.start
        z = gates[rows] + h[:running] @ weight_hh.T
        i, f, new, o = [np.tanh(part) if k == 2 else sigmoid(part) for k, part in enumerate(np.split(z, 4, axis=1))]
        gates[rows] = np.concatenate((i, f, new, o), axis=1)
        c[:running] = cells[rows] = f * c[:running] + i * new
        h[:running] = states[rows] = o * np.tanh(c[:running])
    states[size:size + count], states[size + count:] = h, c
    return states, cells


def lstm_grad(g, gates, cells, c0, weight_hh, batch_sizes, reverse):
    size, count = len(gates), len(c0)
    grad, dh, dc = np.empty_like(gates), g[size:size + count].copy(), g[size + count:].copy()
    before = previous(cells, c0, batch_sizes, reverse)
    for rows in steps(batch_sizes, not reverse):
        running = rows.stop - rows.start
        i, f, new, o = np.split(gates[rows], 4, axis=1)
        bent = np.tanh(cells[rows])
        dh_now = dh[:running] + g[rows]
        dc_now = dc[:running] + dh_now * o * (1 - bent * bent)
        grad[rows] = np.concatenate((dc_now * new * i * (1 - i), dc_now * before[rows] * f * (1 - f),
                                     dc_now * i * (1 - new * new), dh_now * bent * o * (1 - o)), axis=1)
        dc[:running] = dc_now * f
        dh[:running] = grad[rows] @ weight_hh
    return grad, grad.sum(axis=0), dh, dc


def gru(gates, h0, weight_hh, bias_hn, batch_sizes, reverse):
    size, width = len(gates), h0.shape[1]
    states, h = _room(gates, h0, 1), h0.astype(gates.dtype)
    inner = np.empty_like(states[:size])
    for rows in steps(batch_sizes, reverse):
        running = rows.stop - rows.start
        product = h[:running] @ weight_hh.T
        r, z = np.split(sigmoid(gates[rows, :2 * width] + product[:, :2 * width]), 2, axis=1)
        inner[rows] = product[:, 2 * width:] + (0 if bias_hn is None else bias_hn)
        n = np.tanh(gates[rows, 2 * width:] + r * inner[rows])
        gates[rows] = np.concatenate((r, z, n), axis=1)
        h[:running] = states[rows] = n + z * (h[:running] - n)
    states[size:] = h
    return states, inner


def gru_grad(g, gates, inner, states, h0, weight_hh, batch_sizes, reverse):
    size, width = len(gates), h0.shape[1]
    grad, grad_inner, dh = np.empty_like(gates), np.empty_like(inner), g[size:].copy()
    before = previous(states[:size], h0, batch_sizes, reverse)
    for rows in steps(batch_sizes, not reverse):
        running = rows.stop - rows.start
        r, z, n = np.split(gates[rows], 3, axis=1)
        dh_now = dh[:running] + g[rows]
        dn = dh_now * (1 - z) * (1 - n * n)
        grad_inner[rows] = dn * r
        grad[rows] = np.concatenate((dn * inner[rows] * r * (1 - r), dh_now * (before[rows] - n) * z * (1 - z), dn),
                                    axis=1)
        dh[:running] = (dh_now * z + grad[rows, :2 * width] @ weight_hh[:2 * width]
                        + grad_inner[rows] @ weight_hh[2 * width:])
    return grad, grad_inner, np.concatenate((grad.sum(axis=0), grad_inner.sum(axis=0))), dh


def _room(inputs, h0, finals):
    """An array for the states of all rows and, behind them, for so many last ones."""
    return np.empty((len(inputs) + finals * len(h0), h0.shape[1]), inputs.dtype)
