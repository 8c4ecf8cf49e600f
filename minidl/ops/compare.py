"""Comparisons, logic on booleans, and tests for special values. Nothing here has a gradient: the results are bool.

The operators `==`, `<`, `&`, `~` and so on of Tensor are these functions (see `__init__.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.errors import ShapeError
from minidl.ops.elementwise import promote
from minidl.tensor import Tensor, as_array


def operands(x: Any, y: Any, name: str) -> tuple:
    """Two tensors, arrays or numbers as arrays and Python numbers of a common dtype."""
    x, y = [v.array if isinstance(v, Tensor) else v.item() if isinstance(v, np.generic) else v for v in (x, y)]
    return promote(x, y, name)


def _alike(name: str, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays. Raises ShapeError if their shapes do not fit together."""
    x, y = as_array(x), as_array(y)
    try:
        np.broadcast_shapes(x.shape, y.shape)
    except ValueError as error:
        raise ShapeError(f"{name}: shapes {x.shape} and {y.shape} do not fit together: counted from the right, each "
                         "dim must have the same length in both, or length 1") from error
    return x, y


def _whole(name: str, *values: Any) -> tuple:
    """The values as they are. Raises TypeError unless all are booleans or integers."""
    wrong = next((dtype for dtype in map(np.result_type, values) if dtype.kind not in "biu"), None)
    if wrong is not None:
        raise TypeError(f"{name}: booleans or integers are needed, not {wrong}; compare first, as in x > 0")
    return values


def eq(x: Any, y: Any) -> Tensor:
    """x == y, element by element."""
    return Tensor(np.equal(*operands(x, y, "eq")))


def ne(x: Any, y: Any) -> Tensor:
    """x != y, element by element."""
    return Tensor(np.not_equal(*operands(x, y, "ne")))


def lt(x: Any, y: Any) -> Tensor:
    """x < y, element by element."""
    return Tensor(np.less(*operands(x, y, "lt")))


def le(x: Any, y: Any) -> Tensor:
    """x <= y, element by element."""
    return Tensor(np.less_equal(*operands(x, y, "le")))


def gt(x: Any, y: Any) -> Tensor:
    """x > y, element by element."""
    return Tensor(np.greater(*operands(x, y, "gt")))


def ge(x: Any, y: Any) -> Tensor:
    """x >= y, element by element."""
    return Tensor(np.greater_equal(*operands(x, y, "ge")))


def logical_and(x: Any, y: Any) -> Tensor:
    """Whether both are true (not 0), element by element."""
    return Tensor(np.logical_and(*_alike("logical_and", x, y)))


def logical_or(x: Any, y: Any) -> Tensor:
    """Whether at least one is true (not 0), element by element."""
    return Tensor(np.logical_or(*_alike("logical_or", x, y)))


def logical_xor(x: Any, y: Any) -> Tensor:
    """Whether exactly one is true (not 0), element by element."""
    return Tensor(np.logical_xor(*_alike("logical_xor", x, y)))


def logical_not(x: Any) -> Tensor:
    """Whether x is false (0), element by element."""
    return Tensor(np.logical_not(as_array(x)))


def bitwise_and(x: Any, y: Any) -> Tensor:
    """x & y for booleans and integers."""
    return Tensor(np.bitwise_and(*_whole("bitwise_and", *operands(x, y, "bitwise_and"))))


def bitwise_or(x: Any, y: Any) -> Tensor:
    """x | y for booleans and integers."""
    return Tensor(np.bitwise_or(*_whole("bitwise_or", *operands(x, y, "bitwise_or"))))


def bitwise_xor(x: Any, y: Any) -> Tensor:
    """x ^ y for booleans and integers."""
    return Tensor(np.bitwise_xor(*_whole("bitwise_xor", *operands(x, y, "bitwise_xor"))))


def bitwise_not(x: Any) -> Tensor:
    """~x for booleans and integers."""
    return Tensor(np.invert(*_whole("bitwise_not", as_array(x))))


def isnan(x: Any) -> Tensor:
    """Whether an element is not a number."""
    return Tensor(np.isnan(as_array(x)))


def isinf(x: Any) -> Tensor:
    """Whether an element is plus or minus infinity."""
    return Tensor(np.isinf(as_array(x)))


def isfinite(x: Any) -> Tensor:
    """Whether an element is neither infinite nor NaN."""
    return Tensor(np.isfinite(as_array(x)))


def isclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether |x - y| <= atol + rtol |y|, element by element."""
    return Tensor(np.isclose(*_alike("isclose", x, y), rtol, atol, equal_nan))


def allclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether |x - y| <= atol + rtol |y| everywhere."""
    return bool(np.allclose(*_alike("allclose", x, y), rtol, atol, equal_nan))


def equal(x: Any, y: Any) -> bool:
    """Whether both have the same shape and the same elements."""
    return np.array_equal(as_array(x), as_array(y))


def is_number(value: Any) -> bool:
    """Whether a Tensor can be compared with `value`; with anything else `==` is False, as for any two objects."""
    return isinstance(value, (Tensor, np.ndarray, np.generic, bool, int, float))
