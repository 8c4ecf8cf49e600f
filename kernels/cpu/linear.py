"""The dense layer and matrix products on the GEMM of `gemm.py`; read that next.

Transposed operands go in as views. What is not float32, or empty, or a vector, goes to `../reference/linear.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.kernels import reference
from minidl.kernels.cpu.gemm import chosen, gemm, gemm_batched
from minidl.kernels.cpu.runtime import FLOAT32

__all__ = ["linear", "linear_grad_input", "linear_grad_weight", "matmul"]


def linear(x, weight, bias=None, *, relu=False):
    if not _suited(x, weight) or weight.ndim != 2 or bias is not None and not _suited(bias[None]):
        return reference.linear(x, weight, bias, relu=relu)
    return _of_rows(x, weight.T, None if bias is None else np.ascontiguousarray(bias), relu)


def linear_grad_input(g, weight):
    if not _suited(g, weight):
        return reference.linear_grad_input(g, weight)
    return _of_rows(g, weight)


def linear_grad_weight(g, x):
    if not _suited(g, x):
        return reference.linear_grad_weight(g, x)
    return gemm(g.reshape(-1, g.shape[-1]).T, x.reshape(-1, x.shape[-1]))


def matmul(x, y):
    if type(x) is type(y) is np.ndarray and x.ndim == y.ndim == 2 and chosen(len(x), y.shape[1], len(y)) == "numpy":
        return x.dot(y)  # the shortest way: small products take as long as the interpreter does
    if not _suited(x, y) or x.shape[-1] != y.shape[-2]:
        return reference.matmul(x, y)
    if y.ndim == 2 and (x.ndim == 2 or x.flags.c_contiguous):
        return _of_rows(x, y)
    return gemm_batched(x, y)


def _suited(*arrays: Any) -> bool:
    return all(type(x) is np.ndarray and x.dtype == FLOAT32 and x.ndim > 1 and x.size for x in arrays)


def _of_rows(x, y, bias=None, relu=False):
    """x (..., K) @ y (K, N): one product for all rows of all leading axes."""
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    return gemm(rows, y, bias, relu).reshape(*x.shape[:-1], y.shape[1])
