"""ONNX's operators that make several elements into one, and matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import ops
from minidl.onnx.operators import integers, is_float, operator
from minidl.onnx.operators_shape import dims_of
from minidl.tensor import Tensor

LEAST = (np.max, np.min)


def _reduction(name: str, smooth: Callable, other: Callable | None) -> None:
    """Enter an operator that reduces axes; `other` is NumPy's function for what has no gradient."""

    def function(x, axes=None, *, keepdims: int = 1, noop_with_empty_axes: int = 0):
        dims = () if axes is None else dims_of(integers(axes), x.ndim)
        if not dims:
            if noop_with_empty_axes:
                dims = ()
            else:
                dims = tuple(range(x.ndim))
        keep = bool(keepdims)
        if is_float(x):
            return smooth(x, dims, keep) if dims else smooth(x[None], 0, False)
        if other is None:
            raise TypeError(f"{name}: floating-point numbers are needed, not {x.dtype}")
        if not x.array.size and other in LEAST:  # the extreme of nothing is the type's own
            bounds = (0, 1) if x.dtype == np.bool_ else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
            return Tensor(other(x.array, axis=dims, keepdims=keep, initial=bounds[LEAST.index(other)]))
        return Tensor(np.asarray(other(x.array, axis=dims, keepdims=keep)).astype(x.dtype))

    operator(name)(function)


def _lowest(x: Any, dims: Any, keep: bool) -> Any:
    return _extreme(x, dims, keep, ops.amin, np.inf)


def _highest(x: Any, dims: Any, keep: bool) -> Any:
    return _extreme(x, dims, keep, ops.amax, -np.inf)


def _extreme(x: Any, dims: Any, keep: bool, choose: Callable, nothing: float) -> Any:
    """The extreme over some dims, one after the other; infinite where there is nothing."""
    if x.array.size:
        return choose(x, dims, keep)
    return Tensor(np.max(x.array, axis=dims, keepdims=keep, initial=-np.inf) if nothing < 0 else
                  np.min(x.array, axis=dims, keepdims=keep, initial=np.inf))


for _name, _smooth, _other in (
    ("ReduceSum", lambda x, d, k: ops.sum(x, d, k), np.sum),
    ("ReduceMean", lambda x, d, k: ops.mean(x, d, k), None),
    ("ReduceMax", _highest, np.max), ("ReduceMin", _lowest, np.min),
    ("ReduceProd", lambda x, d, k: ops.prod(x, d, k), np.prod),
    ("ReduceL1", lambda x, d, k: ops.sum(ops.abs(x), d, k), None),
    ("ReduceL2", lambda x, d, k: ops.norm(x, 2, d, k), None),
    ("ReduceLogSum", lambda x, d, k: ops.log(ops.sum(x, d, k)), None),
    ("ReduceLogSumExp", lambda x, d, k: ops.logsumexp(x, d, k) if x.array.size else ops.log(ops.sum(x, d, k)), None),
    ("ReduceSumSquare", lambda x, d, k: ops.sum(ops.square(x), d, k), lambda x, **o: np.sum(x * x, **o)),
):
    _reduction(_name, _smooth, _other)


def _position(name: str, choose: Callable) -> None:
    def function(x, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0):
        (dim,) = dims_of((axis,), x.ndim)
        array = np.flip(x.array, dim) if select_last_index else x.array
        place = choose(array, axis=dim, keepdims=bool(keepdims))
        return Tensor((x.shape[dim] - 1 - place if select_last_index else place).astype(np.int64))

    operator(name)(function)


_position("ArgMax", np.argmax)
_position("ArgMin", np.argmin)


@operator("TopK", outputs=2)
def top_k(x, k, *, axis: int = -1, largest: int = 1, sorted: int = 1):
    (dim,) = dims_of((axis,), x.ndim)
    order = np.argsort(-x.array if largest and is_float(x) else x.array, axis=dim, kind="stable")
    if largest and not is_float(x):  # unsigned numbers cannot be negated: equal elements keep their order all the same
        order = x.shape[dim] - 1 - np.flip(np.argsort(np.flip(x.array, dim), axis=dim, kind="stable"), dim)
    places = np.take(order, np.arange(int(k.array.reshape(()))), axis=dim)
    return ops.gather(x, dim, places), Tensor(places.astype(np.int64))


@operator("MatMul")
def matmul(x, y):
    return ops.matmul(x, y) if is_float(x, y) else Tensor(np.matmul(x.array, y.array))


@operator("Gemm")
def gemm(a, b, c=None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0):
    if not is_float(a, b):
        raise TypeError(f"Gemm: floating-point numbers are needed, not {a.dtype}")
    y = ops.matmul(ops.transpose(a, 0, 1) if transA else a, ops.transpose(b, 0, 1) if transB else b)
    y = y * alpha if alpha != 1 else y
    if c is None or beta == 0:
        return y
    return y + (c * beta if beta != 1 else c)


@operator("Einsum")
def einsum(*operands, equation: str):
    return ops.einsum(equation, *operands)
