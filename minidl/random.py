"""The one source of randomness that initialisers, dropout, shuffling and augmentation share.

`minidl.seed(n)` resets it; everything that draws also accepts a generator of its own, NumPy's or the one in
`generator.py`, which adds PyTorch's `manual_seed` to NumPy's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_default: np.random.Generator | None = None  # made when first used: importing numpy.random takes a while


def seed(value: int) -> np.random.Generator:
    """Restart the default generator from `value` and return it (PyTorch's `manual_seed`)."""
    global _default
    _default = np.random.default_rng(value)
    return _default


manual_seed = seed


def generator(own: np.random.Generator | None = None) -> np.random.Generator:
    """Return `own` if one is given, else the default generator."""
    global _default
    if own is not None:
        return own
    if _default is None:
        _default = np.random.default_rng()
    return _default


@contextmanager
def preserved() -> Iterator[None]:
    """Within the block the default generator may be drawn from and reset; afterwards it is where it was before."""
    global _default
    before = _default
    state = None if before is None else before.bit_generator.state
    try:
        yield
    finally:
        _default = before
        if before is not None:
            before.bit_generator.state = state
