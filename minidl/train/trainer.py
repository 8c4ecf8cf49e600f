"""Trainer: the training loop, with evaluation, prediction and everything that has to happen between the steps.

The loop itself is in `run.py`, what may be hung into it in `callbacks.py`; the figures are collected in `meter.py`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minidl.nn.module import Module
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor, no_grad
from minidl.train.batches import as_loader, inputs_alone, inputs_and_target, sample_count
from minidl.train.callbacks import Callback
from minidl.train.checkpoint import latest_checkpoint
from minidl.train.guards import evaluating, locating
from minidl.train.history import History
from minidl.train.meter import Meter, as_metrics, loss_value
from minidl.train.progress import Bar
from minidl.train.run import Run
from minidl.train.training_state import SavedTraining
from minidl.transfer.ledger import ledger_of
from minidl.transfer.prefix import FrozenPrefix
from minidl.transfer.untrained import watch


class Trainer:
    """Trains `model` to make `loss(output, target)`, the mean over a batch, small, and measures how well it does.

    optimizer: may be left out to evaluate and predict only.
    metrics: objects of `minidl.train.metrics` or plain functions `f(output, target) -> float` (the mean over samples of
        what they return for the batches).
    frozen_cache: where `fit` keeps what frozen first layers make of a sample, so that later epochs start behind them
        (see `minidl.transfer.FrozenPrefix`): "auto", a number of bytes in memory, a folder for a temporary file, or
        False. The training is the same, bit for bit, with and without it.
    `history` is that of the last `fit`.
    """

    def __init__(self, model: Module, loss: Callable[[Any, Any], Tensor], optimizer: Optimizer | None = None,
                 metrics: Iterable[Any] = (), *, frozen_cache: Any = "auto"):
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.metrics = as_metrics(metrics)
        self.history = History()
        self.prefix = None if frozen_cache is False else FrozenPrefix(model, frozen_cache)
        self.columns: list[str] = []
        self.run: Run | None = None  # the fit under way
        self._saved: SavedTraining | None = None  # the checkpoint that the next fit goes on from
        self._where = ""
        self._watched = False

    def fit(self, train: Any, validation: Any = None, epochs: int = 1, callbacks: Iterable[Callback] = (), *,
            batch_size: int = 32, shuffle: bool = True, generator: np.random.Generator | None = None,
            accumulate: int = 1, clip_norm: float | None = None, progress: bool = True, label: str = "") -> History:
        """Train for `epochs` passes through `train`, measure on `validation` after each, and return the history.

        train, validation: a DataLoader or other iterable of batches (inputs, target), a data set, or a tuple of arrays
            (inputs, target). `batch_size`, and for `train` `shuffle` and `generator`, are for the latter two.
        accumulate: batches whose gradients make one step; the gradient is the mean over all their samples, as if they
            had been one batch. (BatchNorm still sees them one by one.)
        clip_norm: the largest norm of the gradients of a step.
        progress: show a bar on a terminal, and print a line after every epoch, with `label` in front.

        The training loss and metrics are those of the batches as they were trained on, the loss a mean over samples.
        Ctrl-C ends the run after the step under way: the history holds the finished epochs, the model what it has
        learnt so far, and `history.interrupted` is True. After `resume` the run goes on where the checkpoint was made.
        Raises ValueError if nothing is trainable or there is no data; FloatingPointError if the loss (or with
        `clip_norm` the gradient) becomes nan or infinite, before the optimiser makes use of it.
        """
        optimizer = self._check_trainable()
        for name, value in (("epochs", epochs), ("accumulate", accumulate)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"fit: {name} must be a whole number from 1, got {value!r}")
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"fit: clip_norm must be above 0, got {clip_norm!r}")
        train = self._loader("fit", train, batch_size, shuffle, generator)
        if validation is not None:
            validation = self._loader("fit, validation", validation, batch_size)
        names = ["loss", *(metric.name for metric in self.metrics)]
        validated = [] if validation is None else [f"validation_{name}" for name in names]
        self.columns = ["epoch", *names, *validated, "lr", "seconds"]
        callbacks = list(callbacks)
        for callback in callbacks:
            if isinstance(callback, type) or not hasattr(callback, "place"):
                what = f"the class {callback.__name__}, to be made first: {callback.__name__}(...)" if isinstance(
                    callback, type) else f"{callback!r}"
                raise TypeError(f"fit: every callback must be a train.Callback, got {what}")
        ordered = sorted(callbacks, key=lambda callback: callback.place)
        run = Run(self, optimizer, train, validation, ordered, int(epochs), int(accumulate), clip_norm, progress,
                  f"{label}, " if label else "", self._saved)
        if self._saved is not None:
            self._saved.check(run)
        self.history = History() if self._saved is None else self._saved.history()
        self.run, self._saved = run, None
        try:
            with ledger_of(self.model).training(optimizer, f"Trainer.fit, epochs={run.epochs}, "
                                                f"{type(optimizer).__name__}"):
                run.go()
        finally:
            self.run = None
        return self.history

    def resume(self, path: str | os.PathLike) -> Trainer:
        """Take over a checkpoint, so that the next `fit` goes on where it was made, and return the trainer.

        path: a file of `Checkpoint`, or its folder, whose latest file is taken.

        Model (parameters, buffers, what is frozen), optimiser, ledger and history are at once what they were;
        callbacks, random streams and the place in the data follow when `fit` begins, which needs the same data and
        arguments, but for `epochs`: all epochs, with those that are done. The result is bit for bit that of one run
        without a stop. Give the same callbacks in the same order; those that are new begin afresh. Learning rates and
        other options of the optimiser are those of the checkpoint, and may be changed before `fit`.

        Raises DataNotFoundError if there is none, FileFormatError for a file that is damaged or no checkpoint,
        LoadError (a ValueError) that names what differs for one of another model or optimiser; then nothing is changed.
        """
        self._saved = SavedTraining(latest_checkpoint(path)).restore(self)
        return self

    def evaluate(self, data: Any, *, batch_size: int = 256, progress: bool = False) -> dict[str, Any]:
        """The mean loss over the samples of `data` and every metric, by name, in evaluation mode.

        data: as for `fit`. The modes of the model are afterwards what they were.
        """
        return self.evaluate_loader(self._loader("evaluate", data, batch_size), progress)

    def predict(self, data: Any, *, batch_size: int = 256, progress: bool = False) -> np.ndarray:
        """The model's outputs for all of `data` in one array (N, ...), in evaluation mode.

        data: as for `fit`, or an array of inputs alone; where batches have several parts, the last one counts as
        target and is left out.
        """
        loader = self._loader("predict", data, batch_size)
        outputs = []
        with Bar(progress, sample_count(loader), "predicting") as bar, self._evaluation("predict"):
            for number, batch in enumerate(loader, 1):
                self._where = f"batch {number}"
                outputs.append(self.model(*inputs_alone(batch)).array)
                bar.update(len(outputs[-1]), dict)
        if not outputs:
            raise ValueError("predict: the data gave no batches; an iterator can be read only once")
        return np.concatenate(outputs)

    def stop(self, reason: str = "") -> None:
        """End the run after the current epoch; meant for callbacks."""
        self.history.stop_reason = reason or "a callback asked for it"

    def _loader(self, what: str, data: Any, batch_size: int, shuffle: bool = False, generator: Any = None) -> Any:
        dtype = next((parameter.dtype for parameter in self.model.parameters()), np.dtype(np.float32))
        with locating(lambda: what):
            return as_loader(data, batch_size, shuffle, generator, dtype)

    def _check_trainable(self) -> Optimizer:
        if self.optimizer is None:
            raise ValueError("fit: the trainer has no optimiser; give Trainer(model, loss, optimizer)")
        parameters = dict(self.model.named_parameters())
        trainable = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
        if not trainable:
            raise ValueError(f"fit: nothing to train: all {len(parameters)} parameters of the model are frozen; "
                             "unfreeze some of them, the head at least")
        held = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        left_out = [name for name, parameter in trainable.items() if id(parameter) not in held]
        if len(left_out) == len(trainable):
            raise ValueError("fit: none of the model's trainable parameters is in the optimiser; was it made for "
                             "another model, or before a head was replaced? Make it from model.named_parameters()")
        if left_out:
            shown = ", ".join(left_out[:4]) + (f" and {len(left_out) - 4} more" if len(left_out) > 4 else "")
            warnings.warn(f"fit: trainable, but not in the optimiser, so they stay as they are: {shown}; freeze them, "
                          "or make the optimiser from all of model.named_parameters()", stacklevel=3)
        return self.optimizer

    @contextmanager
    def _evaluation(self, what: str) -> Iterator[None]:
        """Evaluation mode without recording, errors located, and a warning (once) about parameters never trained."""
        if not self._watched:
            watch(self.model)
            self._watched = True
        with locating(lambda: f"{what}, {self._where}"), no_grad(), evaluating(self.model):
            yield

    def evaluate_loader(self, loader: Any, progress: bool = False, description: str = "evaluating",
                        check: Callable[[], None] | None = None, network: Callable | None = None) -> dict[str, Any]:
        """As `evaluate`, for an iterable of batches; `check` is called after each, `network` instead of the model."""
        meter = Meter(self.metrics)
        with Bar(progress, sample_count(loader), description) as bar, self._evaluation("evaluate"):
            for number, batch in enumerate(loader, 1):
                self._where = f"batch {number}"
                inputs, target = inputs_and_target(batch)
                output = (network or self.model)(*inputs)
                size = inputs[0].shape[0]
                meter.update(loss_value(self.loss(output, target)), size, output, target)
                bar.update(size, meter.results)
                if check is not None:
                    check()
            self._where = "at the end"
            return meter.results()
