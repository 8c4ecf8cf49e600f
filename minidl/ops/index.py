"""Picking elements: `x[...]`, gather, index_select, masked_fill, scatter.

Where an index can name no element twice (slices, integers, masks) the gradient is assigned into zeros; where it can
(integer arrays) it is added up with `np.add.at`. Read `shape.py` next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.errors import ShapeError
from minidl.kernels.memory import empty
from minidl.ops.dims import one_dim, takes_axis
from minidl.tensor import Tensor, as_array, differentiable


def plain_index(index: Any) -> Any:
    """An index as NumPy takes it: Tensors inside it become arrays, those of one integer become that integer."""
    if isinstance(index, tuple):
        return tuple([plain_index(part) for part in index])
    if isinstance(index, Tensor):
        index = index.array
    if isinstance(index, list):
        index = np.asarray([plain_index(part) for part in index])
        return index if index.size else index.astype(np.int64)
    if isinstance(index, np.ndarray) and index.ndim == 0 and index.dtype.kind in "iu":
        return int(index)
    return index


def can_repeat(index: Any) -> bool:
    """Whether a plain index may name one element twice: it does if it holds an array of integers."""
    return any(isinstance(part, np.ndarray) and part.dtype.kind != "b"
               for part in (index if isinstance(index, tuple) else (index,)))


@differentiable
def getitem(x, /, index):
    """x[index] with NumPy's rules: integers, slices, None, Ellipsis, integer arrays, boolean masks, and mixes.

    Slices share memory with x. Raises IndexError, naming the shape, for what lies outside.
    """
    index = plain_index(index)
    try:
        y = x[index]
        if not isinstance(y, np.ndarray):  # a single element: keep sharing memory
            y = x[(*index, ...) if isinstance(index, tuple) else (index, ...)]
    except IndexError as error:
        raise IndexError(f"{error}; the tensor has shape {x.shape}") from None
    shape = x.shape

    def grad_x(g):
        if type(index) is slice and index.step in (None, 1):
            return _between_zeros(g, shape, index)
        grad = np.zeros(shape, g.dtype)
        if can_repeat(index):
            np.add.at(grad, index, g)
        else:
            grad[index] = g
        return grad

    return y, (grad_x,)


def _between_zeros(g: Any, shape: tuple[int, ...], rows: slice) -> Any:
    """An array of `shape` with g in its `rows` and zeros before and behind, in memory that is used again."""
    grad = empty(shape, g.dtype)
    first, last, _ = rows.indices(shape[0])
    last = max(first, last)
    grad[:first], grad[first:last], grad[last:] = 0, g, 0
    return grad


def checked_indices(name: str, index: Any, dim: int, shape: tuple[int, ...]) -> Any:
    """An array of integers, each from 0 to below shape[dim]; IndexError otherwise: negative ones are mistakes here."""
    index = as_array(index)
    if index.dtype.kind not in "iu":
        raise IndexError(f"{name}: the index must hold integers, it is {index.dtype}; use .long()")
    length = shape[dim] if shape else 1
    if index.size and not (0 <= index.min() and index.max() < length):
        wrong = index[(index < 0) | (index >= length)].flat[0]
        raise IndexError(f"{name}: index {wrong} lies outside dim {dim} of shape {shape}, which goes from 0 to "
                         f"{length - 1}")
    return index


def places(name: str, index: Any, dim: int, shape: tuple[int, ...]) -> tuple:
    """What NumPy needs to read x[i][index[i][j]] at every (i, j), for `index` along dim 0, and so on for other dims."""
    dim = one_dim(name, dim, shape)
    index = checked_indices(name, index, dim, shape)
    if index.ndim != len(shape) or any(n > shape[d] for d, n in enumerate(index.shape) if d != dim):
        raise ShapeError(f"{name}: index of shape {index.shape} for a tensor of shape {shape}: it must have as many "
                         f"dims and be no longer anywhere but in dim {dim}")
    grid = list(np.ogrid[tuple([slice(n) for n in index.shape])]) if shape else []
    if shape:
        grid[dim] = index
    return tuple(grid)


@differentiable
def gather(x, /, dim, index):
    """y[i][j] = x[index[i][j]][j] for dim 0, x[i][index[i][j]] for dim 1, and so on: the shape of `index`.

    Raises IndexError for an index outside (negative ones included), ShapeError where the shapes do not fit.
    """
    shape, where = x.shape, places("gather", index, dim, x.shape)

    def grad_x(g):
        grad = np.zeros(shape, g.dtype)
        np.add.at(grad, where, g)
        return grad

    return x[where], (grad_x,)


@differentiable
def masked_fill(x, /, mask, value):
    """x with `value` where `mask` is true; no gradient flows there."""
    mask = np.asarray(mask, bool)
    return np.where(mask, as_number("masked_fill", value, x.dtype), x), (lambda g: np.where(mask, 0, g),)


def as_number(name: str, value: Any, dtype: Any) -> Any:
    """A number, array or tensor of one element, in `dtype`."""
    array = np.asarray(value)
    if array.size != 1:
        raise ShapeError(f"{name}: value must be one number, it has shape {array.shape}")
    return dtype.type(array.item())


@differentiable
def _scatter(x, source, /, dim, index):
    where = places("scatter", index, dim, x.shape)
    source = np.asarray(source, x.dtype)
    used = tuple([slice(n) for n in index.shape]) if source.ndim else ()
    if source.ndim and source[used].shape != index.shape:
        raise ShapeError(f"scatter: src has shape {source.shape}, too small for the index of shape {index.shape}")
    y = x.copy()
    y[where] = source[used]

    def grad_x(g):
        grad = g.copy()
        grad[where] = 0
        return grad

    def grad_source(g):
        grad = np.zeros(source.shape, g.dtype)
        grad[used] = g[where]
        return grad

    return y, (grad_x, grad_source)


def scatter(x: Tensor, dim: int, index: Any, src: Any) -> Tensor:
    """x with y[index[i][j]][j] = src[i][j] for dim 0, and so on: the reverse of `gather`. src may be one number.

    Where indices repeat, one of the values wins. Raises IndexError for an index outside.
    """
    return _scatter(x, src, dim, as_array(index))


def index_select(x: Tensor, dim: int, index: Any) -> Tensor:
    """The slices of x along `dim` that the vector `index` names, in its order."""
    dim = one_dim("index_select", dim, x.shape)
    return getitem(x, (slice(None),) * dim + (checked_indices("index_select", index, dim, x.shape),))


def _cut(name: str, dim: Any, shape: tuple[int, ...]) -> int:
    """The dim along which a tensor is to be cut."""
    if not shape:
        raise ShapeError(f"{name}: a tensor without dims cannot be cut")
    return one_dim(name, dim, shape)


@takes_axis
def take_along_dim(x: Tensor, indices: Any, dim: int | None = None) -> Tensor:
    """x at `indices` along `dim`, as argmax and argsort return them; the other dims broadcast."""
    if dim is None:
        return gather(x.reshape(-1), 0, as_array(indices).reshape(-1))
    dim = one_dim("take_along_dim", dim, x.shape)
    indices = as_array(indices)
    rest = np.broadcast_shapes(*[[n if d != dim else 1 for d, n in enumerate(shape)] for shape in
                                 (x.shape, indices.shape)])
    grown = [rest[:dim] + (shape[dim],) + rest[dim + 1:] for shape in (x.shape, indices.shape)]
    return gather(x.broadcast_to(grown[0]), dim, np.broadcast_to(indices, grown[1]))


def masked_select(x: Tensor, mask: Any) -> Tensor:
    """The elements of x where `mask` is true, as a vector. Raises TypeError for a mask that is not of booleans."""
    if as_array(mask).dtype.kind != "b":
        raise TypeError(f"masked_select: a mask of booleans is needed, not {as_array(mask).dtype}; use mask.bool(), or "
                        "for positions index_select")
    return getitem(x.broadcast_to(np.broadcast_shapes(x.shape, as_array(mask).shape)), as_array(mask))


def narrow(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` slices of x along `dim` from `start` on."""
    dim = _cut("narrow", dim, x.shape)
    if not 0 <= start <= start + length <= x.shape[dim]:
        raise IndexError(f"narrow: {start} to {start + length} lies outside dim {dim} of shape {x.shape}")
    return getitem(x, (slice(None),) * dim + (slice(start, start + length),))


def select(x: Tensor, dim: int, index: int) -> Tensor:
    """One slice of x along `dim`, without that dim."""
    return getitem(x, (slice(None),) * _cut("select", dim, x.shape) + (index,))


@takes_axis
def unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """All slices of x along `dim`, without that dim."""
    dim = _cut("unbind", dim, x.shape)
    return tuple([select(x, dim, i) for i in range(x.shape[dim])])


@takes_axis
def split(x: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """x in pieces along `dim`: of the given size (the last may be shorter), or of each size in a list.

    Raises ShapeError if the sizes of a list do not add up.
    """
    dim = _cut("split", dim, x.shape)
    length, sizes = x.shape[dim], split_size_or_sections
    if isinstance(sizes, (int, np.integer)):
        if sizes <= 0:
            raise ValueError(f"split: the size of a piece must be positive, it is {sizes}")
        sizes = [min(sizes, length - start) for start in range(0, max(length, 1), sizes)]
    if sum(sizes) != length:
        raise ShapeError(f"split: the sizes {list(sizes)} add up to {sum(sizes)}, dim {dim} of shape {x.shape} "
                         f"has {length}")
    return tuple(_pieces(x, sizes, dim))


def _pieces(x: Tensor, sizes: Any, dim: int) -> Iterator[Tensor]:
    start = 0
    for size in sizes:
        yield narrow(x, dim, start, size)
        start += size


@takes_axis
def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """x in at most `chunks` pieces of equal size along `dim`, the last possibly shorter."""
    length = x.shape[_cut("chunk", dim, x.shape)]
    if chunks < 1:
        raise ValueError(f"chunk: the number of pieces must be positive, it is {chunks}")
    return split(x, max(-(-length // chunks), 1), dim)


def nonzero(x: Any, as_tuple: bool = False) -> Any:
    """Where x is not 0: indices (number of such elements, dims), or a tuple with one vector for each dim."""
    found = np.nonzero(as_array(x))
    return tuple([Tensor(f) for f in found]) if as_tuple else Tensor(np.stack(found, axis=1))
