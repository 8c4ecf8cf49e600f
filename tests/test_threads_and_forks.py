"""Whole trainings in several Python threads and in forked children: the bits of a run alone."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import nn, optim, random
from minidl.train import Trainer
from minidl.transfer import freeze

ROOT = Path(__file__).resolve().parents[1]


class Reader(nn.Module):
    """An LSTM and what its last state says."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 24, num_layers=2, dropout=0.2, batch_first=True)
        self.out = nn.Linear(24, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def convolutional():
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Dropout2d(0.2),
                         nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
                         nn.Linear(16 * 6 * 6, 3))


def trained(kind, seed):
    """Everything that a training leaves behind, by name."""
    data = np.random.default_rng(seed)
    shape = (96, 3, 16, 16) if kind == "cnn" else (96, 17, 6)
    inputs, target = data.standard_normal(shape).astype(np.float32), data.integers(3, size=96)
    with random.using(np.random.default_rng(seed)):
        model = convolutional() if kind == "cnn" else Reader()
        if seed == 4:
            freeze(model, "lstm")
        optimizer = optim.Adam(model.named_parameters(), lr=0.01)
        trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer)
        history = trainer.fit((inputs, target), (inputs, target), epochs=2, batch_size=32, progress=False)
    left = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    left |= {"losses": np.array([history["loss"], history["validation_loss"]]), "predicted": trainer.predict(inputs)}
    return left


RUNS = [("cnn", 1), ("lstm", 2), ("cnn", 3), ("lstm", 4)]


def same(left, other):
    return left.keys() == other.keys() and all(np.array_equal(left[name], other[name]) for name in left)


def test_four_trainers_in_four_threads_equal_the_serial_runs():
    minidl.seed(5)
    wanted = minidl.rand(4).tolist()
    minidl.seed(5)
    alone = [trained(*run) for run in RUNS]
    assert not np.array_equal(alone[0]["losses"], alone[2]["losses"])
    found, start = {}, threading.Barrier(len(RUNS))

    def work(number):
        start.wait()
        found[number] = trained(*RUNS[number])

    for _ in range(2):
        found.clear()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(RUNS))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [same(found[number], alone[number]) for number in range(len(RUNS))] == [True] * len(RUNS)
    assert minidl.rand(4).tolist() == wanted  # none of them drew from the shared generator


FORK = """
import os, sys, threading
sys.path.insert(0, "tests")
from test_threads_and_forks import RUNS, same, trained
alone = [trained(*run) for run in RUNS[:2]]
training = threading.Event()
def busy():
    while not training.is_set():
        trained(*RUNS[2])
thread = threading.Thread(target=busy)
thread.start()
for _ in range(3):
    child = os.fork()
    if not child:
        os._exit(0 if all(same(trained(*run), left) for run, left in zip(RUNS, alone)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert same(trained(*RUNS[0]), alone[0])
training.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_in_the_middle_of_training_trains_to_the_same_bits():
    done = subprocess.run([sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", FORK], cwd=ROOT,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_generator_in_use_belongs_to_its_thread_and_its_block():
    minidl.seed(1)
    first = minidl.rand(3).tolist()
    minidl.seed(1)
    seen = {}
    with random.using(np.random.default_rng(2)):
        inner = minidl.rand(3).tolist()
        thread = threading.Thread(target=lambda: seen.update(other=minidl.rand(3).tolist()))
        thread.start()
        thread.join()
        with random.preserved():
            minidl.seed(2)
            assert minidl.rand(3).tolist() == inner
        minidl.seed(2)
        assert minidl.rand(3).tolist() == inner
    assert seen["other"] == first != inner
    with pytest.raises(KeyError), random.using(np.random.default_rng(2)):
        raise KeyError
    minidl.seed(1)
    assert minidl.rand(3).tolist() == first
