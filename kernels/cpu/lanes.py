"""Arithmetic on a whole vector register, written with the signs of arithmetic, for formulas with many operands.

LLVM turns a plain loop into vector instructions only where it can prove, or check in few comparisons, that no array
overlaps another. A cell of an LSTM reads nine rows and writes seven. So such a step is written in LLVM's instructions
through Numba's `@intrinsic`, as in microkernel.py; `Lanes` lets it be read as the formula it is. What lies behind the
end of a row is masked off, so that any width is taken alike. Read next: recurrent_cells.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from minidl.kernels.cpu import exponential
from minidl.kernels.cpu.exponential import LN2_HIGH, LN2_LOW, PER_LN2, ROUNDER, SMALLEST
from minidl.kernels.cpu.microkernel import LANES
from minidl.kernels.cpu.vectors import INDEX, declared, in_every_lane, load_masked, store_masked

FLAGS = ("contract", "arcp", "nsz")  # as in runtime.py
_VECTOR, _WORDS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(INDEX, LANES)
_ZERO = ir.Constant(_VECTOR, [0.0] * LANES)
_NUMBERS = ir.Constant(_WORDS, list(range(LANES)))


class Lanes:
    """LANES float32 numbers, of which + - * / and comparisons make others, or with a number in every lane."""

    def __init__(self, builder: Any, value: Any):
        self.builder, self.value = builder, value

    def _with(self, operation: str, left: Any, right: Any) -> Lanes:
        left, right = self._value(left), self._value(right)
        return Lanes(self.builder, getattr(self.builder, operation)(left, right, flags=FLAGS))

    def _value(self, other: Any) -> Any:
        return other.value if isinstance(other, Lanes) else ir.Constant(_VECTOR, [float(np.float32(other))] * LANES)

    def __add__(self, other: Any) -> Lanes:
        return self._with("fadd", self, other)

    def __sub__(self, other: Any) -> Lanes:
        return self._with("fsub", self, other)

    def __mul__(self, other: Any) -> Lanes:
        return self._with("fmul", self, other)

    def __truediv__(self, other: Any) -> Lanes:
        return self._with("fdiv", self, other)

    def __radd__(self, other: Any) -> Lanes:
        return self._with("fadd", other, self)

    def __rsub__(self, other: Any) -> Lanes:
        return self._with("fsub", other, self)

    def __neg__(self) -> Lanes:
        return self._with("fsub", -0.0, self)

    def __abs__(self) -> Lanes:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return Lanes(self.builder, self.builder.call(declared(self.builder, f"llvm.fabs.v{LANES}f32", kind),
                                                     [self.value]))

    def below(self, limit: Any, then: Any, otherwise: Any) -> Lanes:
        """`then` in the lanes that are below the limit, `otherwise` in the others; a nan is not below."""
        smaller = self.builder.fcmp_ordered("<", self.value, self._value(limit))
        return self.chosen(smaller, then, otherwise)

    def chosen(self, condition: Any, then: Any, otherwise: Any) -> Lanes:
        return Lanes(self.builder, self.builder.select(condition, self._value(then), self._value(otherwise)))


def _parts(x: Lanes) -> tuple[Lanes, Lanes]:
    """`exponential.parts`, lane by lane: 2^n, and e^r - 1, of e^x = 2^n e^r."""
    bounded = x.below(SMALLEST, SMALLEST, x)
    rounded = bounded * PER_LN2 + ROUNDER
    n = rounded - ROUNDER
    r = bounded - n * LN2_HIGH - n * LN2_LOW
    bits = x.builder.shl(x.builder.bitcast(rounded.value, _WORDS), ir.Constant(_WORDS, [23] * LANES))
    series = r * exponential.E0 + exponential.E1
    for coefficient in (exponential.E2, exponential.E3, exponential.E4):
        series = series * r + coefficient
    return Lanes(x.builder, x.builder.bitcast(bits, _VECTOR)), r * r * series + r


def sigmoid(x: Lanes) -> Lanes:
    """1 / (1 + e^-x), without overflow."""
    power, e = _parts(-abs(x))
    small = power * e + power
    return x.below(0, small, 1) / (1 + small)


def tanh(x: Lanes) -> Lanes:
    """tanh x from e^(-2 |x|) - 1, exact near 0."""
    power, e = _parts(abs(x) * -2)
    e = power * e + (power - 1)
    size = -e / (2 + e)
    return x.below(0, -size, size)


class Access:
    """Loads and stores of LANES numbers at an address, or of those that a mask admits."""

    def __init__(self, builder: Any, mask: Any):
        self.builder, self.mask = builder, mask

    def load(self, pointer: Any, offset: Any = None) -> Lanes:
        pointer = pointer if offset is None else self.builder.gep(pointer, [offset])
        if self.mask is not None:
            return Lanes(self.builder, load_masked(self.builder, pointer, self.mask, _ZERO))
        place = self.builder.bitcast(pointer, _VECTOR.as_pointer())
        return Lanes(self.builder, self.builder.load(place, align=4))

    def store(self, lanes: Lanes, pointer: Any, offset: Any = None) -> None:
        pointer = pointer if offset is None else self.builder.gep(pointer, [offset])
        if self.mask is not None:
            store_masked(self.builder, lanes.value, pointer, self.mask)
        else:
            self.builder.store(lanes.value, self.builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def for_lanes(builder: Any, count: Any, body: Callable[[Access], None]) -> None:
    """Append `body` for whole vectors, and once more for the last ones, of which `count` (below LANES) lanes count."""
    whole = builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            body(Access(builder, None))
        with otherwise:
            body(Access(builder, builder.icmp_signed("<", _NUMBERS, in_every_lane(builder, count, LANES))))
