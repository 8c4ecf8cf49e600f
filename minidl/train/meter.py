"""What is measured over a pass through data: the mean loss and the metrics, each sample counted once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from minidl.tensor import Tensor
from minidl.train.metrics import Metric


class MeanOf(Metric):
    """A plain function `f(output, target) -> float` as a metric: its mean over batches, weighted by their samples."""

    def __init__(self, function: Callable[[Any, Any], Any]):
        self.function = function
        inner = getattr(function, "func", function)  # what a functools.partial calls
        name = getattr(inner, "__name__", type(inner).__name__)
        self.name = "metric" if name == "<lambda>" else name
        super().__init__()

    def update(self, output: Any, target: Any) -> None:
        value = self.function(output, target)
        try:
            figure = float(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"metric '{self.name}' returned a {type(value).__name__}, which is no single number; use "
                            "an object with update() and compute() instead of a function") from error
        size = target.shape[0] if target.ndim else 1
        self.total += figure * size
        self.count += size


def as_metrics(metrics: Iterable[Any]) -> list[Any]:
    """The metrics of a trainer: objects as they are, functions as `MeanOf`.

    Raises TypeError for what is neither, ValueError for two of one name.
    """
    if not isinstance(metrics, (list, tuple)):
        raise TypeError(f"metrics must be a list of metrics, got a {type(metrics).__name__}")
    found: list[Any] = []
    for metric in metrics:
        if isinstance(metric, type):
            raise TypeError(f"metrics: {metric.__name__} is a class; write it with parentheses: {metric.__name__}()")
        if not all(hasattr(metric, method) for method in ("reset", "update", "compute", "name")):
            if not callable(metric):
                raise TypeError(f"metrics: expected a function of (output, target) or a metric object, got {metric!r}")
            metric = MeanOf(metric)
        if metric.name in ("loss", *(other.name for other in found)):
            raise ValueError(f"metrics: two figures would be called '{metric.name}'; set the `name` of one of them")
        found.append(metric)
    return found


class Meter:
    """The running mean loss and metrics of one pass. Works on copies, so that a pass may run inside another."""

    def __init__(self, metrics: list[Any]):
        self.metrics = copy.deepcopy(metrics)
        for metric in self.metrics:
            metric.reset()
        self.loss_sum, self.samples = 0.0, 0

    def update(self, loss: float, size: int, output: Any, target: Tensor) -> None:
        """Take in one batch of `size` samples with the mean loss `loss`."""
        self.loss_sum += loss * size
        self.samples += size
        if self.metrics:
            detached = output.detach() if isinstance(output, Tensor) else output
            for metric in self.metrics:
                metric.update(detached, target)

    def results(self) -> dict[str, Any]:
        """The mean loss over samples and every metric, by name."""
        if not self.samples:
            raise ValueError("the data gave no batches; an iterator (a generator, for instance) can be read only once, "
                             "so give a DataLoader or a data set")
        return {"loss": self.loss_sum / self.samples, **{metric.name: metric.compute() for metric in self.metrics}}


def loss_value(loss: Any) -> float:
    """The number in what a loss function returned; TypeError or ValueError if it is not one number."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"the loss function returned a {type(loss).__name__}, expected a Tensor")
    if loss.array.size != 1:
        raise ValueError(f"the loss function returned shape {loss.shape}, expected a single number; use "
                         "reduction='mean'")
    return float(loss.array.item())
