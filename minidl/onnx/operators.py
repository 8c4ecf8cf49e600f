"""The table from ONNX operator to what computes it, and the operators that work on each element alone.

An operator is a function of Tensors (None for a missing input) with the attributes as keyword arguments: their
annotations say which types a file may give, their defaults are ONNX's. It returns a Tensor or a tuple of them. Older
forms of an operator are brought to the newest one before (`older.py`). The other families stand in `operators_*.py`.
Values that are no floating-point numbers, such as sizes, go through NumPy: they need no gradient and keep their dtype.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minidl import ops
from minidl.errors import did_you_mean
from minidl.tensor import Tensor

TYPES: dict[str, tuple[str, type | tuple]] = {  # annotation -> what it is called, and the Python types of a value
    "int": ("an integer", int), "float": ("a number", (float, int)), "str": ("a text", str),
    "Integers": ("integers", int), "Numbers": ("numbers", (float, int)), "Texts": ("texts", str),
}
Integers: TypeAlias = tuple
Numbers: TypeAlias = tuple
Texts: TypeAlias = tuple
REQUIRED = inspect.Parameter.empty
MANY = 2**31


class Operator(NamedTuple):
    """What the table knows of an operator."""

    function: Callable
    least: int  # inputs
    most: int
    attributes: dict[str, tuple[str, Any]]  # name -> annotation, default
    outputs: int


OPERATORS: dict[str, Operator] = {}


def operator(name: str, outputs: int = 1) -> Callable[[Callable], Callable]:
    """Enter a function that returns up to so many outputs into the table under ONNX's name."""

    def enter(function: Callable) -> Callable:
        parameters = list(inspect.signature(function).parameters.values())
        tensors = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        least = sum(p.default is REQUIRED for p in tensors)
        attributes = {p.name: (str(p.annotation).removesuffix(" | None"), p.default) for p in parameters
                      if p.kind is p.KEYWORD_ONLY}
        OPERATORS[name] = Operator(function, least, MANY if variadic else len(tensors), attributes, outputs)
        return function

    return enter


def check(name: str, attributes: dict[str, Any], inputs: int) -> None:
    """Raise ValueError unless there is such an operator, for so many inputs and attributes of these types."""
    known = OPERATORS[name]
    if not known.least <= inputs <= known.most:
        raise ValueError(f"{name} takes {known.least} to {known.most} inputs, not {inputs}" if known.most < MANY else
                         f"{name} takes at least {known.least} inputs, not {inputs}")
    for key, value in attributes.items():
        if key not in known.attributes:
            raise ValueError(f"{name} has no attribute {key[:100]!r} that is known here"
                             f"{did_you_mean(key[:100], known.attributes)}")
        kind = known.attributes[key][0]
        words, types = TYPES[kind]
        several = kind.endswith("s")
        values = value if several and isinstance(value, (tuple, list)) else () if several else (value,)
        if several and not isinstance(value, (tuple, list)) or any(
                isinstance(item, bool) or not isinstance(item, types) for item in values):
            raise ValueError(f"{name}: the attribute {key!r} must be {words}, not {str(value)[:100]!r}")
    missing = [key for key, (_, default) in known.attributes.items() if default is REQUIRED and key not in attributes]
    if missing:
        raise ValueError(f"{name}: the attribute {missing[0]!r} is missing")


def is_float(*values: Any) -> bool:
    return all(value.dtype.kind == "f" for value in values if value is not None)


def integers(value: Any) -> list[int]:
    """The elements of a tensor of sizes, dims or places."""
    if value.dtype.kind not in "iu":
        raise TypeError(f"sizes, axes and the like must be integers, these are {value.dtype}")
    return [int(n) for n in value.array.reshape(-1).tolist()]


def _unary(name: str, smooth: Callable, other: Callable | None = None) -> None:
    """Enter an operator of one input: `smooth` for floating-point numbers, NumPy's `other` for the rest."""

    def function(x: Any) -> Any:
        if is_float(x) or other is None:
            return smooth(x)
        return Tensor(np.asanyarray(other(x.array), x.dtype))

    operator(name)(function)


def _sign(x: Any) -> Any:
    return ops.where(ops.isnan(x), x, ops.sign(x))


_unaries: tuple[tuple[str, Callable, Callable | None], ...] = (
    ("Abs", ops.abs, np.abs), ("Ceil", ops.ceil, None), ("Cos", ops.cos, None), ("Erf", ops.erf, None),
    ("Exp", ops.exp, None), ("Floor", ops.floor, None), ("Log", ops.log, None), ("Neg", ops.neg, np.negative),
    ("Reciprocal", ops.reciprocal, None), ("Relu", ops.relu, lambda x: np.maximum(x, 0)),
    ("Round", ops.round, None), ("Sigmoid", ops.sigmoid, None), ("Sign", _sign, np.sign), ("Sin", ops.sin, None),
    ("Sqrt", ops.sqrt, None), ("Tanh", ops.tanh, None), ("Mish", ops.mish, None),
    ("Identity", lambda x: x, lambda x: x), ("Softplus", lambda x: ops.softplus(x, threshold=float("inf")), None),
    ("Softsign", lambda x: x / (1 + ops.abs(x)), None),
    ("Tan", lambda x: ops.sin(x) / ops.cos(x), None),
    ("HardSwish", lambda x: x * ops.clip(x / 6 + 0.5, 0.0, 1.0), None),
)
for _name, _smooth, _other in _unaries:
    _unary(_name, _smooth, _other)


def _fmod(x: Any, y: Any) -> Any:
    quotient = ops.trunc(ops.div(x, y)).detach()
    return x - quotient * y


def _quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Integers divided and cut towards zero, as in C."""
    whole = x // y
    return whole + ((whole < 0) & (whole * y != x))


def _binary(name: str, smooth: Callable, other: Callable) -> None:
    def function(x: Any, y: Any) -> Any:
        if is_float(x, y):
            return smooth(x, y)
        return Tensor(np.asanyarray(other(x.array, y.array)))

    operator(name)(function)


_binaries: tuple[tuple[str, Callable, Callable], ...] = (
    ("Add", ops.add, np.add), ("Sub", ops.sub, np.subtract), ("Mul", ops.mul, np.multiply),
    ("Div", ops.div, _quotient), ("Equal", ops.eq, np.equal),
    ("Greater", ops.gt, np.greater), ("GreaterOrEqual", ops.ge, np.greater_equal), ("Less", ops.lt, np.less),
    ("LessOrEqual", ops.le, np.less_equal), ("And", ops.logical_and, np.logical_and),
    ("Or", ops.logical_or, np.logical_or), ("Xor", ops.logical_xor, np.logical_xor),
    ("BitwiseAnd", ops.bitwise_and, np.bitwise_and), ("BitwiseOr", ops.bitwise_or, np.bitwise_or),
    ("BitwiseXor", ops.bitwise_xor, np.bitwise_xor),
)
for _name, _smooth, _join in _binaries:
    _binary(_name, _smooth, _join)


@operator("Pow")
def power(x, y):
    if not is_float(x):
        return Tensor(np.power(x.array, y.array).astype(x.dtype))
    y = y if is_float(y) and y.dtype == x.dtype else Tensor(y.array.astype(x.dtype))
    return ops.pow(x, y.item() if y.ndim == 0 and not y.requires_grad else y)


@operator("Mod")
def modulo(x, y, *, fmod: int = 0):
    if is_float(x):
        return _fmod(x, y) if fmod else ops.remainder(x, y)
    return Tensor((np.fmod if fmod else np.mod)(x.array, y.array))


@operator("Not")
def logical_not(x):
    return ops.logical_not(x)


@operator("BitwiseNot")
def bitwise_not(x):
    return ops.bitwise_not(x)


@operator("IsNaN")
def is_nan(x):
    return ops.isnan(x)


@operator("IsInf")
def is_inf(x, *, detect_negative: int = 1, detect_positive: int = 1):
    array = x.array
    return Tensor(np.isinf(array) & ((array < 0) & bool(detect_negative) | (array > 0) & bool(detect_positive)))


@operator("Where")
def where(condition, x, y):
    if is_float(x, y):
        return ops.where(condition, x, y)
    return Tensor(np.where(condition.array, x.array, y.array))


def _fold(name: str, smooth: Callable, other: Callable) -> None:
    """Enter an operator of any number of inputs, which are joined two by two."""

    def function(x: Any, *others: Any) -> Any:
        for y in others:
            x = smooth(x, y) if is_float(x, y) else Tensor(other(x.array, y.array))
        return x

    operator(name)(function)


_fold("Max", ops.maximum, np.maximum)
_fold("Min", ops.minimum, np.minimum)
_fold("Sum", ops.add, np.add)


@operator("Mean")
def mean_of(x, *others):
    return OPERATORS["Sum"].function(x, *others) / (len(others) + 1)


@operator("Clip")
def clip(x, low=None, high=None):
    bounds = [None if bound is None else bound.array.reshape(())[()] for bound in (low, high)]
    if bounds == [None, None]:
        return x
    if low is not None and high is not None and bounds[0] > bounds[1]:  # type: ignore[operator]
        bounds[0] = bounds[1]
    return ops.clip(x, *bounds) if is_float(x) else Tensor(np.clip(x.array, *bounds))


@operator("LeakyRelu")
def leaky_relu(x, *, alpha: float = 0.01):
    return ops.leaky_relu(x, alpha)


@operator("PRelu")
def prelu(x, slope):
    return ops.relu(x) - slope * ops.relu(-x) if is_float(x) else \
        Tensor(np.where(x.array < 0, x.array * slope.array, x.array))


@operator("ThresholdedRelu")
def thresholded_relu(x, *, alpha: float = 1.0):
    return ops.where(ops.gt(x, alpha), x, 0.0)


@operator("Elu")
def elu(x, *, alpha: float = 1.0):
    return ops.elu(x, alpha)


@operator("Celu")
def celu(x, *, alpha: float = 1.0):
    return ops.elu(x / alpha, 1.0) * alpha


@operator("Selu")
def selu(x, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875):
    return ops.elu(x, alpha) * gamma


@operator("HardSigmoid")
def hard_sigmoid(x, *, alpha: float = 0.2, beta: float = 0.5):
    return ops.clip(x * alpha + beta, 0.0, 1.0)


@operator("Gelu")
def gelu(x, *, approximate: str = "none"):
    return ops.gelu(x, approximate)


@operator("Swish")
def swish(x, *, alpha: float = 1.0):
    return x * ops.sigmoid(x * alpha)


@operator("Shrink")
def shrink(x, *, bias: float = 0.0, lambd: float = 0.5):
    if not is_float(x):
        return Tensor(np.where(x.array < -lambd, x.array + bias, np.where(x.array > lambd, x.array - bias, 0)
                               ).astype(x.dtype))
    return ops.where(ops.lt(x, -lambd), x + bias, ops.where(ops.gt(x, lambd), x - bias, 0.0))


@operator("Softmax")
def softmax(x, *, axis: int = -1):
    return ops.softmax(x, axis)


@operator("LogSoftmax")
def log_softmax(x, *, axis: int = -1):
    return ops.log_softmax(x, axis)


@operator("Hardmax")
def hardmax(x, *, axis: int = -1):
    best = np.expand_dims(np.argmax(x.array, axis), axis)
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    return Tensor((np.arange(x.shape[axis]).reshape(shape) == best).astype(x.dtype))


@operator("Dropout", outputs=2)
def dropout(x, ratio=None, training_mode=None, *, seed: int = 0):
    if training_mode is not None and bool(training_mode.array):
        raise ValueError("Dropout in training_mode is not read: export the network in evaluation mode")
    return x, Tensor(np.ones(x.shape, bool))


def _flat(name: str, then: Callable) -> None:
    """Enter the form before opset 13: all axes from `axis` on count as one."""

    def function(x, *, axis: int = 1):
        rows = math.prod(x.shape[:axis % max(x.ndim, 1)])
        return ops.reshape(then(ops.reshape(x, (rows, -1)), axis=-1), x.shape)

    operator(name)(function)


_flat("softmax_flat", softmax)
_flat("log_softmax_flat", log_softmax)
_flat("hardmax_flat", hardmax)
