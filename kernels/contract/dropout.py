"""Dropout. Computed in `../reference/dropout.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def dropout_mask(shape, p, generator):
    """Booleans that are False with probability p each."""


@kernel
def dropout(x, mask, p):
    """x / (1 - p) where mask is True, else 0; mask broadcasts against x. Its gradient is itself, applied to g."""
