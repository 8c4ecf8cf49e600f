"""Every operation, once or more, with the shapes and options it is tried with: the only list of what is tested.

From a case follow, in `test_operations.py`: a gradient check in float64, the comparison with PyTorch's values
(made by `golden/make_operations.py`) in float32 and float64, and the dtype of result and gradients. Inputs are drawn
from a generator seeded by the case's name, with float32 values, so that both sides see the same numbers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Spec:
    """How to draw one input: `kind` of numbers and shape."""

    kind: str
    shape: tuple
    high: int = 0

    def draw(self, random: np.random.Generator) -> np.ndarray:
        if self.kind == "integers":
            return random.integers(0, self.high, self.shape)
        if self.kind == "booleans":
            return random.random(self.shape) < 0.5
        values = random.standard_normal(self.shape)
        if self.kind == "positive":
            values = np.abs(values) + 0.5
        if self.kind == "unit":
            values = random.random(self.shape) * 0.9 + 0.05
        if self.kind == "probabilities":
            values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        if self.kind == "distinct":  # far apart, so that no maximum changes under a small step
            values = random.permutation(np.prod(self.shape, dtype=int)).reshape(self.shape) / 7.0 - 2.0
        return np.asarray(values).astype(np.float32)


def positive(*shape: int) -> Spec:
    return Spec("positive", shape)


def unit(*shape: int) -> Spec:
    return Spec("unit", shape)


def probabilities(*shape: int) -> Spec:
    return Spec("probabilities", shape)


def distinct(*shape: int) -> Spec:
    return Spec("distinct", shape)


def booleans(*shape: int) -> Spec:
    return Spec("booleans", shape)


def integers(high: int, *shape: int) -> Spec:
    return Spec("integers", shape, high)


@dataclass
class Case:
    """One operation with drawn inputs (passed by position) and options (passed by keyword)."""

    operation: str
    inputs: list
    options: dict[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        return f"{self.operation}-{self.label}"

    def arrays(self, dtype: Any = np.float64) -> list[np.ndarray]:
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        drawn = [(Spec("normal", s) if isinstance(s, tuple) else s).draw(random) for s in self.inputs]
        return [x.astype(dtype) if x.dtype.kind == "f" else x for x in drawn]


CASES: list[Case] = []


def case(operation: str, inputs: list, label: str = "", **options: Any) -> None:
    """Announce a case; `label` tells several of one operation apart (made from the options if left out)."""
    label = label or "-".join(f"{k}={v}" for k, v in options.items()) or "plain"
    made = Case(operation, inputs, options, label)
    if any(other.name == made.name for other in CASES):
        raise ValueError(f"two cases are called '{made.name}': give one a label")
    CASES.append(made)


case("add", [(3, 4), (3, 4)])
case("add", [(3, 4), (4,)], label="broadcast")
case("add", [(2, 1, 4), (3, 1)], label="broadcast-both")
case("sub", [(3, 4), (3, 1)])
case("mul", [(3, 4), (1, 4)])
case("div", [(3, 4), positive(4)])
case("neg", [(3, 4)])
case("abs", [(3, 4)])
case("pow", [positive(3, 4), (4,)])
case("exp", [(3, 4)])
case("expm1", [(3, 4)])
case("log", [positive(3, 4)])
case("log1p", [positive(3, 4)])
case("sqrt", [positive(3, 4)])
case("sin", [(3, 4)])
case("cos", [(3, 4)])
case("clip", [(3, 4)], min=-0.5, max=0.5)
case("clip", [(3, 4)], max=0.5)
case("maximum", [(3, 4), (3, 4)])
case("minimum", [(3, 4), (4,)])
case("where", [booleans(3, 4), (3, 4), (4,)])

case("matmul", [(3, 4), (4, 5)])
case("matmul", [(2, 1, 3, 4), (5, 4, 2)], label="broadcast")
case("matmul", [(4,), (4,)], label="vectors")
case("matmul", [(2, 3, 4), (4,)], label="vector-right")
case("matmul", [(4,), (2, 4, 3)], label="vector-left")
case("linear", [(6, 5), (3, 5), (3,)])
case("linear", [(2, 4, 5), (3, 5)], label="no-bias-3d")
