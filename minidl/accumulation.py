"""Gradients that an optimiser has used and nobody cleared: the forgotten `zero_grad()`, noticed.

An optimiser remembers one gradient of the step it made (`used`). `backward()` reports every gradient it adds to
(`added_to`): if that is the remembered one, with the numbers that were stepped with, the next step would go in the sum
of both directions. Cleared in any way, set to None, to zero or scaled, it is no longer remembered, so adding up the
gradients of several batches before one step, or two networks that share parts, are never mistaken for it.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import numpy as np

LOOKED_AT = 256  # numbers of the remembered gradient that are compared

_used: Any = WeakValueDictionary()
_numbers: dict[int, np.ndarray] = {}
_doubled: Any = WeakValueDictionary()


def used(gradient: Any) -> None:
    """Remember a gradient tensor that an optimiser has just stepped with; one of zeros says nothing."""
    numbers = gradient.array.reshape(-1)[:LOOKED_AT].copy()
    if numbers.any():
        if len(_numbers) > 2 * len(_used) + 64:  # those of gradients that are gone
            for key in [key for key in list(_numbers) if key not in _used]:
                _numbers.pop(key, None)
        _used[id(gradient)], _numbers[id(gradient)] = gradient, numbers


def added_to(gradient: Any) -> None:
    """`backward()` is about to add to a gradient that is there already."""
    if not _used and not _doubled:
        return
    key = id(gradient)
    if _used.get(key) is gradient:
        del _used[key]
        if np.array_equal(gradient.array.reshape(-1)[:LOOKED_AT], _numbers.pop(key, None)):
            _doubled[key] = gradient
    elif _doubled.get(key) is gradient and not gradient.array.any():
        del _doubled[key]


def is_doubled(gradient: Any) -> bool:
    """Whether a gradient holds the direction of an earlier step besides the new one; it is forgotten by asking."""
    return _doubled.pop(id(gradient), None) is gradient
