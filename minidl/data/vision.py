"""MNIST, Fashion-MNIST and CIFAR-10 from files on this machine; nothing here touches the network.

`mnist()` looks in `root`, then in `MINIDL_DATA`, then in the user's cache folder (see `places.py`); MNIST and
Fashion-MNIST fall back on the subset that comes with minidl, 6,000 training and 1,000 test images. A data set says
in `source` where it came from and in `complete` whether it is whole. `download.py` fetches the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from minidl.data.cifar import read_archive, read_binary, read_python, read_shard
from minidl.data.files import IDX_IMAGES, IDX_LABELS, check_labels, read_idx
from minidl.data.images import ImageDataset
from minidl.data.places import search
from minidl.data.randomness import check_generator
from minidl.errors import DataNotFoundError

Loaded = tuple[np.ndarray, np.ndarray, str]  # images (N, C, H, W), labels (N,), where they came from

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def mnist(split: str = "train", subset: float | None = None, root: str | os.PathLike | None = None,
          transform: Callable | None = None, generator: np.random.Generator | None = None) -> ImageDataset:
    """Handwritten digits, 28x28 grey: 60,000 for training or 10,000 for testing (Y. LeCun, C. Cortes, C. J. C. Burges).

    split: "train" or "test".
    subset: a number of images with equally many of each class, or a fraction of each class; the first ones in the
        files, or drawn if a `generator` is given.
    root: a folder to search first; if given, the embedded subset does not stand in for missing files.
    transform: see `ImageDataset`.
    Raises DataNotFoundError naming the places searched, FileFormatError for a damaged file.
    """
    return _load("mnist", DIGITS, _find_idx, split, subset, root, transform, generator)


def fashion_mnist(split: str = "train", subset: float | None = None, root: str | os.PathLike | None = None,
                  transform: Callable | None = None, generator: np.random.Generator | None = None) -> ImageDataset:
    """Photographs of clothes, 28x28 grey, in the format and number of MNIST (H. Xiao, K. Rasul, R. Vollgraf, 2017).

    Arguments and errors as for `mnist`.
    """
    return _load("fashion_mnist", CLOTHES, _find_idx, split, subset, root, transform, generator)


def cifar10(split: str = "train", subset: float | None = None, root: str | os.PathLike | None = None,
            transform: Callable | None = None, generator: np.random.Generator | None = None) -> ImageDataset:
    """Small photographs, 32x32 RGB: 50,000 for training or 10,000 for testing (A. Krizhevsky, 2009).

    Reads `.npz` shards (any of the five, so the training part may be incomplete), the binary or the python version,
    unpacked or as .tar.gz. Arguments and errors as for `mnist`; no subset is embedded.
    """
    return _load("cifar10", OBJECTS, _find_cifar, split, subset, root, transform, generator)


SIZES = {
    "mnist": {"train": 60_000, "test": 10_000},
    "fashion_mnist": {"train": 60_000, "test": 10_000},
    "cifar10": {"train": 50_000, "test": 10_000},
}


def _load(name: str, classes: Sequence[str], find: Callable, split: str, subset: float | None,
          root: str | os.PathLike | None, transform: Callable | None,
          generator: np.random.Generator | None) -> ImageDataset:
    if split not in ("train", "test"):
        raise ValueError(f"{name}: split must be 'train' or 'test', got {split!r}")
    check_generator(generator, name)
    read, title = search(name, name, lambda folder: find(folder, split, SIZES[name][split]), f"{split} files", root)
    images, labels, files = read()
    complete = len(labels) == SIZES[name][split]
    dataset = ImageDataset(images, labels, classes, f"{name} {split}", f"{title}: {files}", complete, transform)
    if subset is None:
        return dataset
    return dataset.first(subset) if generator is None else dataset.balanced(subset, generator)


def _find_idx(folder: Path, split: str, size: int) -> Callable[[], Loaded] | None:
    prefix = {"train": "train", "test": "t10k"}[split]
    images = _existing(folder, f"{prefix}-images-idx3-ubyte", f"{prefix}-images-idx3-ubyte.gz")
    labels = _existing(folder, f"{prefix}-labels-idx1-ubyte", f"{prefix}-labels-idx1-ubyte.gz")
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        missing = "images-idx3" if images is None else "labels-idx1"
        raise DataNotFoundError(f"{folder} has {(images or labels).name} but not {prefix}-{missing}-ubyte or the same "  # type: ignore[union-attr]
                                "with .gz; both are needed")
    return partial(_read_idx_pair, images, labels, size)


def _read_idx_pair(images: Path, labels: Path, size: int) -> Loaded:
    pixels = read_idx(images, IDX_IMAGES, (size, 28, 28))
    numbers = read_idx(labels, IDX_LABELS, (size,))
    return pixels[:, None], check_labels(numbers, len(pixels), 10, labels), f"{images} and {labels.name}"


def _find_cifar(folder: Path, split: str, size: int) -> Callable[[], Loaded] | None:
    shards = ["test.npz"] if split == "test" else [f"train_{number}.npz" for number in range(1, 6)]
    if present := [shard for shard in shards if (folder / shard).is_file()]:
        return partial(_read_batches, folder, present, read_shard)
    batches = ["test_batch"] if split == "test" else [f"data_batch_{number}" for number in range(1, 6)]
    for version, suffix, read in (("bin", ".bin", read_binary), ("py", "", read_python)):
        names = [batch + suffix for batch in batches]
        unpacked = folder / f"cifar-10-batches-{version}"
        if any((unpacked / name).is_file() for name in names):
            if missing := [name for name in names if not (unpacked / name).is_file()]:
                raise DataNotFoundError(f"{unpacked} lacks {', '.join(missing)}; all of {', '.join(names)} are needed")
            return partial(_read_batches, unpacked, names, read)
        archive = folder / f"cifar-10-{'binary' if version == 'bin' else 'python'}.tar.gz"
        if archive.is_file():
            return partial(_read_archived, archive, names)
    return None


def _read_batches(folder: Path, names: list[str], read: Callable) -> Loaded:
    batches = [read(folder / name) for name in names]
    return _joined(batches, str(folder / ", ".join(names)))


def _read_archived(archive: Path, names: list[str]) -> Loaded:
    return _joined(read_archive(archive, names), f"{archive}, {', '.join(names)}")


def _joined(batches: list, files: str) -> Loaded:
    if len(batches) == 1:
        return (*batches[0], files)
    images, labels = zip(*batches)
    return np.concatenate(images), np.concatenate(labels), files


def _existing(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
