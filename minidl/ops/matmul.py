"""Matrix products: `matmul` with broadcast leading axes, and `linear`, the dense layer.

For y = x @ w the gradients are g @ w^T and x^T @ g.
"""

from __future__ import annotations

import numpy as np

from minidl import kernels
from minidl.errors import ShapeError
from minidl.tensor import differentiable


@differentiable
def matmul(x, y, /):
    """Matrix product of x (..., M, K) and y (..., K, N): (..., M, N); leading axes broadcast.

    A vector counts as one row on the left and as one column on the right, and that axis is dropped again.
    Raises ShapeError where K differs.
    """
    if x.ndim == 0 or y.ndim == 0 or x.shape[-1] != y.shape[max(y.ndim - 2, 0)]:
        raise ShapeError(f"matmul: {x.shape} @ {y.shape}: the last axis of the left operand must equal the "
                         f"{'last but one' if y.ndim > 1 else 'only'} axis of the right one")

    def grad_x(g):
        if y.ndim == 1:
            return g[..., None] * y
        g = g[..., None, :] if x.ndim == 1 else g  # (..., M, N)
        grad = np.matmul(g, y.swapaxes(-1, -2))
        return grad[..., 0, :] if x.ndim == 1 else grad

    def grad_y(g):
        if x.ndim == 1:
            return x * g if y.ndim == 1 else x[:, None] * g[..., None, :]
        if y.ndim == 1:
            return np.matmul(x.reshape(-1, x.shape[-1]).T, g.reshape(-1))
        return np.matmul(x.swapaxes(-1, -2), g)

    return np.matmul(x, y), (grad_x, grad_y)


@differentiable
def linear(x, weight, bias=None, /):
    """x @ weight^T + bias, for x (..., I), weight (O, I) and bias (O,): (..., O).

    Raises ShapeError if the last axis of x is not I.
    """
    if x.shape[-1:] != weight.shape[1:]:
        raise ShapeError(f"linear: input of shape {x.shape} has {x.shape[-1] if x.ndim else 'no'} features, "
                         f"the weight {weight.shape} expects {weight.shape[-1]}")

    return kernels.linear(x, weight, bias), (
        lambda g: np.matmul(g, weight),
        lambda g: kernels.linear_grad_weight(g, x),
        lambda g: g.reshape(-1, g.shape[-1]).sum(axis=0),
    )
