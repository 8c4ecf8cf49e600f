"""Emitters for RNN, LSTM and GRU: ONNX has the same layers, with the gates in another order and both biases in one.

A recurrent layer of minidl is written as a whole, one ONNX layer for each of its own, both directions together.
Single operations, which cells use, are written by the same function.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import nn
from minidl.onnx.export_graph import Graph, Value
from minidl.onnx.export_table import emitter

BLOCKS = {"RNN": [0], "LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}  # minidl's i f g o as ONNX's i o f c, r z n as z r h


def _layer(g: Graph, kind: str, x: Value, weights: list[list[np.ndarray]], names: str, starts: list[Value | None],
           lengths: Value | None, direction: str, nonlinearity: str) -> list[Value]:
    """Y (T, D, N, H) and the last states (D, N, H) of one layer over x (T, N, I).

    weights: weight_ih, weight_hh and the two biases, if there are any, of each direction.
    """
    hidden = weights[0][1].shape[1]

    def ordered(array: np.ndarray) -> np.ndarray:
        return array.reshape(-1, hidden, *array.shape[1:])[BLOCKS[kind]].reshape(array.shape)

    def constant(letter: str, arrays: list[np.ndarray]) -> Value:
        return g.constant(np.stack(arrays), f"{names}.{letter}")

    inputs = [constant("W", [ordered(own[0]) for own in weights]), constant("R", [ordered(own[1]) for own in weights])]
    bias = None
    if len(weights[0]) > 2:
        bias = constant("B", [np.concatenate([ordered(own[2]), ordered(own[3])]) for own in weights])
    length = None if lengths is None else g.cast(lengths, np.int32)
    options: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
    if kind == "RNN":
        options["activations"] = [nonlinearity.capitalize() if nonlinearity != "relu" else "Relu"] * len(weights)
    count = 3 if kind == "LSTM" else 2
    results = g.node(kind, [x, *inputs, bias, length, *starts], outputs=count, hidden_size=hidden, direction=direction,
                     dtype=x.dtype, **options)
    time, samples = x.shape[:2]
    results[0].shape = (time, len(weights), samples, hidden)
    for result in results[1:]:
        result.shape = (len(weights), samples, hidden)
    return results


@emitter("nn.recurrent")
def recurrent(g: Graph, module: Any, input: Value, hx: Any, lengths: Value | None) -> list[Value]:
    kind = next(base.__name__ for base in (nn.RNN, nn.LSTM, nn.GRU) if isinstance(module, base))
    x, single = input, input.ndim == 2
    if single:
        x = g.unsqueeze(x, [1])
    elif module.batch_first:
        x = g.transpose(x, (1, 0, 2))
    given = [] if hx is None else list(hx) if isinstance(hx, (tuple, list)) else [hx]
    given = [g.unsqueeze(state, [1]) if single else state for state in given]
    directions = 2 if module.bidirectional else 1
    lasts: list[list[Value]] = [[] for _ in module.states]
    for layer in range(module.num_layers):
        weights = [[parameter.array for parameter in module._weights(suffix)] for suffix in module._suffixes(layer)]
        starts = [_rows(g, state, layer * directions, directions, module.num_layers) for state in given]
        names = f"{g.path}.l{layer}" if g.path else f"l{layer}"
        y, *last = _layer(g, kind, x, weights, names, list(starts), lengths,
                          "bidirectional" if directions == 2 else "forward", getattr(module, "nonlinearity", "tanh"))
        time, _, samples, hidden = y.shape
        if directions == 1:
            x = g.squeeze(y, [1])
        else:
            x = g.reshape(g.transpose(y, (0, 2, 1, 3)), (time, samples, directions * hidden))
        for states, state in zip(lasts, last):
            states.append(state)
    ends = [g.node("Concat", states, axis=0) if len(states) > 1 else states[0] for states in lasts]
    if single:
        return [g.squeeze(x, [1]), *[g.node("Squeeze", [end, np.array([1])]) for end in ends]]
    return [g.transpose(x, (1, 0, 2)) if module.batch_first else x, *ends]


def _rows(g: Graph, state: Value, first: int, count: int, layers: int) -> Value:
    """The first states (D, N, H) of one layer among those of all."""
    return state if layers == 1 else g.slice(state, 0, first, first + count)


@emitter()
def rnn(g: Graph, x: Value, h0: Value, weight_ih: Value, weight_hh: Value, bias_ih: Value | None,
        bias_hh: Value | None, batch_sizes: Any, reverse: bool, nonlinearity: str) -> Value:
    return _operation(g, "RNN", x, [h0], [weight_ih, weight_hh, bias_ih, bias_hh], batch_sizes, reverse, nonlinearity)


@emitter()
def lstm(g: Graph, x: Value, h0: Value, c0: Value, weight_ih: Value, weight_hh: Value, bias_ih: Value | None,
         bias_hh: Value | None, batch_sizes: Any, reverse: bool) -> Value:
    return _operation(g, "LSTM", x, [h0, c0], [weight_ih, weight_hh, bias_ih, bias_hh], batch_sizes, reverse, "tanh")


@emitter()
def gru(g: Graph, x: Value, h0: Value, weight_ih: Value, weight_hh: Value, bias_ih: Value | None,
        bias_hh: Value | None, batch_sizes: Any, reverse: bool) -> Value:
    return _operation(g, "GRU", x, [h0], [weight_ih, weight_hh, bias_ih, bias_hh], batch_sizes, reverse, "tanh")


def _operation(g: Graph, kind: str, x: Value, starts: list[Value], weights: list[Value | None], batch_sizes: Any,
               reverse: bool, nonlinearity: str) -> Value:
    """(T + 1, N, H), for an LSTM (T + 2, N, H): the states of all steps, then the last ones."""
    if batch_sizes is not None:
        raise g.refuse("packed sequences have no counterpart in ONNX: give the recurrent layer padded sequences and "
                       "their lengths, layer(x, None, lengths)")
    arrays = [weight.array for weight in weights if weight is not None]
    if any(array is None for array in arrays):
        raise g.refuse("its weights are computed by the model; only parameters can be written")
    firsts: list[Value | None] = [g.unsqueeze(start, [0]) for start in starts]
    y, *last = _layer(g, kind, x, [arrays], f"{g.path}.weights" if g.path else "weights", firsts, None,
                      "reverse" if reverse else "forward", nonlinearity)
    return g.node("Concat", [g.squeeze(y, [1]), *last], axis=0)
