"""The transformers of the benchmark suite: tiny ones, alone and beside their twins where PyTorch is installed."""

from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import transformers
from benchmarks.suite import largest_difference


@pytest.mark.parametrize("task", transformers.TASKS, ids=lambda task: task.name.split(",")[0])
def test_tiny_tasks_run_and_their_twins_compute_the_same(task):
    model, run = transformers._made(task, "minidl", 3, shrunk=True)
    turn = transformers._first_compared(model, run)
    compared = turn(None)
    assert np.isfinite(compared).all() and len(compared) == transformers.STEPS_COMPARED
    again = transformers._made(task, "minidl", 3, shrunk=True)
    assert np.array_equal(transformers._first_compared(*again)(None), compared)
    if "training" in task.name:
        assert model.training and turn(None) != compared[-1]
    if find_spec("torch") is None:
        return
    theirs = transformers._first_compared(*transformers._made(task, "torch", 3, shrunk=True))(None)
    assert largest_difference(compared, theirs) < 1e-5


def test_memory_is_measured_from_what_the_process_holds_now(monkeypatch):
    big = np.ones(2**25, np.float32)  # 128 MiB, forgotten before the task begins
    del big
    held = []

    def make(side, generator, shrunk):
        size = 2**10 if shrunk else 2**24  # 64 MiB

        class Model:
            def train(self, mode):
                held.append(np.ones(size, np.float32))

        return Model(), lambda: None

    monkeypatch.setattr(transformers, "TASKS", (transformers.Task("some", make),))
    assert 60 <= transformers.main("minidl", "some") <= 80
