"""The operators and methods of Tensor: a table from each name to the operation it stands for.

Methods have PyTorch's names and arguments. `minidl/tensor.py` knows nothing of operations, so they are put on the
class here, when `minidl.ops` is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from minidl.ops import activation, compare, convert, elementwise, extremes, index, inplace, reduce, shape, softmax
from minidl.ops.dims import as_sizes
from minidl.ops.einsum import einsum  # noqa: F401  (imported here so that every family is registered)
from minidl.ops.elementwise import abs, add, div, floor_divide, mul, neg, pow, remainder, sub
from minidl.ops.matmul import bmm, dot, matmul, mm, mv, outer
from minidl.tensor import Tensor


def reverse(operation: Callable) -> Callable:
    """`y + x` for Python's `x.__radd__(y)`."""
    return lambda x, y: operation(y, x)


def if_comparable(operation: Callable) -> Callable:
    """A comparison that leaves things that are not numbers to Python: `x == None` is False, `x < None` an error."""
    return lambda x, y: operation(x, y) if compare.is_number(y) else NotImplemented


def takes_sizes(operation: Callable) -> Callable:
    """A method that takes its sizes or dims one by one as well as in a tuple: `x.view(2, 3)`, `x.view((2, 3))`."""
    word = operation.__code__.co_varnames[1] if not hasattr(operation, "__wrapped__") else \
        operation.__wrapped__.__code__.co_varnames[1]

    def method(x: Tensor, *sizes: Any, **options: Any) -> Tensor:
        return operation(x, options.pop(word) if word in options else as_sizes(sizes), **options)

    return update_wrapper(method, operation)


BINARY = {"add": add, "sub": sub, "mul": mul, "truediv": div, "pow": pow, "floordiv": floor_divide, "mod": remainder,
          "matmul": matmul, "and": compare.bitwise_and, "or": compare.bitwise_or, "xor": compare.bitwise_xor}
SIGNS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**", "floordiv": "//", "mod": "%", "matmul": "@",
         "and": "&", "or": "|", "xor": "^"}

OPERATORS = {
    **{f"__{name}__": operation for name, operation in BINARY.items()},
    **{f"__r{name}__": reverse(operation) for name, operation in BINARY.items()},
    **{f"__i{name}__": inplace.in_place(operation, f"x {SIGNS[name]}= y", f"`x = x {SIGNS[name]} y`")
       for name, operation in BINARY.items()},
    **{f"__{name}__": if_comparable(getattr(compare, name)) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "__neg__": neg, "__abs__": abs, "__pos__": lambda x: x, "__invert__": compare.bitwise_not,
    "__getitem__": index.getitem, "__setitem__": inplace.setitem,
    "__contains__": lambda x, value: bool(reduce.any(compare.eq(x, value))),
}

FAMILIES: dict[Any, str] = {
    activation: "erf gelu relu sigmoid silu softplus tanh",
    compare: """allclose bitwise_and bitwise_not bitwise_or bitwise_xor eq equal ge gt isclose isfinite isinf isnan le
                logical_and logical_not logical_or logical_xor lt ne""",
    convert: """astype contiguous cpu cuda detach_ element_size is_contiguous is_floating_point new_empty new_full
                new_ones new_tensor new_zeros stride to type_as""",
    elementwise: """abs add ceil clip clone cos div exp expm1 floor floor_divide log log10 log1p log2 maximum minimum
                    mul neg pow reciprocal remainder round rsqrt sign sin sqrt square sub trunc""",
    extremes: "amax amin argmax argmin argsort max min sort topk",
    index: """chunk gather index_select masked_fill masked_select narrow nonzero scatter select split take_along_dim
              unbind""",
    inplace: "copy_ fill_ normal_ uniform_ zero_",
    reduce: "all any cumsum mean norm prod std sum var",
    shape: "expand_as flatten movedim roll squeeze transpose tril triu unflatten unsqueeze view_as",
    softmax: "log_softmax logsumexp softmax",
}

METHODS: dict[str, Callable] = {
    **{name: getattr(family, name) for family, names in FAMILIES.items() for name in names.split()},
    **{operation.__name__: operation for operation in (bmm, dot, matmul, mm, mv, outer)},
    **{operation.__name__: takes_sizes(operation) for operation in
       (shape.broadcast_to, shape.flip, shape.permute, shape.repeat, shape.reshape, shape.tile)},
    **convert.CONVERSIONS,
    "type": convert.type_, "where": lambda x, condition, other: elementwise.where(condition, x, other),
}

ALIASES = {"clamp": "clip", "divide": "div", "expand": "broadcast_to", "moveaxis": "movedim", "multiply": "mul",
           "ndimension": "dim", "nelement": "numel", "reshape_as": "view_as", "subtract": "sub",
           "swapaxes": "transpose", "view": "reshape"}

CHANGED_IN_PLACE = ("abs add ceil clamp clip div exp floor log masked_fill mul neg pow reciprocal relu remainder round "
                    "rsqrt scatter sigmoid sign sqrt sub tanh tril triu trunc")


FACTS: dict[str, Callable] = {
    "T": shape.transposed, "mT": shape.matrix_transposed, "is_cuda": lambda x: False,
    "itemsize": convert.element_size, "nbytes": lambda x: x.array.nbytes,
}


def put_on_tensor() -> None:
    for name, function in {**OPERATORS, **METHODS}.items():
        setattr(Tensor, name, function)
    for alias, name in ALIASES.items():
        setattr(Tensor, alias, getattr(Tensor, name))
    for name in CHANGED_IN_PLACE.split():
        setattr(Tensor, f"{name}_", inplace.in_place(getattr(Tensor, name), f"{name}_", f"`x = x.{name}(…)`"))
    for name, fact in FACTS.items():
        setattr(Tensor, name, property(fact))


put_on_tensor()
