"""Softmax, its logarithm, and the logarithm of a sum of exponentials. Computed in `../reference/softmax.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def softmax(x, dim):
    """e^x / sum(e^x) along axis dim, without overflow."""


@kernel
def softmax_grad(g, y, dim):
    """y (g - sum(g y)) along axis dim, for y = softmax(x)."""


@kernel
def log_softmax(x, dim):
    """x - log(sum(e^x)) along axis dim, without overflow."""


@kernel
def log_softmax_grad(g, y, dim):
    """g - e^y sum(g) along axis dim, for y = log_softmax(x)."""


@kernel
def logsumexp(x, dim):
    """log(sum(e^x)) over axis or axes dim, which are kept with length 1; without overflow."""


@kernel
def logsumexp_grad(g, x, y):
    """g e^(x - y) for y = logsumexp(x), both g and y with the summed axes kept; 0 in a slice of -inf alone."""
