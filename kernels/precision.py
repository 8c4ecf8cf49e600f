"""How closely kernels keep to the order of the sums as they are defined: "fast", or "strict" on request.

"fast" lets a kernel compute with an algorithm that rounds a little more where that is faster: the Winograd
convolution, whose results lie within 1e-4 of their standard deviation. "strict" takes the plain sums everywhere.
The environment variable MINIDL_PRECISION says it from the start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

PRECISIONS = ("fast", "strict")


def set_precision(name: str) -> None:
    """Compute with precision "fast" or "strict" from now on, in all threads of this process."""
    global _everywhere
    _everywhere = _checked(name)


def get_precision() -> str:
    """The precision that kernels called here compute with."""
    return _here.get() or _everywhere


@contextmanager
def use_precision(name: str) -> Iterator[None]:
    """Compute with precision `name` inside the block, in this thread."""
    token = _here.set(_checked(name))
    try:
        yield
    finally:
        _here.reset(token)


def _checked(name: str) -> str:
    if name not in PRECISIONS:
        raise ValueError(f"unknown precision '{name}': there are {', '.join(PRECISIONS)}")
    return name


_everywhere = _checked(os.environ.get("MINIDL_PRECISION") or "fast")
_here: ContextVar[str | None] = ContextVar("precision", default=None)
