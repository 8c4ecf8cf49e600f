"""Emitters for pooling, resizing and padding: what looks at windows or neighbours of images.

Where ONNX's operators mean something else at the edges (pooling with `ceil_mode`, adaptive pooling to sizes that do
not divide, nearest neighbours by factors that are not whole), constant indices or matrices do the same exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.kernels.shapes import adaptive_windows, nearest_sources, pool_output_size
from minidl.onnx.export_graph import Graph, Value
from minidl.onnx.export_layers import alone, images
from minidl.onnx.export_table import emitter
from minidl.ops.resize import _target
from minidl.ops.spatial import integers
from minidl.tensor import Tensor


class Windows:
    """Pooling options as ONNX takes them; `ends` is the padding behind each axis, so that `ceil_mode` is not needed."""

    def __init__(self, g: Graph, x: Value, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
                 dims: int):
        self.kernel = integers("pool", "kernel_size", kernel_size, dims, 1)
        self.stride = self.kernel if stride is None else integers("pool", "stride", stride, dims, 1)
        self.padding = integers("pool", "padding", padding, dims)
        self.dilation = integers("pool", "dilation", dilation, dims, 1)
        self.ends = list(self.padding)
        if ceil_mode:
            sizes = g.fixed(x.shape[-dims:], "with ceil_mode the size of an image")
            self.ends = []
            for size, k, s, p, d in zip(sizes, self.kernel, self.stride, self.padding, self.dilation):
                last = (pool_output_size(size, k, s, p, d, True) - 1) * s + d * (k - 1) + 1  # where the last one ends
                self.ends.append(max(last - size - p, p))

    @property
    def uneven(self) -> bool:
        """Whether windows run over the padded end."""
        return self.ends != list(self.padding)

    @property
    def fits(self) -> bool:
        """Whether ONNX Runtime takes this padding: it must be less than the kernel."""
        return all(max(before, after) < k for before, after, k in zip(self.padding, self.ends, self.kernel))

    def pads(self) -> list[int]:
        return [*self.padding, *self.ends]


def pad_images(g: Graph, x: Value, windows: Windows, value: float) -> Value:
    sizes = [0, 0, *windows.padding, 0, 0, *windows.ends]
    return g.node("Pad", [x, np.array(sizes, np.int64), np.array(value, x.dtype)], dtype=x.dtype, shape=x.shape)


@emitter()
def max_pool1d(g: Graph, x: Value, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
               return_indices: bool) -> Value:
    return _max_pool(g, x, Windows(g, x, kernel_size, stride, padding, dilation, ceil_mode, 1), 1)


@emitter()
def max_pool2d(g: Graph, x: Value, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
               return_indices: bool) -> Value:
    return _max_pool(g, x, Windows(g, x, kernel_size, stride, padding, dilation, ceil_mode, 2), 2)


def _max_pool(g: Graph, x: Value, windows: Windows, dims: int) -> Value:
    x, single = images(g, x, dims)
    pads = windows.pads()
    if not windows.fits:
        x, pads = pad_images(g, x, windows, -np.inf), [0] * len(pads)
    y = g.node("MaxPool", [x], kernel_shape=windows.kernel, strides=windows.stride, pads=pads,
               dilations=windows.dilation, shape=x.shape)
    return alone(g, y, single)


@emitter()
def avg_pool1d(g: Graph, x: Value, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
               count_include_pad: bool) -> Value:
    return _avg_pool(g, x, Windows(g, x, kernel_size, stride, padding, 1, ceil_mode, 1), count_include_pad, None, 1)


@emitter()
def avg_pool2d(g: Graph, x: Value, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
               count_include_pad: bool, divisor_override: int | None) -> Value:
    windows = Windows(g, x, kernel_size, stride, padding, 1, ceil_mode, 2)
    return _avg_pool(g, x, windows, count_include_pad, divisor_override, 2)


def _avg_pool(g: Graph, x: Value, windows: Windows, count_include_pad: bool, divisor: int | None, dims: int) -> Value:
    x, single = images(g, x, dims)
    options: dict[str, Any] = {"kernel_shape": windows.kernel, "strides": windows.stride, "shape": x.shape}
    if divisor is None and not windows.uneven and windows.fits:
        y = g.node("AveragePool", [x], pads=windows.pads(), count_include_pad=int(count_include_pad), **options)
        return alone(g, y, single)
    if any(windows.pads()):
        x = pad_images(g, x, windows, 0)
    y = g.node("AveragePool", [x], **options)
    area = int(np.prod(windows.kernel))
    if divisor is not None:
        return alone(g, g.node("Mul", [y, g.scalar(area / divisor, x.dtype)], shape=y.shape), single)
    sizes = g.fixed(x.shape[2:], "with ceil_mode the size of an image")
    counts = [_counted(*axis, count_include_pad) for axis in zip(sizes, windows.kernel, windows.stride, windows.padding,
                                                                 windows.ends)]
    shares = area / np.multiply.outer(*counts) if dims == 2 else area / counts[0]
    return alone(g, g.node("Mul", [y, shares.astype(x.dtype)], shape=y.shape), single)


def _counted(size: int, kernel: int, stride: int, padding: int, end: int, count_padding: bool) -> np.ndarray:
    """How many elements the mean of each window along an axis is taken over."""
    margin = padding if count_padding else 0
    starts = np.arange(0, size + padding + end - kernel + 1, stride) - padding
    return np.minimum(starts + kernel, size + margin) - np.maximum(starts, -margin)


@emitter()
def adaptive_avg_pool1d(g: Graph, x: Value, output_size: Any) -> Value:
    return _adaptive(g, x, output_size, 1, "Average")


@emitter()
def adaptive_avg_pool2d(g: Graph, x: Value, output_size: Any) -> Value:
    return _adaptive(g, x, output_size, 2, "Average")


@emitter()
def adaptive_max_pool1d(g: Graph, x: Value, output_size: Any) -> Value:
    return _adaptive(g, x, output_size, 1, "Max")


@emitter()
def adaptive_max_pool2d(g: Graph, x: Value, output_size: Any) -> Value:
    return _adaptive(g, x, output_size, 2, "Max")


def _adaptive(g: Graph, x: Value, output_size: Any, dims: int, kind: str) -> Value:
    x, single = images(g, x, dims)
    asked = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * dims
    if asked == [1] * dims:
        return alone(g, g.node(f"Global{kind}Pool", [x], shape=x.shape), single)
    sizes = g.fixed(x.shape[2:], "for adaptive pooling to more than one element the size of an image")
    targets = [size if wanted is None else wanted for wanted, size in zip(asked, sizes)]
    if targets == sizes:
        return alone(g, x, single)
    if all(size % target == 0 for size, target in zip(sizes, targets)):
        steps = [size // target for size, target in zip(sizes, targets)]
        y = g.node(f"{kind}Pool", [x], kernel_shape=steps, strides=steps, shape=x.shape)
        return alone(g, y, single)
    for axis, (size, target) in enumerate(zip(sizes, targets), start=2):
        x = _share_out(g, x, axis, adaptive_windows(size, target), kind)
    return alone(g, x, single)


def _share_out(g: Graph, x: Value, axis: int, windows: list[tuple[int, int]], kind: str) -> Value:
    """The largest or the mean element of each window (start, stop) along an axis."""
    size, longest = x.shape[axis], max(stop - start for start, stop in windows)
    if kind == "Max":  # the last element of a short window once more does no harm
        rows = np.array([[min(start + place, stop - 1) for place in range(longest)] for start, stop in windows])
        shape = x.shape[:axis] + rows.shape + x.shape[axis + 1:]
        return g.reduce("ReduceMax", g.node("Gather", [x, rows], axis=axis, shape=shape), [axis + 1], False)
    shares = np.zeros((len(windows), size), x.dtype)
    for row, (start, stop) in zip(shares, windows):
        row[start:stop] = 1 / (stop - start)
    return mixed(g, x, axis, shares)


def mixed(g: Graph, x: Value, axis: int, shares: np.ndarray) -> Value:
    """Each element along an axis of (N, C, L) or (N, C, H, W) as a mixture, by a row of shares, of all that are there.
    """
    shape = x.shape[:axis] + (len(shares),) + x.shape[axis + 1:]
    if axis == x.ndim - 1:
        return g.node("MatMul", [x, np.ascontiguousarray(shares.T)], shape=shape)
    return g.node("MatMul", [g.constant(shares), x], shape=shape, dtype=x.dtype)


@emitter()
def interpolate(g: Graph, x: Value, size: Any, scale_factor: Any, mode: str, align_corners: bool | None,
                recompute_scale_factor: bool | None) -> Value:
    dims = x.ndim - 2
    if scale_factor is not None and not recompute_scale_factor:
        given = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * dims
        factors = [float(factor) for factor in given]
        whole = all(factor == int(factor) for factor in factors)
        if whole and (mode.startswith("nearest") or not align_corners):
            return _resize(g, x, mode, factors)
    before = tuple(g.fixed(x.shape[2:], "for resizing by this the size of an image"))
    target, steps = _target(before, size, scale_factor, recompute_scale_factor)
    if mode.startswith("nearest"):
        if all(after % length == 0 and step * after == length for length, after, step in zip(before, target, steps)):
            return _resize(g, x, mode, [after / length for length, after in zip(before, target)])
        for axis, (length, after, step) in enumerate(zip(before, target, steps), start=2):
            rows = nearest_sources(length, after, step, mode == "nearest-exact")
            x = g.node("Gather", [x, rows.astype(np.int64)], axis=axis, shape=x.shape)
        return x
    if all(step * after == length for length, after, step in zip(before, target, steps)) and min(target) > 1:
        kind = "align_corners" if align_corners else "half_pixel"
        sizes = g.lengths([*x.shape[:2], *target])
        return g.node("Resize", [x, None, None, sizes], mode="linear", coordinate_transformation_mode=kind)
    for axis, (length, after, step) in enumerate(zip(before, target, steps), start=2):
        x = mixed(g, x, axis, _linear_shares(length, after, step, bool(align_corners), x.dtype))
    return x


def _resize(g: Graph, x: Value, mode: str, factors: list[float]) -> Value:
    """Enlarge by whole factors."""
    scales = np.array([1, 1, *factors], np.float32)
    if mode.startswith("nearest"):
        return g.node("Resize", [x, None, scales], mode="nearest", coordinate_transformation_mode="asymmetric",
                      nearest_mode="floor")
    return g.node("Resize", [x, None, scales], mode="linear", coordinate_transformation_mode="half_pixel")


def _linear_shares(length: int, after: int, step: float, align_corners: bool, dtype: Any) -> np.ndarray:
    """The matrix (after, length) of linear interpolation along an axis, read off from the operation itself."""
    unit = Tensor(np.eye(length)[:, None])  # as many signals (1, L) as there are elements
    options = {"align_corners": align_corners}
    if step * after == length:
        shares = ops.interpolate(unit, size=after, mode="linear", **options)
    else:
        shares = ops.interpolate(unit, scale_factor=1 / step, mode="linear", **options)
    return shares.array[:, 0].T.astype(dtype)


@emitter()
def pad(g: Graph, x: Value, pad: Any, mode: str, value: float | None) -> Value:
    sizes = list(pad)
    pairs = [(0, 0)] * (x.ndim - len(sizes) // 2) + list(zip(sizes[::2], sizes[1::2]))[::-1]
    if mode == "circular":
        for axis, (before, after) in enumerate(pairs):
            if before or after:
                length, = g.fixed([x.shape[axis]], "the length of what is padded in a circle")
                rows = np.pad(np.arange(length), (before, after), mode="wrap")
                x = g.node("Gather", [x, rows], axis=axis, shape=x.shape)
        return x
    widths = g.lengths([before for before, _ in pairs] + [after for _, after in pairs])
    if mode == "constant":
        y = g.node("Pad", [x, widths, np.array(0 if value is None else value, x.dtype)])
        if not value and all(pair == (0, 0) for pair in pairs[:2]) and all(
                isinstance(width, int) and width >= 0 for pair in pairs for width in pair):
            g.padded[y.name] = x, pairs[2:]
        return y
    return g.node("Pad", [x, widths], mode={"replicate": "edge"}.get(mode, mode))
