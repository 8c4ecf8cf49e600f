"""Changing a tensor where it stands: `x[i] = v`, `x += y`, and the methods whose name ends in an underscore.

A recorded computation needs the values it saw, so only tensors outside of one may be changed: those that do not
require a gradient, and under `no_grad()` also leaves that do. The target keeps its dtype and shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import random
from minidl.errors import ShapeError
from minidl.grad_mode import recording
from minidl.ops.index import plain_index
from minidl.tensor import Tensor, as_array, is_grad_enabled, no_grad


def require_changeable(x: Tensor, name: str, instead: str, *sources: Any) -> None:
    """Raise RuntimeError, with what to write instead, if changing x would spoil or lose a gradient."""
    if recording.deferring is not None:
        recording.deferring.changing(x)
    if x.grad_fn is not None:
        raise RuntimeError(f"{name}: this tensor of shape {x.shape} is the result of '{x.grad_fn.name}' in a recorded "
                           f"computation, which may need its value; write {instead}, or detach().clone() it first")
    if is_grad_enabled():
        if x.requires_grad:
            raise RuntimeError(f"{name}: this tensor of shape {x.shape} is a leaf that requires a gradient; change it "
                               f"inside `with no_grad():`, or write {instead} for a new, recorded tensor")
        if any(isinstance(source, Tensor) and source.requires_grad for source in sources):
            raise RuntimeError(f"{name}: the gradient of the right-hand side would be lost, because changing a tensor "
                               f"in place is not recorded; write {instead}, or detach() it")
    if not x.array.flags.writeable:
        raise RuntimeError(f"{name}: the memory of this tensor of shape {x.shape} is read-only (it was expanded, or "
                           "comes from a read-only array); clone() it first")


def write(x: Tensor, name: str, value: Any) -> Tensor:
    """Copy an array into all of x: it must fit without changing x's shape, and without losing its kind of number."""
    lead = x.ndim - value.ndim
    if lead < 0 or any(n not in (1, x.shape[lead + d]) for d, n in enumerate(value.shape)):
        raise ShapeError(f"{name}: a result of shape {value.shape} does not fit into this tensor of shape {x.shape}")
    if not np.can_cast(value.dtype, x.dtype, "same_kind"):
        raise TypeError(f"{name}: the result is {value.dtype}, this tensor {x.dtype}; convert it first, for instance "
                        f"with .to({value.dtype})")
    x.array[...] = value
    return x


def in_place(operation: Callable, name: str, instead: str) -> Callable:
    """The method that computes `operation` on a tensor and writes the result into it."""

    def method(x: Tensor, *args: Any, **options: Any) -> Tensor:
        require_changeable(x, name, instead, *args, *options.values())
        with no_grad():
            result = operation(x, *args, **options).array
        return write(x, name, result)

    method.__name__ = name
    method.__doc__ = f"Write `{operation.__name__}` of this tensor into it; see `minidl.{operation.__name__}`."
    return method


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, converted to x's dtype and broadcast. RuntimeError where x may not be changed."""
    require_changeable(x, "x[…] = value", "it with where() or masked_fill()", value)
    index, value = plain_index(index), as_array(value) if isinstance(value, (Tensor, list, tuple)) else value
    try:
        x.array[index] = value
    except IndexError as error:
        raise IndexError(f"{error}; the tensor has shape {x.shape}") from None
    except ValueError:
        if not isinstance(value, np.ndarray):
            raise
        raise ShapeError(f"x[…] = value: a value of shape {value.shape} does not fit into the part of shape "
                         f"{x.array[index].shape}") from None


def copy_(x: Tensor, source: Any, non_blocking: bool = False) -> Tensor:
    """Copy `source` into this tensor, converted to its dtype and broadcast to its shape."""
    require_changeable(x, "copy_", "x = source.clone()", source)
    return write(x, "copy_", as_array(source).astype(x.dtype, copy=False))


def fill_(x: Tensor, value: Any) -> Tensor:
    """Set every element to one number."""
    require_changeable(x, "fill_", "x = full_like(x, value)", value)
    x.array[...] = as_array(value, x.dtype).item()
    return x


def zero_(x: Tensor) -> Tensor:
    """Set every element to 0."""
    return fill_(x, 0)


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Draw every element from the normal distribution."""
    require_changeable(x, "normal_", "x = randn_like(x) * std + mean")
    x.array[...] = random.generator(generator).normal(mean, std, x.shape)
    return x


def uniform_(x: Tensor, low: float = 0.0, high: float = 1.0, generator: Any = None) -> Tensor:
    """Draw every element uniformly from [low, high)."""
    require_changeable(x, "uniform_", "x = rand_like(x) * (high - low) + low")
    x.array[...] = random.generator(generator).uniform(low, high, x.shape)
    return x
