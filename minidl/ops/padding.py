"""`pad`: widen a tensor at its edges, with PyTorch's order of arguments (the last dim first)."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.errors import ShapeError
from minidl.ops.dims import as_sizes
from minidl.tensor import differentiable

NUMPY_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@differentiable
def pad(x, /, pad, mode="constant", value=None):
    """x with (left, right) elements added to the last dim, (top, bottom) to the one before, and so on.

    mode: "constant" (with `value`, 0 by default; negative sizes crop), "reflect" (mirrored without repeating the
    edge), "replicate" (the edge repeated) or "circular". Raises ShapeError for sizes that do not fit.
    """
    sizes = as_sizes((pad,))
    if len(sizes) % 2 or len(sizes) > 2 * x.ndim:
        raise ShapeError(f"pad: {len(sizes)} sizes for shape {x.shape}: give two for each dim, the last dim first")
    pairs = [(0, 0)] * (x.ndim - len(sizes) // 2) + list(zip(sizes[::2], sizes[1::2]))[::-1]
    if any(before + n + after < 0 for n, (before, after) in zip(x.shape, pairs)):
        raise ShapeError(f"pad: {sizes} takes away more than shape {x.shape} has")
    if mode == "constant":
        return _pad_constant(x, pairs, 0 if value is None else value)
    if mode not in NUMPY_MODES:
        raise ValueError(f"pad: unknown mode '{mode}': one of constant, {', '.join(NUMPY_MODES)}")
    return _pad_copies(x, pairs, mode)


def _pad_constant(x: Any, pairs: list, value: float) -> tuple:
    shape = x.shape
    kept = tuple([slice(max(-before, 0), n - max(-after, 0)) for n, (before, after) in zip(shape, pairs)])
    inside = tuple([slice(max(before, 0), max(before, 0) + k.stop - k.start) for k, (before, _) in zip(kept, pairs)])
    y = np.full([before + n + after for n, (before, after) in zip(shape, pairs)], value, x.dtype)
    y[inside] = x[kept]

    def grad_x(g):
        if kept == tuple([slice(0, n) for n in shape]):
            return g[inside]
        grad = np.zeros(shape, g.dtype)
        grad[kept] = g[inside]
        return grad

    return y, (grad_x,)


def _pad_copies(x: Any, pairs: list, mode: str) -> tuple:
    """Padding with elements of x itself: along each dim a list of the elements to take."""
    sources = {}
    for dim, (n, pair) in enumerate(zip(x.shape, pairs)):
        most = n - 1 if mode == "reflect" else n
        if min(pair) < 0 or n == 0 and max(pair) > 0 or mode != "replicate" and max(pair) > most:
            raise ShapeError(f"pad: sizes {pair} for dim {dim} of shape {x.shape}: mode '{mode}' needs them from 0 "
                             f"{'on' if mode == 'replicate' else f'to {most}'}")
        if max(pair) > 0:
            sources[dim] = np.pad(np.arange(n), pair, mode=NUMPY_MODES[mode])
    y, lengths = x, x.shape
    for dim, source in sources.items():
        y = np.take(y, source, axis=dim)

    def grad_x(g):
        for dim, source in sources.items():
            rows = np.moveaxis(g, dim, 0)
            grad = np.zeros((lengths[dim],) + rows.shape[1:], g.dtype)
            np.add.at(grad, source, rows)
            g = np.moveaxis(grad, 0, dim)
        return g

    return y if sources else x.copy(), (grad_x,)
