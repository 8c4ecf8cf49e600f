"""Activation functions. Each calls a kernel forward and one backward; what the closure keeps is what memory costs.

The formulas stand in `kernels/contract/activation.py`, the plain NumPy versions in `kernels/reference/activation.py`.
"""

from __future__ import annotations

from typing import Any

from minidl import kernels
from minidl.errors import ShapeError
from minidl.ops.elementwise import as_floating, neg
from minidl.tensor import Tensor, differentiable


@differentiable
def relu(x, /, inplace=False):
    """max(x, 0). `inplace` is accepted for PyTorch's sake: the result is a new tensor always."""
    y = kernels.relu(x)
    return y, (lambda g: kernels.relu_grad(g, y),)


@differentiable
def sigmoid(x, /):
    """1 / (1 + e^-x)."""
    y = kernels.sigmoid(as_floating(x))
    return y, (lambda g: kernels.sigmoid_grad(g, y),)


@differentiable
def tanh(x, /):
    """Hyperbolic tangent, (e^x - e^-x) / (e^x + e^-x)."""
    y = kernels.tanh(as_floating(x))
    return y, (lambda g: kernels.tanh_grad(g, y),)


@differentiable
def leaky_relu(x, /, negative_slope=0.01, inplace=False):
    """x where x > 0, else negative_slope * x."""
    x = as_floating(x)
    return kernels.leaky_relu(x, negative_slope), (lambda g: kernels.leaky_relu_grad(g, x, negative_slope),)


@differentiable
def elu(x, /, alpha=1.0, inplace=False):
    """x where x > 0, else alpha (e^x - 1) (Clevert et al. 2015)."""
    x = as_floating(x)
    return kernels.elu(x, alpha), (lambda g: kernels.elu_grad(g, x, alpha),)


@differentiable
def gelu(x, /, approximate="none"):
    """x Phi(x), Phi the normal distribution function: exact for "none", by tanh for "tanh" (Hendrycks, Gimpel 2016).
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")
    x = as_floating(x)
    return kernels.gelu(x, approximate), (lambda g: kernels.gelu_grad(g, x, approximate),)


@differentiable
def silu(x, /, inplace=False):
    """x sigmoid(x), also called swish."""
    x = as_floating(x)
    return kernels.silu(x), (lambda g: kernels.silu_grad(g, x),)


@differentiable
def softplus(x, /, beta=1.0, threshold=20.0):
    """log(1 + e^(beta x)) / beta, and x itself where beta x > threshold: a smooth relu."""
    x = as_floating(x)
    return kernels.softplus(x, beta, threshold), (lambda g: kernels.softplus_grad(g, x, beta, threshold),)


@differentiable
def erf(x, /):
    """The error function, 2/sqrt(pi) times the integral of e^(-t²) from 0 to x."""
    x = as_floating(x)
    return kernels.erf(x), (lambda g: kernels.erf_grad(g, x),)


def relu6(x: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return relu(x).clip(max=6)


def selu(x: Tensor, inplace: bool = False) -> Tensor:
    """elu, scaled so that it keeps mean 0 and variance 1 (Klambauer et al. 2017)."""
    return elu(x, 1.6732632423543772) * 1.0507009873554805


def logsigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x)), without underflow."""
    return neg(softplus(neg(x), threshold=float("inf")))


def mish(x: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x)) (Misra 2019)."""
    return x * tanh(softplus(x))


def prelu(x: Tensor, weight: Any) -> Tensor:
    """x where x > 0, else weight * x; weight has one element, or one for each channel of x (N, C, …)."""
    if weight.numel() > 1:
        if x.ndim < 2 or x.shape[1] != weight.numel():
            raise ShapeError(f"prelu: weight has {weight.numel()} elements, one for each channel (axis 1) of the input "
                             f"{x.shape} or one in all is needed")
        weight = weight.reshape((-1,) + (1,) * max(x.ndim - 2, 0))  # C, 1, 1
    return relu(x) - weight * relu(-x)
