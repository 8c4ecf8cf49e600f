"""What labelled data sets share: checked labels, class-balanced subsets and splits that keep each class's share.

`ImageDataset` in `images.py` and `TextDataset` in `texts.py` say what an item is and how to select some of them.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from minidl import random
from minidl.data.datasets import Dataset
from minidl.data.randomness import check_generator
from minidl.errors import ShapeError

Alike = TypeVar("Alike", bound="LabelledDataset")


class LabelledDataset(Dataset):
    """A data set with `labels` int64 (N,) and the name of each label in `classes`; subclasses define `select`.

    noun: what one item is called in messages.
    """

    noun = "item"
    name: str
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self: Alike, indices: Any) -> Alike:
        """The items at `indices` as a data set of the same kind."""
        raise NotImplementedError(f"{type(self).__name__} must define select(indices)")

    def _check_labels(self, items: int) -> None:
        """The labels as int64, one within the classes for each of the `items`."""
        kind, noun = type(self).__name__, self.noun
        if self.labels.shape != (items,):
            raise ShapeError(f"{kind}: {items} {noun}s need labels of shape ({items},), got {self.labels.shape}")
        if self.labels.dtype.kind not in "iu":
            raise TypeError(f"{kind}: labels must be integers, got {self.labels.dtype}")
        self.labels = self.labels.astype(np.int64, copy=False)
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if wrong.size:
            raise ValueError(f"{kind}: label {self.labels[wrong[0]]} of {noun} {wrong[0]} is outside "
                             f"0..{len(self.classes) - 1}, the {len(self.classes)} classes")

    def balanced(self: Alike, count: float, generator: np.random.Generator | None = None) -> Alike:
        """Draw a small training set: `count` items with equally many of each class, or a fraction of each class.

        An integer that the classes do not divide gives the first classes one item more. A float in (0, 1] keeps
        each class's share, and at least one item of each. The items stay in file order.
        Raises ValueError if there are too few items, or the count asks for less than one item per class.
        """
        check_generator(generator, f"{type(self).__name__}.balanced")
        return self.select(self._balanced(count, random.generator(generator)))

    def first(self: Alike, count: float) -> Alike:
        """As `balanced`, but the first items of each class instead of drawn ones: always the same."""
        return self.select(self._balanced(count, None))

    def split(self: Alike, fraction: float, generator: np.random.Generator | None = None) -> tuple[Alike, Alike]:
        """Split at random into (training, validation), with `fraction` of each class in the validation part.

        Raises ValueError if a part would be empty.
        """
        kind = type(self).__name__
        check_generator(generator, f"{kind}.split")
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"{kind}.split: fraction is the validation part's share, between 0 and 1; got {fraction}")
        draw = random.generator(generator)
        parts = [draw.permutation(members)[: round(fraction * len(members))] for members in self._members()]
        held_out = np.zeros(len(self), bool)
        held_out[np.concatenate(parts)] = True
        if not held_out.any() or held_out.all():
            raise ValueError(f"{kind}.split: {fraction} of {len(self)} {self.noun}s leaves a part empty")
        return self.select(np.flatnonzero(~held_out)), self.select(np.flatnonzero(held_out))

    def _members(self) -> list[np.ndarray]:
        return [np.flatnonzero(self.labels == label) for label in range(len(self.classes))]

    def _balanced(self, count: float, generator: np.random.Generator | None) -> np.ndarray:
        members = self._members()
        wanted = _per_class(count, [len(indices) for indices in members], self.noun)
        for label, (indices, number) in enumerate(zip(members, wanted)):
            if number > len(indices):
                most = min(map(len, members)) * len(members)
                raise ValueError(f"{self.name}: {count} balanced {self.noun}s need {number} of class {label} "
                                 f"({self.classes[label]}), which has {len(indices)}; at most {most} can be balanced, "
                                 "or give a fraction")
        drawn = [indices if generator is None else generator.permutation(indices) for indices in members]
        return np.sort(np.concatenate([indices[:number] for indices, number in zip(drawn, wanted)]))


def _per_class(count: float, available: list[int], noun: str) -> list[int]:
    classes = len(available)
    if isinstance(count, (float, np.floating)):
        if not 0.0 < count <= 1.0:
            raise ValueError(f"balanced: a fraction must be above 0 and at most 1, got {count}; for a number of "
                             f"{noun}s give an integer")
        return [max(1, round(count * number)) if number else 0 for number in available]
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < classes:
        raise ValueError(f"balanced: count must be an integer of at least {classes}, one {noun} per class, or a "
                         f"fraction such as 0.05; got {count!r}")
    each, more = divmod(int(count), classes)
    return [each + (label < more) for label in range(classes)]
