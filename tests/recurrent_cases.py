"""The recurrent layers and cells that golden/make_recurrent.py gives to PyTorch and test_recurrent.py to minidl.

Both libraries run the same text, `compute`: names, weights and arguments are the same on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

STEPS, COUNT, INPUT, HIDDEN = 5, 4, 3, 5


@dataclass
class Variant:
    """A layer or cell, its options, and how it is fed."""

    layer: str
    options: dict[str, Any] = field(default_factory=dict)
    given_states: bool = False
    alone: bool = False  # one sequence, or for a cell one row, without the axis of the batch
    lengths: tuple[int, ...] = ()
    enforce_sorted: bool = True
    total_length: int | None = None


VARIANTS = {
    f"{layer}-{label}": Variant(layer, *arguments)
    for layer in ("RNN", "LSTM", "GRU")
    for label, arguments in {
        "plain": ({},),
        "states": ({}, True),
        "no-bias-batch-first": ({"bias": False, "batch_first": True}, True),
        "two-layers-both-ways": ({"num_layers": 2, "bidirectional": True}, True),
        "alone": ({"bidirectional": True}, True, True),
        "packed": ({"num_layers": 2}, False, False, (5, 3, 3, 1)),
        "packed-unsorted-both-ways": ({"bidirectional": True, "batch_first": True}, True, False, (2, 4, 1, 4), False,
                                      7),
    }.items()
} | {
    "RNN-relu": Variant("RNN", {"nonlinearity": "relu", "num_layers": 2}, True),
    "RNNCell": Variant("RNNCell", {}, True),
    "RNNCell-relu": Variant("RNNCell", {"nonlinearity": "relu", "bias": False}),
    "LSTMCell": Variant("LSTMCell", {}, True),
    "LSTMCell-alone": Variant("LSTMCell", {"bias": False}, True, True),
    "GRUCell": Variant("GRUCell", {}, True),
    "GRUCell-alone": Variant("GRUCell", {}, False, True),
}


def compute(torch: Any, name: str, dtype: Any) -> dict[str, Any]:
    """Results and gradients of a variant in the library `torch`, which is PyTorch or minidl."""
    case, random, dtype = VARIANTS[name], np.random.default_rng(len(name)), getattr(torch, np.dtype(dtype).name)

    def draw(*shape: int) -> Any:  # float32 values, so that both types see the same numbers
        return torch.tensor(random.standard_normal(shape).astype(np.float32), dtype=dtype)

    rnn, packing = torch.nn.utils.rnn, bool(case.lengths)
    layer = getattr(torch.nn, case.layer)(INPUT, HIDDEN, dtype=dtype, **case.options)
    layer.load_state_dict({key: draw(*value.shape) * 0.5 for key, value in layer.state_dict().items()})
    batch_first, cell = case.options.get("batch_first", False), case.layer.endswith("Cell")
    lead = () if cell else (STEPS,)
    shape = lead if case.alone else (COUNT, *lead) if batch_first else (*lead, COUNT)
    inputs = {"x": draw(*shape, INPUT)}
    layers = () if cell else (case.options.get("num_layers", 1) * (1 + case.options.get("bidirectional", False)),)
    if case.given_states:
        for key in ("h", "c") if "LSTM" in case.layer else ("h",):
            inputs[key] = draw(*layers, *(() if case.alone else (COUNT,)), HIDDEN)
    for tensor in inputs.values():
        tensor.requires_grad_()
    x, *hx = inputs.values()
    if packing:
        x = rnn.pack_padded_sequence(x, list(case.lengths), batch_first, case.enforce_sorted)
    results = layer(x, *((tuple(hx),) if len(hx) > 1 else hx))
    results = flat(results if isinstance(results, tuple) else (results,), rnn.PackedSequence)
    if packing:
        results[0], lengths = rnn.pad_packed_sequence(results[0], batch_first, -2.0, case.total_length)
        assert tuple(lengths.tolist()) == case.lengths
    sum((result * draw(*result.shape)).sum() for result in results).backward()
    values = {f"{name}/result{number}": result for number, result in enumerate(results)}
    values |= {f"{name}/grad-{key}": tensor.grad for key, tensor in inputs.items()}
    values |= {f"{name}/grad-{key}": parameter.grad for key, parameter in layer.named_parameters()}
    return {key: value.detach().numpy() for key, value in values.items()}


def flat(results: tuple, packed: type) -> list[Any]:
    """(output, (h_n, c_n)) as a list of three."""
    found: list[Any] = []
    for result in results:
        found += result if isinstance(result, tuple) and not isinstance(result, packed) else [result]
    return found
