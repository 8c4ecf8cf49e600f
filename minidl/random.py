"""The one source of randomness that initialisers, dropout, shuffling and augmentation share.

`minidl.seed(n)` resets it; everything that draws also accepts a generator of its own, NumPy's or the one in
`generator.py`, which adds PyTorch's `manual_seed` to NumPy's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_default: np.random.Generator | None = None  # made when first used: importing numpy.random takes a while


class _OfThisThread(threading.local):
    generator: np.random.Generator | None = None


_thread = _OfThisThread()


def seed(value: int) -> np.random.Generator:
    """Restart the default generator from `value` and return it (PyTorch's `manual_seed`).

    In a `using` block, that of the block.
    """
    global _default
    fresh = np.random.default_rng(value)
    if _thread.generator is not None:
        _thread.generator = fresh
    else:
        _default = fresh
    return fresh


manual_seed = seed


def generator(own: np.random.Generator | None = None) -> np.random.Generator:
    """Return `own` if one is given, else the one of a `using` block of this thread, else the default generator."""
    global _default
    if own is not None:
        return own
    if _thread.generator is not None:
        return _thread.generator
    if _default is None:
        _default = np.random.default_rng()
    return _default


@contextmanager
def preserved() -> Iterator[None]:
    """Within the block the generator in use may be drawn from and reset; afterwards it is where it was before."""
    global _default
    default, own = _default, _thread.generator
    before = default if own is None else own
    state = None if before is None else before.bit_generator.state
    try:
        yield
    finally:
        _default, _thread.generator = default, own
        if before is not None:
            before.bit_generator.state = state


@contextmanager
def using(generator: np.random.Generator) -> Iterator[None]:
    """Within the block, what this thread draws comes from `generator`; the default one is neither used nor changed.

    So several threads can train at once, each with numbers that do not depend on the others.
    """
    before, _thread.generator = _thread.generator, generator
    try:
        yield
    finally:
        _thread.generator = before
