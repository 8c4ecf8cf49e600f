"""The dense layer. Computed in `../reference/linear.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def linear(x, weight, bias=None):
    """x @ weight^T + bias for x (..., I), weight (O, I), bias (O,): (..., O)."""


@kernel
def linear_grad_weight(g, x):
    """g^T @ x summed over all leading axes, for g (..., O) and x (..., I): (O, I)."""
