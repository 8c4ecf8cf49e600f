"""Emitters for what makes several elements into one: sums, means, extremes, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.onnx.export_elementwise import truth
from minidl.onnx.export_graph import Graph, Value
from minidl.onnx.export_table import emitter
from minidl.ops.dims import all_dims, one_dim


def _reduced(g: Graph, kind: str, x: Value, dim: Any, keepdim: bool) -> Value:
    dims = all_dims(kind, dim, x.shape)
    return g.reduce(kind, x, dims, keepdim) if dims else x


@emitter()
def sum_(g: Graph, x: Value, dim: Any, keepdim: bool, dtype: Any) -> Value:
    return _reduced(g, "ReduceSum", g.cast(x, g.result_dtype), dim, keepdim)


@emitter()
def mean(g: Graph, x: Value, dim: Any, keepdim: bool, dtype: Any) -> Value:
    return _reduced(g, "ReduceMean", g.cast(x, g.result_dtype), dim, keepdim)


@emitter()
def prod(g: Graph, x: Value, dim: Any, keepdim: bool, dtype: Any) -> Value:
    return _reduced(g, "ReduceProd", g.cast(x, g.result_dtype), dim, keepdim)


@emitter()
def amax(g: Graph, x: Value, dim: Any, keepdim: bool) -> Value:
    return _reduced(g, "ReduceMax", x, dim, keepdim)


@emitter()
def amin(g: Graph, x: Value, dim: Any, keepdim: bool) -> Value:
    return _reduced(g, "ReduceMin", x, dim, keepdim)


def _of_numpy(kind: str) -> Callable:
    def reduced(g: Graph, x: Value, axis: Any, keepdims: bool) -> Value:
        return _reduced(g, kind, g.cast(x, g.result_dtype), axis, bool(keepdims))
    return reduced


for _name, _kind in {"sum": "ReduceSum", "max": "ReduceMax", "min": "ReduceMin"}.items():
    emitter(f"numpy.{_name}")(_of_numpy(_kind))


@emitter("numpy.all")
def all_(g: Graph, x: Value, axis: Any, keepdims: bool) -> Value:
    return g.cast(_reduced(g, "ReduceMin", g.cast(truth(g, x), np.int32), axis, bool(keepdims)), np.bool_)


@emitter("numpy.any")
def any_(g: Graph, x: Value, axis: Any, keepdims: bool) -> Value:
    return g.cast(_reduced(g, "ReduceMax", g.cast(truth(g, x), np.int32), axis, bool(keepdims)), np.bool_)


@emitter("numpy.argmax")
def argmax(g: Graph, x: Value, axis: int | None, keepdims: bool) -> Value:
    return _position(g, "ArgMax", x, axis, keepdims)


@emitter("numpy.argmin")
def argmin(g: Graph, x: Value, axis: int | None, keepdims: bool) -> Value:
    return _position(g, "ArgMin", x, axis, keepdims)


def _position(g: Graph, kind: str, x: Value, axis: int | None, keepdims: bool) -> Value:
    if axis is None:
        x = g.node("Reshape", [x, np.array([-1])], shape=(0,))
        if keepdims:
            raise g.refuse("the place of the largest of all elements has no axes to keep")
    if x.dtype.kind == "b":
        x = g.cast(x, np.int32)
    return g.node(kind, [x], axis=0 if axis is None else axis, keepdims=int(keepdims is True), dtype=np.int64)


@emitter()
def var(g: Graph, x: Value, dim: Any, unbiased: bool | None, keepdim: bool, correction: float) -> Value:
    if isinstance(dim, bool):  # PyTorch's older form var(unbiased)
        dim, unbiased = None, dim
    correction = correction if unbiased is None else int(unbiased)
    x = g.cast(x, g.result_dtype)
    dims = all_dims("var", dim, x.shape)
    average = g.reduce("ReduceMean", x, dims, True) if dims else x
    centred = g.node("Sub", [x, average], shape=x.shape)
    squares = g.node("Mul", [centred, centred], shape=x.shape)
    if not correction:
        return _reduced(g, "ReduceMean", squares, dim, keepdim)
    count = g.node("Gather", [g.node("Shape", [x], dtype=np.int64), np.array(dims, np.int64)], shape=(len(dims),))
    number = g.cast(g.reduce("ReduceProd", count, [0], False), x.dtype)
    divisor = g.node("Max", [g.node("Sub", [number, g.scalar(correction, x.dtype)]), g.scalar(0, x.dtype)])
    return g.node("Div", [_reduced(g, "ReduceSum", squares, dim, keepdim), divisor])


@emitter()
def std(g: Graph, x: Value, dim: Any, unbiased: bool | None, keepdim: bool, correction: float) -> Value:
    return g.node("Sqrt", [var(g, x, dim, unbiased, keepdim, correction)])


@emitter()
def cumsum(g: Graph, x: Value, dim: int, dtype: Any) -> Value:
    x = g.cast(x, g.result_dtype)
    return g.node("CumSum", [x, g.scalar(dim % x.ndim, np.int64)]) if x.ndim else x


@emitter()
def norm(g: Graph, x: Value, p: Any, dim: Any, keepdim: bool) -> Value:
    x = g.cast(x, g.result_dtype)
    p = 2.0 if p in ("fro", None) else float(p)
    if p in (1.0, 2.0) and x.ndim:
        return _reduced(g, "ReduceL1" if p == 1 else "ReduceL2", x, dim, keepdim)
    if p == 0:
        zero = g.node("Equal", [x, g.scalar(0, x.dtype)], shape=x.shape, dtype=np.bool_)
        counted = g.cast(g.node("Not", [zero], shape=x.shape), x.dtype)
        return _reduced(g, "ReduceSum", counted, dim, keepdim)
    size = g.node("Abs", [x], shape=x.shape)
    if math.isinf(p):
        return _reduced(g, "ReduceMax" if p > 0 else "ReduceMin", size, dim, keepdim)
    powers = g.node("Pow", [size, g.scalar(p, x.dtype)], shape=x.shape)
    return g.node("Pow", [_reduced(g, "ReduceSum", powers, dim, keepdim), g.scalar(1 / p, x.dtype)])


@emitter()
def softmax(g: Graph, x: Value, dim: int) -> Value:
    return _normalised(g, "Softmax", x, dim)


@emitter()
def log_softmax(g: Graph, x: Value, dim: int) -> Value:
    return _normalised(g, "LogSoftmax", x, dim)


def _normalised(g: Graph, kind: str, x: Value, dim: int) -> Value:
    place = one_dim(kind, dim, x.shape)
    x = g.cast(x, g.result_dtype)
    if x.ndim:
        return g.node(kind, [x], axis=place)
    return g.squeeze(g.node(kind, [g.unsqueeze(x, [0])], axis=0, shape=(1,)), [0])


@emitter()
def logsumexp(g: Graph, x: Value, dim: Any, keepdim: bool) -> Value:
    """By the largest element, as ONNX Runtime's own ReduceLogSumExp is not safe from overflow in every version."""
    x = g.cast(x, g.result_dtype)
    dims = all_dims("logsumexp", dim, x.shape)
    if not dims:
        return x
    largest = g.reduce("ReduceMax", x, dims, True)
    exponentials = g.node("Exp", [g.node("Sub", [x, largest], shape=x.shape)], shape=x.shape)
    total = g.node("Log", [g.reduce("ReduceSum", exponentials, dims, True)], shape=largest.shape)
    y = g.node("Add", [total, largest], shape=largest.shape)
    return y if keepdim else g.squeeze(y, dims)
