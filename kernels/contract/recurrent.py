"""Recurrent layers: one layer in one direction over whole sequences. Computed in `../reference/recurrent.py`.

Rows are packed, see `../steps.py`: S rows of N sequences, batch_sizes (T,) of them at each step, int64. The products
with the inputs, for all steps at once, are made beforehand by `linear`, so that a kernel has only the products with the
state before: what it takes as `inputs` or `gates` is W_ih x + b. A gradient kernel returns the gradient of that, from
which the gradients of x and the weights are single products again, and its sum over all rows, that of the biases. With
reverse, each sequence is read from its end to its beginning. Results hold the states (S, H) of all steps and, behind
them, the last ones (N, H).
"""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def rnn(inputs, h0, weight_hh, batch_sizes, nonlinearity, reverse):
    """h' = tanh(inputs + W_hh h), or relu: states (S + N, H) for inputs (S, H), h0 (N, H) and weight_hh (H, H)."""


@kernel
def rnn_grad(g, states, weight_hh, batch_sizes, nonlinearity, reverse):
    """The gradients of inputs (S, H), bias (H,) and h0 (N, H) of rnn, for g (S + N, H); states is what it returned."""


@kernel
def lstm(gates, h0, c0, weight_hh, batch_sizes, reverse):
    """(i, f, g, o) = gates + W_hh h; c' = sigmoid(f) c + sigmoid(i) tanh(g); h' = sigmoid(o) tanh(c').

    gates (S, 4H) are overwritten with sigmoid(i), sigmoid(f), tanh(g), sigmoid(o); weight_hh (4H, H).
    Returns states (S + 2N, H), the last h and the last c behind those of all steps, and cells (S, H), c of all steps.
    """


@kernel
def lstm_grad(g, gates, cells, c0, weight_hh, batch_sizes, reverse):
    """The gradients of gates (S, 4H), bias (4H,), h0 and c0 (N, H) of lstm, for g (S + 2N, H) and what lstm left."""


@kernel
def gru(gates, h0, weight_hh, bias_hn, batch_sizes, reverse):
    """(r, z) = sigmoid(gates + W_hh h); n = tanh(gates + r (W_hn h + b_hn)); h' = (1 - z) n + z h.

    gates (S, 3H) are overwritten with r, z, n; weight_hh (3H, H), bias_hn (H,) or None.
    Returns states (S + N, H) and inner (S, H), W_hn h + b_hn of all steps.
    """


@kernel
def gru_grad(g, gates, inner, states, h0, weight_hh, batch_sizes, reverse):
    """The gradients of gates (S, 3H), inner (S, H), bias (4H,) and h0 (N, H) of gru, for g (S + N, H).

    gates, inner and states are what gru left. The biases are those of r, z, n and, the last, inner.
    """
