"""Sequences of token ids of different lengths, made into batches: padded, with their lengths, alike ones together.

`SequenceDataset` holds them, `BucketBatchSampler` says which go together, `DataLoader` loads them. Recurrent layers
take (ids, lengths) of a batch; attention takes `length_mask(lengths)`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minidl import random
from minidl.data.datasets import Dataset
from minidl.data.randomness import check_generator
from minidl.errors import ShapeError


def pad_sequences(sequences: Sequence[Sequence[int]], padding_value: int = 0,
                  max_length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """One array (N, T) of sequences of up to T ids, filled up behind with `padding_value`, and their lengths (N,).

    max_length: longer sequences lose their end. Both results are int64.
    Raises ValueError for an empty sequence, TypeError for ids that are no integers.
    """
    dataset = SequenceDataset(sequences, padding_value=padding_value, max_length=max_length)
    return dataset.__getitems__(np.arange(len(dataset)))[:2]


def length_mask(lengths: Any, size: int | None = None) -> np.ndarray:
    """True (N, T) where a sequence of these `lengths` (N,) has a token, False where it is padded.

    size: T; the largest length unless given.
    Raises ShapeError for lengths that are not (N,), TypeError for such as are no integers, ValueError for one that is
    negative or greater than `size`.
    """
    lengths = np.asarray(getattr(lengths, "array", lengths))
    if lengths.ndim != 1:
        raise ShapeError(f"length_mask: expected the lengths (N,) of N sequences, got shape {lengths.shape}")
    if lengths.size and lengths.dtype.kind not in "iu":
        raise TypeError(f"length_mask: lengths are whole numbers, got {lengths.dtype}")
    longest, least = lengths.max(initial=0), lengths.min(initial=0)
    size = int(longest) if size is None else size
    if least < 0 or longest > size:
        raise ValueError(f"length_mask: a length of {least if least < 0 else longest} does not fit into a size of "
                         f"{size}; lengths count the tokens that are left after sequences were cut to max_length")
    return np.arange(size) < lengths[:, None]


class SequenceDataset(Dataset):
    """Sequences of token ids with a label each; a DataLoader's batch is [ids (N, T), lengths (N,), labels (N, ...)].

    sequences: lists or arrays of integers, none of them empty; T is the longest of a batch, shorter ones are filled up
        with `padding_value`. Item i alone is (ids (T,), length, label).
    labels: an array (N, ...), or None, then batches are [ids, lengths]. (`Trainer.predict` leaves out the last part of
        a batch as its target: give it any labels.)
    max_length: longer sequences lose their end.
    `lengths` (N,) are the lengths, as a `BucketBatchSampler` wants them.
    Raises ValueError for an empty sequence, TypeError for ids that are no integers, ShapeError if there is not one
    label for each sequence.
    """

    random = False

    def __init__(self, sequences: Sequence[Sequence[int]], labels: Any = None, padding_value: int = 0,
                 max_length: int | None = None):
        if max_length is not None and max_length < 1:
            raise ValueError(f"SequenceDataset: max_length must be at least 1, got {max_length}")
        arrays = [np.asarray(sequence) for sequence in sequences]
        for number, array in enumerate(arrays):
            if array.shape == (0,):
                raise ValueError(f"SequenceDataset: sequence {number} is empty; leave it out, or give it one token, "
                                 "such as that for unknown words")
            if array.ndim != 1 or array.dtype.kind not in "iu":
                raise TypeError(f"SequenceDataset: sequence {number} must be a list of token ids (integers), got "
                                f"{array.dtype} of shape {array.shape}; a tokeniser's encode() makes them of text")
        arrays = [array[:max_length] for array in arrays]
        self.lengths = np.array([len(array) for array in arrays], np.int64)
        self._flat = np.concatenate(arrays).astype(np.int64) if arrays else np.empty(0, np.int64)  # all, end to end
        self._starts = np.cumsum(self.lengths) - self.lengths
        self.labels = None if labels is None else np.asarray(getattr(labels, "array", labels))
        self.padding_value = padding_value
        if self.labels is not None and self.labels.shape[:1] != self.lengths.shape:
            raise ShapeError(f"SequenceDataset: {len(arrays)} sequences need as many labels, got labels of shape "
                             f"{self.labels.shape}")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        index = range(len(self))[operator.index(index)]
        start, length = self._starts[index], int(self.lengths[index])
        item = (self._flat[start : start + length], length)
        return item if self.labels is None else (*item, self.labels[index])

    def __getitems__(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        lengths = self.lengths[indices]
        mask = length_mask(lengths)  # N, T
        places = self._starts[indices][:, None] + np.arange(mask.shape[1])
        ids = np.where(mask, self._flat.take(places, mode="clip"), self.padding_value)
        return (ids, lengths) if self.labels is None else (ids, lengths, self.labels[indices])

    def __repr__(self) -> str:
        longest = self.lengths.max(initial=0)
        return f"SequenceDataset({len(self):,} sequences of up to {longest} tokens)"


class BucketBatchSampler:
    """Batches of indices whose sequences are of similar length, so that little is padded; for `DataLoader`.

    lengths: (N,), one for each item of the data set. Every index comes once in an epoch, in batches of `batch_size`;
        one of them may be smaller, and is left out with `drop_last`.
    shuffle: at each pass, draw an order, sort it by length within groups of `pool` batches, and draw the order of the
        batches. Without it, items are sorted by length, the shortest first, always the same.
    generator: what is drawn from (default: minidl's shared one).
    Raises ValueError for sizes below 1 and for no lengths at all.
    """

    def __init__(self, lengths: Any, batch_size: int, shuffle: bool = True, drop_last: bool = False, pool: int = 50,
                 generator: np.random.Generator | None = None):
        if isinstance(lengths, (list, tuple)) and any(np.ndim(length) for length in lengths):
            raise TypeError("BucketBatchSampler: got the sequences themselves, their lengths (N,) are needed, such as "
                            "SequenceDataset(sequences).lengths")
        self.lengths = np.asarray(getattr(lengths, "array", lengths))
        if self.lengths.ndim != 1 or not self.lengths.size:
            raise ValueError(f"BucketBatchSampler: the lengths (N,) of at least one sequence are needed, got shape "
                             f"{self.lengths.shape}")
        for name, value in (("batch_size", batch_size), ("pool", pool)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"BucketBatchSampler: {name} must be an integer of at least 1, got {value!r}")
        self.batch_size, self.shuffle, self.drop_last, self.pool = batch_size, shuffle, drop_last, pool
        self.generator = check_generator(generator, "BucketBatchSampler")

    def __len__(self) -> int:
        """The number of batches."""
        count = len(self.lengths)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    @property
    def samples(self) -> int:
        """The number of items in one pass."""
        return min(len(self) * self.batch_size, len(self.lengths))

    def __iter__(self) -> Iterator[np.ndarray]:
        draw = random.generator(self.generator) if self.shuffle else None
        order = np.arange(len(self.lengths)) if draw is None else draw.permutation(len(self.lengths))
        group = len(order) if draw is None else self.pool * self.batch_size
        batches = []
        for start in range(0, len(order), group):
            some = order[start : start + group]
            some = some[np.argsort(self.lengths[some], kind="stable")]
            batches += [some[first : first + self.batch_size] for first in range(0, len(some), self.batch_size)]
        batches = [batch for batch in batches if len(batch) == self.batch_size or not self.drop_last]
        turns = range(len(batches)) if draw is None else draw.permutation(len(batches))
        return iter([batches[turn] for turn in turns])
