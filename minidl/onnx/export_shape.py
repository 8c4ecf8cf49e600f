"""Emitters for what moves elements: other shapes, other orders, joined, repeated, picked by index."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.onnx.export_graph import Graph, Value
from minidl.onnx.export_symbols import Size
from minidl.onnx.export_table import emitter
from minidl.ops.dims import all_dims, as_sizes, one_dim

FIRST, LAST = -2**63, 2**63 - 1  # where ONNX's Slice begins or ends with neither number given


@emitter()
def reshape(g: Graph, x: Value, shape: Any) -> Value:
    return g.reshape(x, g.result_shape)


@emitter()
def flatten(g: Graph, x: Value, start_dim: int, end_dim: int) -> Value:
    if x.ndim > 1 and start_dim == 1 and end_dim in (-1, x.ndim - 1):
        return x if x.ndim == 2 else g.node("Flatten", [x], axis=1)
    return g.reshape(x, g.result_shape)


@emitter()
def permute(g: Graph, x: Value, dims: Any) -> Value:
    return g.transpose(x, [d % x.ndim for d in as_sizes((dims,))])


@emitter()
def transpose(g: Graph, x: Value, dim0: int, dim1: int) -> Value:
    order = list(range(x.ndim))
    if order:
        order[dim0], order[dim1] = order[dim1], order[dim0]
    return g.transpose(x, order)


@emitter()
def squeeze(g: Graph, x: Value, dim: Any) -> Value:
    dims = () if dim == () else all_dims("squeeze", dim, x.shape)
    return g.squeeze(x, [d for d in dims if x.shape[d] == 1])


@emitter()
def unsqueeze(g: Graph, x: Value, dim: int) -> Value:
    return g.unsqueeze(x, [one_dim("unsqueeze", dim, x.shape, extra=1)])


@emitter()
def broadcast_to(g: Graph, x: Value, size: Any) -> Value:
    return g.expand(x, g.result_shape)


@emitter()
def repeat(g: Graph, x: Value, sizes: Any) -> Value:
    counts = list(sizes) if isinstance(sizes, (tuple, list)) and not isinstance(sizes, Size) else [sizes]
    x = g.unsqueeze(x, range(len(counts) - x.ndim))
    return g.node("Tile", [x, g.lengths(counts)]) if counts else x


@emitter()
def cat(g: Graph, *xs: Value, dim: int) -> Value:
    parts = [g.cast(x, g.result_dtype) for x in xs]
    return g.node("Concat", parts, axis=dim % xs[0].ndim) if len(parts) > 1 else parts[0]


@emitter()
def stack(g: Graph, *xs: Value, dim: int) -> Value:
    place = dim % (xs[0].ndim + 1)
    return g.node("Concat", [g.unsqueeze(g.cast(x, g.result_dtype), [place]) for x in xs], axis=place)


@emitter()
def flip(g: Graph, x: Value, dims: Any) -> Value:
    places = () if dims == () else all_dims("flip", dims, x.shape)
    return _sliced(g, x, {place: (LAST, FIRST, -1) for place in places})


@emitter()
def roll(g: Graph, x: Value, shifts: Any, dims: Any) -> Value:
    shape = x.shape
    if dims is None:
        x, dims = g.reshape(x, (int(np.prod(g.fixed(shape, "the shape of what is rolled without dims"))),)), 0
    for shift, dim in zip(np.atleast_1d(shifts).tolist(), np.atleast_1d(dims).tolist()):
        place = dim % x.ndim
        length, = g.fixed([x.shape[place]], "the length of what is rolled")
        if length and shift % length:
            cut = length - shift % length
            parts = [g.slice(x, place, cut, LAST), g.slice(x, place, 0, cut)]
            x = g.node("Concat", parts, shape=x.shape, axis=place)
    return g.reshape(x, shape)


@emitter()
def tril(g: Graph, x: Value, diagonal: int) -> Value:
    return g.node("Trilu", [x, g.scalar(diagonal, np.int64)], upper=0)


@emitter()
def triu(g: Graph, x: Value, diagonal: int) -> Value:
    return g.node("Trilu", [x, g.scalar(diagonal, np.int64)], upper=1)


@emitter()
def gather(g: Graph, x: Value, dim: int, index: Value) -> Value:
    if not x.ndim:
        return g.reshape(x, index.shape)
    return g.node("GatherElements", [x, g.cast(index, np.int64)], axis=dim % x.ndim)


@emitter()
def scatter(g: Graph, x: Value, source: Any, dim: int, index: Value) -> Value:
    if isinstance(source, Value) and source.ndim:
        for place, size in enumerate(index.shape):
            if size != source.shape[place]:
                source = g.slice(source, place, 0, size)
        source = g.cast(source, x.dtype)
    else:
        source = g.expand(g.operand(source, x.dtype), index.shape)
    return g.node("ScatterElements", [x, g.cast(index, np.int64), source], axis=dim % x.ndim)


@emitter()
def embedding(g: Graph, indices: Any, weight: Value, padding_idx: int | None) -> Value:
    return g.node("Gather", [weight, g.cast(indices, np.int64)], dtype=weight.dtype, axis=0)


@emitter()
def getitem(g: Graph, x: Value, index: Any) -> Value:
    parts = _written_out(g, list(index) if type(index) is tuple else [index], x.ndim)
    fancy = [place for place, part in enumerate(parts) if isinstance(part, Value)]
    chosen = [place for place, part in enumerate(parts) if isinstance(part, (Value, int, Size))]
    axes = _axes(parts)
    x = _sliced(g, x, {axes[place]: _bounds(part) for place, part in enumerate(parts)
                       if isinstance(part, slice) and part != slice(None)})
    new = [place for place, part in enumerate(parts) if part is None]
    if not fancy:
        for place in reversed(chosen):
            x = g.node("Gather", [x, g.operand(parts[place], np.int64)], axis=axes[place], dtype=x.dtype,
                       shape=x.shape[:axes[place]] + x.shape[axes[place] + 1:])
        return g.unsqueeze(x, [place - sum(one < place for one in chosen) for place in new])
    together = chosen[-1] - chosen[0] == len(chosen) - 1
    before = chosen[0] - sum(place < chosen[0] for place in new) if together else 0  # axes that stay in front
    if len(chosen) == 1:
        picked = parts[chosen[0]]
        x = g.node("Gather", [x, g.cast(picked, np.int64)], dtype=x.dtype, axis=axes[chosen[0]],
                   shape=x.shape[:before] + picked.shape + x.shape[before + 1:])
        inserted = picked.ndim
    else:
        x, inserted = _gather_points(g, x, {axes[place]: parts[place] for place in chosen}, before)

    def final(place: int) -> int:
        """Where a new axis stands in the result."""
        return place - sum(one < place for one in chosen) + (inserted if place > chosen[0] or not together else 0)

    return g.unsqueeze(x, [final(place) for place in new])


def _written_out(g: Graph, parts: list, ndim: int) -> list:
    """An index with one part for each axis, new axes as None, arrays as Values of integers."""
    if any(isinstance(part, bool) for part in parts):
        raise g.refuse("an index of True or False is not written; use unsqueeze")
    arrays = []
    for part in parts:
        part = g.constant(np.asarray(part)) if isinstance(part, list) else part
        if isinstance(part, Value) and part.dtype == np.bool_:
            if part.array is None:
                raise g.refuse("a boolean mask gives a result whose size depends on the values: use where or "
                               "masked_fill, or give integer indices as an input")
            arrays += [g.constant(found) for found in np.nonzero(part.array)]
        else:
            arrays.append(part)
    used = sum(part is not None and part is not Ellipsis for part in arrays)
    rest = [slice(None)] * (ndim - used)
    place = next((place for place, part in enumerate(arrays) if part is Ellipsis), len(arrays))
    return arrays[:place] + rest + arrays[place + 1:]


def _axes(parts: list) -> dict[int, int]:
    """The axis of x that each part of the index speaks of."""
    axes: dict[int, int] = {}
    for place, part in enumerate(parts):
        if part is not None:
            axes[place] = len(axes)
    return axes


def _bounds(part: slice) -> tuple[Any, Any, int]:
    step = 1 if part.step is None else part.step
    ends = (0, LAST) if step > 0 else (LAST, FIRST)
    return ends[0] if part.start is None else part.start, ends[1] if part.stop is None else part.stop, step


def _sliced(g: Graph, x: Value, bounds: dict[int, tuple[Any, Any, int]]) -> Value:
    """x with (start, stop, step) along each of some axes. The shape of the result is left as x's."""
    if not bounds:
        return x
    starts, stops, steps = [g.lengths(column) for column in zip(*bounds.values())]
    return g.node("Slice", [x, starts, stops, np.array(list(bounds), np.int64), steps], shape=x.shape, dtype=x.dtype)


def _gather_points(g: Graph, x: Value, parts: dict[int, Any], before: int) -> tuple[Value, int]:
    """x at an index for each of several axes, broadcast against each other, and the number of axes that come of them.

    before: how many of the axes that are not indexed stand in front of those.
    """
    indices, axes = [g.operand(part, np.int64) for part in parts.values()], list(parts)
    count = max(index.ndim for index in indices)
    padded = [(1,) * (count - index.ndim) + tuple(index.shape) for index in indices]
    shape = tuple([next((size for size in sizes if size != 1), 1) for sizes in zip(*padded)])
    points = g.node("Concat", [g.unsqueeze(g.expand(index, shape), [count]) for index in indices], axis=count)
    rest = [d for d in range(x.ndim) if d not in axes]
    y = g.node("GatherND", [g.transpose(x, axes + rest), points], dtype=x.dtype,
               shape=shape + tuple([x.shape[d] for d in rest]))
    order = [*range(count, count + before), *range(count), *range(count + before, count + len(rest))]
    return g.transpose(y, order), count
