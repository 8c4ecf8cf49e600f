"""Checkpoint: a training written down while it runs, so that a new process goes on as if nothing had happened.

    trainer.resume("run")                       # in the script that goes on: this line more, the rest as before
    trainer.fit(train, validation, epochs=20, callbacks=[…, Checkpoint("run")])

What a file holds and how it is put back stands in `training_state.py`, how it is written in `packing.py`.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from minidl.errors import DataNotFoundError
from minidl.train import packing
from minidl.train.callbacks import Monitor
from minidl.train.history import check_figure
from minidl.train.streams import get_states
from minidl.train.training_state import KIND, describe_training, streams_of_run

_NUMBERED = re.compile(r"step-(\d{8,12})\.safetensors")


class Checkpoint(Monitor):
    """Saves everything that a training needs to go on, in one file, from time to time and when it is stopped.

    path: a folder, in which files are called `step-00001200.safetensors` after the steps of the optimiser made by then;
        or a file ending in `.safetensors`, which each save replaces.
    every_epochs, every_steps: when to save; None for never. The end of the last epoch is saved in any case.
    keep: how many of the latest files in a folder stay; None for all.
    monitor: a name in the history, such as "validation_loss": the epoch with its best value is also saved, as
        `best.safetensors` in the folder, or for a file `run.safetensors` as `run.best.safetensors`.
    mode, min_delta: as for `BestWeights`.

    A file is written whole or not at all, and an older one removed only after that. Ctrl-C and SIGTERM let the step
    under way finish, save, and end the fit (`history.interrupted` is True); a second one stops at once, without saving.
    `latest` is the path of the last save, None before. `Trainer.resume` reads the files; the weights alone are
    `transfer.load_tensors(path, part="model")`.

    Raises OSError before anything is trained if the folder cannot be written, ValueError if there are checkpoints in it
    that are not of this run; during training, OSError for a disk that is full: what was saved before is still there.
    """

    place, only_watches = 100, True  # after the others, whose state it saves

    def __init__(self, path: str | os.PathLike, *, every_epochs: int | None = 1, every_steps: int | None = None,
                 keep: int | None = 2, monitor: str | None = None, mode: str | None = None, min_delta: float = 0.0):
        for name, value in (("every_epochs", every_epochs), ("every_steps", every_steps), ("keep", keep)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"Checkpoint: {name} must be a whole number from 1 or None, got {value!r}")
        super().__init__("loss" if monitor is None else monitor, mode, min_delta)
        self.path, self.keep = Path(path), keep
        self.every_epochs, self.every_steps, self.keeps_best = every_epochs, every_steps, monitor is not None
        self.single = self.path.suffix == ".safetensors"
        self.folder = self.path.parent if self.single else self.path
        self.best_path = self.path.with_suffix(".best.safetensors") if self.single else self.path / "best.safetensors"
        self.latest: Path | None = None
        self.steps = 0
        self._at_epoch_begin: dict[str, Any] = {}
        self._before_validation: dict[str, Any] | None = None

    def on_fit_begin(self, trainer: Any) -> None:
        check_figure(self.monitor, trainer.columns)
        saved = trainer.run.saved
        steps = self.steps if saved is None else saved.steps
        self.best, self.best_epoch = (self.best, self.best_epoch) if self.steps else (float("nan"), 0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise OSError(error.errno, f"Checkpoint cannot write in its folder, choose another: {error.strerror}",
                          str(self.folder)) from error
        found = [] if self.single else numbered(self.folder)
        if found and found[-1][0] > steps:
            raise ValueError(f"Checkpoint: {self.folder} holds checkpoints of another run or a later part of this one, "
                             f"up to step {found[-1][0]}, and this run is at step {steps}: go on from there with "
                             f"trainer.resume({str(self.folder)!r}), move them away, or give another folder")

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        self._at_epoch_begin = get_states(streams_of_run(trainer.run))
        self._before_validation = None

    def on_batch_end(self, trainer: Any, step: int, loss: float) -> None:
        self.steps += 1
        if self.every_steps is not None and self.steps % self.every_steps == 0:
            self.save(trainer)

    def on_validation_begin(self, trainer: Any, epoch: int) -> None:
        self._before_validation = get_states(streams_of_run(trainer.run))

    def on_epoch_end(self, trainer: Any, epoch: int, figures: dict[str, Any]) -> None:
        self._before_validation = None
        best = self.keeps_best and self.improved(epoch, figures)
        last = epoch == trainer.run.epochs or trainer.history.stop_reason is not None
        if last or self.every_epochs is not None and epoch % self.every_epochs == 0:
            self.save(trainer)
        if best:
            self._write(self.best_path, trainer)

    def on_fit_end(self, trainer: Any) -> None:
        if trainer.run.stopped_between_steps:
            self.save(trainer)

    def save(self, trainer: Any) -> Path:
        """Write a checkpoint of the run under way, remove what is older than `keep` says, and return its path."""
        path = self.path if self.single else self.path / f"step-{self.steps:08}.safetensors"
        self._write(path, trainer)
        self.latest = path
        if self.keep is not None and not self.single:
            for _, old in numbered(self.folder)[:-self.keep]:
                old.unlink(missing_ok=True)
        return path

    def _write(self, path: Path, trainer: Any) -> None:
        packing.write(path, KIND, describe_training(trainer.run, self.steps, self._at_epoch_begin,
                                                    self._before_validation))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.steps = int(state["steps"])


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """The numbered checkpoints in a folder, the oldest first."""
    found = [(_NUMBERED.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(match[1]), path) for match, path in found if match)


def latest_checkpoint(path: str | os.PathLike) -> Path:
    """The file that `Trainer.resume(path)` reads: `path` itself, or the latest checkpoint in that folder.

    Raises DataNotFoundError if there is none.
    """
    place = Path(path)
    if not place.is_dir():
        if not place.exists():
            raise DataNotFoundError(f"there is no checkpoint {place}; was the run started, and is it its folder?")
        return place
    found = numbered(place)
    if not found:
        raise DataNotFoundError(f"{place}: there is no checkpoint (step-….safetensors) in this folder")
    return found[-1][1]
