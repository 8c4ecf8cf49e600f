"""ImageDataset: labelled images held as bytes, handed out as float32 in [0, 1].

A batch is converted all at once (`__getitems__`), so a DataLoader over it costs little more than the copy.
Subsets and splits come from `labelled.py`; `vision.py` makes these data sets from the files of MNIST, Fashion-MNIST
and CIFAR-10.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl import kernels
from minidl.data.labelled import LabelledDataset
from minidl.data.transforms import Normalize, is_random_transform
from minidl.errors import ShapeError


class ImageDataset(LabelledDataset):
    """Images uint8 (N, C, H, W) with labels int64 (N,); item i is (float32 image (C, H, W) in [0, 1], int label).

    classes: the name of each label. name, source: which data set this is and the files it came from.
    complete: False for a part, such as the embedded subset.
    transform: applied to what is handed out; to whole batches if it says `batched = True`, as those of
    `transforms.py` do, else image by image. It may be set and changed at any time. Both parts of a `split` keep it;
    give the validation part one without augmentation.
    """

    noun = "image"

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
        self._check_labels(len(self.images))

    @property
    def random(self) -> bool:
        """Whether the transform draws, so that reading an image twice may give different values."""
        return is_random_transform(self.transform)

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

    def __repr__(self) -> str:
        size = "x".join(map(str, self.images.shape[1:]))
        part = "" if self.complete else ", a part"
        return f"ImageDataset({self.name}: {len(self):,} images {size}{part}, from {self.source or 'memory'})"
