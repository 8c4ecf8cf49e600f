"""Clipping gradients between `backward()` and `step()`.

Only parameters that are trainable and have a gradient count; a frozen one adds nothing to the norm.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from minidl.tensor import Tensor

BLOCK = 2**13  # numbers; BLAS shares longer products among threads, and their sums would depend on how many


def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients by one factor, in place, so that their common norm is at most `max_norm`.

    The norm is that of all gradients joined to one vector: (sum |g|^p)^(1/p) with p = `norm_type`, or the largest |g|
    for p = inf. The factor is min(1, max_norm / (norm + 1e-6)). Returns the norm before clipping, a scalar.
    Raises RuntimeError, before anything changes, if the norm is nan or inf and `error_if_nonfinite`.
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013).
    """
    if not float(norm_type) > 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be above 0 (inf for the largest gradient), got {norm_type}")
    if not float(max_norm) >= 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be a number from 0, got {max_norm}")
    gradients = _gradients(parameters, "clip_grad_norm_")
    norm = _total_norm(gradients, float(norm_type))
    if error_if_nonfinite and not np.isfinite(norm):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {norm}; the loss may be nan, the learning "
                           "rate too high, or an input not finite")
    factor = float(max_norm) / (norm + 1e-6)
    if not factor >= 1:  # nan takes this way too, as in PyTorch
        for gradient in gradients:
            gradient *= factor
    return Tensor(np.asarray(norm, gradients[0].dtype if gradients else np.float32))


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Limit every element of the gradients to [-clip_value, clip_value], in place."""
    limit = float(clip_value)
    if not limit >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must be a number from 0, got {clip_value}")
    for gradient in _gradients(parameters, "clip_grad_value_"):
        np.clip(gradient, -limit, limit, out=gradient)


def _gradients(parameters: Any, name: str) -> list[Any]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    if not isinstance(parameters, Iterable):
        raise TypeError(f"{name}: expected a tensor or an iterable of tensors such as model.parameters(), "
                        f"got {type(parameters).__name__}")
    listed = list(parameters)
    if not listed:
        warnings.warn(f"{name}: no parameters were given, so nothing is clipped; a generator such as "
                      "model.parameters() can be read only once", stacklevel=3)
    for tensor in listed:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected tensors, got a {type(tensor).__name__}; use model.parameters()")
    return [tensor.grad.array for tensor in listed if tensor.requires_grad and tensor.grad is not None]


def _total_norm(gradients: list[Any], p: float) -> float:
    """The p-norm over all elements, in float64: squares of float32 may overflow in their own dtype."""
    if not gradients:
        return 0.0
    if p == float("inf"):
        return float(np.max([float(np.abs(gradient).max(initial=0)) for gradient in gradients]))
    return sum(_sum_of_powers(gradient, p) for gradient in gradients) ** (1 / p)


def _sum_of_powers(gradient: Any, p: float) -> float:
    """The sum of |g|^p, BLOCK numbers at a time, which stay in the cache while they are float64."""
    if p != 2:
        return float(np.power(np.abs(gradient), p, dtype=np.float64).sum())
    numbers, total = gradient.reshape(-1), 0.0
    for start in range(0, numbers.size, BLOCK):
        block = numbers[start:start + BLOCK].astype(np.float64)
        total += float(block @ block)
    return total
