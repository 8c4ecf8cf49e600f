"""The two tasks of a comparison by their names, "mnist" or "cifar10:cat,dog", and their images as a network takes them.

`fit_images` is all that is done to images; every method gets the same ones. `networks.py` says which size that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minidl.nn.functional as F
from minidl.data import cifar10, fashion_mnist, mnist
from minidl.data.images import ImageDataset
from minidl.data.places import EMBEDDED
from minidl.data.transforms import Transform
from minidl.errors import ShapeError, did_you_mean
from minidl.tensor import Tensor
from minidl.transfer import preprocess

DATASETS = {"mnist": mnist, "fashion_mnist": fashion_mnist, "cifar10": cifar10}
SHORT = {"fashion": "fashion_mnist", "cifar": "cifar10"}
BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, ITU-R BT.601
MARGIN = 4  # images that lack so many rows and columns at most get a black frame, others are resized


@dataclass
class Task:
    """A labelled set of images to learn from and one to be measured on, with the same classes."""

    name: str
    train: ImageDataset
    test: ImageDataset

    def __post_init__(self) -> None:
        for part, images in (("train", self.train), ("test", self.test)):
            if not isinstance(images, ImageDataset):
                raise TypeError(f"Task: {part} must be an ImageDataset, got {type(images).__name__}; of arrays: "
                                "data.ImageDataset(images, labels, classes)")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes


def dataset_name(text: str) -> str | None:
    """The data set that a name such as "Fashion-MNIST:Bag,Coat" begins with, None if there is none."""
    name = text.partition(":")[0].strip().lower().replace("-", "_")
    name = SHORT.get(name, name)
    return name if name in DATASETS else None


def load_task(text: str, embedded: bool = False) -> Task:
    """The task that a name means: a data set, and after a colon the classes that count, by name or number.

    embedded: take the subset that comes with minidl (MNIST and Fashion-MNIST) even where the full data is found.
    Raises ValueError with the nearest names for a data set or class that is not known.
    """
    name = dataset_name(text)
    if name is None:
        raise ValueError(f"no data set is called {text!r}{did_you_mean(text, DATASETS)}; there are "
                         f"{', '.join(DATASETS)}, and some classes of one are, for instance, cifar10:cat,dog")
    root = EMBEDDED if embedded and name != "cifar10" else None
    train, test = (DATASETS[name](split, root=root) for split in ("train", "test"))
    _, colon, wanted = text.partition(":")
    if not colon:
        return Task(name, train, test)
    chosen = _class_numbers(wanted, train.classes, text)
    names = ",".join(train.classes[number] for number in chosen)
    return Task(f"{name}:{names}", _of_classes(train, chosen), _of_classes(test, chosen))


def _class_numbers(wanted: str, classes: Sequence[str], text: str) -> list[int]:
    known = {str(number): number for number in range(len(classes))}
    known |= {name.lower(): number for number, name in enumerate(classes)}
    chosen: list[int] = []
    for word in wanted.split(","):
        if word.strip().lower() not in known:
            raise ValueError(f"{text!r}: there is no class {word.strip()!r}{did_you_mean(word.strip(), classes)}; the "
                             f"classes are {', '.join(classes)}")
        chosen.append(known[word.strip().lower()])
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise ValueError(f"{text!r}: at least two classes are needed, each once")
    return chosen


def _of_classes(dataset: ImageDataset, chosen: Sequence[int]) -> ImageDataset:
    """The images of the chosen classes, which are numbered anew in this order."""
    number_of = np.full(len(dataset.classes), -1)
    number_of[list(chosen)] = np.arange(len(chosen))
    labels = number_of[dataset.labels]
    kept = np.flatnonzero(labels >= 0)
    return ImageDataset(dataset.images[kept], labels[kept], [dataset.classes[number] for number in chosen],
                        dataset.name, dataset.source, False)


def fit_images(images: np.ndarray, channels: int, size: tuple[int, int]) -> np.ndarray:
    """Images (N, C, H, W) in [0, 1] with another number of channels and another size: (N, channels, *size).

    Grey becomes colour by repetition, colour becomes grey by brightness. A small lack of rows and columns (28 to 32)
    is made up for by a black frame, other sizes are reached by bilinear resizing.
    """
    if images.shape[1] == 1 and channels > 1:
        images = np.repeat(images, channels, axis=1)
    elif images.shape[1] == 3 and channels == 1:
        images = np.tensordot(images, BRIGHTNESS, ([1], [0]))[:, None]  # N, 1, H, W
    elif images.shape[1] != channels:
        raise ShapeError(f"images of shape {images.shape} cannot be given {channels} channels")
    lack = [wanted - present for wanted, present in zip(size, images.shape[2:])]
    if all(0 <= rows <= MARGIN for rows in lack):
        images = np.pad(images, [(0, 0), (0, 0), *((rows // 2, rows - rows // 2) for rows in lack)])
    else:
        images = F.interpolate(Tensor(np.ascontiguousarray(images)), size=size, mode="bilinear").array
    return np.ascontiguousarray(images, np.float32)


class Fit(Transform):
    """`fit_images`, then the range, mean and standard deviation that the network was trained with."""

    def __init__(self, channels: int, size: tuple[int, int], preprocessing: Mapping[str, Any]):
        self.channels, self.size, self.preprocessing = channels, size, preprocessing
        low, high = preprocessing.get("range", (0, 1))
        self.low, self.span = np.float32(low), np.float32(high - low)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        fitted = fit_images(images, self.channels, self.size)
        return preprocess(fitted * self.span + self.low, self.preprocessing).array
