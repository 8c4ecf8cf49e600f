"""`training`: whole training steps, in time and in memory, and 200 tiny operations, which measure the engine itself.

Both sides start from the same weights and see the same batch; the losses of their first steps are compared before
anything is timed. Peak memory is measured in a child process a side, see `memory.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.memory import peak_memory
from benchmarks.suite import Settings, Work
from benchmarks.timing import Contestant
from benchmarks.twins import TASKS, Library, Task, batch, library, training_step, twin

STEPS_COMPARED = 2
SAMPLE = slice(0, 6, 2)
QUICK_MEMORY = "CNN 1x28x28, batch 32"  # the only task whose memory is measured by `training --quick`
LOSS_TOLERANCE = 1e-3  # of the loss after one update: rounding of the first step is carried on by the second


def works(settings: Settings) -> Iterator[Work]:
    """The networks of `twins.TASKS`, the slow ones only when not quick, and the tiny operations."""
    for task in TASKS[SAMPLE] if settings.sample else TASKS:
        if not (settings.quick and task.slow):
            yield step_work(task, settings, _measures_memory(task, settings))
    yield _tiny_operations(settings)


def _measures_memory(task: Task, settings: Settings) -> bool:
    few = settings.quick and (settings.threads > 1 or task.name != QUICK_MEMORY)
    return not (settings.sample or few)


def step_work(task: Task, settings: Settings, memory: bool) -> Work:
    """The row of a training step of the task, with its peak memory if wanted."""
    minidl = library("minidl")
    model, data = task.network(minidl), batch(task, settings.generator)
    steps = {"minidl": training_step(model, task, minidl, data)}
    sides = ["minidl"]
    if "torch" in settings.peers:
        torch = library("torch")
        steps["torch"] = training_step(twin(model, task, torch), task, torch, data)
        sides.append("torch")

    def facts() -> dict[str, Any]:
        if not memory:
            return {}
        return {"peak_memory_mb": {side: peak_memory(side, task.name, settings.threads) for side in sides}}

    contestants = {side: Contestant(_losses_at_first(step)) for side, step in steps.items()}
    return Work(f"training step: {task.name}, {task.optimizer}", contestants, tolerance=LOSS_TOLERANCE, facts=facts)


def _losses_at_first(step: Any) -> Any:
    """A function that makes several steps when first called, whose losses are compared, and then one a call."""
    called = []

    def run(_: None) -> np.ndarray | float:
        if called:
            return step()
        called.append(True)
        return np.array([step() for _ in range(STEPS_COMPARED)])

    return run


def _tiny_operations(settings: Settings) -> Work:
    array = settings.normal(4, 4)
    sides = [library(name) for name in ("minidl", "torch") if name == "minidl" or name in settings.peers]
    return Work("200 tiny operations (4 x 4), forward and backward",
                {lib.name: Contestant(_chain(lib, array)) for lib in sides})


def _chain(lib: Library, array: np.ndarray) -> Any:
    x = lib.tensor(array, requires_grad=True)

    def run(_: None) -> Any:
        x.grad = None
        y = x
        for _ in range(50):
            y = lib.torch.tanh(y * 0.9 + x).abs()  # four operations
        y.sum().backward()
        return x.grad

    return run
