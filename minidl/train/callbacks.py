"""Callbacks: what may happen between the steps and epochs of `Trainer.fit`. Derive from `Callback` for your own."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from minidl.atomic import write_text
from minidl.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from minidl.train.history import cell, check_figure, direction, plain


class Callback:
    """Called by `Trainer.fit`; override what you need. Epochs and steps count from 1.

    `trainer` has `model`, `optimizer`, `history`, `columns` (the names of all figures) and `stop(reason)`, which ends
    the run after this epoch. `on_fit_end` is called after the last epoch and after Ctrl-C, not after an error.

    One whose attributes change during a run defines `state_dict`, and `load_state_dict` which takes it back, so that a
    run can go on from a `Checkpoint`. `on_fit_begin`, and in the middle of an epoch `on_epoch_begin`, are then called
    again, before `load_state_dict`.
    place: callbacks are called in the order of this number, then in that of the list.
    """

    place = 0
    only_watches = False  # whether a run goes on the same without it

    def on_fit_begin(self, trainer: Any) -> None:
        """Before anything is trained: the place to refuse wrong settings."""

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        """Before the first batch of an epoch."""

    def on_batch_end(self, trainer: Any, step: int, loss: float) -> None:
        """After each step of the optimiser (one batch, or `accumulate` batches); `step` counts within the epoch."""

    def on_validation_begin(self, trainer: Any, epoch: int) -> None:
        """After the last step of an epoch, before validation, if there is any."""

    def on_epoch_end(self, trainer: Any, epoch: int, figures: dict[str, Any]) -> None:
        """After an epoch and its validation; `figures` is the line of the history."""

    def on_fit_end(self, trainer: Any) -> None:
        """At the end; `trainer.history.interrupted` says whether it was Ctrl-C."""

    def state_dict(self) -> dict[str, Any]:
        """What this callback has to remember to go on later: numbers, texts, lists, dicts and arrays, by name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


class Monitor(Callback):
    """Follows one figure: what early stopping and keeping the best weights share.

    monitor: a name in the history, such as "validation_loss". mode: "min" or "max", if the name does not tell.
    min_delta: by how much a value must beat the best to count.
    """

    def __init__(self, monitor: str, mode: str | None = None, min_delta: float = 0.0):
        if not min_delta >= 0:
            raise ValueError(f"{type(self).__name__}: min_delta must not be negative, got {min_delta}")
        self.monitor, self.min_delta = monitor, min_delta
        self.mode = direction(monitor, mode)
        self.best = math.nan
        self.best_epoch = 0

    def on_fit_begin(self, trainer: Any) -> None:
        check_figure(self.monitor, trainer.columns)
        self.best, self.best_epoch = math.nan, 0

    def improved(self, epoch: int, figures: dict[str, Any]) -> bool:
        """Whether this epoch beats the best so far, and note it if so. A nan never does."""
        value = float(figures[self.monitor])
        gain = self.best - value if self.mode == "min" else value - self.best
        better = not math.isnan(value) and (math.isnan(self.best) or gain > self.min_delta)
        if better:
            self.best, self.best_epoch = value, epoch
        return better

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch = float(state["best"]), int(state["best_epoch"])


class BestWeights(Monitor):
    """Keeps the weights of the best epoch and puts them back at the end (after Ctrl-C only if you call `restore`)."""

    def __init__(self, monitor: str = "validation_loss", mode: str | None = None, min_delta: float = 0.0):
        super().__init__(monitor, mode, min_delta)
        self.weights: dict[str, Any] = {}

    def on_fit_begin(self, trainer: Any) -> None:
        super().on_fit_begin(trainer)
        self.weights = {}

    def on_epoch_end(self, trainer: Any, epoch: int, figures: dict[str, Any]) -> None:
        if self.improved(epoch, figures):
            self.weights = {name: tensor.array.copy() for name, tensor in trainer.model.state_dict().items()}

    def on_fit_end(self, trainer: Any) -> None:
        if not trainer.history.interrupted:
            self.restore(trainer.model)

    def restore(self, model: Any) -> None:
        """Copy the best weights and buffers into `model`; nothing happens if no epoch was finished."""
        state = model.state_dict()
        for name, array in self.weights.items():
            state[name].array[...] = array

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.weights = dict(state["weights"])


class EarlyStopping(BestWeights):
    """Ends the run after `patience` epochs in a row without a better figure.

    restore_best: put the weights of the best epoch back at the end.
    """

    def __init__(self, monitor: str = "validation_loss", patience: int = 3, min_delta: float = 0.0,
                 restore_best: bool = False, mode: str | None = None):
        super().__init__(monitor, mode, min_delta)
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be at least 1, got {patience}")
        self.patience, self.restore_best = patience, restore_best

    def on_epoch_end(self, trainer: Any, epoch: int, figures: dict[str, Any]) -> None:
        if self.restore_best:
            super().on_epoch_end(trainer, epoch, figures)
        else:
            self.improved(epoch, figures)
        if epoch - self.best_epoch >= self.patience:
            trainer.stop(f"{self.monitor} has not improved on {self.best:.4g} (epoch {self.best_epoch}) "
                         f"for {self.patience} epochs")


class _Log(Callback):
    """A file that is made, with its folders, before training starts, and gets a line after every epoch.

    Made anew, it begins with the epochs that are in the history already, if the run goes on from a checkpoint.
    """

    def __init__(self, path: str | Path, append: bool = False):
        self.path, self.append = Path(path), append

    def on_fit_begin(self, trainer: Any) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not (self.append and self.path.exists() and self.path.stat().st_size):
                begin = io.StringIO(newline="")
                self.write_header(begin, trainer.columns)
                for row in zip(*trainer.history.values()):
                    self.write(begin, trainer.columns, dict(zip(trainer.history, row)))
                write_text(self.path, begin.getvalue())
            with open(self.path, "a"):  # whether it can be appended to
                pass
        except OSError as error:
            raise OSError(error.errno, f"{type(self).__name__} cannot write its file, choose another folder: "
                          f"{error.strerror}", str(self.path)) from error

    def on_epoch_end(self, trainer: Any, epoch: int, figures: dict[str, Any]) -> None:
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            self.write(file, trainer.columns, figures)

    def write_header(self, file: Any, columns: list[str]) -> None:
        """Write what stands before the first epoch."""

    def write(self, file: Any, columns: list[str], figures: dict[str, Any]) -> None:
        """Write the line of one epoch."""
        raise NotImplementedError


class CSVLog(_Log):
    """Writes a header and a line an epoch to a CSV file, anew or after what is there (`append`).

    Raises OSError before training starts if the file cannot be written.
    """

    def write_header(self, file: Any, columns: list[str]) -> None:
        csv.writer(file).writerow(columns)

    def write(self, file: Any, columns: list[str], figures: dict[str, Any]) -> None:
        csv.writer(file).writerow([cell(figures[name]) for name in columns])


class JSONLinesLog(_Log):
    """Writes a JSON object an epoch, one a line, anew or after what is there (`append`). nan becomes null.

    Raises OSError before training starts if the file cannot be written.
    """

    def write(self, file: Any, columns: list[str], figures: dict[str, Any]) -> None:
        file.write(json.dumps({name: plain(value) for name, value in figures.items()}) + "\n")


class LearningRate(Callback):
    """Steps a learning-rate schedule after every "epoch" or every "step" of the optimiser.

    monitor: the figure that `ReduceLROnPlateau` looks at; "validation_loss" by default, or "loss" without validation.
    """

    def __init__(self, schedule: LRScheduler, every: str = "epoch", monitor: str | None = None):
        if every not in ("epoch", "step"):
            raise ValueError(f"LearningRate: every must be 'epoch' or 'step', got {every!r}")
        self.schedule, self.every, self.monitor = schedule, every, monitor
        self.takes_figure = isinstance(schedule, ReduceLROnPlateau)
        if self.takes_figure and every == "step":
            raise ValueError("LearningRate: ReduceLROnPlateau looks at the figures of an epoch, use every='epoch'")

    def on_fit_begin(self, trainer: Any) -> None:
        if self.schedule.optimizer is not trainer.optimizer:
            raise ValueError("LearningRate: the schedule belongs to another optimiser than the trainer's")
        if self.takes_figure and self.monitor is None:
            self.monitor = "validation_loss" if "validation_loss" in trainer.columns else "loss"
        if self.monitor is not None:
            check_figure(self.monitor, trainer.columns)

    def on_batch_end(self, trainer: Any, step: int, loss: float) -> None:
        if self.every == "step":
            self.schedule.step()

    def on_epoch_end(self, trainer: Any, epoch: int, figures: dict[str, Any]) -> None:
        if self.takes_figure and self.monitor is not None:
            self.schedule.step(figures[self.monitor])  # type: ignore[call-arg]
        elif self.every == "epoch":
            self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        return {"schedule": self.schedule.state_dict(), "monitor": self.monitor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.schedule.load_state_dict(state["schedule"])
        self.monitor = state["monitor"]
