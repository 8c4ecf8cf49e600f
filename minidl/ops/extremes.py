"""Largest and smallest elements, where they stand, and sorting.

The values of `max`, `min`, `sort` and `topk` along a dim are picked by their indices with `gather`, so the gradient
goes to exactly the elements that were returned; `amax`, `amin` and the full `max` and `min` share it among ties.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minidl.errors import ShapeError
from minidl.ops.dims import all_dims, one_dim, takes_axis
from minidl.ops.elementwise import maximum, minimum
from minidl.ops.index import gather
from minidl.ops.reduce import restore
from minidl.tensor import Tensor, as_array, differentiable


class ValuesAndIndices(NamedTuple):
    """What `max(dim)`, `min(dim)`, `sort` and `topk` return."""

    values: Tensor
    indices: Tensor


def _extreme(name: str, choose: Any, x: Any, dim: Any, keepdim: bool) -> tuple:
    """The largest or smallest elements over `dim` and the gradient that ties share evenly."""
    dims = all_dims(name, dim, x.shape)
    refuse_empty(name, x.shape, dims)
    y = choose(x, axis=dims, keepdims=True)

    def grad_x(g):
        reached = ((x == y) | (x != x)).astype(g.dtype)  # a NaN is chosen wherever there is one
        return restore(g, dims, keepdim) / reached.sum(axis=dims, keepdims=True) * reached

    return y if keepdim else y.reshape([n for d, n in enumerate(x.shape) if d not in dims]), (grad_x,)


def refuse_empty(name: str, shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    if 0 in [shape[d] for d in dims]:
        raise ShapeError(f"{name}: shape {shape} has no elements to choose from")


@differentiable
def amax(x, /, dim=None, keepdim=False):
    """The largest element over `dim`; equal ones share the gradient evenly. Raises ShapeError if there is none."""
    return _extreme("amax", np.max, x, dim, keepdim)


@differentiable
def amin(x, /, dim=None, keepdim=False):
    """The smallest element over `dim`; equal ones share the gradient evenly. Raises ShapeError if there is none."""
    return _extreme("amin", np.min, x, dim, keepdim)


@takes_axis
def argmax(x: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Index (int64) of the largest element along `dim`, the first of equal ones; of the flattened tensor for None."""
    return _position("argmax", np.argmax, x, dim, keepdim)


@takes_axis
def argmin(x: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Index (int64) of the smallest element along `dim`, the first of equal ones; of the flattened tensor for None."""
    return _position("argmin", np.argmin, x, dim, keepdim)


def _position(name: str, choose: Any, x: Any, dim: int | None, keepdim: bool) -> Tensor:
    x = as_array(x)
    if dim is not None:
        dim = one_dim(name, dim, x.shape)
    refuse_empty(name, x.shape, all_dims(name, dim, x.shape))
    return Tensor(choose(x, axis=dim if x.ndim else None, keepdims=keepdim))


@takes_axis
def max(x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element; with a `dim`, (values, indices) along it; with a tensor for `dim`, as `maximum`.

    Without `dim` equal elements share the gradient evenly, with it the gradient goes to the element at `indices`.
    """
    if isinstance(dim, Tensor):
        return maximum(x, dim)
    return amax(x) if dim is None else _along("max", argmax, x, dim, keepdim)


@takes_axis
def min(x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element; with a `dim`, (values, indices) along it; with a tensor for `dim`, as `minimum`.

    Without `dim` equal elements share the gradient evenly, with it the gradient goes to the element at `indices`.
    """
    if isinstance(dim, Tensor):
        return minimum(x, dim)
    return amin(x) if dim is None else _along("min", argmin, x, dim, keepdim)


def _along(name: str, position: Any, x: Tensor, dim: int, keepdim: bool) -> ValuesAndIndices:
    dim = one_dim(name, dim, x.shape)
    indices = position(x, dim, keepdim=x.ndim > 0)
    values = gather(x, dim, indices)
    if keepdim or x.ndim == 0:
        return ValuesAndIndices(values, indices)
    return ValuesAndIndices(values.squeeze(dim), indices.squeeze(dim))


@takes_axis
def argsort(x: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices that sort x along `dim`; equal elements keep their order always, NaN counts as the largest."""
    x = as_array(x)
    dim = one_dim("argsort", dim, x.shape)
    if x.ndim == 0:
        return Tensor(np.zeros((), np.int64))
    if not descending:
        return Tensor(np.argsort(x, axis=dim, kind="stable"))
    backwards = np.argsort(np.flip(x, dim), axis=dim, kind="stable")  # reversed twice, so that ties keep their order
    return Tensor(x.shape[dim] - 1 - np.flip(backwards, dim))


@takes_axis
def sort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> ValuesAndIndices:
    """x sorted along `dim`, and the indices the elements came from; differentiable in the values."""
    indices = argsort(x, dim, descending)
    return ValuesAndIndices(gather(x, dim, indices), indices)


@takes_axis
def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesAndIndices:
    """The k largest (or smallest) elements along `dim`, best first, and their indices; differentiable in the values.

    Raises ShapeError if there are fewer than k.
    """
    dim = one_dim("topk", dim, x.shape)
    length = x.shape[dim] if x.ndim else 1
    if not 0 <= k <= length:
        raise ShapeError(f"topk: k={k}, but dim {dim} of shape {x.shape} has {length} elements")
    order = argsort(x, dim, descending=largest).array
    indices = Tensor(order[(slice(None),) * dim + (slice(k),)] if x.ndim else order)
    return ValuesAndIndices(gather(x, dim, indices), indices)
