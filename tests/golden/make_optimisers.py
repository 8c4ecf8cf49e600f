"""Make optimisers.npz: 20 steps of PyTorch's optimisers, and the rates of its schedules.

Run with PyTorch 2.13 installed: `python tests/golden/make_optimisers.py`. What is run is listed in
`tests/training_cases.py`; `tests/test_optim.py` and `tests/test_schedules.py` only read the file.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from training_cases import (  # noqa: E402
    CLIPPINGS,
    OPTIMISERS,
    SCHEDULES,
    SHAPES,
    STEPS,
    clipping_gradients,
    gradients,
    is_frozen,
    start,
)


def trajectory(optimiser: str, options: dict, dtype: np.dtype) -> np.ndarray:
    """All parameters after each step, joined: (steps, elements)."""
    parameters = [torch.tensor(x, requires_grad=True) for x in start(dtype)]
    groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 3 * options["lr"]}]
    optimizer = getattr(torch.optim, optimiser)(groups, **options)
    states = []
    for step in range(STEPS):
        for index, (parameter, gradient) in enumerate(zip(parameters, gradients(step, dtype))):
            frozen = is_frozen(index, step)
            parameter.requires_grad_(not frozen)
            parameter.grad = None if frozen else torch.tensor(gradient)
        optimizer.step()
        states.append(np.concatenate([parameter.detach().numpy().ravel() for parameter in parameters]))
    return np.stack(states)


def rates(make, optimiser: str, steps: int, figures: list[float] | None) -> np.ndarray:
    """Learning rate of both groups, and momentum or first beta, before each step: (steps + 1, 4)."""
    parameters = [torch.zeros(2, requires_grad=True) for _ in range(2)]
    extra = {"momentum": 0.9} if optimiser == "SGD" else {}
    optimizer = getattr(torch.optim, optimiser)([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.3}],
                                                lr=0.1, **extra)
    schedule = make(torch.optim.lr_scheduler, optimizer)
    rows = []
    for step in range(steps + 1):
        groups = optimizer.param_groups
        momenta = [group["betas"][0] if "betas" in group else group["momentum"] for group in groups]
        rows.append([group["lr"] for group in groups] + momenta)
        optimizer.step()
        if step < steps:
            schedule.step(*([figures[step]] if figures else []))
    return np.array(rows)


def clipped(name: str, arguments: tuple) -> dict[str, np.ndarray]:
    parameters = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]
    for parameter, gradient in zip(parameters, clipping_gradients()):
        parameter.grad = torch.tensor(gradient)
    norm = getattr(torch.nn.utils, name)(parameters, *arguments)
    key = f"{name}{arguments}"
    values = {f"{key}/gradients": np.concatenate([parameter.grad.numpy().ravel() for parameter in parameters])}
    return values if norm is None else {f"{key}/norm": norm.numpy(), **values}


def main() -> None:
    values: dict[str, np.ndarray] = {}
    for name, (optimiser, options) in OPTIMISERS.items():
        values[f"{name}/float64"] = trajectory(optimiser, options, np.float64)
        values[f"{name}/float32"] = trajectory(optimiser, options, np.float32)[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, about epochs given to step()
        for name, (make, optimiser, steps, figures) in SCHEDULES.items():
            values[f"{name}/rates"] = rates(make, optimiser, steps, figures)
    for name, arguments in CLIPPINGS:
        values |= clipped(name, arguments)
    path = Path(__file__).with_name("optimisers.npz")
    np.savez_compressed(path, **values)
    print(f"{len(values)} arrays, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
