"""Operations on each element alone: arithmetic, powers, exponentials, comparisons of two tensors.

Every operation of minidl has the same form: compute the result, and say for each tensor how the gradient `g` of the
result becomes the gradient of that tensor. Broadcasting is undone by the engine. Read `matmul.py` and `conv.py` next.
"""

from __future__ import annotations

import numpy as np

from minidl.tensor import differentiable


def promote(x, y):
    """Give two operands the dtype PyTorch would give the result.

    A Python number never changes the dtype of a floating array, and integers meet floats as floats of that width
    (NumPy alone would turn int64 and float32 into float64).
    """
    if isinstance(x, (bool, int, float)):
        return (x, as_floating(y) if isinstance(x, float) else y)
    if isinstance(y, (bool, int, float)):
        return (as_floating(x) if isinstance(y, float) else x, y)
    if x.dtype != y.dtype:
        if x.dtype.kind == "f" and y.dtype.kind != "f":
            y = y.astype(x.dtype)
        elif y.dtype.kind == "f" and x.dtype.kind != "f":
            x = x.astype(y.dtype)
    return x, y


def as_floating(x):
    """Integers and booleans as float32, the default dtype; floating arrays as they are."""
    if isinstance(x, (bool, int)):
        return float(x)
    return x if isinstance(x, float) or x.dtype.kind in "fc" else x.astype(np.float32)


@differentiable
def add(x, y, /):
    """x + y."""
    x, y = promote(x, y)
    return x + y, (lambda g: g, lambda g: g)


@differentiable
def sub(x, y, /):
    """x - y."""
    x, y = promote(x, y)
    return x - y, (lambda g: g, lambda g: -g)


@differentiable
def mul(x, y, /):
    """x * y."""
    x, y = promote(x, y)
    return x * y, (lambda g: g * y, lambda g: g * x)


@differentiable
def div(x, y, /):
    """x / y; integers are divided as float32."""
    x, y = promote(as_floating(x), as_floating(y))
    return x / y, (lambda g: g / y, lambda g: -g * x / (y * y))


@differentiable
def neg(x, /):
    """-x."""
    return -x, (lambda g: -g,)


@differentiable
def pow(x, y, /):
    """x ** y. The gradient of the exponent is 0 where x is 0, as in PyTorch."""
    x, y = promote(x, y)
    z = x**y

    def grad_base(g):
        return g * y * x ** (y - 1) if np.isscalar(y) and y != 0 else g * np.where(y == 0, 0, y * x ** (y - (y != 0)))

    def grad_exponent(g):
        return g * z * np.log(np.where(x == 0, 1, x))

    return z, (grad_base, grad_exponent)


@differentiable
def exp(x, /):
    """e ** x."""
    y = np.exp(as_floating(x))
    return y, (lambda g: g * y,)


@differentiable
def expm1(x, /):
    """e ** x - 1, exact for small x."""
    y = np.expm1(as_floating(x))
    return y, (lambda g: g * (y + 1),)


@differentiable
def log(x, /):
    """Natural logarithm."""
    x = as_floating(x)
    return np.log(x), (lambda g: g / x,)


@differentiable
def log1p(x, /):
    """log(1 + x), exact for small x."""
    x = as_floating(x)
    return np.log1p(x), (lambda g: g / (1 + x),)


@differentiable
def sqrt(x, /):
    """Square root."""
    y = np.sqrt(as_floating(x))
    return y, (lambda g: g / (2 * y),)


@differentiable
def abs(x, /):
    """|x|, with gradient 0 at 0."""
    return np.abs(x), (lambda g: g * np.sign(x),)


@differentiable
def sin(x, /):
    """Sine of an angle in radians."""
    x = as_floating(x)
    return np.sin(x), (lambda g: g * np.cos(x),)


@differentiable
def cos(x, /):
    """Cosine of an angle in radians."""
    x = as_floating(x)
    return np.cos(x), (lambda g: -g * np.sin(x),)


@differentiable
def clip(x, /, min=None, max=None):
    """x limited to [min, max]; the gradient passes where x lies inside, bounds included."""
    inside = np.ones(x.shape, bool)
    if min is not None:
        inside &= x >= min
    if max is not None:
        inside &= x <= max
    return np.clip(x, min, max), (lambda g: g * inside,)


@differentiable
def maximum(x, y, /):
    """The larger of x and y; where they are equal each gets half of the gradient."""
    x, y = promote(x, y)
    share = (x > y) + 0.5 * (x == y)
    return np.maximum(x, y), (lambda g: g * share.astype(g.dtype), lambda g: g * (1 - share).astype(g.dtype))


@differentiable
def minimum(x, y, /):
    """The smaller of x and y; where they are equal each gets half of the gradient."""
    x, y = promote(x, y)
    share = (x < y) + 0.5 * (x == y)
    return np.minimum(x, y), (lambda g: g * share.astype(g.dtype), lambda g: g * (1 - share).astype(g.dtype))


@differentiable
def where(condition, x, y, /):
    """x where `condition` is true, else y."""
    x, y = promote(x, y)
    return np.where(condition, x, y), (None, lambda g: g * condition, lambda g: g * ~condition)
