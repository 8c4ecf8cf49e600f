"""LRScheduler: what all learning-rate schedules share. Read `lr_scheduler.py` next, for the schedules themselves.

A schedule changes `group["lr"]` of its optimiser and nothing else (`OneCycleLR` also the momentum). Most multiply the
current rate by a factor, so that several can act on one optimiser.
"""

from __future__ import annotations

import warnings
from typing import Any

from minidl.errors import did_you_mean
from minidl.optim.optimizer import Optimizer


class LRScheduler:
    """Base class: counts steps in `last_epoch` (0 after construction) and sets the rate of every parameter group.

    A subclass defines `_factor()`, by which the current rates are multiplied, or `get_lr()`, the rates themselves.
    Each group keeps the rate it started with as "initial_lr"; `base_lrs` lists them.
    last_epoch: -1 to begin, else the epoch to go on from, for an optimiser whose state was loaded.

    Raises TypeError without an optimiser, KeyError if `last_epoch` is given and a group has no "initial_lr".
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        self.optimizer = checked_optimizer(optimizer, self)
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", float(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(f"{self._name}: last_epoch={last_epoch} goes on with an earlier schedule, but group "
                               f"{index} has no 'initial_lr'; load the optimiser's state first, or leave last_epoch "
                               "out")
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _initial_step(self) -> None:
        self._step_count = 0
        self._advance()

    def _restart(self) -> None:
        """Begin again at epoch 0 from the initial rates."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self.last_epoch = -1
        self._initial_step()

    def _advance(self) -> None:
        self._step_count += 1
        self.last_epoch += 1
        for group in self.optimizer.param_groups[len(self.base_lrs):]:  # added since the schedule was made
            self.base_lrs.append(float(group.setdefault("initial_lr", float(group["lr"]))))
        for group, rate in zip(self.optimizer.param_groups, self.get_lr()):
            group["lr"] = rate
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    @property
    def _is_initial(self) -> bool:
        """Whether this is the step made in the constructor, whose rate the loaded optimiser has already."""
        return self._step_count == 1

    def _factor(self) -> float:
        """By what the current rates are multiplied to give those of `last_epoch`."""
        raise NotImplementedError(f"{self._name} must define _factor() or get_lr()")

    def get_lr(self) -> list[float]:
        """The rates of `last_epoch`, one a group, from those of the epoch before. To look, use `get_last_lr()`."""
        factor = self._factor()
        return [float(group["lr"]) * factor for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The rates that were set last, one a group."""
        return list(self._last_lr)

    def step(self) -> None:
        """Go to the next epoch (or batch) and set its rates."""
        if self._step_count == 1 and not self.optimizer.has_stepped:
            warnings.warn(f"{self._name}: schedule.step() was called before optimizer.step(), so the first rate of "
                          "the schedule is never used; call optimizer.step() first", stacklevel=2)
        self._advance()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser and functions, as plain numbers and lists."""
        return {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in vars(self).items()
                if name not in ("optimizer", "lr_lambdas", "_schedulers")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict()` was taken. The rates themselves come with the optimiser's state.

        Raises ValueError, and changes nothing, if it is not the state of such a schedule.
        """
        self._check_state(state_dict)
        self._apply_state(state_dict)

    def _check_state(self, state: dict[str, Any]) -> None:
        own = self.state_dict()
        problems = [f"'{name}' is missing" for name in own if name not in state]
        problems += [f"'{name}' is unknown{did_you_mean(name, own)}" for name in state if name not in own]
        if problems:
            raise ValueError(f"{self._name}.load_state_dict: this is no state of a {self._name}: "
                             + "; ".join(problems))

    def _apply_state(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, list(value) if isinstance(value, (list, tuple)) else value)


def checked_optimizer(optimizer: Any, schedule: Any) -> Optimizer:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(schedule).__name__}: the first argument must be an optimiser, "
                        f"got a {type(optimizer).__name__}")
    return optimizer


def check_positive(schedule: Any, name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a whole number from 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{type(schedule).__name__}: {name} must be a whole number from 1, got {value!r}")
