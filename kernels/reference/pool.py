"""Pooling: the largest or the mean element of every window.

Max and average pooling walk over the taps of the window, as convolution does (`kernels/shapes.py`): one slice of the
input for each, no copy of the windows, a few images at a time so that what is compared stays in the cache. Adaptive
pooling has windows of unequal size: its mean is taken along the rows and then along the columns.
"""

from __future__ import annotations

import numpy as np

from minidl.kernels.shapes import adaptive_windows, first_taps, pool_output_size, taps, window_lengths

__all__ = [
    "adaptive_avg_pool2d", "adaptive_avg_pool2d_grad", "adaptive_max_pool2d", "adaptive_max_pool2d_grad",
    "avg_pool2d", "avg_pool2d_grad", "max_pool2d", "max_pool2d_grad",
]

BLOCK_BYTES = 2**19  # of the images that are pooled together: they are read once for every tap
ONE = (1, 1)


def max_pool2d(x, *, kernel_size, stride, padding, dilation, ceil_mode):
    size = x.shape[2:]
    rows, columns = output_size(size, kernel_size, stride, padding, dilation, ceil_mode)
    y = np.full((*x.shape[:2], rows, columns), lowest(x.dtype), x.dtype)
    winners = np.empty(y.shape, np.min_scalar_type(kernel_size[0] * kernel_size[1] - 1))
    winners[...] = first_winners((rows, columns), kernel_size, stride, padding, dilation)
    walk = list(taps(size, (0, rows), columns, kernel_size, stride, padding, dilation))
    for image, largest, winner in zip(blocks(x, x), blocks(y, x), blocks(winners, x)):
        for i, j, outside, inside in walk:
            value, best, place = image[inside].copy(), largest[outside], winner[outside]
            better = value > best
            np.maximum(best, value, out=best)
            np.maximum(place, better.view(np.uint8) * place.dtype.type(i * kernel_size[1] + j), out=place)
        if np.isnan(largest).any():
            for i, j, outside, inside in walk:
                winner[outside][np.isnan(image[inside])] = i * kernel_size[1] + j
    return y, winners


def max_pool2d_grad(g, winners, size, *, kernel_size, stride, padding, dilation):
    height, width = size
    grad = np.zeros((*g.shape[:2], height, width), g.dtype)
    i, j = np.divmod(np.arange(kernel_size[0] * kernel_size[1]), kernel_size[1])
    top, left = [np.arange(n) * s - p for n, s, p in zip(g.shape[2:], stride, padding)]
    for target, winner, values in zip(blocks(grad, grad), blocks(winners, grad), blocks(g, grad)):
        image = np.arange(len(target))[:, None, None]
        row, column = top[:, None] + (i * dilation[0]).take(winner), left + (j * dilation[1]).take(winner)
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)  # else the window is all padding
        places = (image * height + row) * width + column
        np.add.at(target.reshape(-1), places[inside], values[inside])
    return grad


def avg_pool2d(x, *, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    size = x.shape[2:]
    rows, columns = output_size(size, kernel_size, stride, padding, ONE, ceil_mode)
    y = np.zeros((*x.shape[:2], rows, columns), x.dtype)
    walk = list(taps(size, (0, rows), columns, kernel_size, stride, padding, ONE))
    for image, total in zip(blocks(x, x), blocks(y, x)):
        for _, _, outside, inside in walk:
            total[outside] += image[inside]
    y /= divisors(size, y, kernel_size, stride, padding, count_include_pad, divisor_override)
    return y


def avg_pool2d_grad(g, size, *, kernel_size, stride, padding, count_include_pad, divisor_override):
    grad = np.zeros((*g.shape[:2], *size), g.dtype)
    shares = g / divisors(size, g, kernel_size, stride, padding, count_include_pad, divisor_override)
    walk = list(taps(size, (0, g.shape[2]), g.shape[3], kernel_size, stride, padding, ONE))
    for target, share in zip(blocks(grad, grad), blocks(shares, grad)):
        for _, _, outside, inside in walk:
            target[inside] += share[outside]
    return grad


def adaptive_avg_pool2d(x, *, output_size):
    rows, columns = [adaptive_windows(*axis) for axis in zip(x.shape[2:], output_size)]
    means = np.stack([x[:, :, a:b].mean(axis=2) for a, b in rows], axis=2)
    return np.stack([means[..., a:b].mean(axis=3) for a, b in columns], axis=3)


def adaptive_avg_pool2d_grad(g, size):
    rows, columns = [adaptive_windows(*axis) for axis in zip(size, g.shape[2:])]
    by_column = np.zeros((*g.shape[:3], size[1]), g.dtype)
    for o, (a, b) in enumerate(columns):
        by_column[..., a:b] += g[..., o, None] / (b - a)
    grad = np.zeros((*g.shape[:2], *size), g.dtype)
    for o, (a, b) in enumerate(rows):
        grad[:, :, a:b] += by_column[:, :, o, None] / (b - a)
    return grad


def adaptive_max_pool2d(x, *, output_size):
    height, width = x.shape[2:]
    rows, columns = [adaptive_windows(*axis) for axis in zip((height, width), output_size)]
    y, winners = np.empty((*x.shape[:2], *output_size), x.dtype), np.empty((*x.shape[:2], *output_size), np.int64)
    for r, (top, bottom) in enumerate(rows):
        for c, (left, right) in enumerate(columns):
            window = x[:, :, top:bottom, left:right].reshape(*x.shape[:2], (bottom - top) * (right - left))
            winner = window.argmax(axis=2)  # the first NaN, if there is one
            y[:, :, r, c] = np.take_along_axis(window, winner[..., None], axis=2)[..., 0]
            i, j = np.divmod(winner, right - left)
            winners[:, :, r, c] = (top + i) * width + left + j
    return y, winners


def adaptive_max_pool2d_grad(g, winners, size):
    grad = np.zeros((*g.shape[:2], *size), g.dtype)
    planes = np.arange(g.shape[0] * g.shape[1]).reshape(*g.shape[:2], 1, 1) * (size[0] * size[1])
    np.add.at(grad.reshape(-1), (planes + winners).reshape(-1), g.reshape(-1))
    return grad


def output_size(size, kernel_size, stride, padding, dilation, ceil_mode) -> list[int]:
    """The rows and columns of a pooled image."""
    axes = zip(size, kernel_size, stride, padding, dilation)
    return [pool_output_size(*axis, ceil_mode=ceil_mode) for axis in axes]


def lowest(dtype):
    """What every element of the type is at least as large as."""
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def first_winners(outputs, kernel_size, stride, padding, dilation):
    """For every window (H, W) the number of its first tap that is not padding; if all are, of one that is."""
    axes = zip(outputs, stride, padding, dilation)
    rows, columns = [np.minimum(first_taps(*axis), k - 1) for axis, k in zip(axes, kernel_size)]
    return rows[:, None] * kernel_size[1] + columns


def divisors(size, y, kernel_size, stride, padding, count_include_pad, divisor_override):
    """What the sum of every window (H, W) is divided by."""
    if divisor_override is not None:
        return divisor_override
    axes = zip(size, y.shape[2:], kernel_size, stride, padding)
    rows, columns = [np.array(window_lengths(*axis, count_include_pad), y.dtype) for axis in axes]
    return rows[:, None] * columns


def blocks(array, x) -> list:
    """The images of an array (N, C, h, w) as (n, h, w), in portions that are about BLOCK_BYTES of x (N, C, H, W)."""
    images = array.reshape(-1, *array.shape[2:])
    count = max(1, BLOCK_BYTES * len(images) // max(x.nbytes, 1))
    return [images[first:first + count] for first in range(0, len(images), count)]
