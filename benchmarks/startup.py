"""`startup`: how long until something happens: importing the library, and the first training step of a new process.

Each figure is the time from the start of a child process to the moment it says "now", so the interpreter is in it.
The first step comes warm (compiled kernels are in the cache) and, unless quick, cold (an empty cache).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers import environment
from benchmarks.suite import Settings, Work
from benchmarks.timing import Contestant

NOW = "print('now', flush=True)"
FIRST_STEP = """
import numpy
from benchmarks.twins import TASKS, batch, library, training_step
task, lib = TASKS[2], library({side!r})
training_step(task.network(lib), task, lib, batch(task, numpy.random.default_rng(0)))()
"""


def works(settings: Settings) -> Iterator[Work]:
    """Import; first step warm; first step with nothing compiled yet."""
    sides = ["minidl", *settings.peers]
    if not settings.sample:
        yield Work("import", {side: _process(f"import {side}", settings) for side in sides})
    trained = [side for side in sides if side in ("minidl", "torch")]
    steps = {side: _process(FIRST_STEP.format(side=side), settings) for side in trained}
    yield Work("first training step, CNN 1x28x28, from the start of the process, warm", steps)
    if not settings.quick and settings.threads == 1:
        cold = {side: _process(FIRST_STEP.format(side=side), settings, cold=True) for side in trained}
        yield Work("first training step, CNN 1x28x28, from the start of the process, cold", cold)


def _process(source: str, settings: Settings, cold: bool = False) -> Contestant:
    """A contestant that starts a Python process with `source` and waits until it has come to its end."""

    def run(folder: Any) -> None:
        surroundings = environment(settings.threads)
        if cold:
            surroundings["NUMBA_CACHE_DIR"] = folder.name
        with subprocess.Popen([sys.executable, "-c", source + "\n" + NOW], cwd=Path(__file__).resolve().parents[1],
                              env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            said = child.stdout.readline() if child.stdout else ""
        if said != "now\n":
            raise RuntimeError(f"startup: the child process failed with exit status {child.returncode}")

    return Contestant(run, tempfile.TemporaryDirectory if cold else None)
