"""Run: one call of `Trainer.fit` under way. `_step` is the heart: zero_grad, forward, backward, step.

Read `trainer.py` for what the options mean.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.nn.utils import clip_grad_norm_
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor
from minidl.train.batches import groups, inputs_and_target, sample_count
from minidl.train.callbacks import Callback
from minidl.train.checkpoint import Checkpoint
from minidl.train.checks import check_first_batch, check_start
from minidl.train.diagnosis import bad_rows, first_anomaly, name_samples
from minidl.train.guards import InterruptAtSafePoints, StopRequested, locating
from minidl.train.meter import Meter, loss_value
from minidl.train.progress import Bar, as_text


@dataclass
class Run:
    """The arguments of `fit`, checked, and where the run is: `epoch` and `step` count from 1.

    saved: the checkpoint that it goes on from, until it is where that was.
    """

    trainer: Any
    optimizer: Optimizer
    loader: Any
    validation: Any
    callbacks: list[Callback]
    epochs: int
    accumulate: int
    clip_norm: float | None
    progress: bool
    label: str
    saved: Any = None
    epoch: int = 0
    step: int = 0
    in_validation: bool = False
    epoch_done: bool = False  # between the measurements of an epoch and the next one
    stopped_between_steps: bool = False
    started: float = 0.0  # when the epoch began, in seconds of time.perf_counter

    def __post_init__(self) -> None:
        prefix = self.trainer.prefix
        self.prefix = prefix if prefix is not None and prefix.model is self.trainer.model else None
        if self.prefix is not None:
            self.prefix.begin()

    def go(self) -> None:
        """Run all epochs, or until a callback or Ctrl-C stops it."""
        history = self.trainer.history
        terminate = any(isinstance(callback, Checkpoint) for callback in self.callbacks)
        with InterruptAtSafePoints(terminate) as self.interrupt, locating(self.where):
            try:
                for callback in self.callbacks:
                    callback.on_fit_begin(self.trainer)
                check_start(self)
                self._take_up()
                while self.epoch < self.epochs and (self.saved is not None or not history.stop_reason):
                    self.epoch += 1
                    self._epoch()
                if history.stop_reason:
                    self._say(f"stopped after epoch {self.epoch}: {history.stop_reason}")
            except KeyboardInterrupt as stop:
                self.stopped_between_steps = isinstance(stop, StopRequested)
                signal = str(stop) or "Ctrl-C"
                history.interrupted, history.stop_reason = True, f"{signal} in {self.where()}"
                print(f"{self.label}stopped by {signal} in {self.where()}; the history holds the finished epochs, the "
                      "model what it has learnt so far", flush=True)
            for callback in self.callbacks:
                callback.on_fit_end(self.trainer)

    def _take_up(self) -> None:
        """Go on from a checkpoint; `saved` stays until its epoch has begun, if it was made in the middle of one."""
        if self.saved is not None:
            self.saved.begin(self)
            self._say(f"going on after epoch {self.epoch}" + (f", step {self.saved.within['step']} of the next one"
                                                             if self.saved.within else ""))
            self.saved = self.saved if self.saved.within else None

    def where(self) -> str:
        """The place in the run, for messages."""
        if not self.epoch:
            return "before the first epoch"
        return f"epoch {self.epoch}, " + ("validation" if self.in_validation else f"step {self.step}")

    def _say(self, line: str) -> None:
        if self.progress:
            print(f"{self.label}{line}", flush=True)

    def _epoch(self) -> None:
        """Train, validate, record, tell."""
        trainer, name = self.trainer, f"epoch {self.epoch}/{self.epochs}"
        self.started = time.perf_counter()
        self.step, self.in_validation, self.epoch_done = 0, False, False
        for callback in self.callbacks:
            callback.on_epoch_begin(trainer, self.epoch)
        meter = self._train(name)
        rate = meter.samples / (time.perf_counter() - self.started)
        figures = meter.results()
        if self.validation is not None:
            self.in_validation = True
            for callback in self.callbacks:
                callback.on_validation_begin(trainer, self.epoch)
            measured = trainer.evaluate_loader(self.validation, self.progress, f"{self.label}{name} validation",
                                               self.interrupt.check, self._network())
            figures |= {f"validation_{key}": value for key, value in measured.items()}
            self.in_validation = False
        seconds = time.perf_counter() - self.started
        row = {"epoch": self.epoch, **figures, "lr": float(self.optimizer.param_groups[0]["lr"]), "seconds": seconds}
        trainer.history.append(row)
        self._say(f"{name}: {as_text(figures)}, {seconds:.1f} s, {rate:,.0f} samples/s")
        for line in self.prefix.end_epoch() if self.prefix is not None else ():
            self._say(line)
        self.epoch_done = True
        for callback in self.callbacks:
            callback.on_epoch_end(trainer, self.epoch, row)
        self.interrupt.check()

    def _network(self) -> Any:
        """The model; where part of it is frozen, with the memory of what that part computed."""
        model, prefix = self.trainer.model, self.prefix
        frozen = prefix is not None and (prefix.kept or any(not p.requires_grad for p in model.parameters()))
        return prefix if frozen else model

    def _train(self, name: str) -> Meter:
        self.trainer.model.train()
        self.meter = meter = Meter(self.trainer.metrics)
        if self.saved is None:
            self.batches = iter(self.loader)
        else:
            self.batches, self.saved = self.saved.go_on(self, meter), None
        with Bar(self.progress, sample_count(self.loader), f"{self.label}{name}") as bar:
            for group in groups(self.batches, self.accumulate):
                self.step, self.group = self.step + 1, group
                before = meter.samples
                loss = self._step(group, meter)
                for callback in self.callbacks:
                    callback.on_batch_end(self.trainer, self.step, loss)
                bar.update(meter.samples - before, meter.results)
                self.interrupt.check()
        return meter

    def _step(self, group: list, meter: Meter) -> float:
        """One step of the optimiser for the batches in `group`; returns their mean loss over samples."""
        batches = [inputs_and_target(batch) for batch in group]
        samples = sum(inputs[0].shape[0] for inputs, _ in batches)
        total = 0.0
        self.optimizer.zero_grad()
        network = self._network()
        for place, (inputs, target) in enumerate(batches):
            output = network(*inputs)
            if self.epoch == self.step == 1 and place == 0:
                check_first_batch(self, inputs, output)
            loss = self.trainer.loss(output, target)
            value, size = loss_value(loss), inputs[0].shape[0]
            if not math.isfinite(value):
                self._refuse(f"the loss is {value}", batches, place)
            loss.backward(None if len(batches) == 1 else np.full(loss.shape, size / samples, loss.dtype))
            meter.update(value, size, output, target)
            total += value * size
        if self.clip_norm is not None:
            parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            norm = clip_grad_norm_(parameters, self.clip_norm)
            if not math.isfinite(norm.item()):
                self._refuse(f"the norm of the gradients is {norm.item()}", batches, len(batches) - 1)
        self.optimizer.step()
        return total / samples

    def _refuse(self, what: str, batches: list, place: int) -> None:
        """Raise FloatingPointError with the likely cause; the weights are still those after the last good step."""
        self.optimizer.zero_grad()
        inputs, target = batches[place]
        size = inputs[0].shape[0]
        indices = getattr(self.batches, "last", lambda back: None)(len(batches) - 1 - place)
        spoilt = [name for name, parameter in self.trainer.model.named_parameters() if not _all_finite(parameter)]
        bad_inputs = [row for part in inputs for row in bad_rows(part)]
        rows, found = bad_inputs or bad_rows(target), ""
        if bad_inputs:
            cause = "the inputs of this batch hold nan or inf: clean the data"
        elif rows:
            cause = "the target of this batch holds nan or inf: clean the data"
        elif spoilt:
            cause = (f"parameter '{spoilt[0]}' holds nan or inf since an earlier step: start again from good weights "
                     "with a lower learning rate or with clip_norm=1.0")
        else:
            found = first_anomaly(self.trainer.model, self.trainer.loss, inputs, target)
            cause = ("try a lower learning rate, fit(…, clip_norm=1.0), inputs scaled to about [-1, 1], and look for "
                     "the log of or a division by zero in model and loss")
        samples = name_samples(indices, sorted(set(rows)), size)
        rates = ", ".join(dict.fromkeys(f"{float(group['lr']):g}" for group in self.optimizer.param_groups))
        raise FloatingPointError(f"{self.where()}: {what} at learning rate {rates}"
                                 + (f" ({samples})" if samples else "")
                                 + (f"; first went bad: {found}" if found else "")
                                 + f"; {cause}. This step was not made, the weights are as the step before left them")


def _all_finite(tensor: Tensor) -> bool:
    return bool(np.isfinite(tensor.array).all())
