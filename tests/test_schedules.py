"""Learning-rate schedules: the rate of every step equals PyTorch's; saving, going on, and errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from training_cases import SCHEDULES

from minidl import nn, optim
from minidl.optim import lr_scheduler

GOLDEN = np.load(Path(__file__).with_name("golden") / "optimisers.npz")


def new_optimizer(kind="SGD"):
    parameters = [nn.Parameter(np.zeros(2, np.float32)) for _ in range(2)]
    extra = {"momentum": 0.9} if kind == "SGD" else {}
    groups = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.3}]
    optimizer = getattr(optim, kind)(groups, lr=0.1, **extra)
    optimizer.step()  # so that no schedule complains about the order of the calls
    return optimizer


def row(optimizer):
    groups = optimizer.param_groups
    momenta = [group["betas"][0] if "betas" in group else group["momentum"] for group in groups]
    return [group["lr"] for group in groups] + momenta


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_equal_pytorch(name):
    make, kind, steps, figures = SCHEDULES[name]
    optimizer = new_optimizer(kind)
    schedule = make(lr_scheduler, optimizer)
    rows = [row(optimizer)]
    for step in range(steps):
        schedule.step(*([figures[step]] if figures else []))
        rows.append(row(optimizer))
        assert all(isinstance(group["lr"], float) for group in optimizer.param_groups)
        if hasattr(schedule, "get_last_lr"):
            assert schedule.get_last_lr() == rows[-1][:2]
            assert schedule.last_epoch == (step + 1 if name != "warm_restarts_fraction" else int(figures[step]))
    np.testing.assert_allclose(rows, GOLDEN[f"{name}/rates"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "two_at_once"])
def test_saved_state_continues_the_schedule(name):
    """Through JSON, as a checkpoint would keep it; only the functions of LambdaLR come from the code."""
    make, kind, steps, figures = SCHEDULES[name]
    first, second = new_optimizer(kind), new_optimizer(kind)
    one, two = make(lr_scheduler, first), make(lr_scheduler, second)
    for step in range(steps):
        if step == steps // 2:
            two.load_state_dict(json.loads(json.dumps(one.state_dict())))
            second.load_state_dict(first.state_dict())
        one.step(*([figures[step]] if figures else []))
        if step >= steps // 2:
            two.step(*([figures[step]] if figures else []))
            assert row(second) == row(first)
            assert two.get_last_lr() == one.get_last_lr()


@pytest.mark.parametrize("name", ["step", "exponential", "linear", "cosine", "one_cycle"])
def test_last_epoch_goes_on_from_a_loaded_optimiser(name):
    """Without the schedule's own state: made in epoch 5 with last_epoch=4, after 4 steps of the first schedule."""
    make = {"step": lambda o, e: lr_scheduler.StepLR(o, 3, 0.5, last_epoch=e),
            "exponential": lambda o, e: lr_scheduler.ExponentialLR(o, 0.9, last_epoch=e),
            "linear": lambda o, e: lr_scheduler.LinearLR(o, 0.1, total_iters=8, last_epoch=e),
            "cosine": lambda o, e: lr_scheduler.CosineAnnealingLR(o, 9, last_epoch=e),
            "one_cycle": lambda o, e: lr_scheduler.OneCycleLR(o, 0.5, total_steps=12, last_epoch=e)}[name]
    first, second = new_optimizer(), new_optimizer()
    one = make(first, -1)
    for _ in range(5):
        one.step()
    second.load_state_dict(first.state_dict())
    two = make(second, 4)
    assert (two.last_epoch, row(second)) == (5, row(first))
    one.step()
    two.step()
    np.testing.assert_allclose(row(second), row(first), rtol=1e-12)


def test_initial_lr_is_kept_in_the_groups():
    optimizer = new_optimizer()
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    schedule.step()
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.3] == schedule.base_lrs


def test_a_group_added_later_is_scheduled_too():
    optimizer = new_optimizer()
    schedule = lr_scheduler.StepLR(optimizer, 1, 0.5)
    optimizer.add_param_group({"params": [nn.Parameter(np.zeros(1))], "lr": 8.0})
    schedule.step()
    np.testing.assert_allclose(schedule.get_last_lr(), [0.05, 0.15, 4.0])


def test_wrong_order_of_calls_warns_once():
    optimizer = optim.SGD([nn.Parameter(np.zeros(1))], lr=0.1)
    schedule = lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match="before optimizer.step") as caught:
        schedule.step()
        schedule.step()
    assert len(caught) == 1


def test_a_custom_schedule_needs_only_get_lr():
    class Halving(lr_scheduler.LRScheduler):
        def get_lr(self):
            return [base / 2**self.last_epoch for base in self.base_lrs]

    optimizer = new_optimizer()
    schedule = Halving(optimizer)
    schedule.step()
    assert schedule.get_last_lr() == [0.05, 0.15]
    with pytest.raises(NotImplementedError, match="get_lr"):
        lr_scheduler.LRScheduler(optimizer)


def test_state_of_another_schedule_is_refused_and_changes_nothing():
    optimizer = new_optimizer()
    schedule = lr_scheduler.StepLR(optimizer, 3)
    before = schedule.state_dict()
    saved = lr_scheduler.ExponentialLR(optimizer, 0.9).state_dict()
    with pytest.raises(ValueError, match="'step_size' is missing"):
        schedule.load_state_dict({**saved, "last_epoch": 7})
    assert schedule.state_dict() == before
    parts = [lr_scheduler.StepLR(optimizer, 2), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    sequence = lr_scheduler.SequentialLR(optimizer, parts, [3])
    broken = {**sequence.state_dict(), "last_epoch": 9, "_schedulers": [before, {}]}
    with pytest.raises(ValueError, match="ExponentialLR"):
        sequence.load_state_dict(broken)
    assert sequence.last_epoch == 0


@pytest.mark.parametrize("build, error, message", [
    (lambda o: lr_scheduler.StepLR("sgd", 3), TypeError, "must be an optimiser, got a str"),
    (lambda o: lr_scheduler.StepLR(o, 0), ValueError, "step_size must be a whole number from 1"),
    (lambda o: lr_scheduler.StepLR(o, 3, last_epoch=5), KeyError, "load the optimiser's state first"),
    (lambda o: lr_scheduler.LinearLR(o, 0.0), ValueError, "start_factor"),
    (lambda o: lr_scheduler.LinearLR(o, end_factor=1.5), ValueError, "end_factor"),
    (lambda o: lr_scheduler.ConstantLR(o, 0), ValueError, "factor"),
    (lambda o: lr_scheduler.LambdaLR(o, [abs]), ValueError, "1 functions for 2 parameter groups"),
    (lambda o: lr_scheduler.CosineAnnealingLR(o, 0), ValueError, "T_max"),
    (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 1.5), ValueError, "T_0"),
    (lambda o: lr_scheduler.OneCycleLR(o, 0.1), ValueError, "total_steps, or epochs and steps_per_epoch"),
    (lambda o: lr_scheduler.OneCycleLR(o, 0.1, 5, pct_start=2), ValueError, "pct_start"),
    (lambda o: lr_scheduler.OneCycleLR(o, 0.1, 5, anneal_strategy="sin"), ValueError, "'cos' or 'linear', got 'sin'"),
    (lambda o: lr_scheduler.OneCycleLR(o, [0.1], 5), ValueError, "1 values of max_lr for 2 parameter groups"),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o, "best"), ValueError, "mode"),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), ValueError, "factor"),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=[0.1]), ValueError, "min_lr"),
    (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [1]), ValueError, "need 0 milestones"),
    (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.ReduceLROnPlateau(o)], []), ValueError, "ReduceLROnPlateau"),
    (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(new_optimizer(), 1)], []), ValueError, "another"),
])
def test_bad_arguments_are_explained(build, error, message):
    with pytest.raises(error, match=message):
        build(new_optimizer())


def test_one_cycle_says_when_it_is_over():
    schedule = lr_scheduler.OneCycleLR(new_optimizer(), 0.1, total_steps=3)
    for _ in range(3):
        schedule.step()
    with pytest.raises(ValueError, match="step 4, the cycle has 3"):
        schedule.step()
