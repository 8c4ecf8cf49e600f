"""Preparing images the way a model was trained: the numbers travel with the weights, this applies them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.errors import ShapeError
from minidl.tensor import Tensor, as_array


def preprocess(images: Any, preprocessing: Mapping[str, Any]) -> Tensor:
    """Scale images (N, C, H, W) or (C, H, W) to `range`, then (x - mean) / std per channel; float32.

    preprocessing: {"range": [low, high], "mean": [C numbers], "std": [C numbers]}; each may be missing, and other
    entries are notes that are not acted upon. Bytes (uint8) are scaled from 0..255 to `range` (0..1 unless said);
    floating-point images are taken to be in it already, and a warning says so if they cannot be.
    """
    array = as_array(images)
    low, high = _numbers(preprocessing, "range", [0.0, 1.0])
    if array.dtype == np.uint8:
        array = array.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
    elif array.dtype.kind != "f":
        raise TypeError(f"preprocess: images must be bytes (uint8) or floating-point, not {array.dtype}")
    elif array.size and (array.max() > high + 0.1 * (high - low) or array.min() < low - 0.1 * (high - low)):
        warnings.warn(f"preprocess: the images have values from {array.min():.4g} to {array.max():.4g}, the model was "
                      f"trained on {low:g} to {high:g}; are they 0..255, or normalised already?", stacklevel=2)
    array = array.astype(np.float32, copy=False)
    for key, combine in (("mean", np.subtract), ("std", np.divide)):
        if key in preprocessing:
            values = np.asarray(_numbers(preprocessing, key), np.float32)
            if array.ndim < 3 or len(values) not in (1, array.shape[-3]):
                raise ShapeError(f"preprocess: images of shape {array.shape} do not have the {len(values)} channels of "
                                 f"{key} {values.tolist()}; expected (N, C, H, W) or (C, H, W)")
            array = combine(array, values[:, None, None])  # C, 1, 1
    return Tensor(array)


def _numbers(preprocessing: Mapping[str, Any], key: str, default: Any = None) -> list[float]:
    values = preprocessing.get(key, default)
    values = values if isinstance(values, (list, tuple)) else [values]
    if not values or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        raise ValueError(f"preprocess: {key} must be a list of numbers, not {values!r}")
    if key == "std" and min(values) <= 0 or key == "range" and (len(values) != 2 or values[0] >= values[1]):
        raise ValueError(f"preprocess: {key} {values!r} is not possible")
    return [float(v) for v in values]
