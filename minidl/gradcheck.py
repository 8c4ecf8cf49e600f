"""`check_gradients`: does the gradient an operation claims agree with finite differences?

One random direction v is enough: the slope of f along v, measured by central differences, must equal <grad f, v>.
An error in any component shows in almost every direction, at the cost of two evaluations instead of two per element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl.tensor import Tensor, as_array


def check_gradients(function: Callable[..., Tensor], inputs: Sequence[Any], step: float = 1e-6,
                    tolerance: float = 1e-6, generator: np.random.Generator | None = None) -> float:
    """Compare the gradients of `function(*inputs)` with central differences in float64, input by input.

    Floating inputs are converted to float64 and checked, others (indices, masks) are passed as they are.
    The result may have any shape: it is weighed with random numbers and summed, so that every element counts.
    Returns the largest relative error |measured - claimed| / max(1, |measured|, |claimed|) and raises
    AssertionError, naming the input, if it exceeds `tolerance`.
    """
    random = np.random.default_rng(0) if generator is None else generator
    arrays = [as_array(x) for x in inputs]
    arrays = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in arrays]
    checked = [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]
    tensors = [Tensor(x, requires_grad=i in checked) for i, x in enumerate(arrays)]
    output = function(*tensors)
    weights = random.standard_normal(output.shape)
    output.backward(weights)
    worst = 0.0
    for i in checked:
        direction = random.standard_normal(arrays[i].shape)

        def along(t: float, i: int = i, direction: np.ndarray = direction) -> float:
            moved = [Tensor(x + t * direction if j == i else x) for j, x in enumerate(arrays)]
            return float((function(*moved).numpy() * weights).sum())

        measured = (along(step) - along(-step)) / (2 * step)
        gradient = tensors[i].grad
        if gradient is None:
            raise AssertionError(f"input {i} of shape {arrays[i].shape} received no gradient")
        claimed = float((gradient.numpy() * direction).sum())
        error = abs(measured - claimed) / max(1.0, abs(measured), abs(claimed))
        if not error <= tolerance:
            raise AssertionError(f"gradient of input {i}, shape {arrays[i].shape}: claimed {claimed:.9g} along a "
                                 f"random direction, finite differences give {measured:.9g}: error {error:.2g}")
        worst = max(worst, error)
    return worst
