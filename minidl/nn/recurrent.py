"""RNN, LSTM and GRU: layers over sequences, several on top of each other, in one direction or in both.

Each layer and direction is one operation over the whole sequence (`minidl/ops/recurrent.py`). Sequences of different
length come packed (`minidl/nn/utils/rnn.py`), or padded together with their lengths. Cells, which take a single step,
are in `cells.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import ops
from minidl.errors import ShapeError
from minidl.nn import init
from minidl.nn.module import Module, Parameter
from minidl.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from minidl.tensor import Tensor, as_array


class _Recurrent(Module):
    """What the three share: parameters, the shapes of inputs and states, the stack of layers."""

    operation: Callable
    gates = 1  # how many blocks of H rows a weight has
    states: tuple[str, ...] = ("h",)  # what goes from step to step

    def _make(self, dtype: Any) -> None:
        """Checks the sizes and makes the parameters, in PyTorch's order."""
        for size in ("input_size", "hidden_size", "num_layers"):
            if getattr(self, size) < 1:
                raise ValueError(f"{type(self).__name__}: {size} must be at least 1, not {getattr(self, size)}")
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"{type(self).__name__}: dropout is a probability between 0 and 1, not {self.dropout}")
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            inputs = self.input_size if layer == 0 else directions * self.hidden_size
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (inputs,), "weight_hh": (self.hidden_size,)}
                shapes |= {"bias_ih": (), "bias_hh": ()} if self.bias else {}
                for name, shape in shapes.items():
                    rows = self.gates * self.hidden_size
                    setattr(self, f"{name}_{suffix}", Parameter(np.empty((rows, *shape), dtype or np.float32)))
        self.reset_parameters()

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"] if self.bidirectional else [f"l{layer}"]

    def reset_parameters(self) -> None:
        """All parameters uniform in ±1/sqrt(hidden_size)."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: PyTorch's scripts call it for the sake of GPUs."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """weight_ih, weight_hh and the biases, a list for each layer and direction."""
        return [self._weights(suffix) for layer in range(self.num_layers) for suffix in self._suffixes(layer)]

    def _weights(self, suffix: str) -> list[Parameter]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if self.bias else ("weight_ih", "weight_hh")
        return [getattr(self, f"{name}_{suffix}") for name in names]

    def config(self) -> dict[str, Any]:
        return {**super().config(), "bias": self.bias}

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Any, Any]:
        """The states of all steps and the last ones: see the class. lengths (N,): how long each padded sequence is."""
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("a packed sequence knows its lengths; lengths are given with padded ones")
            return self._forward_packed(input, hx)
        self._check_input(input, (2, 3))
        if lengths is not None:
            return self._forward_padded(input, hx, lengths)
        x, alone = input, input.ndim == 2
        if alone:
            x = x[:, None]  # T, 1, I
        elif self.batch_first:
            x = ops.transpose(x, 0, 1)  # T, N, I
        y, last = self._run(x, None, self._first_states(hx, x.shape[1], x.dtype, alone))
        if alone:
            return y[:, 0], self._hand_out([state[:, 0] for state in last])
        return ops.transpose(y, 0, 1) if self.batch_first else y, self._hand_out(last)

    def _forward_padded(self, input: Tensor, hx: Any, lengths: Any) -> tuple[Any, Any]:
        if input.ndim != 3:
            raise ShapeError(f"lengths belong to a batch of sequences, the input has shape {input.shape}")
        packed = pack_padded_sequence(input, lengths, self.batch_first, enforce_sorted=False)
        output, last = self._forward_packed(packed, hx)
        steps = input.shape[1 if self.batch_first else 0]
        return pad_packed_sequence(output, self.batch_first, total_length=steps)[0], last

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        data, batch_sizes, order, back = input
        self._check_input(data, (2,))
        sizes = as_array(batch_sizes)
        first = self._first_states(hx, int(sizes[0]), data.dtype, False)
        if hx is not None and order is not None:
            first = [state[:, order] for state in first]
        y, last = self._run(data, sizes, first)
        if back is not None:
            last = [state[:, back] for state in last]
        return PackedSequence(y, batch_sizes, order, back), self._hand_out(last)

    def _run(self, x: Tensor, batch_sizes: Any, first: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """All layers over x (T, N, I) or packed (S, I): the last layer's states and, of each kind, the last ones."""
        last: list[list[Tensor]] = [[] for _ in self.states]
        rows, count = len(x), first[0].shape[1]
        for layer in range(self.num_layers):
            directions = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                place = len(last[0])
                weights = self._weights(suffix)
                y = self._operation(x, [state[place] for state in first], weights, batch_sizes, direction == 1)
                directions.append(y[:rows])
                for kind, states in enumerate(last):
                    at = rows + kind if batch_sizes is None else slice(rows + kind * count, rows + (kind + 1) * count)
                    states.append(y[at])
            x = ops.cat(directions, dim=-1) if len(directions) > 1 else directions[0]
            if self.dropout and layer + 1 < self.num_layers and self.training:
                x = ops.dropout(x, self.dropout)
        return x, [ops.stack(states) for states in last]

    def _operation(self, x: Tensor, first: list[Tensor], weights: list[Parameter], batch_sizes: Any,
                   reverse: bool) -> Tensor:
        return self.operation(x, *first, *weights, batch_sizes=batch_sizes, reverse=reverse)

    def _check_input(self, x: Tensor, axes: tuple[int, ...]) -> None:
        layout = "(N, T, I)" if self.batch_first else "(T, N, I)"
        if x.ndim not in axes:
            cell = f": for a single step use nn.{type(self).__name__}Cell" if x.ndim < 2 else ""
            raise ShapeError(f"an input {layout} or, for one sequence, (T, I) is expected, not {x.shape}{cell}")
        if x.dtype.kind != "f":
            raise TypeError(f"an input of floating-point numbers is expected, this one is {x.dtype}: words go through "
                            "nn.Embedding first")
        if x.shape[-1] != self.input_size:
            raise ShapeError(f"the input {x.shape} has {x.shape[-1]} features at each step, input_size is "
                             f"{self.input_size}")

    def _first_states(self, hx: Any, count: int, dtype: Any, alone: bool) -> list[Tensor]:
        """The first states (L D, N, H), of each kind: zeros if none are given."""
        layers = self.num_layers * (2 if self.bidirectional else 1)
        shape = (layers, count, self.hidden_size)
        if hx is None:
            return [Tensor(np.zeros(shape, dtype))] * len(self.states)
        given = [hx] if isinstance(hx, Tensor) else list(hx)
        if len(given) != len(self.states) or isinstance(hx, Tensor) != (len(self.states) == 1):
            raise TypeError(f"the first state is {'a tensor' if len(self.states) == 1 else 'a pair (h_0, c_0)'}")
        expected = (shape[0], shape[2]) if alone else shape
        for kind, state in zip(self.states, given):
            if state.shape != expected:
                raise ShapeError(f"{kind}_0 of shape {expected} is expected ({'layers, H' if alone else 'layers, N, H'}"
                                 f"; layers counts both directions), it has shape {state.shape}")
        return [state[:, None] for state in given] if alone else given

    def _hand_out(self, last: list[Tensor]) -> Any:
        return last[0] if len(last) == 1 else tuple(last)

    def extra_repr(self) -> str:
        shown = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        text = f"{self.input_size}, {self.hidden_size}"
        return text + "".join(f", {name}={getattr(self, name)}" for name, usual in shown.items()
                              if getattr(self, name) != usual)


class RNN(_Recurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu, over x (T, N, I), (N, T, I) if batch_first, (T, I) or packed.

    Returns the states of all steps in the layout of x, (…, D H) with D = 2 if bidirectional, else 1, and the last
    states (num_layers D, N, H). hx: the first states of the same shape, zeros if left out. lengths: those of padded
    sequences; states behind an end are 0. dropout: between layers, in training. All parameters start uniform in
    ±1/sqrt(H): weight_ih_l0 (H, I), weight_hh_l0 (H, H), bias_ih_l0, bias_hh_l0 (H,), …_l0_reverse, …_l1, …
    Raises ShapeError for other shapes, ValueError for a wrong argument. Elman 1990, "Finding structure in time".
    """

    operation = staticmethod(ops.rnn)

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
                 bias: bool = True, batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 device: Any = None, dtype: Any = None):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.nonlinearity, self.bias, self.batch_first = nonlinearity, bias, batch_first
        self.dropout, self.bidirectional = dropout, bidirectional
        self._make(dtype)

    def _operation(self, x: Tensor, first: list[Tensor], weights: list[Parameter], batch_sizes: Any,
                   reverse: bool) -> Tensor:
        return ops.rnn(x, *first, *weights, batch_sizes=batch_sizes, reverse=reverse, nonlinearity=self.nonlinearity)

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", nonlinearity={self.nonlinearity!r}" if self.nonlinearity != "tanh" else "")


class LSTM(_Recurrent):
    """(i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh; c' = sigmoid(f) c + sigmoid(i) tanh(g); h' = sigmoid(o) tanh(c').

    As RNN, with two states: hx is a pair (h_0, c_0), and so are the last states. weight_ih_l0 (4 H, I), weight_hh_l0
    (4 H, H), bias_ih_l0, bias_hh_l0 (4 H,), gates in the order i, f, g, o. proj_size must be 0.
    Hochreiter and Schmidhuber 1997, "Long short-term memory".
    """

    operation = staticmethod(ops.lstm)
    gates, states = 4, ("h", "c")

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: Any = None, dtype: Any = None):
        if proj_size:
            raise NotImplementedError(f"LSTM: proj_size={proj_size}: projected states are not there; "
                                      "put an nn.Linear behind the layer")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._make(dtype)


class GRU(_Recurrent):
    """(r, z) = sigmoid(W_ih x + b_ih + W_hh h + b_hh); n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h' = (1-z) n + z h.

    As RNN. weight_ih_l0 (3 H, I), weight_hh_l0 (3 H, H), bias_ih_l0, bias_hh_l0 (3 H,), gates in the order r, z, n.
    Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder".
    """

    operation = staticmethod(ops.gru)
    gates = 3

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
                 dtype: Any = None):
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        self._make(dtype)
