"""ImageDataset: labelled images held as bytes, handed out as float32 in [0, 1], with class-balanced subsets.

A batch is converted all at once (`__getitems__`), so a DataLoader over it costs little more than the copy.
`vision.py` makes these from the files of MNIST, Fashion-MNIST and CIFAR-10.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl import kernels, random
from minidl.data.datasets import Dataset
from minidl.data.randomness import check_generator
from minidl.data.transforms import Normalize, is_random_transform
from minidl.errors import ShapeError


class ImageDataset(Dataset):
    """Images uint8 (N, C, H, W) with labels int64 (N,); item i is (float32 image (C, H, W) in [0, 1], int label).

    classes: the name of each label. name, source: which data set this is and the files it came from.
    complete: False for a part, such as the embedded subset.
    transform: applied to what is handed out; to whole batches if it says `batched = True`, as those of
    `transforms.py` do, else image by image. It may be set and changed at any time.
    """

    def __init__(self, images: Any, labels: Any, classes: Sequence[str], name: str = "images", source: str = "",
                 complete: bool = True, transform: Callable | None = None):
        self.images = np.asarray(images)
        self.labels = np.asarray(labels)
        self.classes = tuple(classes)
        self.name = name
        self.source = source
        self.complete = complete
        self.transform = transform
        self._check()

    def _check(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ShapeError(f"ImageDataset: images must be uint8 (N, C, H, W), got {self.images.dtype} "
                             f"{self.images.shape}; grey images need a channel axis: images[:, None]")
        if self.labels.shape != self.images.shape[:1]:
            raise ShapeError(f"ImageDataset: {len(self.images)} images need labels of shape ({len(self.images)},), "
                             f"got {self.labels.shape}")
        if self.labels.dtype.kind not in "iu":
            raise TypeError(f"ImageDataset: labels must be integers, got {self.labels.dtype}")
        self.labels = self.labels.astype(np.int64, copy=False)
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if wrong.size:
            raise ValueError(f"ImageDataset: label {self.labels[wrong[0]]} of image {wrong[0]} is outside "
                             f"0..{len(self.classes) - 1}, the {len(self.classes)} classes")

    @property
    def random(self) -> bool:
        """Whether the transform draws, so that reading an image twice may give different values."""
        return is_random_transform(self.transform)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        index = operator.index(index)
        image = kernels.scale_bytes(self.images[index])
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])

    def __getitems__(self, indices: np.ndarray) -> tuple[Any, np.ndarray]:
        """The batch at `indices`: (float32 images (N, C, H, W), int64 labels (N,))."""
        if type(self.transform) is Normalize:
            return self.transform.of_bytes(self.images[indices]), self.labels[indices]
        images = kernels.scale_bytes(self.images[indices])
        if self.transform is not None:
            if getattr(self.transform, "batched", False):
                images = self.transform(images)
            else:
                images = np.stack([self.transform(image) for image in images])
        return images, self.labels[indices]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All images as float32 (N, C, H, W) in [0, 1], without the transform, and all labels int64 (N,)."""
        return kernels.scale_bytes(self.images), self.labels

    def select(self, indices: Any) -> ImageDataset:
        """The images at `indices`, as a data set with the same names and the same transform."""
        chosen = np.asarray(indices, np.intp)
        complete = self.complete and len(np.unique(chosen)) == len(self)
        return ImageDataset(self.images[chosen], self.labels[chosen], self.classes, self.name, self.source, complete,
                            self.transform)

    def balanced(self, count: float, generator: np.random.Generator | None = None) -> ImageDataset:
        """Draw a small training set: `count` images with equally many of each class, or a fraction of each class.

        An integer that the classes do not divide gives the first classes one image more. A float in (0, 1] keeps
        each class's share, and at least one image of each. The images stay in file order.
        Raises ValueError if there are too few images, or the count asks for less than one image per class.
        """
        check_generator(generator, "ImageDataset.balanced")
        return self.select(self._balanced(count, random.generator(generator)))

    def first(self, count: float) -> ImageDataset:
        """As `balanced`, but the first images of each class instead of drawn ones: always the same."""
        return self.select(self._balanced(count, None))

    def split(self, fraction: float, generator: np.random.Generator | None = None) -> tuple[ImageDataset, ImageDataset]:
        """Split at random into (training, validation), with `fraction` of each class in the validation part.

        Both parts keep the transform; give the validation part one without augmentation.
        Raises ValueError if a part would be empty.
        """
        check_generator(generator, "ImageDataset.split")
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"ImageDataset.split: fraction is the validation part's share, between 0 and 1; "
                             f"got {fraction}")
        draw = random.generator(generator)
        parts = [draw.permutation(members)[: round(fraction * len(members))] for members in self._members()]
        held_out = np.zeros(len(self), bool)
        held_out[np.concatenate(parts)] = True
        if not held_out.any() or held_out.all():
            raise ValueError(f"ImageDataset.split: {fraction} of {len(self)} images leaves a part empty")
        return self.select(np.flatnonzero(~held_out)), self.select(np.flatnonzero(held_out))

    def _members(self) -> list[np.ndarray]:
        return [np.flatnonzero(self.labels == label) for label in range(len(self.classes))]

    def _balanced(self, count: float, generator: np.random.Generator | None) -> np.ndarray:
        members = self._members()
        wanted = _per_class(count, [len(indices) for indices in members])
        for label, (indices, number) in enumerate(zip(members, wanted)):
            if number > len(indices):
                most = min(map(len, members)) * len(members)
                raise ValueError(f"{self.name}: {count} balanced images need {number} of class {label} "
                                 f"({self.classes[label]}), which has {len(indices)}; at most {most} can be balanced, "
                                 "or give a fraction")
        drawn = [indices if generator is None else generator.permutation(indices) for indices in members]
        return np.sort(np.concatenate([indices[:number] for indices, number in zip(drawn, wanted)]))

    def __repr__(self) -> str:
        size = "x".join(map(str, self.images.shape[1:]))
        part = "" if self.complete else ", a part"
        return f"ImageDataset({self.name}: {len(self):,} images {size}{part}, from {self.source or 'memory'})"


def _per_class(count: float, available: list[int]) -> list[int]:
    classes = len(available)
    if isinstance(count, (float, np.floating)):
        if not 0.0 < count <= 1.0:
            raise ValueError(f"balanced: a fraction must be above 0 and at most 1, got {count}; for a number of images "
                             "give an integer")
        return [max(1, round(count * number)) if number else 0 for number in available]
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < classes:
        raise ValueError(f"balanced: count must be an integer of at least {classes}, one image per class, or a "
                         f"fraction such as 0.05; got {count!r}")
    each, more = divmod(int(count), classes)
    return [each + (label < more) for label in range(classes)]
