"""Emitters for what acts on each element alone: arithmetic, activations, comparisons, and NumPy's functions for these.

A number is brought to the dtype of the result, as minidl does it; ONNX never converts by itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.onnx.export_graph import Graph, Value
from minidl.onnx.export_table import EMITTERS, emitter

UNARY = {"abs": "Abs", "neg": "Neg", "ceil": "Ceil", "floor": "Floor", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
         "sin": "Sin", "cos": "Cos", "sign": "Sign", "reciprocal": "Reciprocal", "sigmoid": "Sigmoid", "tanh": "Tanh",
         "erf": "Erf"}
BINARY = {"mul": "Mul", "maximum": "Max", "minimum": "Min", "pow": "Pow"}
COMPARISONS = {"equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
               "greater_equal": "GreaterOrEqual"}
LOGICAL = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor", "bitwise_and": "And", "bitwise_or": "Or",
           "bitwise_xor": "Xor"}
NUMPY = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "negative": "neg", "absolute": "abs",
         "maximum": "maximum", "minimum": "minimum", "power": "pow", "exp": "exp", "log": "log", "sqrt": "sqrt",
         "square": "square", "sign": "sign", "floor": "floor", "ceil": "ceil", "sin": "sin", "cos": "cos",
         "tanh": "tanh", "remainder": "remainder", "reciprocal": "reciprocal"}
ROUNDINGS = ("ceil", "floor", "round", "trunc")


def enter_simple() -> None:
    """Enter the operations that are one ONNX operator of their own."""
    for name, kind in UNARY.items():
        def unary(g: Graph, x: Any, kind: str = kind, name: str = name) -> Value:
            x = g.operand(x, g.result_dtype)
            return x if name in ROUNDINGS and x.dtype.kind != "f" else g.node(kind, [x])
        emitter(name)(unary)
    for name, kind in BINARY.items():
        def binary(g: Graph, x: Any, y: Any, kind: str = kind) -> Value:
            return g.node(kind, [g.operand(x, g.result_dtype), g.operand(y, g.result_dtype)])
        emitter(name)(binary)
    for name, operation in NUMPY.items():
        def of_numpy(g: Graph, xs: list, operation: str = operation) -> Value:
            more = {"add": (1,), "sub": (1,), "div": (None,)}.get(operation, ())
            return EMITTERS[operation](g, *xs, *more)
        emitter(f"numpy.{name}")(of_numpy)
    for name, kind in COMPARISONS.items():
        def comparison(g: Graph, xs: list, kind: str = kind) -> Value:
            return compare(g, kind, *xs)
        emitter(f"numpy.{name}")(comparison)
    for name, kind in LOGICAL.items():
        def logical(g: Graph, xs: list, kind: str = kind, name: str = name) -> Value:
            if name.startswith("bitwise") and g.result_dtype != np.bool_:
                raise g.refuse("operators on the bits of integers are not written, those on booleans are")
            return g.node(kind, [truth(g, x) for x in xs], dtype=np.bool_)
        emitter(f"numpy.{name}")(logical)


def compare(g: Graph, kind: str, x: Any, y: Any) -> Value:
    """A comparison in the dtype in which NumPy makes it."""
    kinds = [v.dtype if isinstance(v, Value) else v if isinstance(v, (bool, int, float)) else 0 for v in (x, y)]
    dtype = np.result_type(*kinds)
    if dtype == np.bool_ and kind != "Equal":
        dtype = np.dtype(np.int32)
    return g.node(kind, [g.operand(x, dtype), g.operand(y, dtype)], dtype=np.bool_)


def truth(g: Graph, x: Any) -> Value:
    """x as booleans."""
    return g.operand(x, np.bool_)


@emitter("numpy.not_equal")
def not_equal(g: Graph, xs: list) -> Value:
    return g.node("Not", [compare(g, "Equal", *xs)])


@emitter("numpy.logical_not", "numpy.invert")
def logical_not(g: Graph, xs: list) -> Value:
    if g.result_dtype != np.bool_:
        raise g.refuse("operators on the bits of integers are not written, those on booleans are")
    return g.node("Not", [truth(g, xs[0])])


@emitter("numpy.isnan")
def isnan(g: Graph, xs: list) -> Value:
    return g.node("IsNaN", [xs[0]], dtype=np.bool_)


@emitter("numpy.isinf")
def isinf(g: Graph, xs: list) -> Value:
    return g.node("IsInf", [xs[0]], dtype=np.bool_)


@emitter("numpy.isfinite")
def isfinite(g: Graph, xs: list) -> Value:
    return g.node("Not", [g.node("Or", [isnan(g, xs), isinf(g, xs)])])


@emitter("where", "numpy.where")
def where(g: Graph, condition: Any, x: Any, y: Any) -> Value:
    x, y = g.operand(x, g.result_dtype), g.operand(y, g.result_dtype)
    return g.node("Where", [truth(g, condition), x, y], dtype=g.result_dtype)


@emitter()
def masked_fill(g: Graph, x: Value, mask: Any, value: Any) -> Value:
    if isinstance(value, Value):
        value = g.reshape(value, ())
    return where(g, mask, value, x)


@emitter()
def add(g: Graph, x: Any, y: Any, alpha: Any) -> Value:
    return _linear(g, "Add", x, y, alpha)


@emitter()
def sub(g: Graph, x: Any, y: Any, alpha: Any) -> Value:
    return _linear(g, "Sub", x, y, alpha)


def _linear(g: Graph, kind: str, x: Any, y: Any, alpha: Any) -> Value:
    x, y = g.operand(x, g.result_dtype), g.operand(y, g.result_dtype)
    if alpha != 1:
        y = g.node("Mul", [y, g.operand(alpha, g.result_dtype)])
    return g.node(kind, [x, y])


@emitter()
def div(g: Graph, x: Any, y: Any, rounding_mode: str | None) -> Value:
    x, y = g.operand(x, g.result_dtype), g.operand(y, g.result_dtype)
    if rounding_mode == "floor" and g.result_dtype.kind != "f":  # ONNX cuts integers off towards 0
        return g.node("Div", [g.node("Sub", [x, g.node("Mod", [x, y])]), y])
    quotient = g.node("Div", [x, y])
    if rounding_mode is None or g.result_dtype.kind != "f":
        return quotient
    return g.node("Floor", [quotient]) if rounding_mode == "floor" else trunc(g, quotient)


@emitter("numpy.floor_divide")
def floor_divide(g: Graph, xs: list) -> Value:
    return div(g, *xs, "floor")


@emitter()
def remainder(g: Graph, x: Any, y: Any) -> Value:
    x, y = g.operand(x, g.result_dtype), g.operand(y, g.result_dtype)
    if g.result_dtype.kind != "f":
        return g.node("Mod", [x, y])
    return g.node("Sub", [x, g.node("Mul", [g.node("Floor", [g.node("Div", [x, y])]), y])])


@emitter()
def square(g: Graph, x: Value) -> Value:
    return g.node("Mul", [x, x])


@emitter()
def expm1(g: Graph, x: Value) -> Value:
    x = g.cast(x, g.result_dtype)
    return g.node("Sub", [g.node("Exp", [x]), g.scalar(1, x.dtype)])


@emitter()
def log1p(g: Graph, x: Value) -> Value:
    x = g.cast(x, g.result_dtype)
    return g.node("Log", [g.node("Add", [x, g.scalar(1, x.dtype)])])


@emitter()
def log2(g: Graph, x: Value) -> Value:
    return _scaled(g, g.node("Log", [g.cast(x, g.result_dtype)]), 1 / math.log(2))


@emitter()
def log10(g: Graph, x: Value) -> Value:
    return _scaled(g, g.node("Log", [g.cast(x, g.result_dtype)]), 1 / math.log(10))


def _scaled(g: Graph, x: Value, factor: float) -> Value:
    return g.node("Mul", [x, g.scalar(factor, x.dtype)])


@emitter()
def rsqrt(g: Graph, x: Value) -> Value:
    return g.node("Reciprocal", [g.node("Sqrt", [g.cast(x, g.result_dtype)])])


@emitter()
def round_(g: Graph, x: Value, decimals: int) -> Value:
    if x.dtype.kind != "f":
        if decimals < 0:
            raise g.refuse("integers are not rounded to tens")
        return x
    if not decimals:
        return g.node("Round", [x])
    rounded = g.node("Round", [_scaled(g, x, 10.0**decimals)])
    return g.node("Div", [rounded, g.scalar(10.0**decimals, x.dtype)])


@emitter()
def trunc(g: Graph, x: Value) -> Value:
    if x.dtype.kind != "f":
        return x
    return g.node("Mul", [g.node("Sign", [x]), g.node("Floor", [g.node("Abs", [x])])])


@emitter()
def clip(g: Graph, x: Value, min: Any, max: Any) -> Value:
    limits = [None if limit is None else g.operand(limit, g.result_dtype) for limit in (min, max)]
    x = g.cast(x, g.result_dtype)
    if all(limit is None or limit.ndim == 0 for limit in limits):
        return g.node("Clip", [x, *limits])
    for kind, limit in zip(("Max", "Min"), limits):
        x = x if limit is None else g.node(kind, [x, limit])
    return x


@emitter()
def clone(g: Graph, x: Value) -> Value:
    return x


@emitter()
def dropout(g: Graph, x: Value, p: float, training: bool, inplace: bool, generator: Any) -> Value:
    return _left_out(g, x, p, training)


@emitter()
def feature_dropout(g: Graph, x: Value, p: float, training: bool, inplace: bool, generator: Any) -> Value:
    return _left_out(g, x, p, training)


def _left_out(g: Graph, x: Value, p: float, training: bool) -> Value:
    if training and p:
        raise g.refuse("it drops elements at random although the model is in evaluation mode: call it with "
                       "training=self.training")
    return x


@emitter()
def cast(g: Graph, x: Value, dtype: Any) -> Value:
    return g.cast(x, dtype)


@emitter()
def relu(g: Graph, x: Value, inplace: bool) -> Value:
    return g.node("Relu", [x]) if x.dtype.kind == "f" else g.node("Max", [x, g.scalar(0, x.dtype)])


@emitter()
def leaky_relu(g: Graph, x: Value, negative_slope: float, inplace: bool) -> Value:
    return g.node("LeakyRelu", [g.cast(x, g.result_dtype)], alpha=float(negative_slope))


@emitter()
def elu(g: Graph, x: Value, alpha: float, inplace: bool) -> Value:
    return g.node("Elu", [g.cast(x, g.result_dtype)], alpha=float(alpha))


@emitter()
def gelu(g: Graph, x: Value, approximate: str) -> Value:
    x = g.cast(x, g.result_dtype)
    if approximate == "tanh":
        cube = g.node("Mul", [g.node("Mul", [x, x]), x])
        inner = g.node("Add", [x, _scaled(g, cube, 0.044715)])
        bell = g.node("Tanh", [_scaled(g, inner, math.sqrt(2 / math.pi))])
    else:
        bell = g.node("Erf", [g.node("Div", [x, g.scalar(math.sqrt(2), x.dtype)])])
    return _scaled(g, g.node("Mul", [x, g.node("Add", [bell, g.scalar(1, x.dtype)])]), 0.5)


@emitter()
def silu(g: Graph, x: Value, inplace: bool) -> Value:
    x = g.cast(x, g.result_dtype)
    return g.node("Mul", [x, g.node("Sigmoid", [x])])


@emitter()
def softplus(g: Graph, x: Value, beta: float, threshold: float) -> Value:
    x = g.cast(x, g.result_dtype)
    inner = x if beta == 1 else _scaled(g, x, beta)
    y = g.node("Softplus", [inner])
    y = y if beta == 1 else g.node("Div", [y, g.scalar(beta, x.dtype)])
    if threshold >= 20:  # from there on log(1 + e^x) rounds to x
        return y
    return g.node("Where", [g.node("Greater", [inner, g.scalar(threshold, x.dtype)], dtype=np.bool_), x, y],
                  dtype=x.dtype)


enter_simple()
