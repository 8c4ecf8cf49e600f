"""OneCycleLR: the rate up to a high value and far down again in one run, the momentum the other way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minidl.optim.optimizer import Optimizer
from minidl.optim.scheduler import LRScheduler, check_positive, checked_optimizer

ANNEALING = {
    "cos": lambda start, end, part: end + (start - end) * (1 + math.cos(math.pi * part)) / 2,
    "linear": lambda start, end, part: start + (end - start) * part,
}


class OneCycleLR(LRScheduler):
    """From max_lr / div_factor up to `max_lr`, then down to that start / final_div_factor. Step it once a batch.

    total_steps: the number of batches in the run, or give `epochs` and `steps_per_epoch`.
    pct_start: the part of the run in which the rate rises.
    anneal_strategy: "cos" or "linear".
    cycle_momentum: move momentum (or the first of `betas`) from `max_momentum` to `base_momentum` and back.
    three_phase: come down to the start first, and in a third phase to the end.
    max_lr, base_momentum, max_momentum: one number, or a list with one for each group.
    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates" (2019).

    Raises ValueError for wrong arguments and for more steps than `total_steps`.
    """

    def __init__(self, optimizer: Optimizer, max_lr: float | Sequence[float], total_steps: int | None = None,
                 epochs: int | None = None, steps_per_epoch: int | None = None, pct_start: float = 0.3,
                 anneal_strategy: str = "cos", cycle_momentum: bool = True,
                 base_momentum: float | Sequence[float] = 0.85, max_momentum: float | Sequence[float] = 0.95,
                 div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False,
                 last_epoch: int = -1):
        defaults = checked_optimizer(optimizer, self).defaults
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
            check_positive(self, "epochs", epochs)
            check_positive(self, "steps_per_epoch", steps_per_epoch)
            total_steps = epochs * steps_per_epoch
        check_positive(self, "total_steps", total_steps)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must be from 0 to 1, got {pct_start}")
        if anneal_strategy not in ANNEALING:
            raise ValueError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        if cycle_momentum and not {"momentum", "betas"} & set(defaults):
            raise ValueError(f"OneCycleLR: {type(optimizer).__name__} has neither momentum nor betas; "
                             "use cycle_momentum=False")
        self.total_steps, self.pct_start, self.three_phase = total_steps, pct_start, three_phase
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        self.use_beta1 = "betas" in defaults
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, self._each(optimizer, "max_lr", max_lr)):
                start = rate / div_factor
                group.update(initial_lr=start, max_lr=rate, min_lr=start / final_div_factor)
            if cycle_momentum:
                high, low = (self._each(optimizer, name, values) for name, values in (
                    ("max_momentum", max_momentum), ("base_momentum", base_momentum)))
                for group, most, least in zip(optimizer.param_groups, high, low):
                    group.update(max_momentum=most, base_momentum=least)
        super().__init__(optimizer, last_epoch)

    def _each(self, optimizer: Optimizer, name: str, value: Any) -> list[float]:
        count = len(optimizer.param_groups)
        values = list(value) if isinstance(value, (list, tuple)) else [value] * count
        if len(values) != count:
            raise ValueError(f"OneCycleLR: {len(values)} values of {name} for {count} parameter groups")
        return [float(number) for number in values]

    def _phases(self) -> list[tuple[float, str, str, str, str]]:
        """Last step, first and last rate, first and last momentum of each phase; the names are keys of a group."""
        rise = self.pct_start * self.total_steps
        up = (rise - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        if not self.three_phase:
            return [up, (self.total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum")]
        return [up, (2 * rise - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"),
                (self.total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum")]

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"OneCycleLR: this is step {self.last_epoch}, the cycle has {self.total_steps}; "
                             "give the number of epochs times the number of batches in an epoch as total_steps")
        begin = 0.0
        *earlier, phase = self._phases()
        for candidate in earlier:
            if self.last_epoch <= candidate[0]:
                phase = candidate
                break
            begin = candidate[0]
        end, *names = phase
        part = (self.last_epoch - begin) / (end - begin) if end != begin else 1.0
        anneal = ANNEALING[self.anneal_strategy]
        rates = []
        for index, group in enumerate(self.optimizer.param_groups):
            if "max_lr" not in group:
                raise ValueError(f"OneCycleLR: group {index} was added after the schedule was made and has no max_lr; "
                                 "make a new schedule")
            rates.append(anneal(group[names[0]], group[names[1]], part))
            if self.cycle_momentum:
                momentum = anneal(group[names[2]], group[names[3]], part)
                group.update({"betas": (momentum, group["betas"][1])} if self.use_beta1 else {"momentum": momentum})
        return rates
