"""ONNX's operators that move, join, repeat, cut and pick elements, or make tensors of sizes and numbers."""

from __future__ import annotations

import math

import numpy as np

from minidl import ops
from minidl.onnx.operators import MANY, Integers, integers, is_float, operator
from minidl.onnx.tensors import DTYPES
from minidl.tensor import Tensor

FARTHEST = 2**62  # a place behind every end


def dims_of(axes, count: int) -> tuple[int, ...]:
    """Axes as numbers from 0 on; IndexError for one that is not there."""
    for axis in axes:
        if not -count <= axis < count:
            raise IndexError(f"axis {axis} of a tensor of {count} dims")
    return tuple(axis % count for axis in axes)


@operator("Shape")
def shape_of(x, *, start: int = 0, end: int = FARTHEST):
    return Tensor(np.array(x.shape[start:end], np.int64))


@operator("Size")
def size_of(x):
    return Tensor(np.array(math.prod(x.shape), np.int64))


@operator("Reshape")
def reshape(x, shape, *, allowzero: int = 0):
    sizes = integers(shape)
    if not allowzero:
        sizes = [x.shape[i] if n == 0 and i < x.ndim else n for i, n in enumerate(sizes)]
    return ops.reshape(x, tuple(sizes))


@operator("Flatten")
def flatten(x, *, axis: int = 1):
    axis = axis + x.ndim if axis < 0 else axis
    return ops.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Transpose")
def transpose(x, *, perm: Integers | None = None):
    return ops.permute(x, tuple(range(x.ndim))[::-1] if perm is None else tuple(perm))


@operator("Squeeze")
def squeeze(x, axes=None):
    if axes is None:
        return ops.squeeze(x)
    dims = dims_of(integers(axes), x.ndim)
    if any(x.shape[d] != 1 for d in dims):
        raise ValueError(f"Squeeze: the axes {dims} of shape {x.shape} must have length 1")
    return ops.reshape(x, tuple(n for d, n in enumerate(x.shape) if d not in dims))


@operator("Unsqueeze")
def unsqueeze(x, axes):
    wanted = integers(axes)
    dims = dims_of(wanted, x.ndim + len(wanted))
    if len(set(dims)) != len(dims):
        raise ValueError(f"Unsqueeze: the axes {wanted} name one twice")
    left = iter(x.shape)
    return ops.reshape(x, tuple(1 if d in dims else next(left) for d in range(x.ndim + len(dims))))


@operator("Concat")
def concat(x, *others, axis: int):
    if is_float(x, *others):
        return ops.cat((x, *others), axis)
    return Tensor(np.concatenate([tensor.array for tensor in (x, *others)], axis))


@operator("Split", outputs=MANY)
def split(x, sizes=None, *, axis: int = 0, num_outputs: int = 0, outputs: int = 0):
    """outputs: how many there are in the graph, which counts where neither sizes nor num_outputs are given."""
    if sizes is not None:
        return ops.split(x, integers(sizes), axis)
    (dim,) = dims_of((axis,), x.ndim)
    count = num_outputs or outputs
    piece = -(-x.shape[dim] // count)
    lengths = [max(min(piece, x.shape[dim] - place * piece), 0) for place in range(count)]
    return ops.split(x, lengths, dim)


@operator("Slice")
def cut(x, starts, ends, axes=None, steps=None):
    begins, stops = integers(starts), integers(ends)
    dims = list(range(len(begins))) if axes is None else dims_of(integers(axes), x.ndim)
    strides = [1] * len(begins) if steps is None else integers(steps)
    if not len(begins) == len(stops) == len(dims) == len(strides) or 0 in strides or len(set(dims)) != len(dims):
        raise ValueError(f"Slice: starts {begins}, ends {stops}, axes {dims} and steps {strides} do not go together")
    index = [slice(None)] * x.ndim
    for dim, begin, stop, step in zip(dims, begins, stops, strides):
        n = x.shape[dim]
        begin, stop = (place + n if place < 0 else place for place in (begin, stop))
        low, high = (0, n) if step > 0 else (0, n - 1)
        begin = min(max(begin, low), high)
        stop = min(max(stop, 0), n) if step > 0 else min(max(stop, -1), n - 1)
        index[dim] = slice(begin, None if stop < 0 else stop, step)
    return x[tuple(index)]


@operator("Gather")
def gather(x, indices, *, axis: int = 0):
    (dim,) = dims_of((axis,), x.ndim)
    places = _counted(indices.array, x.shape[dim], "Gather")
    if places.ndim == 0:
        return x[(slice(None),) * dim + (int(places),)]
    return x[(slice(None),) * dim + (places,)]


def _counted(places: np.ndarray, length: int, name: str) -> np.ndarray:
    """Places from 0 on; negative ones count from the end."""
    if places.dtype.kind not in "iu":
        raise TypeError(f"{name}: indices must be integers, not {places.dtype}")
    if places.size and not -length <= places.min() <= places.max() < length:
        raise IndexError(f"{name}: indices from {places.min()} to {places.max()} on an axis of length {length}")
    return np.where(places < 0, places + length, places)


@operator("GatherElements")
def gather_elements(x, indices, *, axis: int = 0):
    (dim,) = dims_of((axis,), x.ndim)
    return ops.gather(x, dim, _counted(indices.array, x.shape[dim], "GatherElements"))


@operator("GatherND")
def gather_nd(x, indices, *, batch_dims: int = 0):
    places = indices.array
    depth = places.shape[-1]
    index = [_counted(places[..., k], x.shape[batch_dims + k], "GatherND") for k in range(depth)]
    batch = [np.arange(n).reshape([n if d == k else 1 for d in range(places.ndim - 1)])
             for k, n in enumerate(x.shape[:batch_dims])]
    return x[tuple(batch + index)]


@operator("Expand")
def expand(x, shape):
    return ops.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(integers(shape))))


@operator("Tile")
def tile(x, repeats):
    return ops.repeat(x, tuple(integers(repeats)))


@operator("Pad")
def pad(x, pads, constant_value=None, axes=None, *, mode: str = "constant"):
    sizes = integers(pads)
    dims = range(x.ndim) if axes is None else dims_of(integers(axes), x.ndim)
    if len(sizes) != 2 * len(dims):
        raise ValueError(f"Pad: {len(sizes)} sizes for {len(dims)} axes")
    pairs = {d: (sizes[i], sizes[i + len(dims)]) for i, d in enumerate(dims)}
    flat = [n for d in reversed(range(x.ndim)) for n in pairs.get(d, (0, 0))]
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in modes:
        raise ValueError(f"Pad: the mode is one of {', '.join(modes)}, not {mode[:50]!r}")
    value = 0 if constant_value is None or not constant_value.array.size else constant_value.array.reshape(-1)[0]
    return ops.pad(x, flat, modes[mode], value) if mode == "constant" else ops.pad(x, flat, modes[mode])


@operator("Cast")
def cast(x, *, to: int, saturate: int = 1, round_mode: str = "up"):
    if to not in DTYPES:
        raise ValueError(f"Cast: type {to} is not one that NumPy has")
    with np.errstate(all="ignore"):
        return x.to(DTYPES[to])


@operator("CastLike")
def cast_like(x, target, *, saturate: int = 1, round_mode: str = "up"):
    with np.errstate(all="ignore"):
        return x.to(target.dtype)


@operator("ConstantOfShape")
def constant_of_shape(shape, value=None):
    return Tensor(np.full(integers(shape), np.float32(0) if value is None else value.array.reshape(-1)[0]))


@operator("Range")
def numbers(start, limit, delta):
    return Tensor(np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype))


@operator("EyeLike")
def eye_like(x, *, dtype: int = 0, k: int = 0):
    return Tensor(np.eye(*x.shape, k=k, dtype=DTYPES[dtype] if dtype else x.dtype))


@operator("Trilu")
def triangle(x, k=None, *, upper: int = 1):
    diagonal = 0 if k is None else int(k.array.reshape(()))
    return (ops.triu if upper else ops.tril)(x, diagonal)


@operator("DepthToSpace")
def depth_to_space(x, *, blocksize: int, mode: str = "DCR"):
    n, c, h, w = x.shape
    b = blocksize
    if mode == "DCR":
        y = ops.permute(ops.reshape(x, (n, b, b, c // b**2, h, w)), (0, 3, 4, 1, 5, 2))  # N, C', H, b, W, b
    else:
        y = ops.permute(ops.reshape(x, (n, c // b**2, b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return ops.reshape(y, (n, c // b**2, h * b, w * b))


@operator("SpaceToDepth")
def space_to_depth(x, *, blocksize: int, mode: str = "DCR"):
    n, c, h, w = x.shape
    b = blocksize
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    y = ops.permute(ops.reshape(x, (n, c, h // b, b, w // b, b)), order)
    return ops.reshape(y, (n, c * b**2, h // b, w // b))


@operator("OneHot")
def one_hot(indices, depth, values, *, axis: int = -1):
    count = int(depth.array.reshape(-1)[0])
    (dim,) = dims_of((axis,), indices.ndim + 1)
    places = indices.array.astype(np.int64)
    places = np.expand_dims(np.where(places < 0, places + count, places), dim)
    shape = [1] * (indices.ndim + 1)
    shape[dim] = count
    hot = np.arange(count).reshape(shape) == places
    off, on = values.array
    return Tensor(np.where(hot, on, off).astype(values.dtype))


@operator("NonZero")
def non_zero(x):
    return Tensor(np.array(np.nonzero(x.array), np.int64))


@operator("CumSum")
def running_sum(x, axis, *, exclusive: int = 0, reverse: int = 0):
    (dim,) = dims_of(integers(axis), x.ndim)
    x = ops.flip(x, dim) if reverse else x
    y = ops.cumsum(x, dim, dtype=x.dtype)
    y = y - x if exclusive else y
    return ops.flip(y, dim) if reverse else y
