"""RNN, LSTM and GRU: one layer in one direction, over whole sequences, as one operation.

What does not depend on the state before is computed for all steps at once: forward the products of the inputs with
weight_ih; backward, once the gradients of the gates are known, those of x, both weights and both biases. Only the
products with the state go step by step, in the kernels (`kernels/contract/recurrent.py`).

Sequences of one length are x (T, N, I), and the result is (T + 1, N, H): the states of all steps, then the last one
(after it that of the cell, for an LSTM). Those of different length are packed, x (S, I) with batch_sizes (T,), see
`kernels/steps.py`, and the result is (S + N, H). So the gradient of the last state comes with that of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minidl import kernels
from minidl.errors import ShapeError
from minidl.kernels.steps import previous
from minidl.tensor import differentiable


@differentiable
def rnn(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, /, batch_sizes=None, reverse=False,
        nonlinearity="tanh"):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu, over sequences x (T, N, I) from h0 (N, H): (T + 1, N, H).

    weight_ih (H, I), weight_hh (H, H), biases (H,). batch_sizes (T,): x is packed (S, I), the result (S + N, H).
    reverse: from the last step to the first. Raises ShapeError where shapes do not fit. Elman 1990, "Finding structure
    in time".
    """
    call = _Call("rnn", 1, x, (h0,), weight_ih, weight_hh, bias_ih, bias_hh, batch_sizes, reverse)
    inputs = kernels.linear(call.x, weight_ih, call.both_biases())
    states = kernels.rnn(inputs, h0, weight_hh, call.batch_sizes, nonlinearity, reverse)

    def gradients(g):
        grad, bias, grad_h0 = kernels.rnn_grad(call.rows(g), states, weight_hh, call.batch_sizes, nonlinearity, reverse)
        return _Gradients(grad, (grad,), bias, bias, (grad_h0,))

    return call.shaped(states), call.vjps(gradients, states)


@differentiable
def lstm(x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, /, batch_sizes=None, reverse=False):
    """An LSTM over sequences x (T, N, I) from h0 and c0 (N, H): (T + 2, N, H), all h, the last h, the last c.

    (i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh; c' = sigmoid(f) c + sigmoid(i) tanh(g); h' = sigmoid(o) tanh(c').
    weight_ih (4H, I), weight_hh (4H, H), biases (4H,). batch_sizes (T,): x is packed (S, I), the result (S + 2N, H).
    reverse: from the last step to the first. Raises ShapeError where shapes do not fit. Hochreiter and Schmidhuber
    1997, "Long short-term memory"; with forget gates, Gers, Schmidhuber and Cummins 2000, "Learning to forget".
    """
    call = _Call("lstm", 4, x, (h0, c0), weight_ih, weight_hh, bias_ih, bias_hh, batch_sizes, reverse)
    gates = kernels.linear(call.x, weight_ih, call.both_biases())
    states, cells = kernels.lstm(gates, h0, c0, weight_hh, call.batch_sizes, reverse)

    def gradients(g):
        grad, bias, *starts = kernels.lstm_grad(call.rows(g), gates, cells, c0, weight_hh, call.batch_sizes, reverse)
        return _Gradients(grad, (grad,), bias, bias, starts)

    return call.shaped(states), call.vjps(gradients, states)


@differentiable
def gru(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, /, batch_sizes=None, reverse=False):
    """A GRU over sequences x (T, N, I) from h0 (N, H): (T + 1, N, H).

    (r, z) = sigmoid(W_ih x + b_ih + W_hh h + b_hh); n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h' = (1 - z) n + z h.
    weight_ih (3H, I), weight_hh (3H, H), biases (3H,), in the order r, z, n. batch_sizes (T,): x is packed (S, I), the
    result (S + N, H). reverse: from the last step to the first. Raises ShapeError where shapes do not fit. Cho et al.
    2014, "Learning phrase representations using RNN encoder-decoder"; r inside, behind the product, as in PyTorch.
    """
    call = _Call("gru", 3, x, (h0,), weight_ih, weight_hh, bias_ih, bias_hh, batch_sizes, reverse)
    bias, bias_hn, new = bias_ih, None, 2 * weight_hh.shape[1]
    if bias_ih is not None:
        bias = bias_ih.copy()
        bias[:new] += bias_hh[:new]
        bias_hn = bias_hh[new:]
    gates = kernels.linear(call.x, weight_ih, bias)
    states, inner = kernels.gru(gates, h0, weight_hh, bias_hn, call.batch_sizes, reverse)

    def gradients(g):
        grad, grad_inner, bias, grad_h0 = kernels.gru_grad(call.rows(g), gates, inner, states, h0, weight_hh,
                                                           call.batch_sizes, reverse)
        of_n = slice(new, len(weight_hh))
        return _Gradients(grad, (grad[:, :new], grad_inner), bias[:of_n.stop], np.delete(bias, of_n), (grad_h0,))

    return call.shaped(states), call.vjps(gradients, states)


class _Gradients(NamedTuple):
    """What the kernels give for one g."""

    inputs: Any  # of W_ih x
    products: tuple  # of W_hh h, side by side
    bias_ih: Any
    bias_hh: Any
    starts: Sequence  # of the first states


class _Call:
    """What the three operations share: their checks, and the gradients that follow from those of the gates."""

    def __init__(self, name: str, gates: int, x: Any, starts: tuple, weight_ih: Any, weight_hh: Any, bias_ih: Any,
                 bias_hh: Any, batch_sizes: Any, reverse: bool):
        _check(name, gates, x, starts, weight_ih, weight_hh, bias_ih, bias_hh, batch_sizes)
        self.starts, self.weight_ih, self.biases, self.reverse = starts, weight_ih, (bias_ih, bias_hh), reverse
        self.shape, self.count = x.shape, len(starts[0])
        self.x = x.reshape(-1, x.shape[-1])  # S, I
        self.equal = batch_sizes is None
        self.batch_sizes = np.full(len(x), self.count) if batch_sizes is None else np.asarray(batch_sizes, np.int64)

    def both_biases(self) -> Any:
        """bias_ih + bias_hh, which are only ever needed as a sum; None if there are none."""
        return None if self.biases[0] is None else self.biases[0] + self.biases[1]

    def shaped(self, states: Any) -> Any:
        """States (S + N, H) as (T + 1, N, H) if all sequences are equally long."""
        return states.reshape(-1, self.count, states.shape[1]) if self.equal else states

    def rows(self, g: Any) -> Any:
        return g.reshape(-1, g.shape[-1])

    def vjps(self, gradients: Callable, states: Any) -> tuple[Callable, ...]:
        """The vjps of x, the first states, the weights and the biases; products are made for those who ask only."""
        last: list[Any] = [None, None]  # the g last seen and its gradients

        def known(g: Any) -> _Gradients:
            if last[0] is not g:
                last[:] = g, gradients(g)
            return last[1]

        def start(position: int) -> Callable:
            return lambda g: known(g).starts[position].copy()

        return (
            lambda g: kernels.linear_grad_input(known(g).inputs, self.weight_ih).reshape(self.shape),
            *[start(position) for position in range(len(self.starts))],
            lambda g: kernels.linear_grad_weight(known(g).inputs, self.x),
            lambda g: np.concatenate([self._product(part, states) for part in known(g).products]),
            lambda g: known(g).bias_ih.copy(),  # copies, because no two inputs may be handed the same array
            lambda g: known(g).bias_hh.copy(),
        )

    def _product(self, grad: Any, states: Any) -> Any:
        """The sum over all rows of grad times the state before: the gradient of weight_hh."""
        size, h0 = len(grad), self.starts[0]
        if not self.equal:
            return kernels.linear_grad_weight(grad, previous(states[:size], h0, self.batch_sizes, self.reverse))
        first, later = slice(self.count), slice(self.count, size)
        before = states[:size - self.count]
        if self.reverse:
            first, later = slice(size - self.count, size), slice(size - self.count)
            before = states[self.count:size]
        product = kernels.linear_grad_weight(grad[first], h0)
        return product + kernels.linear_grad_weight(grad[later], before) if len(before) else product


def _check(name, gates, x, starts, weight_ih, weight_hh, bias_ih, bias_hh, batch_sizes):
    rows, hidden = weight_hh.shape if weight_hh.ndim == 2 else (0, 0)
    if rows != gates * hidden or not hidden:
        raise ShapeError(f"{name}: weight_hh ({gates} H, H) is needed, it has shape {weight_hh.shape}")
    axes, meaning = (3, "(T, N, I)") if batch_sizes is None else (2, "(S, I), packed,")
    if x.ndim != axes:
        raise ShapeError(f"{name}: an input {meaning} is needed, it has shape {x.shape}")
    if weight_ih.shape != (rows, x.shape[-1]):
        raise ShapeError(f"{name}: weight_ih has shape {weight_ih.shape}, the input {x.shape} and weight_hh "
                         f"{weight_hh.shape} need {(rows, x.shape[-1])}")
    if (bias_ih is None) != (bias_hh is None):
        raise ValueError(f"{name}: there are two biases or none; bias_{'ih' if bias_ih is None else 'hh'} is missing")
    for bias in (bias_ih, bias_hh):
        if bias is not None and bias.shape != (rows,):
            raise ShapeError(f"{name}: biases of shape {(rows,)} are needed, one has {bias.shape}")
    if batch_sizes is None:
        count = x.shape[1]
    else:
        count = int(batch_sizes[0]) if len(batch_sizes) else 0
        if sum(batch_sizes) != len(x) or np.any(np.diff(batch_sizes) > 0) or np.any(np.asarray(batch_sizes) < 1):
            raise ShapeError(f"{name}: batch_sizes must not rise from step to step, and add up to the {len(x)} rows of "
                             f"the input; they add up to {sum(batch_sizes)}")
    if not x.size:
        raise ShapeError(f"{name}: there is nothing to read in an input of shape {x.shape}")
    for start in starts:
        if start.shape != (count, hidden):
            raise ShapeError(f"{name}: first states of shape {(count, hidden)}, (N, H), are needed for the input "
                             f"{x.shape}, one has {start.shape}")
