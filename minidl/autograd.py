"""`grad`: gradients as a result, instead of in the `grad` of the leaves as `backward()` leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl.anomaly import detect_anomaly
from minidl.ops import mul, sum
from minidl.tensor import Tensor, enable_grad, gradients, no_grad, set_grad_enabled

__all__ = ["detect_anomaly", "enable_grad", "grad", "no_grad", "set_grad_enabled"]


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool = False,
         allow_unused: bool = False) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, leaves or intermediate results; no `grad` is changed.

    outputs, inputs: a tensor or several. grad_outputs: for each output the gradient that arrives there, of its
    shape; may be left out (or None) for outputs of one element. The graph is freed unless `retain_graph`.
    Raises RuntimeError if an input was not used for the outputs, unless `allow_unused` (its gradient is then None).
    """
    outputs, inputs = _several(outputs), _several(inputs)
    arriving = _several(grad_outputs) if grad_outputs is not None else [None] * len(outputs)
    if len(arriving) != len(outputs):
        raise ValueError(f"grad: {len(arriving)} grad_outputs for {len(outputs)} outputs")
    for x in inputs:
        if not x.requires_grad:
            raise RuntimeError(f"grad: the input of shape {x.shape} does not require a gradient")
    root, seed = outputs[0], arriving[0]
    if len(outputs) > 1:
        root, seed = _weighted_sum(outputs, arriving), None
    sources = [x.grad_fn or x for x in inputs]
    found = gradients(root, seed, retain_graph, {source for source in sources if not isinstance(source, Tensor)})
    for x, source in zip(inputs, sources):
        if source not in found and not allow_unused:
            raise RuntimeError(f"grad: the input of shape {x.shape} was not used for the outputs; allow_unused=True "
                               "gives None for it")
    return tuple([Tensor(np.array(found[source])) if source in found else None for source in sources])


def _several(tensors: Any) -> list:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _weighted_sum(outputs: Sequence[Tensor], weights: Sequence[Any]) -> Tensor:
    """One number whose gradient with respect to each output is its weight."""
    total: Any = 0
    with enable_grad():
        for output, weight in zip(outputs, weights):
            if weight is None and output.numel() != 1:
                raise RuntimeError(f"grad: an output of shape {output.shape} needs its entry in grad_outputs")
            total = total + sum(mul(output, 1.0 if weight is None else weight))
    return total
