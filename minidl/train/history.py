"""History: what `fit` measured, a list of values for each figure, and how to look at it."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from minidl.atomic import atomic_write, write_text
from minidl.errors import did_you_mean

LOWER = {"loss", "error", "perplexity", "mse", "mae", "rmse"}
HIGHER = {"accuracy", "precision", "recall", "f1", "score", "auc", "r2"}
NOT_PLOTTED = ("epoch", "lr", "phase", "seconds")


def direction(name: str, mode: str | None = None) -> str:
    """"min" or "max": whether lower or higher values of a figure are better, told by its name unless `mode` says.

    Raises ValueError if the name does not tell.
    """
    if mode not in (None, "min", "max"):
        raise ValueError(f"mode must be 'min', 'max' or None, got {mode!r}")
    words = set(name.lower().split("_"))
    if mode is None and words & LOWER:
        return "min"
    if mode is None and words & HIGHER:
        return "max"
    if mode is None:
        raise ValueError(f"is a lower or a higher '{name}' better? Say mode='min' or mode='max'")
    return mode


def check_figure(name: str, known: Any) -> None:
    """Raise ValueError, with the nearest names, unless `name` is among the figures that are measured."""
    if name not in known:
        hint = did_you_mean(name, known)
        if name.startswith("validation_") and not any(key.startswith("validation_") for key in known):
            hint = "; there is no validation data: give fit(…, validation=…)"
        raise ValueError(f"there is no figure '{name}'{hint or ', only ' + ', '.join(known)}")


class History(dict):
    """Lists by name: "epoch", "loss", the metrics, the same with "validation_" in front, "lr" and "seconds".

    interrupted: whether Ctrl-C ended the run. stop_reason: why it ended early, if it did, else None.
    """

    def __init__(self, *args: Any, **values: Any):
        super().__init__(*args, **values)
        self.interrupted = False
        self.stop_reason: str | None = None

    def append(self, row: dict[str, Any]) -> None:
        """Add the figures of one epoch."""
        for name, value in row.items():
            self.setdefault(name, []).append(value)

    @property
    def last(self) -> dict[str, Any]:
        """The figures of the last epoch; empty if there was none."""
        return {name: values[-1] for name, values in self.items()}

    def best(self, name: str, mode: str | None = None) -> float:
        """The best value of a figure, the lowest or the highest; see `direction`. nan is never the best."""
        best = self._best_index(name, mode)
        return self[name][best]

    def best_epoch(self, name: str, mode: str | None = None) -> int:
        """The first epoch, counted from 1, that had the best value."""
        return self["epoch"][self._best_index(name, mode)]

    def _best_index(self, name: str, mode: str | None) -> int:
        check_figure(name, self)
        sign = 1 if direction(name, mode) == "min" else -1
        candidates = [(sign * value, index) for index, value in enumerate(self[name]) if not math.isnan(value)]
        if not candidates:
            raise ValueError(f"every value of '{name}' is nan")
        return min(candidates)[1]

    def to_csv(self, path: str | Path) -> None:
        """Write a header and one line an epoch; a figure that is an array is written as JSON."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self)
        writer.writerows([cell(value) for value in row] for row in zip(*self.values()))
        write_text(path, text.getvalue())

    def plot(self, path: str | Path) -> None:
        """Draw a curve of each figure over the epochs, training and validation in one picture, into an image file.

        Raises ImportError, naming what to install, without matplotlib.
        """
        names = [name for name, values in self.items() if name not in NOT_PLOTTED and not name.startswith("validation_")
                 and all(np.ndim(value) == 0 for value in values)]
        if not names:
            raise ValueError("plot: the history is empty, no epoch was finished")
        try:
            from matplotlib.figure import Figure  # heavy, and an optional dependency
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise ImportError("plot needs matplotlib: pip install 'minidl[plot]'") from error
        figure = Figure(figsize=(4.5 * len(names), 3.5), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
            for key, label in ((name, "training"), (f"validation_{name}", "validation")):
                if key in self:
                    axes.plot(self["epoch"], self[key], marker=".", label=label)
            axes.set(xlabel="epoch", title=name.replace("_", " "))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
            axes.legend()
        save_figure(figure, path)


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a picture of matplotlib's atomically, in the format that the path's ending names, and make its folder."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:] or "png")


def plain(value: Any) -> Any:
    """A figure as a JSON value: NumPy's numbers and arrays as Python's, and what is not finite as None."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cell(value: Any) -> Any:
    """A figure as it stands in a CSV file: a number as it is, an array as JSON."""
    return value if np.ndim(value) == 0 else json.dumps(plain(value))
