"""Convolution in compiled loops: which algorithm computes what. As in `../reference/conv.py`.

The result and the gradient of the input are products of weights and windows (`conv_windows.py`); with a stride, the
latter is several (`conv_shares.py`), and on small maps of many samples one whose panels hold samples
(`conv_samples.py`). The gradient of the weights is a sum over all pixels (`conv_weights.py`). Where every output sees
one channel only, loops over taps do (`conv_depthwise.py`); other groups are computed one after another. Most 3x3
filters without stride take a way of their own (`winograd.py`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import prange

from minidl.kernels.cpu import conv_lowered, conv_samples, winograd
from minidl.kernels.cpu.conv_depthwise import depthwise, depthwise_grad_input, depthwise_grad_weight
from minidl.kernels.cpu.conv_dots import few_sums, image_rows, weight_dots
from minidl.kernels.cpu.conv_filters import Weights
from minidl.kernels.cpu.conv_narrow import NARROW, narrow_product
from minidl.kernels.cpu.conv_shares import shared_product, shares
from minidl.kernels.cpu.conv_weights import weight_sums
from minidl.kernels.cpu.conv_windows import window_product
from minidl.kernels.cpu.runtime import FLAGS, compiled, compiled_parallel, empty, fits, parallel
from minidl.kernels.reference import conv as reference
from minidl.kernels.shapes import conv_output_size

PIECE = 4096  # numbers of g that are summed before they are added to a total
SMALL = 1 << 14  # numbers of g that one thread sums

__all__ = ["conv2d", "conv2d_grad_bias", "conv2d_grad_input", "conv2d_grad_weight"]


def conv2d(x, weight, bias=None, *, stride, padding, dilation, groups, relu=False):
    if not fits(x, weight) or (bias is not None and not fits(bias)):
        return reference.conv2d(
            x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, relu=relu
        )
    outputs, channels, kernel = weight.shape[0] // groups, weight.shape[1], weight.shape[2:]
    size = tuple([conv_output_size(*axis) for axis in zip(x.shape[2:], kernel, stride, padding, dilation)])
    y = empty((x.shape[0], weight.shape[0], *size))
    if groups > 1 and channels == 1:
        return depthwise(x, weight, bias, y, stride, padding, dilation, relu)
    if winograd.suits(len(x), channels, outputs, size, kernel, stride, padding, dilation):
        winograd.forward(x, weight, bias, y, padding, groups, relu)
        return y
    shape, lowered = y.shape, conv_lowered.pays(len(x), channels, outputs, size, kernel[0] * kernel[1], groups)
    product = narrow_product if outputs <= NARROW else window_product
    pointwise = kernel == (1, 1) and stride == (1, 1) and padding == (0, 0)
    if pointwise and product is window_product:  # every image as a single row
        x, y = x.reshape(*x.shape[:2], 1, -1), y.reshape(*y.shape[:2], 1, -1)
    taps = window_taps(kernel, padding, dilation)
    if lowered:
        conv_lowered.forward(x, weight, bias, y, taps, stride, relu)
        return y.reshape(shape)
    for group in range(groups):
        area = kernel[0] * kernel[1]
        weights = Weights(group * outputs * channels * area, channels * area, area, tuple(range(area)))
        product(
            x, weight, weights, taps, y, channels=(group * channels, channels), outputs=(group * outputs, outputs),
            stride=stride, bias=bias, floor=0 if relu else -np.inf,
        )
    return y.reshape(shape)


def conv2d_grad_input(g, weight, size, *, stride, padding, dilation, groups):
    if not fits(g, weight) or min(size) < 1:
        return reference.conv2d_grad_input(
            g, weight, size, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
    outputs, channels, kernel = weight.shape[0] // groups, weight.shape[1], weight.shape[2:]
    grad = empty((g.shape[0], channels * groups, *size))
    if groups > 1 and channels == 1:
        depthwise_grad_input(g, weight, grad, stride, padding, dilation)
        return grad
    whole = g.shape[2:] == tuple([conv_output_size(*axis) for axis in zip(size, kernel, stride, padding, dilation)])
    transformed = whole and winograd.suits(len(g), outputs, channels, size, kernel, stride, padding, dilation)
    if channels > NARROW and conv_samples.pays(
            len(g), outputs, channels, size, g.shape[2:], kernel, stride, padding, dilation, transformed):
        for group in range(groups):
            conv_samples.samples_product(
                g, weight, grad, channels=(group * outputs, outputs), outputs=(group * channels, channels),
                stride=stride, padding=padding, dilation=dilation,
            )
        return grad
    if transformed:
        winograd.grad_input(g, weight, grad, padding, groups)
        return grad
    shape = grad.shape
    lowered = conv_lowered.pays(len(g), channels, outputs, g.shape[2:], kernel[0] * kernel[1], groups, turned=True)
    if kernel == (1, 1) and stride == (1, 1) and padding == (0, 0) and size == g.shape[2:] and channels > NARROW:
        g, grad = g.reshape(*g.shape[:2], 1, -1), grad.reshape(*shape[:2], 1, -1)
    if lowered:
        conv_lowered.grad_input(g, weight, grad, window_taps(kernel, padding, dilation), stride)
        return grad.reshape(shape)
    for group in range(groups):
        part = {"channels": (group * outputs, outputs), "outputs": (group * channels, channels)}
        if channels <= NARROW:
            narrow_grad_input(g, weight, grad, stride, padding, dilation, part)
        elif stride != (1, 1):
            shared_product(g, weight, grad, stride=stride, padding=padding, dilation=dilation, **part)
        else:
            weights = weights_turned(weight, group, outputs, range(kernel[0] * kernel[1]))
            taps = tuple([(-i, -j) for i, j in window_taps(kernel, padding, dilation)])
            window_product(g, weight, weights, taps, grad, stride=(1, 1), **part)
    return grad.reshape(shape)


def weights_turned(weight, group, outputs, offsets) -> Weights:
    """Where the gradient of the input finds the weights of a group: its channels are the outputs of the layer."""
    channels, area = weight.shape[1], weight.shape[2] * weight.shape[3]
    return Weights(group * outputs * channels * area, area, channels * area, tuple(offsets))


def narrow_grad_input(g, weight, grad, stride, padding, dilation, part):
    """The gradient for few channels, one share of the pixels after another: see `conv_shares.py`."""
    first, outputs = part["channels"]
    rows, columns = [shares(*axis) for axis in zip(grad.shape[2:], weight.shape[2:], stride, padding, dilation)]
    for row in rows:
        for column in columns:
            if row.taps and column.taps:
                offsets = [i * weight.shape[3] + j for i in row.taps for j in column.taps]
                narrow_product(
                    g, weight, weights_turned(weight, first // outputs, outputs, offsets),
                    tuple([(i, j) for i in row.places for j in column.places]), grad, stride=(1, 1),
                    grid=(row.length, column.length), place=(row.first, column.first), step=stride, **part,
                )
            else:
                grad[:, part["outputs"][0]:sum(part["outputs"]), row.first::stride[0], column.first::stride[1]] = 0


def conv2d_grad_weight(g, x, kernel_size, *, stride, padding, dilation, groups):
    if not fits(g, x):
        return reference.conv2d_grad_weight(
            g, x, kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
    outputs, channels = g.shape[1] // groups, x.shape[1] // groups
    grad = empty((g.shape[1], channels, *kernel_size))
    if groups > 1 and channels == 1:
        depthwise_grad_weight(g, x, grad, stride, padding, dilation)
        return grad
    if winograd.suits(len(g), channels, outputs, g.shape[2:], kernel_size, stride, padding, dilation, sums=True):
        winograd.grad_weight(g, x, grad, padding, groups)
        return grad
    taps, columns = window_taps(kernel_size, padding, dilation), g.shape[3]
    pointwise = kernel_size == (1, 1) and stride == (1, 1) and padding == (0, 0) and x.shape[2:] == g.shape[2:]
    if pointwise:  # rows do not matter, and may be longer
        columns = image_rows(x.shape[2] * x.shape[3], columns)
    if conv_lowered.pays(len(g), channels, outputs, g.shape[2:], len(taps), groups):
        if pointwise:
            g, x = g.reshape(*g.shape[:2], 1, -1), x.reshape(*x.shape[:2], 1, -1)
        return conv_lowered.grad_weight(g, x, taps, stride).reshape(grad.shape)
    few = few_sums(outputs, channels * len(taps), columns)
    if pointwise and (few or x.shape[2] * x.shape[3] <= 512):
        g, x = g.reshape(*g.shape[:2], -1, columns), x.reshape(*x.shape[:2], -1, columns)
    for group in range(groups):
        (weight_dots if few else weight_sums)(
            g, x, grad, taps, channels=(group * channels, channels), outputs=(group * outputs, outputs), stride=stride
        )
    return grad


def conv2d_grad_bias(g):
    if not fits(g):
        return reference.conv2d_grad_bias(g)
    grad = empty(g.shape[1])
    parallel(sum_pixels, g.reshape(*g.shape[:2], -1), grad, limit=1 if g.size < SMALL else None)
    return grad


@lru_cache
def window_taps(kernel_size, padding, dilation) -> tuple[tuple[int, int], ...]:
    """The row and column of x that each tap of the first window reads."""
    return tuple((i * dilation[0] - padding[0], j * dilation[1] - padding[1]) for i, j in np.ndindex(kernel_size))


@compiled_parallel
def sum_pixels(g, grad):
    for c in prange(g.shape[1]):
        total = np.float32(0)
        for n in range(g.shape[0]):
            total += sum_channel(g[n, c])
        grad[c] = total


@compiled
def sum_channel(channel):
    """The sum over a channel, piece by piece: partial sums keep the rounding small."""
    total = np.float32(0)
    for first in range(0, len(channel), PIECE):
        total += sum_piece(channel[first:first + PIECE])
    return total


@compiled(fastmath={*FLAGS, "reassoc"})
def sum_piece(numbers):
    total = np.float32(0)
    for k in range(len(numbers)):
        total += numbers[k]
    return total
