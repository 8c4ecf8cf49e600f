"""What convolution, pooling and resizing share: options that are an integer or one for each axis, and image layouts.

The kernels know images (N, C, H, W) and pairs (rows, columns) only. A signal (N, C, L) is an image of height 1, an
unbatched (C, H, W) a batch of one. Read `conv.py` next.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

from minidl.errors import ShapeError

LAYOUTS = {1: "(N, C, L) or (C, L)", 2: "(N, C, H, W) or (C, H, W)"}


def integers(name: str, option: str, value: Any, dims: int, least: int = 0) -> tuple[int, ...]:
    """`value` as `dims` integers: one for all axes, or a sequence of one for each.

    Raises TypeError for anything else than integers, ValueError for a wrong number of them or one below `least`.
    """
    many = isinstance(value, (tuple, list))
    try:
        numbers = tuple([item.__index__() for item in (value if many else [value])])
    except (AttributeError, TypeError):
        sequence = " or a pair of integers (rows, columns)" if dims == 2 else ""
        raise TypeError(f"{name}: {option} must be an integer{sequence}, not {value!r}") from None
    if len(numbers) == 1:
        numbers *= dims
    if len(numbers) != dims:
        raise ValueError(f"{name}: {option} = {value!r} has {len(numbers)} numbers for {dims} dim{'s' * (dims > 1)}")
    if min(numbers) < least:
        raise ValueError(f"{name}: {option} must be at least {least}, not {value!r}")
    return numbers


def pair(name: str, option: str, value: Any, dims: int, least: int = 0) -> tuple[int, int]:
    """The option for rows and columns of an image; the rows of a signal get the value that changes nothing, `least`."""
    numbers = integers(name, option, value, dims, least)
    return (least, *numbers) if dims == 1 else numbers  # type: ignore[return-value]


def as_images(name: str, x: Any, dims: int) -> Any:
    """View x with `dims` spatial axes, batched or not, as (N, C, H, W); ShapeError for another number of axes."""
    if x.ndim not in (dims + 1, dims + 2):
        raise ShapeError(f"{name}: input of shape {x.shape} has {x.ndim} axes, expected {LAYOUTS[dims]}"
                         f"{_axes_hint(name, x.shape, dims)}")
    samples = x.shape[:1] if x.ndim == dims + 2 else (1,)
    return x.reshape(samples + x.shape[-dims - 1:-dims] + (1,) * (2 - dims) + x.shape[-dims:])


def _axes_hint(name: str, shape: tuple[int, ...], dims: int) -> str:
    """What an input with one axis too few may be."""
    if len(shape) != dims:
        return ""
    if dims == 2 and "pool" in name and shape[1] > 4 * shape[0] ** 0.5:
        return ("; these look like features or class scores (N, C), where there are no maps left to pool: take what "
                "the network makes before its head, minidl.transfer.features(model, path) or headless(model), or leave "
                "the pooling out; if only the channel axis is missing, give x[None]")
    if dims == 2:
        for channels in (1, 3):
            side = isqrt(shape[1] // channels)
            if side > 7 and channels * side * side == shape[1] and shape[0] != shape[1]:
                return (f"; if these are rows of pixels, give x.reshape(-1, {channels}, {side}, {side}); if only the "
                        "channel axis is missing, x[None]")
    return "; if only the channel axis is missing, give x[None]"


def from_images(images: Any, axes: int, dims: int) -> Any:
    """View images (N, C, H, W) as what `as_images` was given: `axes` axes, of which `dims` are spatial."""
    return images.reshape(images.shape[:1] * (axes - dims - 1) + images.shape[1:2] + images.shape[4 - dims:])
