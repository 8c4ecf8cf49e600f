"""Resizing of images: every output is the nearest input, or a blend of the four around it.

Rows and columns are resized one after the other. The gradient adds each output row back to the input rows it was
made of; columns are rows of the transposed image. Which these are is computed in `kernels/shapes.py`.
"""

from __future__ import annotations

import numpy as np

from minidl.kernels.shapes import linear_sources, nearest_sources

__all__ = ["upsample_bilinear2d", "upsample_bilinear2d_grad", "upsample_nearest2d", "upsample_nearest2d_grad"]


def upsample_nearest2d(x, *, size, step, exact):
    rows, columns = [nearest_sources(*axis, exact) for axis in zip(x.shape[2:], size, step)]
    return x[:, :, rows][..., columns]


def upsample_nearest2d_grad(g, size, *, step, exact):
    rows, columns = [nearest_sources(*axis, exact) for axis in zip(size, g.shape[2:], step)]
    by_row = add_rows(g, size[0], [(rows, np.ones(len(rows)))])
    return add_rows(by_row.swapaxes(2, 3), size[1], [(columns, np.ones(len(columns)))]).swapaxes(2, 3)


def upsample_bilinear2d(x, *, size, step, align_corners):
    rows, columns = [linear_sources(*axis, align_corners) for axis in zip(x.shape[2:], size, step)]
    low, high, share = rows
    share = share.astype(x.dtype)[:, None]
    y = x[:, :, low] * (1 - share) + x[:, :, high] * share
    low, high, share = columns
    share = share.astype(x.dtype)
    return y[..., low] * (1 - share) + y[..., high] * share


def upsample_bilinear2d_grad(g, size, *, step, align_corners):
    rows, columns = [linear_sources(*axis, align_corners) for axis in zip(size, g.shape[2:], step)]
    low, high, share = rows
    by_row = add_rows(g, size[0], [(low, 1 - share), (high, share)])
    low, high, share = columns
    return add_rows(by_row.swapaxes(2, 3), size[1], [(low, 1 - share), (high, share)]).swapaxes(2, 3)


def add_rows(g, height, parts):
    """Add every row o of g, times shares[o], to row sources[o] of an image of `height` rows, for each part."""
    rows = np.ascontiguousarray(g.transpose(2, 0, 1, 3))  # H, N, C, W
    total = np.zeros((height, *rows.shape[1:]), g.dtype)
    for sources, shares in parts:
        for row, source, share in zip(rows, sources.tolist(), shares.tolist()):
            total[source] += row * share
    return total.transpose(1, 2, 0, 3)
