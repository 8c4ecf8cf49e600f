"""Upsampling by the nearest pixel or between pixels. Computed in `../reference/resize.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def upsample_nearest2d(x, *, size, step, exact):
    """x (N, C, H, W) at the rows and columns that `shapes.nearest_sources` names: (N, C, *size).

    step: how many pixels of x there are to one of the result, for rows and columns.
    """


@kernel
def upsample_nearest2d_grad(g, size, *, step, exact):
    """The gradient of upsample_nearest2d's x of size = (H, W)."""


@kernel
def upsample_bilinear2d(x, *, size, step, align_corners):
    """Each pixel a blend of four of x (N, C, H, W), with the shares of `shapes.linear_sources`: (N, C, *size)."""


@kernel
def upsample_bilinear2d_grad(g, size, *, step, align_corners):
    """The gradient of upsample_bilinear2d's x of size = (H, W)."""
