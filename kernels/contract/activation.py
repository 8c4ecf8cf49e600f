"""Activation functions, element by element. Computed in `../reference/activation.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def relu(x):
    """max(x, 0) at every element."""


@kernel
def relu_grad(g, y):
    """g where the result y = relu(x) is positive, else 0."""


@kernel
def sigmoid(x):
    """1 / (1 + e^-x), without overflow."""


@kernel
def sigmoid_grad(g, y):
    """g y (1 - y), for y = sigmoid(x)."""


@kernel
def tanh(x):
    """(e^x - e^-x) / (e^x + e^-x)."""


@kernel
def tanh_grad(g, y):
    """g (1 - y^2), for y = tanh(x)."""


@kernel
def leaky_relu(x, negative_slope):
    """x where x > 0, else negative_slope x."""


@kernel
def leaky_relu_grad(g, x, negative_slope):
    """g where x > 0, else negative_slope g."""


@kernel
def elu(x, alpha):
    """x where x > 0, else alpha (e^x - 1)."""


@kernel
def elu_grad(g, x, alpha):
    """g where x > 0, else g alpha e^x."""


@kernel
def silu(x):
    """x sigmoid(x)."""


@kernel
def silu_grad(g, x):
    """g (s + x s (1 - s)), with s = sigmoid(x)."""


@kernel
def softplus(x, beta, threshold):
    """log(1 + e^(beta x)) / beta, and x itself where beta x > threshold; without overflow."""


@kernel
def softplus_grad(g, x, beta, threshold):
    """g sigmoid(beta x), and g itself where beta x > threshold."""


@kernel
def gelu(x, approximate):
    """x Phi(x) = x (1 + erf(x / sqrt 2)) / 2 for "none", x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 for "tanh"."""


@kernel
def gelu_grad(g, x, approximate):
    """g times the derivative of gelu(x, approximate)."""


@kernel
def erf(x):
    """The error function 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x, to within a few roundings."""


@kernel
def erf_grad(g, x):
    """g 2/sqrt(pi) e^(-x^2)."""
