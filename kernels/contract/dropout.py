"""Dropout. Computed in `../reference/dropout.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def dropout_mask(shape, p, generator):
    """Booleans that are False with probability p each, which depend on one 64-bit seed drawn from the generator.

    Element i is True where half of the word mix(seed + (i // 2 + 1) 0x9E3779B97F4A7C15) is at least p 2^32: the lower
    half for even i, the upper for odd i, elements counted in C order. `mix` is that of SplitMix64 (Steele, Lea and
    Flood 2014, "Fast splittable pseudorandom number generators"), a bijection of 64-bit words whose results pass
    batteries of tests when it is fed with such a sequence. So an element is drawn without those before it, by any
    thread.
    """


@kernel
def dropout(x, mask, p):
    """x / (1 - p) where mask is True, else 0; mask broadcasts against x. Its gradient is itself, applied to g."""
