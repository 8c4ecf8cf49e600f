"""Recurrent cells: one step of an RNN, an LSTM or a GRU, for loops of one's own. The layers are in `recurrent.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.errors import ShapeError
from minidl.nn import init
from minidl.nn.module import Module, Parameter
from minidl.tensor import Tensor


class _Cell(Module):
    gates = 1

    def _make(self, dtype: Any) -> None:
        for size in ("input_size", "hidden_size"):
            if getattr(self, size) < 1:
                raise ValueError(f"{type(self).__name__}: {size} must be at least 1, not {getattr(self, size)}")
        rows, dtype = self.gates * self.hidden_size, dtype or np.float32
        self.weight_ih = Parameter(np.empty((rows, self.input_size), dtype))
        self.weight_hh = Parameter(np.empty((rows, self.hidden_size), dtype))
        self.bias_ih = Parameter(np.empty(rows, dtype)) if self.bias else None
        self.bias_hh = Parameter(np.empty(rows, dtype)) if self.bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All parameters uniform in ±1/sqrt(hidden_size)."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "bias": self.bias}

    def _step(self, operation: Any, x: Tensor, states: list[Tensor | None], **options: Any) -> list[Tensor]:
        """The states after one step of x (N, I) or (I,), in the layout of x; the first ones are zeros where None."""
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(f"an input (N, I) or (I,) with I = {self.input_size} is expected, not {x.shape}")
        shape = (*x.shape[:-1], self.hidden_size)
        rows = []
        for state in states:
            if state is not None and state.shape != shape:
                raise ShapeError(f"a state of shape {shape} is expected for the input {x.shape}, not {state.shape}")
            state = Tensor(np.zeros(shape, x.dtype)) if state is None else state
            rows.append(state if x.ndim == 2 else state[None])
        sequence = x[None] if x.ndim == 2 else x[None, None]  # T = 1, N, I
        y = operation(sequence, *rows, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, **options)
        return [y[1 + kind] if x.ndim == 2 else y[1 + kind, 0] for kind in range(len(states))]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu, for x (N, I) or (I,) and h (N, H) or (H,), zeros if left out.

    weight_ih (H, I), weight_hh (H, H), bias_ih and bias_hh (H,) start uniform in ±1/sqrt(H).
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
                 device: Any = None, dtype: Any = None):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNNCell: nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}")
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.nonlinearity = nonlinearity
        self._make(dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._step(ops.rnn, input, [hx], nonlinearity=self.nonlinearity)[0]

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", nonlinearity={self.nonlinearity!r}" if self.nonlinearity != "tanh" else "")


class LSTMCell(_Cell):
    """One step of an `LSTM` for x (N, I) or (I,): (h', c') from hx = (h, c), each (N, H) or (H,), zeros if left out.

    weight_ih (4 H, I), weight_hh (4 H, H), bias_ih and bias_hh (4 H,) start uniform in ±1/sqrt(H); order i, f, g, o.
    """

    gates = 4

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self._make(dtype)

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Tensor]:
        if hx is not None and (isinstance(hx, Tensor) or len(hx) != 2):
            raise TypeError("the first state is a pair (h, c)")
        h, c = self._step(ops.lstm, input, [None, None] if hx is None else list(hx))
        return h, c


class GRUCell(_Cell):
    """One step of a `GRU` for x (N, I) or (I,): h' from h (N, H) or (H,), zeros if left out.

    weight_ih (3 H, I), weight_hh (3 H, H), bias_ih and bias_hh (3 H,) start uniform in ±1/sqrt(H); order r, z, n.
    """

    gates = 3

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self._make(dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._step(ops.gru, input, [hx])[0]
