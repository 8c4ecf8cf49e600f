"""Convolution as one matrix product: copy the windows into columns, multiply by the weights.

For one group, with K = C * kh * kw inputs in a window and P windows in all samples together:
    y = weight (O, K) @ columns (K, P),   grad_weight = g (O, P) @ columns^T,   grad_columns = weight^T @ g
and the gradient of x adds every column back to where it was copied from. Groups are a batch axis of the product.
The columns are made and used block by block: together they would be kh * kw times as large as x. The slices that
copy them come from `kernels/shapes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minidl.kernels.reference import activation
from minidl.kernels.shapes import conv_output_size, taps

__all__ = ["conv2d", "conv2d_grad_bias", "conv2d_grad_input", "conv2d_grad_weight"]

BLOCK_BYTES = 2**21  # columns are written and read again while they are still in the cache


def conv2d(x, weight, bias=None, *, stride, padding, dilation, groups, relu=False):
    samples, channels, height, width = x.shape
    outputs, kernel = weight.shape[0], weight.shape[2:]
    rows, columns = [conv_output_size(*axis) for axis in zip((height, width), kernel, stride, padding, dilation)]
    y = np.empty((samples, outputs, rows, columns), np.result_type(x, weight))
    offset = np.zeros((), y.dtype) if bias is None else bias[:, None, None]
    if is_pointwise(kernel, stride, padding):
        pixels = x.reshape(samples, groups, channels // groups, height * width)  # N, G, C/G, H*W
        np.matmul(per_group(weight, groups), pixels, out=y.reshape(samples, groups, outputs // groups, height * width))
        if bias is not None:
            y += offset
        return activation.relu(y) if relu else y
    for block, strip, window in blocks(x, weight, rows, columns):
        values = windows_as_columns(x[block], kernel, strip, columns, stride, padding, dilation, groups)
        product = np.matmul(per_group(weight, groups), values)  # G, O/G, P
        np.add(product.reshape(outputs, *window).swapaxes(0, 1), offset, out=y[block, :, slice(*strip)])
    return activation.relu(y) if relu else y


def conv2d_grad_weight(g, x, kernel_size, *, stride, padding, dilation, groups):
    outputs, rows, columns = g.shape[1:]
    shape = (outputs, x.shape[1] // groups, *kernel_size)
    grad = np.zeros(shape, np.result_type(g, x))
    total = per_group(grad, groups)  # a view: G, O/G, K
    for block, strip, _ in blocks(x, grad, rows, columns):
        values = windows_as_columns(x[block], kernel_size, strip, columns, stride, padding, dilation, groups)
        total += np.matmul(pixels_last(g[block, :, slice(*strip)], groups), values.swapaxes(1, 2))
    return grad


def conv2d_grad_input(g, weight, size, *, stride, padding, dilation, groups):
    samples, outputs, rows, columns = g.shape
    kernel, channels = weight.shape[2:], weight.shape[1] * groups
    grad = np.zeros((samples, channels, *size), np.result_type(g, weight))
    transposed = per_group(weight, groups).swapaxes(1, 2)  # G, K, O/G
    if is_pointwise(kernel, stride, padding) and size == (rows, columns):
        pixels = g.reshape(samples, groups, outputs // groups, rows * columns)  # N, G, O/G, H*W
        np.matmul(transposed, pixels, out=grad.reshape(samples, groups, channels // groups, rows * columns))
        return grad
    for block, strip, window in blocks(grad, weight, rows, columns):
        multiply = np.multiply if groups == outputs else np.matmul  # faster where the sum has one term only
        product = multiply(transposed, pixels_last(g[block, :, slice(*strip)], groups))  # G, K, P
        product = product.reshape(channels, *kernel, *window)  # C, kh, kw, N, H, W
        target = grad[block].swapaxes(0, 1)
        for i, j, outside, inside in taps(size, strip, columns, kernel, stride, padding, dilation):
            target[inside] += product[:, i, j][outside]
    return grad


def conv2d_grad_bias(g):
    return g.sum(axis=(2, 3)).sum(axis=0)


def is_pointwise(kernel_size, stride, padding) -> bool:
    """Whether every window is one pixel, so that the input itself serves as the columns."""
    return kernel_size == (1, 1) and stride == (1, 1) and padding == (0, 0)


def per_group(weight, groups):
    """O, C/G, kh, kw -> G, O/G, K."""
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def pixels_last(g, groups):
    """N, O, H, W -> G, O/G, P."""
    return np.ascontiguousarray(g.swapaxes(0, 1)).reshape(groups, g.shape[1] // groups, -1)


def windows_as_columns(x, kernel_size, rows, columns, stride, padding, dilation, groups):
    """Copy the windows of some output rows, one tap at a time: N, C, H, W -> G, K, P."""
    samples, channels, height, width = x.shape
    copy = np.empty((channels, *kernel_size, samples, rows[1] - rows[0], columns), x.dtype)
    by_channel = x.swapaxes(0, 1)
    for i, j, outside, inside in taps((height, width), rows, columns, kernel_size, stride, padding, dilation):
        tap = copy[:, i, j]
        if tap[outside].shape != tap.shape:
            tap[...] = 0  # the padding
        tap[outside] = by_channel[inside]
    return copy.reshape(groups, channels // groups * kernel_size[0] * kernel_size[1], -1)


def blocks(x, weight, rows: int, columns: int) -> Iterator[tuple[slice, tuple[int, int], tuple[int, int, int]]]:
    """Cut the work into blocks of whole samples, or of output rows of one sample, of about BLOCK_BYTES each.

    What counts is the larger of a block's columns and its part of y. Yields the samples, the output rows
    (start, stop), and the shape (samples, rows, columns) of the block.
    """
    longest = max(x.shape[1] * weight.shape[2] * weight.shape[3], weight.shape[0])
    row_bytes = longest * columns * x.itemsize
    rows_at_once = min(rows, max(1, BLOCK_BYTES // row_bytes))
    samples_at_once = max(1, BLOCK_BYTES // (row_bytes * rows))
    for first in range(0, x.shape[0], samples_at_once):
        last = min(first + samples_at_once, x.shape[0])
        for start in range(0, rows, rows_at_once):
            stop = min(start + rows_at_once, rows)
            yield slice(first, last), (start, stop), (last - first, stop - start, columns)
