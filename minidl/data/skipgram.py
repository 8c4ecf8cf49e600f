"""What word2vec learns from: pairs of words that stand near each other, and words drawn at random beside them.

Mikolov, Sutskever, Chen, Corrado and Dean 2013, "Distributed representations of words and phrases and their
compositionality". The model is in `minidl/models/word2vec.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minidl import random
from minidl.data.randomness import check_generator
from minidl.tensor import Tensor


class SkipGrams:
    """Batches (center (B,), words (B, 1 + negatives)) of word ids: words[:, 0] stands near the center, others not.

    sequences: the ids of each sentence. num_tokens: the size of the vocabulary.
    window: the largest distance; for each center a window from 1 to it is drawn, so that near words come more often.
    negatives: how many words are drawn for each pair, in proportion to count^0.75.
    subsample: t in the probability sqrt(t / frequency) with which a word is kept in a pass; 0 keeps all.
    ignore: ids that are left out, such as those of padding and of unknown words.
    generator: what is drawn from, anew in each pass (default: minidl's shared one).
    Raises ValueError if there is no sentence of two words, IndexError for an id outside the vocabulary.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], num_tokens: int, batch_size: int = 4096, window: int = 5,
                 negatives: int = 5, subsample: float = 1e-3, ignore: Sequence[int | None] = (),
                 generator: np.random.Generator | None = None):
        for name, value in (("batch_size", batch_size), ("window", window), ("negatives", negatives)):
            if value < 1:
                raise ValueError(f"SkipGrams: {name} must be at least 1, got {value}")
        kept = [ids[~np.isin(ids, [number for number in ignore if number is not None])]
                for ids in (np.asarray(sequence, np.int64) for sequence in sequences)]
        if max(map(len, kept), default=0) < 2:
            raise ValueError("SkipGrams: there is no sentence of at least two known words, so there are no pairs")
        self._words = np.concatenate(kept)
        self._sentences = np.repeat(np.arange(len(kept)), [len(ids) for ids in kept])
        outside = self._words[(self._words < 0) | (self._words >= num_tokens)]
        if outside.size:
            raise IndexError(f"SkipGrams: the id {outside[0]} lies outside the vocabulary of {num_tokens:,} tokens")
        counts = np.bincount(self._words, minlength=num_tokens)
        self._keep = np.sqrt(subsample * counts.sum() / np.maximum(counts, 1)) if subsample else np.ones(num_tokens)
        noise = counts**0.75
        self._noise = np.cumsum(noise / noise.sum())  # the cumulative distribution of the negative words
        self.batch_size, self.window, self.negatives = batch_size, window, negatives
        self.generator = check_generator(generator, "SkipGrams")

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Centers and words near them of one pass, (P,) each, in random order."""
        draw = random.generator(self.generator)
        kept = draw.random(len(self._words)) < self._keep[self._words]
        words, sentences = self._words[kept], self._sentences[kept]
        reach = draw.integers(1, self.window + 1, len(words))
        centers, near = [], []
        for distance in range(1, self.window + 1):
            left = np.flatnonzero(sentences[distance:] == sentences[:-distance])
            for center, other in ((left, left + distance), (left + distance, left)):
                within = reach[center] >= distance
                centers.append(words[center[within]])
                near.append(words[other[within]])
        order = draw.permutation(sum(map(len, centers)))
        return np.concatenate(centers)[order], np.concatenate(near)[order]

    def draw(self, count: int) -> np.ndarray:
        """Negative words (count, negatives)."""
        uniform = random.generator(self.generator).random((count, self.negatives), np.float32)
        return np.searchsorted(self._noise[:-1], uniform, side="right")

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        centers, near = self.pairs()
        for start in range(0, len(centers), self.batch_size):
            batch = slice(start, start + self.batch_size)
            words = np.concatenate([near[batch, None], self.draw(len(near[batch]))], axis=1)
            yield Tensor(centers[batch]), Tensor(words)
