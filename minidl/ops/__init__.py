"""Every differentiable operation, a family a file, and the table of the operators and methods of Tensor.

`OPS` (filled by `minidl.tensor.differentiable`) is the catalogue: the tests hold that each entry has a case.
"""

from __future__ import annotations

from minidl.ops.elementwise import (  # noqa: F401
    abs, add, clip, cos, div, exp, expm1, log, log1p, maximum, minimum, mul, neg, pow, sin, sqrt, sub, where,
)
from minidl.ops.matmul import linear, matmul  # noqa: F401
from minidl.tensor import Tensor

OPERATORS = {
    "__add__": add, "__radd__": lambda x, y: add(y, x),
    "__sub__": sub, "__rsub__": lambda x, y: sub(y, x),
    "__mul__": mul, "__rmul__": lambda x, y: mul(y, x),
    "__truediv__": div, "__rtruediv__": lambda x, y: div(y, x),
    "__pow__": pow, "__rpow__": lambda x, y: pow(y, x),
    "__matmul__": matmul, "__rmatmul__": lambda x, y: matmul(y, x),
    "__neg__": neg, "__abs__": abs,
}

METHODS = {
    function.__name__: function
    for function in (abs, add, clip, cos, div, exp, expm1, log, log1p, matmul, maximum, minimum, mul, neg, pow, sin,
                     sqrt, sub)
}

for _name, _function in {**OPERATORS, **METHODS}.items():
    setattr(Tensor, _name, _function)
