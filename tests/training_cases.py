"""What optimisers and schedules are compared with PyTorch on: options, starting points, gradients, steps.

Used by `golden/make_optimisers.py`, which writes PyTorch's results, and by the tests that compare with them.
A schedule is made by a function of the module `lr_scheduler` (PyTorch's or minidl's) and the optimiser.
"""

from __future__ import annotations

from typing import Any

import numpy as np

STEPS = 20
SHAPES = [(3, 4), (4,), (), (2, 1, 3)]
FROZEN = (1, 3)  # indices of the parameters that are frozen for some of the steps


def is_frozen(index: int, step: int) -> bool:
    """Steps 5 to 10, counted from 1."""
    return index in FROZEN and 5 <= step + 1 <= 10


def start(dtype: Any) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal(shape, np.float32).astype(dtype) if shape else np.asarray(0.5, dtype)
            for shape in SHAPES]


def gradients(step: int, dtype: Any) -> list[np.ndarray]:
    """Gradients of one step: smooth in time, so that momentum matters, and of very different sizes."""
    random = np.random.default_rng(1)
    result = []
    for index, shape in enumerate(SHAPES):
        size, phase = random.standard_normal(shape) * 10.0 ** (index - 2), random.random(shape) * 6
        result.append(np.asarray(size * np.cos(phase + 0.3 * step)).astype(np.float32).astype(dtype))
    return result


OPTIMISERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", dict(lr=0.05)),
    "sgd_momentum": ("SGD", dict(lr=0.05, momentum=0.9)),
    "sgd_dampening": ("SGD", dict(lr=0.05, momentum=0.8, dampening=0.3)),
    "sgd_nesterov": ("SGD", dict(lr=0.05, momentum=0.9, nesterov=True)),
    "sgd_weight_decay": ("SGD", dict(lr=0.05, weight_decay=0.1)),
    "sgd_all": ("SGD", dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1, maximize=True)),
    "adam": ("Adam", dict(lr=0.01)),
    "adam_betas_eps": ("Adam", dict(lr=0.01, betas=(0.7, 0.95), eps=1e-3)),
    "adam_weight_decay": ("Adam", dict(lr=0.01, weight_decay=0.1)),
    "adam_amsgrad": ("Adam", dict(lr=0.01, amsgrad=True)),
    "adam_all": ("Adam", dict(lr=0.01, weight_decay=0.1, amsgrad=True, maximize=True)),
    "adam_decoupled": ("Adam", dict(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True)),
    "adamw": ("AdamW", dict(lr=0.01)),
    "adamw_all": ("AdamW", dict(lr=0.01, weight_decay=0.2, amsgrad=True, maximize=True)),
    "rmsprop": ("RMSprop", dict(lr=0.01)),
    "rmsprop_momentum": ("RMSprop", dict(lr=0.01, momentum=0.9, alpha=0.9)),
    "rmsprop_centered": ("RMSprop", dict(lr=0.01, centered=True)),
    "rmsprop_all": ("RMSprop", dict(lr=0.01, momentum=0.5, centered=True, weight_decay=0.1, maximize=True, eps=1e-4)),
}

FIGURES = [1.0, 0.9, 0.9, 0.91, 0.8999, 0.95, 0.7, 0.7, 0.7, 0.7, float("nan"), 0.7, 0.6, 0.61, 0.62, 0.63, 0.64, 0.65]


def _sequence(module: Any, optimizer: Any) -> Any:
    parts = [module.LinearLR(optimizer, 0.1, total_iters=3), module.ExponentialLR(optimizer, 0.8),
             module.CosineAnnealingLR(optimizer, 5), module.StepLR(optimizer, 2, 0.5)]
    return module.SequentialLR(optimizer, parts, [4, 8, 12])


class _Both:
    """Two schedules on one optimiser, stepped together."""

    def __init__(self, *schedules: Any):
        self.schedules = schedules

    def step(self) -> None:
        for schedule in self.schedules:
            schedule.step()


# name -> (schedule, optimiser, steps, figures for step(), if it takes any)
SCHEDULES: dict[str, tuple[Any, str, int, list[float] | None]] = {
    "step": (lambda m, o: m.StepLR(o, 3, 0.5), "SGD", 10, None),
    "multistep": (lambda m, o: m.MultiStepLR(o, [7, 2, 4, 4], 0.3), "SGD", 10, None),
    "exponential": (lambda m, o: m.ExponentialLR(o, 0.9), "SGD", 10, None),
    "constant": (lambda m, o: m.ConstantLR(o, 0.25, 4), "SGD", 8, None),
    "linear": (lambda m, o: m.LinearLR(o), "SGD", 8, None),
    "linear_down": (lambda m, o: m.LinearLR(o, 1.0, 0.0, 6), "SGD", 8, None),
    "lambda": (lambda m, o: m.LambdaLR(o, lambda epoch: 0.95**epoch), "SGD", 6, None),
    "lambdas": (lambda m, o: m.LambdaLR(o, [lambda epoch: 1 / (1 + epoch), lambda epoch: epoch / 4]), "SGD", 6, None),
    "cosine": (lambda m, o: m.CosineAnnealingLR(o, 7, 0.01), "SGD", 25, None),
    "warm_restarts": (lambda m, o: m.CosineAnnealingWarmRestarts(o, 3, 2, 0.001), "SGD", 24, None),
    "warm_restarts_even": (lambda m, o: m.CosineAnnealingWarmRestarts(o, 4), "SGD", 13, None),
    "warm_restarts_fraction": (lambda m, o: m.CosineAnnealingWarmRestarts(o, 2, 2), "SGD", 9,
                               [0.25, 0.5, 1.75, 2.0, 2.5, 5.5, 6.0, 9.25, 13.5]),
    "sequence": (_sequence, "SGD", 18, None),
    "two_at_once": (lambda m, o: _Both(m.ExponentialLR(o, 0.9), m.StepLR(o, 2, 0.5)), "SGD", 8, None),
    "one_cycle": (lambda m, o: m.OneCycleLR(o, 0.5, total_steps=20), "SGD", 20, None),
    "one_cycle_linear": (lambda m, o: m.OneCycleLR(o, [0.5, 1.0], epochs=4, steps_per_epoch=5, anneal_strategy="linear",
                                                   pct_start=0.4), "SGD", 20, None),
    "one_cycle_three": (lambda m, o: m.OneCycleLR(o, 0.5, total_steps=20, three_phase=True, div_factor=10.0,
                                                  final_div_factor=100.0), "Adam", 20, None),
    "one_cycle_betas": (lambda m, o: m.OneCycleLR(o, 0.5, total_steps=12, base_momentum=[0.8, 0.7],
                                                  max_momentum=0.9), "AdamW", 12, None),
    "one_cycle_lr_only": (lambda m, o: m.OneCycleLR(o, 0.5, total_steps=12, cycle_momentum=False), "SGD", 12, None),
    "plateau": (lambda m, o: m.ReduceLROnPlateau(o, patience=1, factor=0.5), "SGD", 18, FIGURES),
    "plateau_max": (lambda m, o: m.ReduceLROnPlateau(o, "max", patience=2, cooldown=2, threshold=0.02,
                                                     min_lr=[0.02, 0.1]), "SGD", 18, FIGURES),
    "plateau_cooldown": (lambda m, o: m.ReduceLROnPlateau(o, patience=1, cooldown=2), "SGD", 18, [1.0] * 18),
    "plateau_abs": (lambda m, o: m.ReduceLROnPlateau(o, patience=0, threshold=0.05, threshold_mode="abs", eps=0.02,
                                                     factor=0.7), "SGD", 18, FIGURES),
}

CLIPPINGS: list[tuple[str, tuple]] = [
    ("clip_grad_norm_", (1.0,)),
    ("clip_grad_norm_", (1e6,)),
    ("clip_grad_norm_", (0.5, 1.0)),
    ("clip_grad_norm_", (0.5, 3.5)),
    ("clip_grad_norm_", (0.1, float("inf"))),
    ("clip_grad_value_", (0.3,)),
]


def clipping_gradients() -> list[np.ndarray]:
    return gradients(0, np.float64)
