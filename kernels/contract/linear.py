"""Matrix products and the dense layer. Computed in `../reference/linear.py`.

Operands may be transposed views (`weight.T`, `x.swapaxes(-1, -2)`): no kernel needs a copy of them.
"""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def matmul(x, y):
    """x @ y for x (..., M, K) and y (..., K, N), leading axes broadcast: (..., M, N).

    A vector counts as one row on the left and as one column on the right, and that axis is dropped again.
    """


@kernel
def linear(x, weight, bias=None, *, relu=False):
    """x @ weight^T + bias for x (..., I), weight (O, I), bias (O,): (..., O). With relu, negative results become 0."""


@kernel
def linear_grad_input(g, weight):
    """g @ weight for g (..., O) and weight (O, I): (..., I)."""


@kernel
def linear_grad_weight(g, x):
    """g^T @ x summed over all leading axes, for g (..., O) and x (..., I): (O, I)."""
