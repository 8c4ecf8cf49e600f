"""Operations that move elements without changing them: reshape, permute, join, pad, roll, repeat.

The gradient moves everything back. Most results share memory with their input, as in PyTorch.
Splitting and indexing are in `index.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl.errors import ShapeError
from minidl.ops.dims import all_dims, as_sizes, one_dim, takes_axis
from minidl.ops.elementwise import common_dtype
from minidl.tensor import Tensor, differentiable


@differentiable
def reshape(x, /, shape):
    """x with another shape of as many elements; one size may be -1, which stands for what is left.

    Raises ShapeError if the numbers of elements differ.
    """
    before, sizes = x.shape, as_sizes((shape,))
    try:
        y = x.reshape(sizes)
    except ValueError:
        raise ShapeError(f"reshape: shape {before} has {x.size} elements, they do not fit into {sizes}") from None
    return y, (lambda g: g.reshape(before),)


@differentiable
def flatten(x, /, start_dim=0, end_dim=-1):
    """The dims from `start_dim` to `end_dim`, both included, as one."""
    before = x.shape
    start, end = one_dim("flatten", start_dim, before), one_dim("flatten", end_dim, before)
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} for shape {before}")
    merged = math.prod(before[start: end + 1])
    return x.reshape(before[:start] + (merged,) + before[end + 1:]), (lambda g: g.reshape(before),)


def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dim as several of the given sizes, one of which may be -1. Raises ShapeError if they do not fit."""
    dim, sizes = one_dim("unflatten", dim, x.shape), as_sizes((sizes,))
    known = math.prod([n for n in sizes if n != -1])
    left, rest = divmod(x.shape[dim], max(known, 1))
    if sizes.count(-1) > 1 or rest or (-1 not in sizes and known != x.shape[dim]):
        raise ShapeError(f"unflatten: dim {dim} of shape {x.shape} cannot become {sizes}")
    return reshape(x, x.shape[:dim] + tuple([left if n == -1 else n for n in sizes]) + x.shape[dim + 1:])


@differentiable
def permute(x, /, dims):
    """The dims of x in the order `dims`: y.shape[i] = x.shape[dims[i]]."""
    order = tuple([one_dim("permute", d, x.shape) for d in as_sizes((dims,))])
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"permute: dims {dims} must name each of the {x.ndim} dims of shape {x.shape} once")
    back = tuple(sorted(range(x.ndim), key=order.__getitem__))
    return x.transpose(order), (lambda g: g.transpose(back),)


@differentiable
def transpose(x, /, dim0, dim1):
    """x with two dims exchanged."""
    dim0, dim1 = one_dim("transpose", dim0, x.shape), one_dim("transpose", dim1, x.shape)
    if x.ndim == 0:
        return x, (lambda g: g,)
    return x.swapaxes(dim0, dim1), (lambda g: g.swapaxes(dim0, dim1),)


@differentiable
def squeeze(x, /, dim=None):
    """x without its dims of length 1, or without those of them that `dim` names."""
    before = x.shape
    dims = all_dims("squeeze", dim, before) if dim != () else ()
    return x.squeeze(tuple([d for d in dims if before[d] == 1])), (lambda g: g.reshape(before),)


@differentiable
def unsqueeze(x, /, dim):
    """x with a new dim of length 1 at place `dim`."""
    before = x.shape
    return np.expand_dims(x, one_dim("unsqueeze", dim, before, extra=1)), (lambda g: g.reshape(before),)


@differentiable
def broadcast_to(x, /, size):
    """x repeated, without copying, along dims of length 1 and new leading ones; a size of -1 keeps that dim.

    Raises ShapeError where a dim has another length than 1 or the size asked for.
    """
    sizes = as_sizes((size,))
    lead = len(sizes) - x.ndim
    full = tuple([x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(sizes)])
    try:
        return np.broadcast_to(x, full), (lambda g: g,)
    except ValueError:
        raise ShapeError(f"broadcast_to: shape {x.shape} cannot be expanded to {sizes}: each dim, counted from the "
                         "right, must have length 1 or the size asked for") from None


@differentiable
def repeat(x, /, sizes):
    """x laid out `sizes[i]` times along each dim, with new leading dims if there are more sizes than dims."""
    counts, before = as_sizes((sizes,)), x.shape
    if len(counts) < x.ndim:
        raise ShapeError(f"repeat: {len(counts)} sizes {counts} for shape {before}: one is needed for each dim")
    own = (1,) * (len(counts) - x.ndim) + before
    pairs = [n for pair in zip(counts, own) for n in pair]  # times and length of each dim in turn
    return np.tile(x, counts), (lambda g: g.reshape(pairs).sum(axis=tuple(range(0, 2 * len(own), 2))).reshape(before),)


def tile(x: Tensor, dims: Sequence[int]) -> Tensor:
    """As `repeat`, but missing leading counts are 1."""
    counts = as_sizes((dims,))
    return repeat(x, (1,) * (x.ndim - len(counts)) + counts)


@differentiable
def _cat(*xs, dim=0):
    place = one_dim("cat", dim, xs[0].shape)
    shapes = [x.shape for x in xs]
    if xs[0].ndim == 0 or any([len(s) != len(shapes[0]) or s[:place] + s[place + 1:] != shapes[0][:place] +
                               shapes[0][place + 1:] for s in shapes]):
        raise ShapeError(f"cat: shapes {shapes} must agree in all dims but dim {dim} and have at least one")
    ends = np.cumsum([s[place] for s in shapes]).tolist()
    before = (slice(None),) * place

    def part(i):
        where = before + (slice(ends[i] - shapes[i][place], ends[i]),)
        return lambda g: g[where]

    return np.concatenate(xs, axis=place, dtype=common_dtype(xs)), [part(i) for i in range(len(xs))]


@takes_axis
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors joined along an existing dim; they must agree in all others (ShapeError)."""
    _refuse_none("cat", tensors)
    return _cat(*tensors, dim=dim)


@differentiable
def _stack(*xs, dim=0):
    shapes = [x.shape for x in xs]
    if len(set(shapes)) != 1:
        raise ShapeError(f"stack: all shapes must be the same, these are {shapes}; to join along a dim, use cat")
    before = (slice(None),) * one_dim("stack", dim, shapes[0], extra=1)

    def part(i):
        return lambda g: g[before + (i,)]

    return np.stack(xs, axis=dim, dtype=common_dtype(xs)), [part(i) for i in range(len(xs))]


@takes_axis
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dim (ShapeError if the shapes differ)."""
    _refuse_none("stack", tensors)
    return _stack(*tensors, dim=dim)


def _refuse_none(name: str, tensors: Any) -> None:
    if isinstance(tensors, Tensor) and tensors.ndim == 0 or not len(tensors):
        raise ValueError(f"{name}: a list or tuple of at least one tensor is needed")


@differentiable
def flip(x, /, dims):
    """x in reverse order along each of `dims`."""
    places = all_dims("flip", dims, x.shape) if dims != () else ()
    return np.flip(x, places), (lambda g: np.flip(g, places),)


@differentiable
def roll(x, /, shifts, dims=None):
    """x shifted by `shifts` places along `dims`; what leaves at one end enters at the other. Without `dims` as if flat.
    """
    places = None if dims is None else tuple([one_dim("roll", d, x.shape) for d in np.atleast_1d(dims)])
    back = tuple([-s for s in np.atleast_1d(shifts).tolist()])
    return np.roll(x, shifts, places), (lambda g: np.roll(g, back if places else back[0], places),)


@differentiable
def tril(x, /, diagonal=0):
    """The lower triangles of matrices (..., M, N), zeros above `diagonal` (0 the main one, 1 the next one up)."""
    return np.tril(x, diagonal), (lambda g: np.tril(g, diagonal),)


@differentiable
def triu(x, /, diagonal=0):
    """The upper triangles of matrices (..., M, N), zeros below `diagonal` (0 the main one, 1 the next one up)."""
    return np.triu(x, diagonal), (lambda g: np.triu(g, diagonal),)


def view_as(x: Tensor, other: Tensor) -> Tensor:
    """x reshaped to the shape of `other`."""
    return reshape(x, other.shape)


def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """x broadcast to the shape of `other`."""
    return broadcast_to(x, other.shape)


def transposed(x: Tensor) -> Tensor:
    """All dims in reverse order: the transpose of a matrix (`x.T`)."""
    return permute(x, tuple(range(x.ndim))[::-1])


def matrix_transposed(x: Tensor) -> Tensor:
    """The last two dims exchanged: the transposes of matrices (..., M, N) (`x.mT`)."""
    if x.ndim < 2:
        raise ShapeError(f"mT: shape {x.shape} holds no matrices")
    return transpose(x, -2, -1)


def movedim(x: Tensor, source: int, destination: int) -> Tensor:
    """x with dim `source` moved to place `destination`, the others in their order."""
    source, destination = one_dim("movedim", source, x.shape), one_dim("movedim", destination, x.shape)
    order = [d for d in range(x.ndim) if d != source]
    return permute(x, order[:destination] + [source] + order[destination:])
