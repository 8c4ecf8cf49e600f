"""Preparing and augmenting images, as arrays: a batch (N, C, H, W) or one image (C, H, W).

Every transform is a callable with two attributes: `random` (does it draw? then the input is augmented and features
of it must not be cached) and `batched` (does it take a whole batch at once?). Each image of a batch gets a draw of
its own. Given a generator with the same seed, the result is the same. `vision.py` applies them; read that next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minidl import kernels
from minidl.data.randomness import augmentation_generator, check_generator
from minidl.errors import ShapeError


class Transform:
    """What all transforms here share: they do not draw unless they say so, and they take whole batches."""

    @property
    def random(self) -> bool:
        return False

    @property
    def batched(self) -> bool:
        return True

    def __call__(self, images: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(images)")


class RandomTransform(Transform):
    """A transform that draws, from `generator` or (if None) from the loader's or minidl's shared one.

    Subclasses define `augment(images, generator)` on a batch (N, C, H, W).
    """

    random = True

    def __init__(self, generator: np.random.Generator | None = None):
        self.generator = check_generator(generator, type(self).__name__)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        batch = _as_batch(images, type(self).__name__)
        changed = self.augment(batch, augmentation_generator(self.generator))
        return changed if np.ndim(images) == 4 else changed[0]

    def augment(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must define augment(images, generator)")


class Compose(Transform):
    """Apply several transforms one after the other; random if one of them is, batched if all of them are."""

    def __init__(self, transforms: Sequence[Callable]):
        if not isinstance(transforms, Iterable):
            raise TypeError(f"Compose: a list of transforms is needed, got one {type(transforms).__name__}; put it in "
                            "brackets: Compose([...])")
        self.transforms = list(transforms)
        for number, transform in enumerate(self.transforms):
            if not callable(transform) or isinstance(transform, type):
                what = f"the class {transform.__name__}, not made yet: {transform.__name__}(...)" if isinstance(
                    transform, type) else repr(transform)
                raise TypeError(f"Compose: number {number} of the transforms is {what}; each must be callable with "
                                "images, such as Normalize(0.5, 0.5) or a function")

    @property
    def random(self) -> bool:
        return any(is_random_transform(transform) for transform in self.transforms)

    @property
    def batched(self) -> bool:
        return all(getattr(transform, "batched", False) for transform in self.transforms)

    def __call__(self, images: Any) -> Any:
        for transform in self.transforms:
            images = transform(images)
        return images

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"


class RandomFlip(RandomTransform):
    """What both flips share: which images are mirrored is drawn with probability `p`."""

    vertical = False

    def __init__(self, p: float = 0.5, generator: np.random.Generator | None = None):
        super().__init__(generator)
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"{type(self).__name__}: p is a probability, got {p}")
        self.p = p

    def augment(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return kernels.flip_images(images, generator.random(len(images)) < self.p, vertical=self.vertical)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p})"


class RandomHorizontalFlip(RandomFlip):
    """Mirror each image left to right with probability `p`."""


class RandomVerticalFlip(RandomFlip):
    """Mirror each image top to bottom with probability `p`."""

    vertical = True


class RandomCrop(RandomTransform):
    """Cut a window of `size` (an int or (height, width)) at a random place, after padding all sides with `fill`.

    Raises ShapeError if the padded image is smaller than the window.
    """

    def __init__(self, size: int | tuple[int, int], padding: int = 0, fill: float = 0.0,
                 generator: np.random.Generator | None = None):
        super().__init__(generator)
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self.padding = padding
        self.fill = fill
        if min(self.size) < 1 or padding < 0:
            raise ValueError(f"RandomCrop: size must be positive and padding not negative, got {size} and {padding}")

    def augment(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        spare = np.array(images.shape[2:]) + 2 * self.padding - self.size
        if (spare < 0).any():
            raise ShapeError(f"RandomCrop: a window of {self.size} does not fit images of {images.shape[2:]} padded by "
                             f"{self.padding}; pad more or crop less")
        top, left = generator.integers(0, spare[:, None] + 1, size=(2, len(images)))
        return kernels.crop_images(images, top, left, size=self.size, padding=self.padding, fill=self.fill)

    def __repr__(self) -> str:
        return f"RandomCrop(size={self.size}, padding={self.padding})"


class RandomRotation(RandomTransform):
    """Turn each image about its centre by an angle drawn evenly from (-degrees, degrees) or (low, high).

    Positive angles turn counter-clockwise. See `rotate` for how pixels are interpolated.
    """

    def __init__(self, degrees: float | tuple[float, float], fill: float = 0.0,
                 generator: np.random.Generator | None = None):
        super().__init__(generator)
        low, high = (-degrees, degrees) if isinstance(degrees, (int, float)) else degrees
        if low > high:
            raise ValueError(f"RandomRotation: degrees must be a positive number or (low, high), got {degrees}")
        self.degrees = (float(low), float(high))
        self.fill = fill

    def augment(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return rotate(images, generator.uniform(*self.degrees, size=len(images)), self.fill)

    def __repr__(self) -> str:
        return f"RandomRotation(degrees={self.degrees})"


def rotate(images: np.ndarray, degrees: float | np.ndarray, fill: float = 0.0) -> np.ndarray:
    """Turn images (N, C, H, W) counter-clockwise about their centre by one angle, or by one angle each (N,).

    Each pixel of the result is looked up where it came from, by bilinear interpolation among the four pixels
    around that place; what lies outside the image counts as `fill`. The shape stays the same.
    """
    images = _as_batch(images, "rotate")
    _check_float(images, "rotate")
    count, channels, height, width = images.shape
    angles = np.deg2rad(np.broadcast_to(np.asarray(degrees, np.float64), (count,)))[:, None, None]
    y = np.arange(height)[:, None] - (height - 1) / 2  # H, 1
    x = np.arange(width)[None, :] - (width - 1) / 2  # 1, W
    source_y = np.cos(angles) * y + np.sin(angles) * x + (height - 1) / 2  # N, H, W
    source_x = np.cos(angles) * x - np.sin(angles) * y + (width - 1) / 2
    return _bilinear(images, source_y, source_x, fill)


def _bilinear(images: np.ndarray, y: np.ndarray, x: np.ndarray, fill: float) -> np.ndarray:
    """Read images (N, C, H, W) at fractional places y, x (N, H', W')."""
    count, channels, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=fill)
    flat = padded.transpose(0, 2, 3, 1).reshape(-1, channels)  # one row per pixel of the padded images
    # A place further out than the padding sees nothing but fill: on the border of the padding it does too.
    y = np.clip(y + 1, 0, height + 1)
    x = np.clip(x + 1, 0, width + 1)
    top = np.minimum(np.floor(y), height).astype(np.intp)
    left = np.minimum(np.floor(x), width).astype(np.intp)
    down = (y - top).astype(images.dtype)[..., None]  # N, H', W', 1
    right = (x - left).astype(images.dtype)[..., None]
    pixel = (np.arange(count)[:, None, None] * (height + 2) + top) * (width + 2) + left
    upper = flat[pixel] * (1 - right) + flat[pixel + 1] * right
    lower = flat[pixel + width + 2] * (1 - right) + flat[pixel + width + 3] * right
    mixed = upper * (1 - down) + lower * down  # N, H', W', C
    return np.ascontiguousarray(mixed.transpose(0, 3, 1, 2))


class Normalize(Transform):
    """Subtract `mean` and divide by `std`, one number for all channels or one for each: (x - mean) / std.

    Raises ValueError for a std that is not positive, ShapeError if the numbers do not fit the channels, TypeError
    for integer images (bring them to [0, 1] first: `mean` and `std` are meant for that range).
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]):
        self.mean = np.atleast_1d(np.asarray(mean, np.float32))
        self.std = np.atleast_1d(np.asarray(std, np.float32))
        if not (self.std > 0).all():
            raise ValueError(f"Normalize: every std must be positive, got {self.std.tolist()}")

    def __call__(self, images: np.ndarray) -> np.ndarray:
        batch = _as_batch(images, "Normalize")
        _check_float(batch, "Normalize")
        return _scaled(batch, self.mean, self.std, "Normalize").reshape(np.shape(images))

    def of_bytes(self, images: np.ndarray) -> np.ndarray:
        """What this makes of images / 255, for images uint8 (N, C, H, W), without writing those in between."""
        return _scaled(images, self.mean, self.std, "Normalize")

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean.tolist()}, std={self.std.tolist()})"


class Standardize(Transform):
    """Bring each channel to mean 0 and standard deviation 1 as measured on the training data by `fit`.

    Works on any (N, C, ...), so on tables (N, C) too. A channel that never varies is only centred.
    `mean` and `std` hold the figures (C,), measured in float64. Raises RuntimeError when used before `fit`.
    """

    def __init__(self) -> None:
        self.mean: np.ndarray | None = None
        self.std: np.ndarray | None = None
        self.ndim = 0

    def fit(self, samples: np.ndarray) -> Standardize:
        """Measure mean and standard deviation of each channel of `samples` (N, C, ...), and return self."""
        samples = np.asarray(samples)
        if samples.ndim < 2 or samples.size == 0:
            raise ShapeError(f"Standardize.fit: expected samples of shape (N, C, ...), got {samples.shape}")
        _check_float(samples, "Standardize.fit")
        axes = tuple(axis for axis in range(samples.ndim) if axis != 1)
        self.mean = samples.mean(axis=axes, dtype=np.float64)
        std = samples.std(axis=axes, dtype=np.float64)
        # Rounding leaves a spread of about epsilon times the value in a constant channel: dividing by that is noise.
        constant = std <= np.finfo(samples.dtype).eps * np.abs(self.mean)
        self.std = np.where(constant, 1.0, std)
        self.ndim = samples.ndim
        return self

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        if self.mean is None or self.std is None:
            raise RuntimeError("Standardize: call fit(training_data) first; it takes mean and std from there")
        samples = np.asarray(samples)
        if samples.ndim not in (self.ndim, self.ndim - 1):
            raise ShapeError(f"Standardize: fitted on {self.ndim} axes, so it takes a batch of {self.ndim} axes or one "
                             f"sample of {self.ndim - 1}; got shape {samples.shape}")
        _check_float(samples, "Standardize")
        batch = samples if samples.ndim == self.ndim else samples[None]
        return _scaled(batch, self.mean, self.std, "Standardize").reshape(samples.shape)

    def __repr__(self) -> str:
        fitted = "" if self.mean is None or self.std is None else f"mean={self.mean.tolist()}, std={self.std.tolist()}"
        return f"Standardize({fitted})"


def one_hot(labels: Any, num_classes: int) -> np.ndarray:
    """Return float32 rows with a single 1 at the label: labels of shape (...) give (..., num_classes).

    Raises TypeError for labels that are not integers, ValueError for one outside 0..num_classes-1.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"one_hot: labels must be integers, these are {labels.dtype}; use labels.astype(int)")
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        raise ValueError(f"one_hot: label {labels.flat[wrong[0]]} at position {wrong[0]} is outside "
                         f"0..{num_classes - 1} (as are {wrong.size} of {labels.size} labels)")
    rows = np.zeros((*labels.shape, num_classes), np.float32)
    np.put_along_axis(rows, labels[..., None].astype(np.intp), 1.0, axis=-1)
    return rows


def is_random_transform(transform: Callable | None) -> bool:
    """Whether `transform` may give different results for the same input; one that does not say so may."""
    return transform is not None and bool(getattr(transform, "random", True))


def _as_batch(images: Any, name: str) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim == 3:
        return images[None]
    if images.ndim != 4:
        raise ShapeError(f"{name}: expected images (N, C, H, W) or one image (C, H, W), got shape {images.shape}; a "
                         "grey image needs its channel axis: images[:, None]")
    return images


def _check_float(samples: np.ndarray, name: str) -> None:
    if samples.dtype.kind != "f":
        raise TypeError(f"{name}: expected floating-point data, got {samples.dtype}; for images in 0..255 use "
                        "images.astype('float32') / 255")


def _scaled(batch: np.ndarray, mean: np.ndarray, std: np.ndarray, name: str) -> np.ndarray:
    """(batch - mean) / std with mean and std (C,) or (1,) along axis 1, in its dtype, or of bytes in float32."""
    channels = batch.shape[1]
    if len(mean) not in (1, channels) or len(std) not in (1, channels):
        raise ShapeError(f"{name}: the data has {channels} channels, mean has {len(mean)} numbers and std {len(std)}")
    dtype = np.float32 if batch.dtype == np.uint8 else batch.dtype
    mean, std = [np.broadcast_to(vector, channels).astype(dtype) for vector in (mean, std)]
    return kernels.normalize_images(batch, mean, std)
