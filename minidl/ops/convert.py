"""Tensors of another dtype or device, facts about a tensor, and new tensors like it: methods without arithmetic.

Conversions between floating dtypes are differentiable; a conversion to integers or booleans leaves the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.device import device, require_cpu
from minidl.ops.dims import as_sizes
from minidl.ops.elementwise import cast, clone
from minidl.tensor import Tensor, as_array


def to(x: Tensor, *targets: Any, dtype: Any = None, device: Any = None, copy: bool = False,
       non_blocking: bool = False) -> Tensor:
    """x with another dtype and/or on another device, given in any order, or like another tensor; x itself if it is so.

    Raises RuntimeError for a device that is not available.
    """
    for target in targets:
        if isinstance(target, Tensor):
            dtype, device = target.dtype, target.device
        elif isinstance(target, bool):
            continue  # PyTorch's positional non_blocking and copy
        elif is_place(target):
            device = target
        else:
            dtype = target
    if device is not None:
        require_cpu(device)
    dtype = x.dtype if dtype is None else np.dtype(dtype)
    if dtype == x.dtype:
        return clone(x) if copy else x
    return cast(x, dtype) if dtype.kind == "f" else Tensor(x.array.astype(dtype))


def is_place(target: Any) -> bool:
    return isinstance(target, (device, str)) and not (isinstance(target, str) and target in np.sctypeDict)


def astype(x: Tensor, dtype: Any) -> Tensor:
    """A copy of x in `dtype`."""
    return to(x, dtype=dtype, copy=True)


def type_(x: Tensor, dtype: Any = None) -> Any:
    """x in `dtype`; without one, the name of x's dtype."""
    return str(x.dtype) if dtype is None else to(x, dtype=dtype)


def type_as(x: Tensor, other: Tensor) -> Tensor:
    """x in the dtype of `other`."""
    return to(x, other)


def conversion(name: str, dtype: Any) -> Callable[[Tensor], Tensor]:
    """The method `name` that converts to `dtype`, such as `x.double()`."""

    def method(x: Tensor) -> Tensor:
        return to(x, dtype=dtype)

    method.__name__ = name
    method.__doc__ = f"x as {np.dtype(dtype)}; x itself if it is."
    return method


CONVERSIONS = {
    name: conversion(name, dtype)
    for name, dtype in {"float": np.float32, "double": np.float64, "half": np.float16, "long": np.int64,
                        "int": np.int32, "bool": np.bool_}.items()
}


def cpu(x: Tensor) -> Tensor:
    """x on the CPU, where it is."""
    return x


def cuda(x: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """x on the GPU; RuntimeError while there are no kernels for it."""
    return to(x, device="cuda" if device is None else device)


def contiguous(x: Tensor) -> Tensor:
    """x laid out row by row in memory: itself if it is, else a copy."""
    return x if is_contiguous(x) else clone(x)


def is_contiguous(x: Tensor) -> bool:
    """Whether the elements lie row by row in memory."""
    return x.array.flags.c_contiguous


def is_floating_point(x: Tensor) -> bool:
    """Whether the dtype is a floating one."""
    return x.dtype.kind == "f"


def stride(x: Tensor, dim: Any = None) -> Any:
    """How many elements lie between neighbours along each dim, or along one of them."""
    steps = tuple([step // x.array.itemsize for step in x.array.strides])
    return steps if dim is None else steps[dim]


def element_size(x: Tensor) -> int:
    """Bytes an element takes."""
    return x.array.itemsize


def detach_(x: Tensor) -> Tensor:
    """Cut this tensor itself off from the graph."""
    x._node = None
    x._requires_grad = False
    return x


def _like(x: Tensor, array: Any, device: Any, requires_grad: bool) -> Tensor:
    if device is not None:
        require_cpu(device)
    return Tensor(array, requires_grad)


def new_zeros(x: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of another size in x's dtype."""
    return _like(x, np.zeros(as_sizes(size), dtype or x.dtype), device, requires_grad)


def new_ones(x: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of another size in x's dtype."""
    return _like(x, np.ones(as_sizes(size), dtype or x.dtype), device, requires_grad)


def new_empty(x: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Memory of another size in x's dtype, not set to anything."""
    return _like(x, np.empty(as_sizes(size), dtype or x.dtype), device, requires_grad)


def new_full(x: Tensor, size: Any, fill_value: Any, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """One number everywhere, in another size and x's dtype."""
    return _like(x, np.full(as_sizes((size,)), fill_value, dtype or x.dtype), device, requires_grad)


def new_tensor(x: Tensor, data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A copy of `data` in x's dtype."""
    return _like(x, np.array(as_array(data), dtype or x.dtype), device, requires_grad)
