"""ReduceLROnPlateau: lower the rate when a measured figure has stopped improving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat

from minidl.optim.optimizer import Optimizer
from minidl.optim.scheduler import LRScheduler, checked_optimizer


class ReduceLROnPlateau(LRScheduler):
    """Multiply the rate by `factor` after more than `patience` epochs in a row without a better figure.

    mode: "min" if lower figures are better (a loss), "max" if higher (an accuracy).
    threshold, threshold_mode: by how much a figure must beat the best to count as better, as a part of the best
        ("rel") or in its own units ("abs").
    cooldown: epochs after a reduction in which nothing is counted.
    min_lr: no rate goes below it; one number, or a list with one for each group.
    eps: smaller changes of the rate are not made.

    Raises ValueError for a factor that is not below 1 and unknown modes.
    """

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0,
                 min_lr: float | Sequence[float] = 0.0, eps: float = 1e-8):
        groups = checked_optimizer(optimizer, self).param_groups
        if not factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, got {factor}")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau: mode must be 'min' or 'max' and threshold_mode 'rel' or 'abs', "
                             f"got {mode!r} and {threshold_mode!r}")
        self.min_lrs: list[Any] = list(min_lr) if isinstance(min_lr, (list, tuple)) else [min_lr] * len(groups)
        if len(self.min_lrs) != len(groups):
            raise ValueError(f"ReduceLROnPlateau: {len(self.min_lrs)} values of min_lr for {len(groups)} groups")
        self.optimizer = optimizer
        self.mode, self.factor, self.patience, self.threshold = mode, factor, patience, threshold
        self.threshold_mode, self.cooldown, self.eps = threshold_mode, cooldown, eps
        self.best = float("inf") if mode == "min" else -float("inf")
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._last_lr = [float(group["lr"]) for group in groups]

    @property
    def in_cooldown(self) -> bool:
        return self.cooldown_counter > 0

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]
        """Take note of an epoch's figure and lower the rates if it is time. A nan is no improvement."""
        figure = float(metrics)
        self.last_epoch += 1
        if self._is_better(figure):
            self.best, self.num_bad_epochs = figure, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    def _is_better(self, figure: float) -> bool:
        margin = -self.threshold if self.mode == "min" else self.threshold
        mark = self.best * (1 + margin) if self.threshold_mode == "rel" else self.best + margin
        return figure < mark if self.mode == "min" else figure > mark

    def _reduce(self) -> None:
        groups: list[dict[str, Any]] = self.optimizer.param_groups
        self.min_lrs += self.min_lrs[-1:] * (len(groups) - len(self.min_lrs))  # groups added since
        for group, least in zip(groups, self.min_lrs):
            rate = float(group["lr"])
            reduced = max(rate * self.factor, least)
            if rate - reduced > self.eps:
                group["lr"] = reduced
