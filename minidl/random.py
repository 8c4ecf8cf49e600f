"""The one source of randomness that initialisers, dropout, shuffling and augmentation share.

`minidl.seed(n)` resets it; everything that draws also accepts a `numpy.random.Generator` of its own.
"""

from __future__ import annotations

import numpy as np

_default = np.random.default_rng()


def seed(value: int) -> np.random.Generator:
    """Restart the default generator from `value` and return it (PyTorch's `manual_seed`)."""
    global _default
    _default = np.random.default_rng(value)
    return _default


manual_seed = seed


def generator(own: np.random.Generator | None = None) -> np.random.Generator:
    """Return `own` if one is given, else the default generator."""
    return _default if own is None else own
