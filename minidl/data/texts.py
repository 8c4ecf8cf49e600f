"""TextDataset: labelled texts held as strings, and Corpus: one long text. `text.py` makes them from files.

`partition` splits by a hash of the text itself, so that the same text never stands on both sides.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.data.labelled import LabelledDataset


class TextDataset(LabelledDataset):
    """Texts with labels int64 (N,); item i is (text, int label), and a DataLoader's batch [list of texts, labels].

    classes: the name of each label. name, source: which data set this is and the files it came from.
    complete: False for a part, such as the embedded subset.
    Raises TypeError for texts that are no strings, and as `LabelledDataset` for labels that do not fit.
    """

    noun = "text"
    random = False

    def __init__(self, texts: Sequence[str], labels: Any, classes: Sequence[str], name: str = "texts",
                 source: str = "", complete: bool = True):
        self.texts = list(texts)
        self.labels = np.asarray(labels)
        self.classes = tuple(classes)
        self.name = name
        self.source = source
        self.complete = complete
        wrong = next((i for i, text in enumerate(self.texts) if not isinstance(text, str)), None)
        if isinstance(texts, str) or wrong is not None:
            what = "one string" if wrong is None else f"text {wrong} is a {type(self.texts[wrong]).__name__}"
            raise TypeError(f"TextDataset: texts must be a list of strings, got {what}")
        self._check_labels(len(self.texts))

    def __getitem__(self, index: int) -> tuple[str, int]:
        index = operator.index(index)
        return self.texts[index], int(self.labels[index])

    def select(self, indices: Any) -> TextDataset:
        """The texts at `indices`, as a data set with the same names."""
        chosen = np.asarray(indices, np.intp)
        complete = self.complete and len(np.unique(chosen)) == len(self)
        texts = [self.texts[index] for index in chosen]
        return TextDataset(texts, self.labels[chosen], self.classes, self.name, self.source, complete)

    def partition(self, fractions: Sequence[float], seed: int = 0) -> list[TextDataset]:
        """Split into parts that hold these fractions of each class, always the same for a seed.

        Within each class the distinct texts are put in the order of SHA-256(seed, text) and dealt out in turn, so equal
        texts land in the same part; a part's size may differ by the copies of one text. Texts stay in file order.
        Raises ValueError if the fractions are negative or do not add up to 1.
        """
        if any(fraction < 0 for fraction in fractions) or abs(sum(fractions) - 1) > 1e-9:
            raise ValueError(f"TextDataset.partition: fractions must be positive and add up to 1, got "
                             f"{list(fractions)}")
        part = np.zeros(len(self), np.int64)
        for members in self._members():
            _, first, copies = np.unique([_digest(seed, self.texts[i]) for i in members], return_index=True,
                                         return_inverse=True)  # digests in order
            counts = np.bincount(copies, minlength=len(first))
            before = np.cumsum(counts) - counts  # how many texts come before each distinct one
            ends = np.round(np.cumsum(fractions)[:-1] * len(members))
            part[members] = np.searchsorted(ends, before, side="right")[copies]
        return [self.select(np.flatnonzero(part == number)) for number in range(len(fractions))]

    def __repr__(self) -> str:
        part = "" if self.complete else ", a part"
        return f"TextDataset({self.name}: {len(self):,} texts{part}, from {self.source or 'memory'})"


@dataclass(frozen=True)
class Corpus:
    """One long text, where it came from, and whether it is whole; `len()` counts its characters."""

    text: str
    name: str = "corpus"
    source: str = ""
    complete: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"Corpus: one text (str) is needed, got {type(self.text).__name__}; join several with "
                            "'\\n'.join(texts), or keep them apart in a TextDataset")

    def __len__(self) -> int:
        return len(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        part = "" if self.complete else ", a part"
        return f"Corpus({self.name}: {len(self):,} characters{part}, from {self.source or 'memory'})"


def _digest(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}\n{text}".encode()).hexdigest()
