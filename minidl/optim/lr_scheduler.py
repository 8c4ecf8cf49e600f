"""Learning-rate schedules: PyTorch's `torch.optim.lr_scheduler`, step by step the same rates.

Call `schedule.step()` after `optimizer.step()`, once an epoch or once a batch, whichever the schedule counts in. What
they share is in `scheduler.py`; `OneCycleLR` is in `one_cycle.py`, `ReduceLROnPlateau` in `plateau.py`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minidl.optim.one_cycle import OneCycleLR
from minidl.optim.optimizer import Optimizer
from minidl.optim.plateau import ReduceLROnPlateau
from minidl.optim.scheduler import LRScheduler, check_positive, checked_optimizer

__all__ = [
    "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "ExponentialLR", "LRScheduler", "LambdaLR",
    "LinearLR", "MultiStepLR", "OneCycleLR", "ReduceLROnPlateau", "SequentialLR", "StepLR",
]


class StepLR(LRScheduler):
    """Multiply the rate by `gamma` every `step_size` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        check_positive(self, "step_size", step_size)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        return self.gamma if self.last_epoch > 0 and self.last_epoch % self.step_size == 0 else 1.0


class MultiStepLR(LRScheduler):
    """Multiply the rate by `gamma` at each epoch in `milestones` (one named twice counts twice)."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        if not isinstance(milestones, Iterable):
            raise TypeError(f"MultiStepLR: milestones is a list of epochs such as [30, 60], not {milestones!r}")
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        return self.gamma ** self.milestones.count(self.last_epoch)


class ConstantLR(LRScheduler):
    """The rate times `factor` for `total_iters` epochs, then the rate itself."""

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1):
        if not 0 < factor <= 1:
            raise ValueError(f"ConstantLR: factor must be above 0 and at most 1, got {factor}")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        if self.last_epoch == 0:
            return self.factor
        return 1 / self.factor if self.last_epoch == self.total_iters else 1.0


class LinearLR(LRScheduler):
    """The rate times a factor that goes straight from `start_factor` to `end_factor` in `total_iters` epochs."""

    def __init__(self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0,
                 total_iters: int = 5, last_epoch: int = -1):
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: start_factor must be above 0 and at most 1, got {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: end_factor must be from 0 to 1, got {end_factor}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        if self.last_epoch == 0:
            return self.start_factor
        if self._is_initial or self.last_epoch > self.total_iters:
            return 1.0
        rise = (self.end_factor - self.start_factor) / self.total_iters
        return 1 + rise / (self.start_factor + rise * (self.last_epoch - 1))


class ExponentialLR(LRScheduler):
    """Multiply the rate by `gamma` every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        return 1.0 if self._is_initial else self.gamma


class LambdaLR(LRScheduler):
    """initial rate x `lr_lambda(epoch)`; one function for all groups, or a list with one for each.

    The functions are not part of `state_dict()`.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
                 last_epoch: int = -1):
        count = len(checked_optimizer(optimizer, self).param_groups)
        self.lr_lambdas: list[Any] = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda] * count
        if not all(map(callable, self.lr_lambdas)):
            raise TypeError("LambdaLR: lr_lambda is a function of the epoch that gives the factor, such as "
                            f"lambda epoch: 0.95**epoch, not {lr_lambda!r}")
        if len(self.lr_lambdas) != count:
            raise ValueError(f"LambdaLR: {len(self.lr_lambdas)} functions for {count} parameter groups")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if len(self.base_lrs) != len(self.lr_lambdas):
            raise ValueError(f"LambdaLR: {len(self.lr_lambdas)} functions for {len(self.base_lrs)} parameter groups; "
                             "a group was added since, so make the schedule anew with last_epoch")
        return [base * function(self.last_epoch) for base, function in zip(self.base_lrs, self.lr_lambdas)]


class CosineAnnealingLR(LRScheduler):
    """eta_min + (initial rate - eta_min) (1 + cos(pi epoch / T_max)) / 2, up again after `T_max`.

    Computed from the rate before, so that it can be chained with other schedules.
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017), without the restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        if not T_max > 0:
            raise ValueError(f"CosineAnnealingLR: T_max must be above 0, got {T_max}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if self._is_initial:
            return rates
        angle = math.pi / self.T_max
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # the rate before is eta_min: no ratio to it
            rise = (1 - math.cos(angle)) / 2
            return [rate + (base - self.eta_min) * rise for rate, base in zip(rates, self.base_lrs)]
        ratio = (1 + math.cos(angle * self.last_epoch)) / (1 + math.cos(angle * (self.last_epoch - 1)))
        return [self.eta_min + (rate - self.eta_min) * ratio for rate in rates]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosine annealing to `eta_min` that starts again after `T_0` epochs, then after `T_mult` times as many, and so on.

    `step(epoch)` takes a fraction too, such as `epoch + batch / batches`.
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017).
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1):
        check_positive(self, "T_0", T_0)
        check_positive(self, "T_mult", T_mult)
        self.T_0, self.T_mult, self.eta_min, self.fraction = T_0, T_mult, eta_min, 0.0
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        since, length = self.last_epoch + self.fraction, self.T_0  # epochs since the last restart, and to the next
        if self.T_mult == 1:
            since %= length
        while since >= length:
            since, length = since - length, length * self.T_mult
        height = (1 + math.cos(math.pi * since / length)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def _restart(self) -> None:
        self.fraction = 0.0
        super()._restart()

    def step(self, epoch: float | None = None) -> None:  # type: ignore[override]
        """Go to the next epoch, or to `epoch`."""
        if epoch is None:
            super().step()
            return
        if not epoch >= 0:
            raise ValueError(f"CosineAnnealingWarmRestarts: epoch must not be negative, got {epoch}")
        self.last_epoch = math.floor(epoch) - 1
        self.fraction = float(epoch - math.floor(epoch))
        self._advance()


class SequentialLR(LRScheduler):
    """One schedule after the other: the next one starts, from its epoch 0, at each epoch in `milestones`.

    Raises ValueError for schedules of another optimiser, for `ReduceLROnPlateau`, and unless there is one milestone
    less than schedules.
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int],
                 last_epoch: int = -1):
        self.optimizer = checked_optimizer(optimizer, self)
        if not schedulers or len(milestones) != len(schedulers) - 1:
            raise ValueError(f"SequentialLR: {len(schedulers)} schedules need {max(len(schedulers) - 1, 0)} "
                             f"milestones, got {len(milestones)}")
        for index, schedule in enumerate(schedulers):
            if not isinstance(schedule, LRScheduler) or isinstance(schedule, ReduceLROnPlateau):
                raise ValueError(f"SequentialLR: schedule {index} is a {type(schedule).__name__}, which cannot stand "
                                 "in a sequence")
            if schedule.optimizer is not optimizer:
                raise ValueError(f"SequentialLR: schedule {index} belongs to another optimiser")
        self._schedulers, self._milestones = list(schedulers), list(milestones)
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self._step_count = 1
        self.last_epoch = last_epoch + 1
        self._restart_at(self.last_epoch)

    def _restart_at(self, epoch: int) -> None:
        current = self._schedulers[bisect_right(self._milestones, epoch)]
        current._restart()
        self._last_lr = current.get_last_lr()

    def _restart(self) -> None:
        self.last_epoch, self._step_count = 0, 1
        self._restart_at(0)

    def _advance(self) -> None:
        self._step_count += 1
        self.last_epoch += 1
        if self.last_epoch in self._milestones:
            self._restart_at(self.last_epoch)
            return
        current = self._schedulers[bisect_right(self._milestones, self.last_epoch)]
        current._advance()
        self._last_lr = current.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """As of any schedule, with the states of its parts in a list."""
        return super().state_dict() | {"_schedulers": [schedule.state_dict() for schedule in self._schedulers]}

    def _check_state(self, state: dict[str, Any]) -> None:
        super()._check_state(state)
        if len(state["_schedulers"]) != len(self._schedulers):
            raise ValueError(f"SequentialLR.load_state_dict: {len(state['_schedulers'])} schedules were saved, this "
                             f"one has {len(self._schedulers)}")
        for schedule, saved in zip(self._schedulers, state["_schedulers"]):
            schedule._check_state(saved)

    def _apply_state(self, state: dict[str, Any]) -> None:
        super()._apply_state({name: value for name, value in state.items() if name != "_schedulers"})
        for schedule, saved in zip(self._schedulers, state["_schedulers"]):
            schedule._apply_state(saved)
