"""Operations that make several elements into one: sums, means, extremes, norms.

`dim` is one dim, several, or None for all of them. Each gradient first puts the reduced dims back with length 1
(`restore`), so that it broadcasts against the input. Read `extremes.py` next, whose gradients go to single elements.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from minidl.ops.dims import all_dims, one_dim, takes_axis
from minidl.ops.elementwise import as_floating
from minidl.tensor import Tensor, as_array, differentiable


def restore(reduced: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """Give a reduced array its dims back, with length 1."""
    return reduced if keepdim else np.expand_dims(reduced, dims)


def count(shape: tuple[int, ...], dims: tuple[int, ...]) -> int:
    """How many elements become one."""
    return math.prod([shape[d] for d in dims])


def whole_numbers(x: Any, dtype: Any) -> Any:
    """The dtype in which integers and booleans are summed: int64, as in PyTorch, unless another one is asked for."""
    return np.int64 if dtype is None and x.dtype.kind in "bui" else dtype


@differentiable
def sum(x, /, dim=None, keepdim=False, dtype=None):
    """Sum over `dim`; integers and booleans are counted in int64."""
    shape, dims = x.shape, all_dims("sum", dim, x.shape)
    total = x.sum(axis=dims, keepdims=keepdim, dtype=whole_numbers(x, dtype))
    return total, (lambda g: np.broadcast_to(restore(g, dims, keepdim), shape),)


@differentiable
def mean(x, /, dim=None, keepdim=False, dtype=None):
    """Mean over `dim`; integers and booleans are averaged as float32."""
    shape, dims = x.shape, all_dims("mean", dim, x.shape)
    x = as_floating(x) if dtype is None else x.astype(dtype, copy=False)
    n = count(shape, dims)
    average = x.sum(axis=dims, keepdims=keepdim) / n if n else np.full_like(x.sum(axis=dims, keepdims=keepdim), np.nan)
    return average, (lambda g: np.broadcast_to(restore(g / max(n, 1), dims, keepdim), shape),)


def _centred(name: str, x: Any, dim: Any, unbiased: bool | None, keepdim: bool, correction: float) -> tuple:
    """What `var` and `std` share: the deviations from the mean, their mean square, the dims and the divisor."""
    if isinstance(dim, bool):  # PyTorch's older form var(unbiased)
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = int(unbiased)
    x = as_floating(x)
    dims = all_dims(name, dim, x.shape)
    n = count(x.shape, dims)
    centred = x - x.sum(axis=dims, keepdims=True) / max(n, 1)
    squares = np.square(centred).sum(axis=dims, keepdims=keepdim)
    divisor = max(n - correction, 0)
    if not divisor:
        warnings.warn(f"{name}: the result over {n} elements with correction {correction} is not defined", stacklevel=4)
    with np.errstate(divide="ignore", invalid="ignore"):
        return centred, squares / divisor, dims, divisor


@differentiable
def var(x, /, dim=None, unbiased=None, keepdim=False, correction=1):
    """Variance over `dim`: the sum of (x - mean)² / (n - correction); not defined (NaN, and a
    warning) where n <= correction.

    PyTorch's default correction=1 (`unbiased=True`) differs from NumPy's 0 (`unbiased=False`).
    """
    centred, variance, dims, divisor = _centred("var", x, dim, unbiased, keepdim, correction)
    return variance, (lambda g: restore(g, dims, keepdim) * (2 / divisor if divisor > 0 else math.nan) * centred,)


@differentiable
def std(x, /, dim=None, unbiased=None, keepdim=False, correction=1):
    """Standard deviation over `dim`, the square root of `var`; its gradient is 0 where it is 0."""
    centred, variance, dims, divisor = _centred("std", x, dim, unbiased, keepdim, correction)
    y = np.sqrt(variance)

    def grad_x(g):
        slope = g / (np.where(y == 0, 1, y) * (divisor if divisor > 0 else math.nan))  # where y is 0, centred is too
        return restore(slope, dims, keepdim) * centred

    return y, (grad_x,)


@differentiable
def prod(x, /, dim=None, keepdim=False, dtype=None):
    """Product over `dim`; zeros among the factors keep the gradient exact."""
    dims = all_dims("prod", dim, x.shape)
    result = x.prod(axis=dims, keepdims=keepdim, dtype=whole_numbers(x, dtype))

    def grad_x(g):
        kept = tuple(d for d in range(x.ndim) if d not in dims)
        order = kept + dims
        rows = x.transpose(order).reshape([x.shape[d] for d in kept] + [count(x.shape, dims)])  # (kept…, factors)
        others = np.ones_like(rows)  # the product of all factors but this one: of those before it times those after it
        np.cumprod(rows[..., :-1], axis=-1, out=others[..., 1:])
        others[..., :-1] *= np.cumprod(rows[..., :0:-1], axis=-1)[..., ::-1]
        others = others.reshape([x.shape[d] for d in order]).transpose(np.argsort(order))
        return restore(g, dims, keepdim) * others

    return result, (grad_x,)


@differentiable
def cumsum(x, /, dim, dtype=None):
    """Running sum along `dim`: y_i = x_1 + … + x_i."""
    dim = one_dim("cumsum", dim, x.shape)
    if x.ndim == 0:
        return x.copy(), (lambda g: g,)
    y = np.cumsum(x, axis=dim, dtype=whole_numbers(x, dtype))
    return y, (lambda g: np.flip(np.cumsum(np.flip(g, dim), axis=dim), dim),)


@differentiable
def norm(x, /, p="fro", dim=None, keepdim=False):
    """The p-norm over `dim`, (Σ |x|^p)^(1/p); the Euclidean one by default, p=inf is the largest |x|, p=0 counts.

    The gradient is 0 where the norm is 0, and is shared evenly among equal largest elements for p=inf.
    """
    x = as_floating(x)
    p = 2.0 if p in ("fro", None) else float(p)
    dims = all_dims("norm", dim, x.shape)
    size = np.abs(x)
    if math.isinf(p):
        y = (np.max if p > 0 else np.min)(size, axis=dims, keepdims=True)
    elif p == 0:
        y = (x != 0).astype(x.dtype).sum(axis=dims, keepdims=True)
    elif p == 2:
        y = np.sqrt(np.square(x).sum(axis=dims, keepdims=True))
    else:
        y = (size**p).sum(axis=dims, keepdims=True) ** (1 / p)

    def grad_x(g):
        if p == 0:
            return np.zeros_like(x)
        if math.isinf(p):
            reached = (np.abs(x) == y).astype(x.dtype)
            slope = np.sign(x) * reached / reached.sum(axis=dims, keepdims=True)
        else:
            share = x / np.where(y == 0, 1, y)
            sign = np.where(y == 0, 0, np.sign(x))
            slope = share if p == 2 else sign * np.abs(np.where(share == 0, 1, share)) ** (p - 1)
        return restore(g, dims, keepdim) * slope

    return y if keepdim else y.reshape([n for d, n in enumerate(x.shape) if d not in dims]), (grad_x,)


@takes_axis
def all(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether every element over `dim` is true (not 0), as a bool tensor."""
    x = as_array(x)
    return Tensor(np.all(x, axis=all_dims("all", dim, x.shape), keepdims=keepdim))


@takes_axis
def any(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether some element over `dim` is true (not 0), as a bool tensor."""
    x = as_array(x)
    return Tensor(np.any(x, axis=all_dims("any", dim, x.shape), keepdims=keepdim))
