"""What a data set is: something with a length and an index. `DataLoader` in `loader.py` makes batches of it.

A data set that can fetch many items faster than one by one offers `__getitems__(indices)`: it receives an int64
array of indices and returns the finished batch as an array, or a tuple or dict of arrays, whose first axis runs
over the items. (If it returns a list, that list is taken for single items still to be collated, as in PyTorch.)
Read `loader.py` next.
"""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from minidl import random
from minidl.data.randomness import check_generator
from minidl.errors import ShapeError
from minidl.tensor import Tensor


class Dataset:
    """A collection of items: subclasses define `__len__` and `__getitem__(index)`, and may define `__getitems__`.

    `random` says whether reading the same item twice may give different values, as augmentation does. It is True
    unless a subclass knows better, for nothing can be told of a `__getitem__` from outside.
    """

    @property
    def random(self) -> bool:
        return True

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__(), the number of its items")

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index), which returns one item")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class TensorDataset(Dataset):
    """Arrays or Tensors of equal length N; item i is the tuple of their i-th rows, as Tensors.

    Raises ValueError without any tensor, ShapeError if one is a scalar or the lengths differ.
    """

    random = False

    def __init__(self, *tensors: Any):
        if not tensors:
            raise ValueError("TensorDataset: give it at least one array, for example TensorDataset(images, labels)")
        self.tensors = tuple(tensor if isinstance(tensor, Tensor) else Tensor(tensor) for tensor in tensors)
        shapes = [tensor.shape for tensor in self.tensors]
        if any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
            listed = ", ".join(map(str, shapes))
            raise ShapeError(f"TensorDataset: all tensors need the same length along their first axis, "
                             f"these have shapes {listed}")

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(Tensor(tensor.array[index]) for tensor in self.tensors)

    def __getitems__(self, indices: np.ndarray) -> tuple[Any, ...]:
        return tuple(tensor.array[indices] for tensor in self.tensors)


class Subset(Dataset):
    """The items of `dataset` at `indices`, in that order."""

    def __init__(self, dataset: Any, indices: Sequence[int] | np.ndarray):
        self.dataset = dataset
        self.indices = indices

    @property
    def random(self) -> bool:
        return is_random(self.dataset)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Subset: index {index} is out of range for {len(self)} items; it counts the items of the "
                             f"subset, not those of the whole {type(self.dataset).__name__}")
        return self.dataset[int(self.indices[index])]

    def __getitems__(self, indices: np.ndarray) -> Any:
        chosen = np.asarray(self.indices)[indices]
        if hasattr(self.dataset, "__getitems__"):
            return self.dataset.__getitems__(chosen)
        return [self.dataset[int(index)] for index in chosen]


class ConcatDataset(Dataset):
    """Several data sets one after the other. Raises ValueError if there is none."""

    def __init__(self, datasets: Iterable[Any]):
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: give it at least one data set")
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))

    @property
    def random(self) -> bool:
        return any(is_random(dataset) for dataset in self.datasets)

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"ConcatDataset: index {index} is out of range for {len(self)} items")
        which = bisect.bisect_right(self.cumulative_sizes, position)
        start = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][position - start]


def is_random(dataset: Any) -> bool:
    """Whether reading an item draws random numbers; a data set that does not say so may."""
    return bool(getattr(dataset, "random", True))


def random_split(dataset: Any, lengths: Sequence[float], generator: np.random.Generator | None = None) -> list[Subset]:
    """Split `dataset` at random into parts of the given lengths, as PyTorch's `random_split` does.

    lengths: item counts that add up to len(dataset), or fractions that add up to 1 (rounded down; what is left over
    goes to the first parts, one item each). Raises ValueError if they do not add up; warns about an empty part.
    """
    check_generator(generator, "random_split")
    sizes = _sizes_of_parts(len(dataset), lengths)
    order = random.generator(generator).permutation(len(dataset))
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends)]


def _sizes_of_parts(total: int, lengths: Sequence[float]) -> list[int]:
    if any(length < 0 for length in lengths):
        raise ValueError(f"random_split: lengths must not be negative, got {list(lengths)}")
    if any(isinstance(length, (float, np.floating)) for length in lengths):
        if not math.isclose(sum(lengths), 1.0, abs_tol=1e-9):
            raise ValueError(f"random_split: fractions must add up to 1, {list(lengths)} add up to {sum(lengths)}")
        sizes = [int(math.floor(total * length)) for length in lengths]
        for index in range(total - sum(sizes)):
            sizes[index % len(sizes)] += 1
    else:
        sizes = [int(length) for length in lengths]
        if sum(sizes) != total:
            raise ValueError(f"random_split: lengths {sizes} add up to {sum(sizes)}, the data set has {total} items")
    for index, size in enumerate(sizes):
        if size == 0:
            warnings.warn(f"random_split: part {index} of {list(lengths)} is empty", stacklevel=3)
    return sizes
