"""What several families of operations need: gradients that are computed together, and the reduction of losses.

Read `norm.py` for an operation whose three gradients share their work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minidl import kernels

REDUCTIONS = ("none", "mean", "sum")


def once(gradients: Callable, count: int) -> tuple[Callable, ...]:
    """The vjps of an operation whose `gradients(g)` returns the gradients of all its `count` tensors at once.

    `gradients` runs for the first vjp that is asked, the others take what it left. Each gradient is handed out a
    single time, so that a second backward pass through a retained graph computes afresh instead of sharing arrays.
    """
    last: list[Any] = [None, []]  # the g last seen, and the gradients not yet handed out

    def vjp(position: int, g: Any) -> Any:
        if last[0] is not g or last[1][position] is None:
            last[:] = g, list(gradients(g))
        gradient, last[1][position] = last[1][position], None
        return gradient

    return tuple(partial(vjp, position) for position in range(count))


def through_relu(y: Any) -> Callable:
    """The map from the gradient of y = relu(z) to that of z, computed once for all tensors z depends on."""
    last: list[Any] = [None, None]

    def cut(g: Any) -> Any:
        if last[0] is not g:
            last[:] = g, kernels.relu_grad(g, y)
        return last[1]

    return cut


def unchanged(g: Any) -> Any:
    return g


def check_reduction(name: str, reduction: str, known: tuple[str, ...] = REDUCTIONS) -> None:
    if reduction not in known:
        raise ValueError(f"{name}: reduction is one of {', '.join(map(repr, known))}, not {reduction!r}")


def reduce_losses(losses: Any, reduction: str, divisor: Any = None) -> tuple[Any, Callable]:
    """The losses, their sum, or their sum / divisor (their number, unless given); and the map from g to each loss's g.

    The mean of no losses is nan, as in PyTorch.
    """
    if reduction == "none":
        return losses, unchanged
    return reduce_total(losses.sum(), reduction, losses.size if divisor is None else divisor)


def reduce_total(total: Any, reduction: str, divisor: Any) -> tuple[Any, Callable]:
    """The same for a sum, in reductions "sum" and "mean", of losses whose total is known."""
    if reduction == "sum":
        return total, unchanged
    if divisor:
        return total / divisor, lambda g: g / divisor
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(total, divisor), lambda g: np.divide(g, divisor)
