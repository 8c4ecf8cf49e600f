"""What can be said of a batch whose loss or gradient is not finite: which samples, which layer went bad first."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minidl.anomaly import AnomalyError, detect_anomaly
from minidl.nn.module import Module
from minidl.random import preserved
from minidl.tensor import Tensor, enable_grad

SHOWN = 8


@contextmanager
def _put_back(model: Module) -> Iterator[None]:
    """Buffers, gradients and random streams of the model are afterwards what they were before the block."""
    buffers = [(buffer, buffer.array.copy()) for buffer in model.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    streams = {id(value): (value, value.bit_generator.state) for module in model.modules()
               for value in vars(module).values() if isinstance(value, np.random.Generator)}
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        with preserved(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for buffer, array in buffers:
            buffer.array[...] = array
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for generator, state in streams.values():
            generator.bit_generator.state = state


def first_anomaly(model: Module, loss: Callable, inputs: tuple[Tensor, ...], target: Tensor) -> str:
    """Compute the batch once more under `detect_anomaly`: the message of what it finds, '' if all is finite this time.

    Whatever is drawn, by dropout for instance, is drawn anew, so that a rare accident may not happen again.
    """
    with _put_back(model), enable_grad():
        try:
            with detect_anomaly():
                loss(model(*inputs), target).sum().backward()
        except AnomalyError as error:
            return str(error)
    return ""


def bad_rows(tensor: Tensor) -> list[int]:
    """The places in the batch whose rows hold nan or infinity."""
    if tensor.dtype.kind not in "fc" or not tensor.ndim:
        return []
    finite = np.isfinite(tensor.array).reshape(len(tensor.array), -1).all(axis=1)
    return np.flatnonzero(~finite).tolist()


def name_samples(indices: Any, rows: list[int], size: int) -> str:
    """The samples of a batch in words: their numbers in the data set, if the loader told, or places in the batch."""
    rows = rows or list(range(size))
    if indices is None or len(indices) != size:
        return "" if len(rows) == size else f"rows {_listed(rows)} of the batch"
    return f"samples {_listed([int(indices[row]) for row in rows])} of the data"


def _listed(numbers: list[int]) -> str:
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return ", ".join(map(str, numbers[:SHOWN])) + more
