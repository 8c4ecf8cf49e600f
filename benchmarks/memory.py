"""Peak memory of a training step, each side in a process of its own: `python -m benchmarks.memory SIDE TASK`.

What counts is how far the process's largest resident set rises above what it was when the library was loaded and had
made a step of a tiny network (so that compiled kernels and thread pools are there): weights, gradients, optimiser
state, activations and work space of three steps. On Linux the figure is VmHWM of /proc: `ru_maxrss` of a child starts
at its parent's, which hides whatever is smaller.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks import recurrent_twins, twins
from benchmarks.peers import environment
from benchmarks.twins import Library, Task, batch, library, training_step

TASKS = (*twins.TASKS, *recurrent_twins.TASKS)
STEPS = 3


def peak_memory(side: str, task_name: str, threads: int) -> float:
    """MiB that training steps of the task take in library `side`, measured in a child process."""
    command = [sys.executable, "-m", "benchmarks.memory", side, task_name]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], env=environment(threads),
                          stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def largest_resident_set() -> float:
    """MiB of memory that this process held at most so far."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 2**10
    resource = import_module("resource")  # bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _tiny(lib: Library, optimizer: str) -> Task:
    nn = lib.nn
    return Task("tiny", lambda _: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3),
        nn.Flatten(), nn.Linear(16, 10)), (2, 3, 8, 8), optimizer)


def _steps(lib: Library, task: Task) -> None:
    step = training_step(task.network(lib), task, lib, batch(task, np.random.default_rng(0)))
    for _ in range(STEPS):
        step()


def main(side: str, task_name: str) -> float:
    """MiB by which the largest resident set rises while the task's network trains for a few steps."""
    task, lib = next(task for task in TASKS if task.name == task_name), library(side)
    _steps(lib, task.warm or _tiny(lib, task.optimizer))
    before = largest_resident_set()
    _steps(lib, task)
    return round(largest_resident_set() - before, 1)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
