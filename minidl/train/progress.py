"""What is shown while a pass runs: on a terminal a bar with samples, rate and figures, elsewhere nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

INTERVAL = 0.1  # seconds between two looks at the figures


class Bar:
    """A tqdm bar that counts samples, or nothing at all if not `shown` or not on a terminal."""

    def __init__(self, shown: bool, total: int | None, description: str):
        self.tqdm: Any = None
        if shown:
            from tqdm import tqdm  # only when a bar is wanted: importing it takes a while

            bar = tqdm(total=total, desc=description, unit=" samples", leave=False, disable=None, mininterval=0,
                       miniters=1)  # every update below is drawn: INTERVAL keeps them apart
            self.tqdm = None if bar.disable else bar
        self.waiting, self.shown_at = 0, 0.0

    def __enter__(self) -> Bar:
        return self

    def update(self, samples: int, figures: Callable[[], dict[str, Any]]) -> None:
        """Count `samples`; a few times a second, show the count and `figures()`."""
        if self.tqdm is None:
            return
        self.waiting += samples
        now = time.perf_counter()
        if now - self.shown_at >= INTERVAL:
            self.shown_at = now
            self.tqdm.set_postfix_str(as_text(figures()), refresh=False)
            self.tqdm.update(self.waiting)
            self.waiting = 0

    def __exit__(self, *exception: object) -> None:
        if self.tqdm is not None:
            self.tqdm.close()


def as_text(figures: dict[str, Any]) -> str:
    """The figures that are single numbers, as "loss 0.1234, accuracy 0.9876"."""
    single = {name: value for name, value in figures.items() if np.ndim(value) == 0}
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" if abs(value) < 1e-3 else
                     f"{name.replace('_', ' ')} {value:.4f}" for name, value in single.items())
