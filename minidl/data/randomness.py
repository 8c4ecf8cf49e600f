"""Which generator an augmentation draws from: its own, else the one of the batch being loaded, else the shared one.

A loader may fetch batches in a background thread while the training loop draws for dropout. If both drew from the
shared generator, the result would depend on who came first. So `DataLoader` gives each batch a generator of its own
(`drawing_from`), and the result is the same with and without the thread. Read `transforms.py` and `loader.py` next.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from minidl import random


class _OfThisThread(threading.local):
    generator: np.random.Generator | None = None


_thread = _OfThisThread()


@contextmanager
def drawing_from(generator: np.random.Generator | None) -> Iterator[None]:
    """Within the block, let augmentations of this thread draw from `generator`; None changes nothing."""
    before = _thread.generator
    _thread.generator = before if generator is None else generator
    try:
        yield
    finally:
        _thread.generator = before


def augmentation_generator(own: np.random.Generator | None) -> np.random.Generator:
    """Return `own` if given, else the generator of the batch being fetched, else minidl's shared generator."""
    if own is not None:
        return own
    return random.generator(_thread.generator)


def check_generator(generator: np.random.Generator | None, owner: str) -> np.random.Generator | None:
    """Return `generator` if it is a NumPy generator or None; raise TypeError naming `owner` otherwise."""
    if generator is None or isinstance(generator, np.random.Generator):
        return generator
    raise TypeError(f"{owner}: generator must be a numpy.random.Generator such as numpy.random.default_rng(0), "
                    f"not {type(generator).__name__}")
