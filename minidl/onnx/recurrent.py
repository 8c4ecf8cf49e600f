"""LSTM, GRU and RNN as ONNX describes them: gates in another order, all directions in one tensor.

`rearranged` turns ONNX's weights into those of minidl's (and PyTorch's) layers. The layers here are those layers with
ONNX's arguments and results; the operators at the end serve weights that come at run time.
"""

from __future__ import annotations

import numpy as np

from minidl import nn, ops
from minidl.onnx.operators import Numbers, Texts, operator
from minidl.tensor import Tensor, as_array
from minidl.transfer.structure import register

GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}  # place in ONNX (i o f c; z r h) of i f g o; r z n
USUAL = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def rearranged(kind: str, rows):
    """Rows of gates (G H, …) in minidl's order."""
    size = rows.shape[0] // len(GATES[kind])
    return ops.cat([rows[place * size:(place + 1) * size] for place in GATES[kind]], 0)


def _outward(y, last, layout: int, directions: int):
    """Results in ONNX's shapes: Y (T, D, N, H) and states (D, N, H); with layout 1 the batch comes first."""
    t, n, _ = y.shape
    y = ops.permute(ops.reshape(y, (t, n, directions, -1)), (0, 2, 1, 3))
    if layout:
        return ops.permute(y, (2, 0, 1, 3)), *[ops.permute(state, (1, 0, 2)) for state in last]
    return y, *last


class _Layer:
    """What the three layers share: ONNX's way of giving and taking."""

    def forward(self, x, lengths=None, *first):
        if self.layout:
            x = ops.transpose(x, 0, 1)
            first = tuple(None if state is None else ops.transpose(state, 0, 1) for state in first)
        states = [state for state in first if state is not None]
        if states and len(states) < len(self.states):
            zeros = Tensor(np.zeros(states[0].shape, x.dtype))
            states = [zeros if state is None else state for state in (*first, None)[:len(self.states)]]
        hx = None if not states else states[0] if len(self.states) == 1 else tuple(states)
        y, last = super().forward(x, hx, None if lengths is None else as_array(lengths))
        return _outward(y, (last,) if len(self.states) == 1 else last, self.layout, 2 if self.bidirectional else 1)


@register
class OnnxLSTM(_Layer, nn.LSTM):  # type: ignore[misc]
    """nn.LSTM of one layer: forward(x (T, N, I), lengths, h_0, c_0) gives Y (T, D, N, H), Y_h and Y_c (D, N, H)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, bidirectional: bool = False,
                 layout: int = 0):
        super().__init__(input_size, hidden_size, bias=bias, bidirectional=bidirectional)
        self.layout = layout


@register
class OnnxGRU(_Layer, nn.GRU):  # type: ignore[misc]
    """nn.GRU of one layer: forward(x (T, N, I), lengths, h_0) gives Y (T, D, N, H) and Y_h (D, N, H)."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, bidirectional: bool = False,
                 layout: int = 0):
        super().__init__(input_size, hidden_size, bias=bias, bidirectional=bidirectional)
        self.layout = layout


@register
class OnnxRNN(_Layer, nn.RNN):  # type: ignore[misc]
    """nn.RNN of one layer: forward(x (T, N, I), lengths, h_0) gives Y (T, D, N, H) and Y_h (D, N, H)."""

    def __init__(self, input_size: int, hidden_size: int, nonlinearity: str = "tanh", bias: bool = True,
                 bidirectional: bool = False, layout: int = 0):
        super().__init__(input_size, hidden_size, nonlinearity=nonlinearity, bias=bias, bidirectional=bidirectional)
        self.layout = layout


LAYERS = {"LSTM": OnnxLSTM, "GRU": OnnxGRU, "RNN": OnnxRNN}


def unusual(kind: str, attributes: dict) -> str:
    """What in the attributes minidl's layers cannot do, '' if there is nothing."""
    names = [name.lower() for name in attributes.get("activations", ())]
    directions = DIRECTIONS.get(attributes.get("direction", "forward"), 0)
    if not directions:
        return f"direction {attributes['direction'][:50]!r}"
    if names and names != [*USUAL[kind]] * directions and not (kind == "RNN" and set(names) == {"relu"}):
        return f"activations {', '.join(names)[:100]}"
    if attributes.get("clip") or attributes.get("input_forget") or attributes.get("activation_alpha"):
        return "clip, input_forget or activation_alpha"
    return ""


def _run(kind: str, x, w, r, b, lengths, first, attributes, step):
    """All directions over x, each by `step(x, direction's first states, weights, reverse)`."""
    problem = unusual(kind, attributes)
    layout, direction = attributes["layout"], attributes["direction"]
    if problem or lengths is not None and set(as_array(lengths).tolist()) != {x.shape[1 if layout else 0]}:
        raise ValueError(f"{kind} with {problem or 'sequences of different length'} is not there")
    if layout:
        x = ops.transpose(x, 0, 1)
        first = [None if state is None else ops.transpose(state, 0, 1) for state in first]
    hidden, directions = r.shape[-1], w.shape[0]
    ys, lasts = [], []
    for d in range(directions):
        starts = [Tensor(np.zeros((x.shape[1], hidden), x.dtype)) if state is None else state[d] for state in first]
        biases = (None, None) if b is None else (b[d][:len(GATES[kind]) * hidden], b[d][len(GATES[kind]) * hidden:])
        weights = [None if rows is None else rearranged(kind, rows) for rows in (w[d], r[d], *biases)]
        y = step(x, starts, weights, direction == "reverse" or d == 1)
        ys.append(y[:len(x)])
        lasts.append([y[len(x) + place] for place in range(len(first))])
    last = [ops.stack([states[place] for states in lasts]) for place in range(len(first))]
    return _outward(ops.cat(ys, -1) if directions > 1 else ys[0], last, layout, directions)


@operator("LSTM", outputs=3)
def lstm(x, w, r, b=None, sequence_lens=None, initial_h=None, initial_c=None, p=None, *, hidden_size: int = 0,
         direction: str = "forward", layout: int = 0, activations: Texts = (), activation_alpha: Numbers = (),
         activation_beta: Numbers = (), clip: float = 0.0, input_forget: int = 0):
    if p is not None:
        raise ValueError("LSTM with peepholes is not there")
    attributes = {"direction": direction, "layout": layout, "activations": activations, "clip": clip,
                  "input_forget": input_forget, "activation_alpha": activation_alpha}
    return _run("LSTM", x, w, r, b, sequence_lens, [initial_h, initial_c], attributes,
                lambda x, starts, weights, reverse: ops.lstm(x, *starts, *weights, reverse=reverse))


@operator("RNN", outputs=2)
def rnn(x, w, r, b=None, sequence_lens=None, initial_h=None, *, hidden_size: int = 0, direction: str = "forward",
        layout: int = 0, activations: Texts = (), activation_alpha: Numbers = (), activation_beta: Numbers = (),
        clip: float = 0.0):
    attributes = {"direction": direction, "layout": layout, "activations": activations, "clip": clip,
                  "activation_alpha": activation_alpha}
    nonlinearity = "relu" if activations and activations[0].lower() == "relu" else "tanh"
    return _run("RNN", x, w, r, b, sequence_lens, [initial_h], attributes, lambda x, starts, weights, reverse: ops.rnn(
        x, *starts, *weights, reverse=reverse, nonlinearity=nonlinearity))


@operator("GRU", outputs=2)
def gru(x, w, r, b=None, sequence_lens=None, initial_h=None, *, hidden_size: int = 0, direction: str = "forward",
        layout: int = 0, linear_before_reset: int = 0, activations: Texts = (), activation_alpha: Numbers = (),
        activation_beta: Numbers = (), clip: float = 0.0):
    attributes = {"direction": direction, "layout": layout, "activations": activations, "clip": clip,
                  "activation_alpha": activation_alpha}
    step = _gru if linear_before_reset else _gru_reset_first
    return _run("GRU", x, w, r, b, sequence_lens, [initial_h], attributes, step)


def _gru(x, starts, weights, reverse):
    return ops.gru(x, *starts, *weights, reverse=reverse)


def _gru_reset_first(x, starts, weights, reverse):
    """A GRU whose reset gate multiplies the state before the product, not the product: step by step."""
    w, r, b_w, b_r = weights
    (h,) = starts
    size = h.shape[-1]
    inputs = ops.linear(x, w, b_w)
    steps = range(len(x))
    states: list = [None] * len(x)
    for t in reversed(steps) if reverse else steps:
        bias = None if b_r is None else b_r[:2 * size]
        gates = ops.sigmoid(inputs[t][:, :2 * size] + ops.linear(h, r[:2 * size], bias))
        reset, update = gates[:, :size], gates[:, size:]
        bias = None if b_r is None else b_r[2 * size:]
        new = ops.tanh(inputs[t][:, 2 * size:] + ops.linear(reset * h, r[2 * size:], bias))
        h = states[t] = (1 - update) * new + update * h
    return ops.stack([*states, h])
