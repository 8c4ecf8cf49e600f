"""Memory over a long run, and more of it than there is: trainings leave it flat, what cannot be had raises."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import nn

ROOT = Path(__file__).resolve().parents[1]
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MEASURE = """
import gc, re, sys
import minidl
from minidl import nn, optim
from minidl.train import Trainer

def resident():
    gc.collect()
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

def train(steps):
    trainer.fit(data, epochs=steps // 100, batch_size=16, progress=False)

def operate(count):
    x, w = minidl.ones(4), minidl.ones(4, requires_grad=True)
    for _ in range(count // 5):
        ((x * w + x).relu().sum() * 2).backward()  # five operations
        w.grad = None

minidl.seed(0)
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2),
                      nn.Linear(8 * 9 * 9, 10))
trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.named_parameters()))
data = minidl.randn(1600, 1, 20, 20), minidl.randint(0, 10, (1600,))
work, count = {"steps": train, "operations": operate}[sys.argv[1]], int(sys.argv[2])
work(max(200, count // 5))  # what is loaded and cached at first
before = resident()
work(count)
print(resident() - before)
"""


def growth(*arguments):
    """By how many kB the process has grown."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *map(str, arguments)], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@linux
@pytest.mark.parametrize("work, count", [
    ("steps", 500), ("operations", 50_000),
    pytest.param("steps", 10_000, marks=pytest.mark.slow),
    pytest.param("operations", 1_000_000, marks=pytest.mark.slow),
])
def test_resident_memory_stays_flat(work, count):
    assert growth(work, count) < 256


def columns():
    return minidl.ones(10_000_000, 1), minidl.ones(1, 10_000_000)


@pytest.mark.parametrize("ask", [
    lambda: minidl.zeros(10**14),
    lambda: minidl.randn(10**7, 10**7),
    lambda: nn.Linear(10**7, 10**7),
    lambda: columns()[0] @ columns()[1],
    lambda: columns()[0] + columns()[1],
    lambda: minidl.ones(1).expand(10**14).sigmoid(),
    lambda: nn.functional.dropout(minidl.ones(1).expand(10**7, 10**7), 0.5),
    lambda: nn.functional.conv2d(minidl.ones(1, 1, 1, 1), minidl.ones(1, 1, 1, 1), padding=5_000_000),
    lambda: nn.functional.interpolate(minidl.ones(1, 1, 1, 1), size=(10**7, 10**7)),
], ids=["zeros", "randn", "linear", "matmul", "broadcast", "sigmoid", "dropout", "conv2d", "interpolate"])
def test_four_hundred_terabytes_raise_and_the_next_operation_works(ask):
    with pytest.raises(MemoryError, match=r"\d+\.? TiB"):
        ask()
    x = minidl.randn(300, 300, requires_grad=True)
    (x @ x).sigmoid().sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
