"""Operations on each element alone: arithmetic, powers, exponentials, roundings, the larger or smaller of two.

Every operation of minidl has the same form: compute the result, and say for each tensor how the gradient `g` of the
result becomes the gradient of that tensor. Broadcasting is undone by the engine. Read `matmul.py` and `conv.py` next.
"""

from __future__ import annotations

import math
from itertools import zip_longest

import numpy as np

from minidl.errors import ShapeError
from minidl.tensor import differentiable


def promote(x, y, name=None):
    """Give two operands the dtype PyTorch would give the result.

    A Python number never changes the dtype of a floating array, integers meet floats as floats of that width (NumPy
    alone would turn int64 and float32 into float64), and a tensor without dims does not widen one that has some.
    With the `name` of an operation, raises ShapeError if two arrays do not broadcast.
    """
    if isinstance(x, (bool, int, float)):
        return (x, as_floating(y) if isinstance(x, float) else y)
    if isinstance(y, (bool, int, float)):
        return (as_floating(x) if isinstance(y, float) else x, y)
    try:
        if name is not None and x.shape != y.shape:
            require_broadcast(name, x.shape, y.shape)
        if x.dtype == y.dtype:
            return x, y
    except AttributeError:
        raise TypeError(f"cannot compute with {type(x).__name__} and {type(y).__name__}: numbers, arrays and tensors "
                        "are needed; make one with minidl.tensor(…)") from None
    dtype = common_dtype((x, y))
    return x.astype(dtype, copy=False), y.astype(dtype, copy=False)


def require_broadcast(name, *shapes):
    """Raise ShapeError unless the shapes, aligned at the right, agree in each dim or have length 1 there."""
    for lengths in zip_longest(*[shape[::-1] for shape in shapes], fillvalue=1):
        if len({*lengths} - {1}) > 1:
            raise ShapeError(f"{name}: shapes {' and '.join(map(str, shapes))} do not fit together: counted from the "
                             "right, each dim must have the same length in both, or length 1")


def common_dtype(arrays):
    """The dtype of what is computed from several arrays: floats win over integers and these over booleans; among
    the winners those with dims win over those without.
    """
    best = max(["biufc".index(x.dtype.kind.replace("u", "i")) for x in arrays])
    chosen = [x for x in arrays if "biufc".index(x.dtype.kind.replace("u", "i")) == best]
    return np.result_type(*[x.dtype for x in chosen if x.ndim] or [x.dtype for x in chosen])


def as_floating(x):
    """Integers and booleans as float32, the default dtype; floating arrays as they are."""
    if isinstance(x, (bool, int)):
        return float(x)
    if isinstance(x, float):
        return x
    try:
        return x if x.dtype.kind in "fc" else x.astype(np.float32)
    except AttributeError:
        raise TypeError(f"cannot compute with {type(x).__name__}: numbers, arrays and tensors are needed; make one "
                        "with minidl.tensor(…)") from None


@differentiable
def add(x, y, /, alpha=1):
    """x + alpha * y."""
    x, y = promote(x, y, "add")
    if alpha != 1:
        return x + y * alpha, (lambda g: g, lambda g: g * alpha)
    return x + y, (lambda g: g, lambda g: g)


@differentiable
def sub(x, y, /, alpha=1):
    """x - alpha * y."""
    x, y = promote(x, y, "sub")
    if alpha != 1:
        return x - y * alpha, (lambda g: g, lambda g: g * -alpha)
    return x - y, (lambda g: g, lambda g: -g)


@differentiable
def mul(x, y, /):
    """x * y."""
    x, y = promote(x, y, "mul")
    return x * y, (lambda g: g * y, lambda g: g * x)


@differentiable
def div(x, y, /, rounding_mode=None):
    """x / y; integers are divided as float32. With rounding_mode "floor" or "trunc" the result is rounded."""
    if rounding_mode is not None:
        x, y = promote(x, y, "div")
        return _rounded_quotient(x, y, rounding_mode), (np.zeros_like, np.zeros_like)
    x, y = promote(x, y, "div")
    x, y = as_floating(x), as_floating(y)
    return x / y, (lambda g: g / y, lambda g: -g * x / (y * y))


def _rounded_quotient(x, y, rounding_mode):
    if rounding_mode == "floor":
        return x // y
    if rounding_mode == "trunc":
        whole = x // y
        return whole + ((whole < 0) & (whole * y != x))
    raise ValueError(f"div: unknown rounding_mode '{rounding_mode}': None, 'floor' or 'trunc'")


def floor_divide(x, y):
    """x / y rounded down, in the dtype of the operands."""
    return div(x, y, rounding_mode="floor")


@differentiable
def remainder(x, y, /):
    """What is left of x after taking y away a whole number of times; it has the sign of y."""
    x, y = promote(x, y, "remainder")
    return x % y, (lambda g: g, lambda g: -g * np.floor(x / y))


@differentiable
def neg(x, /):
    """-x."""
    return -x, (lambda g: -g,)


@differentiable
def pow(x, y, /):
    """x ** y. As in PyTorch the base gets no gradient where y is 0, the exponent none where x is 0 (and y is not < 0).
    """
    x, y = promote(x, y, "pow")
    z = x**y

    def grad_base(g):
        if isinstance(y, (bool, int, float)):
            return g * (y * x ** (y - 1)) if y else np.zeros_like(g)
        return g * np.where(y == 0, 0, y * x ** np.where(y == 0, 1, y - 1))

    def grad_exponent(g):
        if isinstance(x, (bool, int, float)):
            if x > 0:
                return g * (z * math.log(x))
            return g * np.where((x == 0) & (y >= 0), 0, -math.inf if x == 0 else math.nan)
        without = (x == 0) & (y >= 0)
        return g * np.where(without, 0, z * np.log(np.where(without, 1, x)))

    return z, (grad_base, grad_exponent)


@differentiable
def square(x, /):
    """x²."""
    return np.square(x), (lambda g: g * (2 * x),)


@differentiable
def reciprocal(x, /):
    """1 / x."""
    y = 1 / as_floating(x)
    return y, (lambda g: -g * y * y,)


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
def log2(x, /):
    """Logarithm to base 2."""
    x = as_floating(x)
    return np.log2(x), (lambda g: g / (x * math.log(2)),)


@differentiable
def log10(x, /):
    """Logarithm to base 10."""
    x = as_floating(x)
    return np.log10(x), (lambda g: g / (x * math.log(10)),)


@differentiable
def sqrt(x, /):
    """Square root."""
    y = np.sqrt(as_floating(x))
    return y, (lambda g: g / (2 * y),)


@differentiable
def rsqrt(x, /):
    """1 / sqrt(x)."""
    y = 1 / np.sqrt(as_floating(x))
    return y, (lambda g: g * (-0.5 * y * y * y),)


@differentiable
def abs(x, /):
    """|x|, with gradient 0 at 0."""
    return np.abs(x), (lambda g: g * np.sign(x),)


@differentiable
def sign(x, /):
    """-1, 0 or 1; the gradient is 0."""
    return np.sign(x), (np.zeros_like,)


def _rounded(function, x):
    return x.copy() if x.dtype.kind in "bui" else function(x)  # NumPy 2.0 would turn integers into float64


@differentiable
def floor(x, /):
    """The largest whole number that is not above x; the gradient is 0."""
    return _rounded(np.floor, x), (np.zeros_like,)


@differentiable
def ceil(x, /):
    """The smallest whole number that is not below x; the gradient is 0."""
    return _rounded(np.ceil, x), (np.zeros_like,)


@differentiable
def round(x, /, decimals=0):
    """x rounded to `decimals` places, halves to the even neighbour; the gradient is 0."""
    return np.round(x, decimals), (np.zeros_like,)


@differentiable
def trunc(x, /):
    """x without its fraction; the gradient is 0."""
    return _rounded(np.trunc, x), (np.zeros_like,)


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
    if isinstance(min, float) or isinstance(max, float):
        x = as_floating(x)

    def grad_x(g):
        inside = np.ones(x.shape, bool)
        if min is not None:
            inside &= x >= min
        if max is not None:
            inside &= x <= max
        return np.where(inside, g, 0)

    return np.clip(x, min, max), (grad_x,)


@differentiable
def maximum(x, y, /):
    """The larger of x and y; where they are equal each gets half of the gradient."""
    x, y = promote(x, y, "maximum")
    return np.maximum(x, y), (lambda g: _winner(g, x > y, x == y), lambda g: _winner(g, y > x, x == y))


@differentiable
def minimum(x, y, /):
    """The smaller of x and y; where they are equal each gets half of the gradient."""
    x, y = promote(x, y, "minimum")
    return np.minimum(x, y), (lambda g: _winner(g, x < y, x == y), lambda g: _winner(g, y < x, x == y))


def _winner(g, wins, ties):
    return np.where(wins, g, np.where(ties, g / 2, 0))


@differentiable
def where(condition, x, y, /):
    """x where `condition` is true, else y."""
    x, y = promote(x, y, "where")
    condition = np.asarray(condition, bool)
    require_broadcast("where", condition.shape, np.shape(x), np.shape(y))
    if isinstance(x, (int, float)) and isinstance(y, (int, float)) and float in (type(x), type(y)):
        x = np.float32(x)
    return np.where(condition, x, y), (None, lambda g: np.where(condition, g, 0), lambda g: np.where(condition, 0, g))


@differentiable
def clone(x, /):
    """A copy with its own memory, through which gradients flow."""
    return x.copy(), (lambda g: g,)


@differentiable
def cast(x, /, dtype):
    """x in another floating dtype; the gradient comes back in x's own (`x.to(dtype)`)."""
    return x.astype(dtype), (lambda g: g,)
