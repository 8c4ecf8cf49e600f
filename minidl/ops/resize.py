"""Resizing of signals (N, C, L) and images (N, C, H, W) to a size or by a factor.

Read `kernels/reference/resize.py` for what is computed.
"""

from __future__ import annotations

import math
from typing import Any

from minidl import kernels
from minidl.errors import ShapeError
from minidl.ops.spatial import as_images, from_images, integers
from minidl.tensor import differentiable

MODES = {"nearest": (1, 2), "nearest-exact": (1, 2), "linear": (1,), "bilinear": (2,)}  # mode -> spatial axes


@differentiable
def interpolate(x, /, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None):
    """Resize x (N, C, H, W) or (N, C, L) to `size`, or to floor(H * scale_factor) rows and so for columns.

    size and scale_factor: one number or one for each axis; exactly one of the two is given.
    mode: "nearest", "nearest-exact" (measured from the middle of pixels), "bilinear" (images) or "linear" (signals).
    align_corners: the middles of the corner pixels coincide, not the corners (linear modes only).
    recompute_scale_factor: take the factor that the rounded size gives instead of the one asked for.
    Raises ShapeError if x has not 3 or 4 axes, ValueError for impossible options.
    """
    dims = x.ndim - 2
    if dims not in (1, 2):
        raise ShapeError(f"interpolate: input of shape {x.shape} has {x.ndim} axes, expected (N, C, L) or (N, C, H, W)")
    if mode not in MODES or dims not in MODES[mode]:
        fitting = " or ".join(repr(known) for known, axes in MODES.items() if dims in axes)
        raise ValueError(f"interpolate: mode {mode!r} does not go with an input of {x.ndim} axes: use {fitting}")
    if align_corners is not None and mode.startswith("nearest"):
        raise ValueError(f"interpolate: align_corners has no meaning for mode {mode!r}: leave it out")
    target, step = _target(x.shape[2:], size, scale_factor, recompute_scale_factor)
    images = as_images("interpolate", x, dims)
    axes, before = x.ndim, images.shape[2:]
    target, step = (1,) * (2 - dims) + target, (1.0,) * (2 - dims) + step
    if mode.startswith("nearest"):
        resize, resize_grad = kernels.upsample_nearest2d, kernels.upsample_nearest2d_grad
        options = {"step": step, "exact": mode == "nearest-exact"}
    else:
        resize, resize_grad = kernels.upsample_bilinear2d, kernels.upsample_bilinear2d_grad
        options = {"step": step, "align_corners": bool(align_corners)}

    def grad(g):
        return from_images(resize_grad(as_images("interpolate", g, dims), before, **options), axes, dims)

    return from_images(resize(images, size=target, **options), axes, dims), (grad,)


def _target(before: tuple[int, ...], size: Any, scale_factor: Any, recompute: bool | None) -> tuple[tuple, tuple]:
    """The size asked for, and how many of the input's pixels there are to one of the result, for each axis."""
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor, one of them")
    if size is not None:
        target, factors = integers("interpolate", "size", size, len(before), 1), None
    else:
        factors = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * len(before)
        if len(factors) != len(before) or not all(isinstance(f, (int, float)) and f > 0 for f in factors):
            raise ValueError(f"interpolate: scale_factor must be positive, one number or one for each of the "
                             f"{len(before)} axes, not {scale_factor!r}")
        target = tuple([math.floor(n * f) for n, f in zip(before, factors)])
    if min(before) < 1 or min(target) < 1:
        raise ShapeError(f"interpolate: from size {before} to size {target}: nothing is left")
    if factors is None or recompute:
        return target, tuple([n / t for n, t in zip(before, target)])
    return target, tuple([1 / f for f in factors])
