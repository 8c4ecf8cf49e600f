"""lr_find: the learning rate raised step by step on a copy of the model, to see where training gains most and breaks.

L. N. Smith 2015, "Cyclical learning rates for training neural networks", section 3.3. Nothing of what is used is
changed: training after it is bit for bit the training without it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minidl import random
from minidl.nn.module import Module
from minidl.optim.adam import AdamW
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor
from minidl.train.batches import as_loader, inputs_and_target
from minidl.train.guards import locating
from minidl.train.history import save_figure
from minidl.train.meter import loss_value
from minidl.train.streams import find_streams, get_states, set_states


class RangeTest(NamedTuple):
    """Rates, the loss of the batch at each, the smoothed losses, and three rates taken from them; see `lr_find`."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    steepest: float
    minimum: float
    suggestion: float
    diverged: bool

    def plot(self, path: str | Path) -> None:
        """Draw loss and smoothed loss over the rate, with the suggestion, into an image file.

        Raises ImportError, naming what to install, without matplotlib.
        """
        try:
            from matplotlib.figure import Figure  # heavy, and an optional dependency
        except ImportError as error:
            raise ImportError("plot needs matplotlib: pip install 'minidl[plot]'") from error
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="0.75", label="loss of a batch")
        axes.plot(self.rates, self.smoothed, label="smoothed")
        for rate, style, label in ((self.suggestion, "-", "suggestion"), (self.steepest, ":", "steepest"),
                                   (self.minimum, "--", "minimum")):
            axes.axvline(rate, color="tab:red", linestyle=style, linewidth=1, label=f"{label} {rate:.2g}")
        usual, low = max(self.losses[: len(self.losses) // 2]), min(self.losses)
        margin = 0.1 * (usual - low) or 1.0
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(low - margin, usual + 3 * margin))
        axes.legend()
        save_figure(figure, path)


def lr_find(model: Module, loss: Callable[[Any, Any], Tensor], data: Any, *,
            optimizer: Optimizer | Callable[..., Optimizer] = AdamW, start: float = 1e-6, end: float = 1.0,
            steps: int = 100, smoothing: float = 0.9, diverge: float = 4.0, batch_size: int = 32,
            generator: np.random.Generator | None = None) -> RangeTest:
    """Train a copy of `model` for `steps` batches while the rate grows from `start` to `end` by a constant factor.

    data: as for `Trainer.fit`; it is read as often as needed. `batch_size` and `generator` are for arrays and data
        sets, which are shuffled.
    optimizer: a class, or a function that makes one of named parameters; or the optimiser that is to be used, of which
        a copy with its state is taken: the rate is then that of its fastest group, the others keep their proportion.
    smoothing: of the running mean of the losses, which is corrected for having begun at zero.
    diverge: the test ends when the smoothed loss is above this many times the lowest, or the loss is not finite.

    The rule: `minimum` is the rate of the lowest smoothed loss, and the suggestion a tenth of it: beyond the minimum
    training breaks, and a factor ten keeps clear of that for a whole run. `steepest`, for the eye, is the rate up to
    the minimum at which the smoothed loss falls fastest with the logarithm of the rate; noise can place it anywhere.
    Frozen parts stay frozen in the copy. Model, optimiser, generators of minidl, NumPy and Python, and those of the
    loader, its data sets, transforms and samplers, are afterwards what they were.
    Raises ValueError for arguments out of range, nothing trainable, an iterator that the test would use up, and a loss
    that never fell; FloatingPointError if the first loss is not finite already.
    """
    _check(start, end, steps, smoothing, diverge)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("lr_find: nothing to train: all parameters of the model are frozen")
    dtype = next((parameter.dtype for parameter in model.parameters()), np.dtype(np.float32))
    with locating(lambda: "lr_find"):
        loader = as_loader(data, batch_size, True, generator, dtype)
    if hasattr(loader, "__next__"):
        raise ValueError("lr_find: the data is an iterator, which can be read only once, so its batches would be "
                         "missing in the training; give a DataLoader, a data set or arrays")
    with _untouched(loader, generator):
        twin, tuned = _copies(model, optimizer, end)
        rates, losses = _train(twin.train(), loss, loader, tuned, start, end, steps, smoothing, diverge)
    return _summary(rates, losses, smoothing, len(losses) < steps)


def _check(start: float, end: float, steps: int, smoothing: float, diverge: float) -> None:
    if not 0 < start < end < math.inf:
        raise ValueError(f"lr_find: start must be above 0 and below end, got start={start!r}, end={end!r}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 10:
        raise ValueError(f"lr_find: steps must be a whole number from 10, got {steps!r}")
    if not 0 <= smoothing < 1:
        raise ValueError(f"lr_find: smoothing must be from 0 to below 1, got {smoothing!r}")
    if not diverge > 1:
        raise ValueError(f"lr_find: diverge must be above 1, got {diverge!r}")


def _copies(model: Module, optimizer: Any, end: float) -> tuple[Module, Optimizer]:
    if isinstance(optimizer, Optimizer):
        known = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
        if not any(id(parameter) in known for group in optimizer.param_groups for parameter in group["params"]):
            raise ValueError("lr_find: the optimiser holds none of the model's trainable parameters; was it made for "
                             "another model, or before a head was replaced?")
        return copy.deepcopy((model, optimizer))  # together, so that the copied optimiser holds the copied parameters
    twin = copy.deepcopy(model)
    made = optimizer(twin.named_parameters(), lr=end)
    if not isinstance(made, Optimizer):
        raise TypeError(f"lr_find: optimizer must be an optimiser, its class or a function that makes one, it made a "
                        f"{type(made).__name__}")
    return twin, made


def _train(model: Module, loss: Callable, loader: Any, optimizer: Optimizer, start: float, end: float, steps: int,
           smoothing: float, diverge: float) -> tuple[list[float], list[float]]:
    """The rates and the loss at each, until the last step or until it diverges."""
    highest = max(float(group["lr"]) for group in optimizer.param_groups)
    parts = [float(group["lr"]) / highest if highest else 1.0 for group in optimizer.param_groups]
    rates: list[float] = []
    losses: list[float] = []
    mean, lowest = 0.0, math.inf
    batches = _endless(loader)
    for step in range(steps):
        rate = start * (end / start) ** (step / (steps - 1))
        for group, part in zip(optimizer.param_groups, parts):
            group["lr"] = rate * part
        inputs, target = inputs_and_target(next(batches))
        optimizer.zero_grad()
        with locating(lambda: f"lr_find, step {step + 1}"):
            result = loss(model(*inputs), target)
            value = loss_value(result)
        if not math.isfinite(value):
            break
        rates.append(rate)
        losses.append(value)
        mean = smoothing * mean + (1 - smoothing) * value
        corrected = mean / (1 - smoothing ** (step + 1))
        lowest = min(lowest, corrected)
        if corrected > diverge * lowest and step >= 10:
            break
        result.backward()
        optimizer.step()
    batches.close()
    if len(losses) < 10:
        raise FloatingPointError(f"lr_find: the loss is not finite after {len(losses)} steps, at a rate of {rate:.2g}: "
                                 "look for nan in the data, scale the inputs, or begin with a lower start")
    return rates, losses


def _endless(loader: Any) -> Generator[Any, None, None]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ValueError("lr_find: the data gave no batches")


def _summary(rates: list[float], losses: list[float], smoothing: float, diverged: bool) -> RangeTest:
    smoothed, mean = [], 0.0
    for step, value in enumerate(losses, 1):
        mean = smoothing * mean + (1 - smoothing) * value
        smoothed.append(mean / (1 - smoothing**step))
    best = int(np.argmin(smoothed))
    if best == 0:
        raise ValueError(f"lr_find: the loss never fell, from {losses[0]:.4g} at a rate of {rates[0]:.2g} on; begin "
                         "with a lower start, or look whether data, loss and trainable parameters fit together")
    slopes = np.gradient(smoothed[: best + 1], np.log(rates[: best + 1])) if best > 1 else np.zeros(best + 1)
    steepest, minimum = rates[int(np.argmin(slopes))], rates[best]
    return RangeTest(rates, losses, smoothed, steepest, minimum, minimum / 10, diverged)


@contextmanager
def _untouched(*sources: Any) -> Iterator[None]:
    """Put every generator that can be reached from `sources`, and the shared ones, back to where it was."""
    streams = find_streams(sources=sources)
    states = get_states(streams)
    try:
        with random.preserved():
            yield
    finally:
        set_states(streams, states)
