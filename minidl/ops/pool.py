"""Pooling of signals (N, C, L) and images (N, C, H, W): the largest or the mean element of every window.

Adaptive pooling is told how many windows to make, the others how large they are. Signals are pooled as images of
height 1. What is computed is read best in `kernels/reference/pool.py`.
"""

from __future__ import annotations

from typing import Any

from minidl import kernels
from minidl.errors import ShapeError
from minidl.kernels.shapes import pool_output_size
from minidl.ops.spatial import as_images, from_images, pair
from minidl.tensor import differentiable


@differentiable
def max_pool1d(x, /, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of every window of x (N, C, L) or (C, L): (N, C, L'). Options as in `max_pool2d`."""
    return _max_pool("max_pool1d", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, dims=1)


@differentiable
def max_pool2d(x, /, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of every window of x (N, C, H, W) or (C, H, W): (N, C, H', W').

    H' = floor((H + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1, or the ceiling with ceil_mode, where the
    last window may run over the end but not start beyond it. stride: kernel_size unless given. Each option is one
    integer or a pair (rows, columns). The gradient goes to the first of equal elements; padding is never taken. Where
    dilation is larger than the input, a window may find nothing but padding: -inf, whose gradient goes nowhere.
    Raises ShapeError if no window fits or padding exceeds half of it, and ValueError for return_indices, which only
    exists so that arguments keep their places.
    """
    return _max_pool("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, dims=2)


@differentiable
def avg_pool1d(x, /, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """The mean of every window of x (N, C, L) or (C, L): (N, C, L'). Options as in `avg_pool2d`."""
    return _avg_pool("avg_pool1d", x, kernel_size, stride, padding, ceil_mode, count_include_pad, None, dims=1)


@differentiable
def avg_pool2d(
    x, /, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    """The mean of every window of x (N, C, H, W) or (C, H, W): (N, C, H', W'), of the size that `max_pool2d` has.

    Zeros of the padding count as elements unless count_include_pad is False; divisor_override, if given, is what the
    sums are divided by. Raises ShapeError and ValueError as `max_pool2d`.
    """
    return _avg_pool(
        "avg_pool2d", x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dims=2
    )


@differentiable
def adaptive_avg_pool1d(x, /, output_size):
    """The means of output_size windows that cover x (N, C, L) or (C, L): (N, C, output_size)."""
    return _adaptive_avg_pool("adaptive_avg_pool1d", x, output_size, dims=1)


@differentiable
def adaptive_avg_pool2d(x, /, output_size):
    """The means of output_size windows that cover x (N, C, H, W) or (C, H, W): (N, C, *output_size).

    output_size: one integer or (rows, columns); None keeps the input's. Window o of n over H rows goes from
    floor(o H / n) to ceil((o + 1) H / n), so that windows may overlap.
    """
    return _adaptive_avg_pool("adaptive_avg_pool2d", x, output_size, dims=2)


@differentiable
def adaptive_max_pool1d(x, /, output_size):
    """The largest elements of output_size windows that cover x (N, C, L) or (C, L): (N, C, output_size)."""
    return _adaptive_max_pool("adaptive_max_pool1d", x, output_size, dims=1)


@differentiable
def adaptive_max_pool2d(x, /, output_size):
    """The largest elements of windows cut as in `adaptive_avg_pool2d`: (N, C, *output_size)."""
    return _adaptive_max_pool("adaptive_max_pool2d", x, output_size, dims=2)


def _max_pool(name, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, dims) -> tuple:
    if return_indices:
        raise ValueError(f"{name}: return_indices is not available")
    images = as_images(name, x, dims)
    options = _windows(name, images, kernel_size, stride, padding, dilation, ceil_mode, dims)
    axes, size = x.ndim, images.shape[2:]
    y, winners = kernels.max_pool2d(images, **options, ceil_mode=bool(ceil_mode))

    def grad(g):
        return from_images(kernels.max_pool2d_grad(as_images(name, g, dims), winners, size, **options), axes, dims)

    return from_images(y, axes, dims), (grad,)


def _avg_pool(name, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dims) -> tuple:
    images = _floating(name, as_images(name, x, dims))
    options = _windows(name, images, kernel_size, stride, padding, 1, ceil_mode, dims)
    del options["dilation"]
    if divisor_override == 0:
        raise ValueError(f"{name}: divisor_override must not be 0")
    options |= {"count_include_pad": bool(count_include_pad), "divisor_override": divisor_override}
    axes, size = x.ndim, images.shape[2:]

    def grad(g):
        return from_images(kernels.avg_pool2d_grad(as_images(name, g, dims), size, **options), axes, dims)

    return from_images(kernels.avg_pool2d(images, **options, ceil_mode=bool(ceil_mode)), axes, dims), (grad,)


def _adaptive_avg_pool(name, x, output_size, dims) -> tuple:
    images = _floating(name, as_images(name, x, dims))
    axes, size = x.ndim, images.shape[2:]
    y = kernels.adaptive_avg_pool2d(images, output_size=_adaptive_size(name, images, output_size, dims))

    def grad(g):
        return from_images(kernels.adaptive_avg_pool2d_grad(as_images(name, g, dims), size), axes, dims)

    return from_images(y, axes, dims), (grad,)


def _adaptive_max_pool(name, x, output_size, dims) -> tuple:
    images = as_images(name, x, dims)
    axes, size = x.ndim, images.shape[2:]
    y, winners = kernels.adaptive_max_pool2d(images, output_size=_adaptive_size(name, images, output_size, dims))

    def grad(g):
        return from_images(kernels.adaptive_max_pool2d_grad(as_images(name, g, dims), winners, size), axes, dims)

    return from_images(y, axes, dims), (grad,)


def _windows(name, images, kernel_size, stride, padding, dilation, ceil_mode, dims) -> dict[str, Any]:
    """The options as the kernels take them, once it is clear that they make sense for these images."""
    kernel = pair(name, "kernel_size", kernel_size, dims, 1)
    options = {
        "kernel_size": kernel,
        "stride": kernel if stride is None else pair(name, "stride", stride, dims, 1),
        "padding": pair(name, "padding", padding, dims),
        "dilation": pair(name, "dilation", dilation, dims, 1),
    }
    for size, k, s, p, d in zip(images.shape[2:], *options.values()):
        if p > (d * (k - 1) + 1) // 2:
            raise ShapeError(f"{name}: padding {padding} is more than half of the window, kernel_size {kernel_size}"
                             + (f" with dilation {dilation}" if d > 1 else "") + ": some windows would be all padding")
        outputs = pool_output_size(size, k, s, p, d, ceil_mode)
        if size < 1 or outputs < 1:
            raise ShapeError(f"{name}: no window of kernel_size {kernel_size} fits into {images.shape[4 - dims:]} with "
                             f"padding {padding}")
    return options


def _adaptive_size(name: str, images: Any, output_size: Any, dims: int) -> tuple[int, int]:
    """Rows and columns to make, with the input's where None is given."""
    if 0 in images.shape[2:]:
        raise ShapeError(f"{name}: an input of size {images.shape[4 - dims:]} has nothing to pool")
    asked = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * dims
    if len(asked) == dims:
        asked = [size if wanted is None else wanted for wanted, size in zip(asked, images.shape[4 - dims:])]
    return pair(name, "output_size", asked, dims, 1)


def _floating(name: str, images: Any) -> Any:
    """The images, unless their elements are integers, which have no mean of their own type."""
    if images.dtype.kind != "f":
        raise TypeError(f"{name}: needs floating-point numbers, not {images.dtype}; use .float() first")
    return images
