"""Convolution and its transpose over signals (N, C, L) and images (N, C, H, W).

A convolution slides its weights over the input; the transposed one is the gradient of that with respect to the
input, used as a layer that enlarges. So both share three kernels: `conv2d`, `conv2d_grad_input` and
`conv2d_grad_weight`. What they compute is read best in `kernels/reference/conv.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import kernels
from minidl.errors import ShapeError
from minidl.kernels.shapes import conv_output_size, conv_transpose_output_size, same_padding
from minidl.ops.shared import through_relu, unchanged
from minidl.ops.spatial import as_images, from_images, pair
from minidl.tensor import differentiable


@differentiable
def conv1d(x, weight, bias=None, /, stride=1, padding=0, dilation=1, groups=1, *, relu=False):
    """Slide weight (O, C/groups, k) over x (N, C, L) or (C, L) and add bias (O,): (N, O, L').

    Options and errors as in `conv2d`, with one number each.
    """
    return _convolve("conv1d", x, weight, bias, stride, padding, dilation, groups, relu, dims=1)


@differentiable
def conv2d(x, weight, bias=None, /, stride=1, padding=0, dilation=1, groups=1, *, relu=False):
    """Slide weight (O, C/groups, kh, kw) over x (N, C, H, W) or (C, H, W) and add bias (O,): (N, O, H', W').

    H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1, and so for W'. Options are one integer or a
    pair (rows, columns); padding may be "valid" (none) or, at stride 1, "same" (H' = H; where the total is odd, the
    additional row goes to the end). With groups, each O/groups outputs see C/groups of the channels. With relu,
    negative results become 0.
    Raises ShapeError if the shapes do not fit, TypeError or ValueError for impossible options.
    """
    return _convolve("conv2d", x, weight, bias, stride, padding, dilation, groups, relu, dims=2)


@differentiable
def conv_transpose1d(x, weight, bias=None, /, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transpose of `conv1d`, for x (N, C, L) or (C, L) and weight (C, O/groups, k): (N, O, L')."""
    return _transpose("conv_transpose1d", x, weight, bias, stride, padding, output_padding, groups, dilation, dims=1)


@differentiable
def conv_transpose2d(x, weight, bias=None, /, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transpose of `conv2d`, for x (N, C, H, W) or (C, H, W) and weight (C, O/groups, kh, kw): (N, O, H', W').

    H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1: the size from which a convolution makes
    H. A strided one makes H from several sizes; output_padding < stride chooses among them.
    Raises ShapeError if the shapes do not fit, TypeError or ValueError for impossible options.
    """
    return _transpose("conv_transpose2d", x, weight, bias, stride, padding, output_padding, groups, dilation, dims=2)


def _convolve(name, x, weight, bias, stride, padding, dilation, groups, relu, dims) -> tuple:
    images = as_images(name, x, dims)  # N, C, H, W
    filters = _filters(name, weight, dims)  # O, C/G, kh, kw
    outputs, channels = filters.shape[0], filters.shape[1] * groups
    _check_groups(name, "output", outputs, groups)
    if images.shape[1] != channels:
        raise ShapeError(_wrong_channels(name, x, weight.shape, channels, groups, dims))
    _check_bias(name, bias, outputs)
    options, extra = _options(name, stride, padding, dilation, groups, filters.shape[2:], dims)
    axes, kernel, size = x.ndim, filters.shape[2:], images.shape[2:]
    padded = _pad_end(images, extra)
    for axis in zip(padded.shape[2:], kernel, options["stride"], options["padding"], options["dilation"]):
        if conv_output_size(*axis) < 1:
            raise ShapeError(f"{name}: the kernel of size {weight.shape[2:]} (dilation {dilation}) is larger than the "
                             f"input of shape {x.shape} with padding {padding}")

    def grad_input(g):
        grad = kernels.conv2d_grad_input(as_images(name, cut(g), dims), filters, size, **options)
        return from_images(grad, axes, dims)

    def grad_weight(g):
        grad = kernels.conv2d_grad_weight(as_images(name, cut(g), dims), images, kernel, **options)
        return from_images(grad, dims + 2, dims)

    y = from_images(kernels.conv2d(padded, filters, bias, **options, relu=relu), axes, dims)
    cut = through_relu(y) if relu else unchanged
    return y, (grad_input, grad_weight, lambda g: kernels.conv2d_grad_bias(as_images(name, cut(g), dims)))


def _transpose(name, x, weight, bias, stride, padding, output_padding, groups, dilation, dims) -> tuple:
    images = as_images(name, x, dims)  # N, C, h, w
    filters = _filters(name, weight, dims)  # C, O/G, kh, kw
    channels, outputs = filters.shape[0], filters.shape[1] * groups
    if isinstance(padding, str):
        raise TypeError(f"{name}: padding must be given in numbers, not {padding!r}")
    options, _ = _options(name, stride, padding, dilation, groups, filters.shape[2:], dims)
    if images.shape[1] != channels:
        raise ShapeError(_wrong_channels(name, x, weight.shape, channels, groups, dims))
    _check_groups(name, "input", channels, groups)
    _check_bias(name, bias, outputs)
    additional = pair(name, "output_padding", output_padding, dims)
    for more, s, d in zip(additional, options["stride"], options["dilation"]):
        if more and more >= max(s, d):
            raise ValueError(f"{name}: output_padding {output_padding} must be smaller than the stride {stride} or the "
                             f"dilation {dilation}")
    axes, kernel, (height, width) = x.ndim, filters.shape[2:], images.shape[2:]
    lines = zip((height, width), kernel, options["stride"], options["padding"], additional, options["dilation"])
    size = tuple([conv_transpose_output_size(*axis) for axis in lines])
    if min(size) < 1:
        raise ShapeError(f"{name}: input of shape {x.shape} with kernel {weight.shape[2:]} and padding {padding} "
                         "leaves nothing; use less padding")

    def grad_input(g):
        grad = kernels.conv2d(as_images(name, g, dims), filters, None, **options)
        return from_images(grad[:, :, :height, :width], axes, dims)

    def grad_weight(g):
        grad = kernels.conv2d_grad_weight(images, as_images(name, g, dims), kernel, **options)
        return from_images(grad, dims + 2, dims)

    y = kernels.conv2d_grad_input(images, filters, size, **options)
    if bias is not None:
        y += bias[:, None, None]
    return from_images(y, axes, dims), (
        grad_input, grad_weight, lambda g: kernels.conv2d_grad_bias(as_images(name, g, dims))
    )


def _options(name: str, stride, padding, dilation, groups, kernel, dims: int) -> tuple[dict, tuple[int, int]]:
    """The options as the kernels take them, and the rows and columns to add at the end for an uneven "same"."""
    strides, dilations = pair(name, "stride", stride, dims, 1), pair(name, "dilation", dilation, dims, 1)
    extra = (0, 0)
    if padding == "same":
        if max(strides) > 1:
            raise ValueError(f"{name}: padding='same' needs stride 1, not {stride}: give the padding in numbers")
        edges = [same_padding(*axis) for axis in zip(kernel, dilations)]
        paddings = tuple([before for before, _ in edges])
        extra = tuple([after - before for before, after in edges])
    elif isinstance(padding, str) and padding != "valid":
        raise ValueError(f"{name}: padding is 'same', 'valid' or in numbers, not {padding!r}")
    else:
        paddings = pair(name, "padding", 0 if padding == "valid" else padding, dims)
    return {"stride": strides, "padding": paddings, "dilation": dilations, "groups": groups}, extra


def _pad_end(images: Any, extra: tuple[int, int]) -> Any:
    """The images with rows and columns of zeros added at their end."""
    return np.pad(images, ((0, 0), (0, 0), (0, extra[0]), (0, extra[1]))) if any(extra) else images


def _filters(name: str, weight: Any, dims: int) -> Any:
    """View the weight as one for images, (·, ·, kh, kw)."""
    if weight.ndim != dims + 2:
        layout = "(out, in / groups, k)" if dims == 1 else "(out, in / groups, kh, kw)"
        if "transpose" in name:
            layout = layout.replace("(out, in", "(in, out")
        raise ShapeError(f"{name}: weight of shape {weight.shape}, expected {dims + 2} axes {layout}")
    return weight.reshape(weight.shape[:2] + (1,) * (2 - dims) + weight.shape[2:])


def _check_groups(name: str, side: str, channels: int, groups: int) -> None:
    if not hasattr(groups, "__index__"):
        raise TypeError(f"{name}: groups must be an integer, not {groups!r}")
    if groups < 1 or channels % groups:
        raise ShapeError(f"{name}: {channels} {side} channels cannot be cut into groups = {groups}")


def _check_bias(name: str, bias: Any, outputs: int) -> None:
    if bias is not None and bias.shape != (outputs,):
        raise ShapeError(f"{name}: bias of shape {bias.shape}, expected ({outputs},), one for each output channel")


def _wrong_channels(name: str, x: Any, weight_shape: tuple, channels: int, groups: int, dims: int) -> str:
    """The message for an input whose channels are not what the weight expects, with the likely cause."""
    message = (f"{name}: input of shape {x.shape} has {x.shape[-dims - 1]} channels (axis {x.ndim - dims - 1}), the "
               f"weight of shape {weight_shape} with groups = {groups} expects {channels}")
    if x.ndim == dims + 1 and channels == 1:
        return message + "; for a batch without a channel axis give x[:, None]"
    if x.shape[-1] == channels:
        order = (*range(x.ndim - dims - 1), x.ndim - 1, *range(x.ndim - dims - 1, x.ndim - 1))
        return message + f"; the channels seem to come last: give x.permute{order}"
    return message
