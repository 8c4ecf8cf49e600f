"""Matrix products: `matmul` with broadcast leading axes, and `linear`, the dense layer.

For y = x @ w the gradients are g @ w^T and x^T @ g.
"""

from __future__ import annotations

from minidl import kernels
from minidl.errors import ShapeError
from minidl.ops.declared import features_hint
from minidl.ops.elementwise import mul, promote
from minidl.ops.shape import unsqueeze
from minidl.ops.shared import through_relu, unchanged
from minidl.tensor import Tensor, differentiable


@differentiable
def matmul(x, y, /):
    """Matrix product of x (..., M, K) and y (..., K, N): (..., M, N); leading axes broadcast.

    A vector counts as one row on the left and as one column on the right, and that axis is dropped again.
    Raises ShapeError where K differs.
    """
    x, y = promote(x, y)
    if x.ndim == 0 or y.ndim == 0 or x.shape[-1] != y.shape[max(y.ndim - 2, 0)]:
        raise ShapeError(f"matmul: {x.shape} @ {y.shape}: the last axis of the left operand must equal the "
                         f"{'last but one' if y.ndim > 1 else 'only'} axis of the right one{_hint(x, y)}")

    def grad_x(g):
        if y.ndim == 1:
            return g[..., None] * y
        g = g[..., None, :] if x.ndim == 1 else g  # (..., M, N)
        grad = kernels.matmul(g, y.swapaxes(-1, -2))
        return grad[..., 0, :] if x.ndim == 1 else grad

    def grad_y(g):
        if x.ndim == 1:
            return x * g if y.ndim == 1 else x[:, None] * g[..., None, :]
        if y.ndim == 1:
            return kernels.matmul(x.reshape(-1, x.shape[-1]).T, g.reshape(-1))
        if y.ndim == 2 < x.ndim:  # all rows of x meet the same y: one product, not one for each leading index
            return kernels.linear_grad_weight(x, g)
        return kernels.matmul(x.swapaxes(-1, -2), g)

    return kernels.matmul(x, y), (grad_x, grad_y)


def _hint(x, y):
    """What may have been meant by a product whose inner axes differ."""
    if 4 in (x.ndim, y.ndim) and min(x.ndim, y.ndim) >= 3 and min(*x.shape[-2:], *y.shape[-2:]) <= 7:
        return "; filters (O, C, kh, kw) meet images (N, C, H, W) in conv2d(images, filters)"
    if x.ndim and y.ndim > 1 and x.shape[-1] == y.shape[-1]:
        return "; y.transpose(-1, -2) would fit"
    return ""


@differentiable
def linear(x, weight, bias=None, /, *, relu=False):
    """x @ weight^T + bias, for x (..., I), weight (O, I) and bias (O,): (..., O). With relu, negative results become 0.

    Raises ShapeError if the last axis of x is not I.
    """
    if x.shape[-1:] != weight.shape[1:]:
        raise ShapeError(f"linear: input of shape {x.shape} has {x.shape[-1] if x.ndim else 'no'} features, "
                         f"the weight {weight.shape} expects {weight.shape[-1]}"
                         f"{features_hint(x.shape, weight.shape[-1])}")

    y = kernels.linear(x, weight, bias, relu=relu)
    cut = through_relu(y) if relu else unchanged
    return y, (
        lambda g: kernels.linear_grad_input(cut(g), weight),
        lambda g: kernels.linear_grad_weight(cut(g), x),
        lambda g: cut(g).reshape(-1, g.shape[-1]).sum(axis=0),
    )


def mm(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product of x (M, K) and y (K, N): (M, N). Raises ShapeError for anything but two matrices."""
    return _product("mm", x, y, 2, 2)


def bmm(x: Tensor, y: Tensor) -> Tensor:
    """Matrix products of x (N, M, K) and y (N, K, P), one for each n: (N, M, P), without broadcasting."""
    if x.shape[:1] != y.shape[:1]:
        raise ShapeError(f"bmm: {x.shape} and {y.shape} hold different numbers of matrices")
    return _product("bmm", x, y, 3, 3)


def mv(x: Tensor, y: Tensor) -> Tensor:
    """Matrix x (M, K) times vector y (K,): (M,)."""
    return _product("mv", x, y, 2, 1)


def dot(x: Tensor, y: Tensor) -> Tensor:
    """The inner product of two vectors of one length."""
    return _product("dot", x, y, 1, 1)


def outer(x: Tensor, y: Tensor) -> Tensor:
    """All products of an element of x (M,) and one of y (N,): (M, N)."""
    if (x.ndim, y.ndim) != (1, 1):
        raise ShapeError(f"outer: two vectors are needed, the shapes are {x.shape} and {y.shape}")
    return mul(unsqueeze(x, 1), y)


def _product(name: str, x: Tensor, y: Tensor, x_dims: int, y_dims: int) -> Tensor:
    if (x.ndim, y.ndim) != (x_dims, y_dims):
        raise ShapeError(f"{name}: shapes {x.shape} and {y.shape} have {x.ndim} and {y.ndim} dims, {x_dims} and "
                         f"{y_dims} are needed; matmul broadcasts")
    return matmul(x, y)
