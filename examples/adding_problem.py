"""The adding problem: LSTM and GRU carry two numbers over 200 steps, a plain RNN does not.

At each step the network reads a random number and a mark; two steps are marked, one in each half, and at the end it
must say the sum of their numbers (Hochreiter and Schmidhuber 1997). Who always says 1, the mean, has a mean squared
error of 1/6 = 0.1667. Gates start open for times as long as the sequence ("chrono", Tallec and Ollivier 2018): a forget
gate that starts at 1/2 would have lost the first number after 200 steps before there is anything to learn from.
"""

# %%
import argparse
import time

import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import nn, optim

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="shorter sequences, fewer steps, one seed")
parser.add_argument("--length", type=int, default=None, help="steps of a sequence (200; quick: 20)")
parser.add_argument("--steps", type=int, default=None, help="training steps of each network (1,500; quick: 500)")
parser.add_argument("--seeds", type=int, default=None, help="how many seeds (3; quick: 1)")
options = parser.parse_args()
length = options.length or (20 if options.quick else 200)
steps = options.steps or (500 if options.quick else 1500)
seeds = options.seeds or (1 if options.quick else 3)
HIDDEN, BATCH, BASELINE = 64, 64, 1 / 6


def draw(count: int, random: np.random.Generator) -> tuple[minidl.Tensor, minidl.Tensor]:
    """Sequences (N, T, 2) of numbers and marks, and their sums (N, 1)."""
    numbers, marks = random.random((count, length), np.float32), np.zeros((count, length), np.float32)
    rows, half = np.arange(count), length // 2
    for places in (random.integers(0, half, count), random.integers(half, length, count)):
        marks[rows, places] = 1
    sums = (numbers * marks).sum(axis=1, keepdims=True)
    return minidl.from_numpy(np.stack([numbers, marks], axis=2)), minidl.from_numpy(sums)


# %% The network: one recurrent layer, and a dense one on its last state
class Adder(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.recurrent = getattr(nn, kind)(2, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, x):
        states, _ = self.recurrent(x)  # N, T, H
        return self.head(states[:, -1])


def open_gates(layer: nn.Module, random: np.random.Generator) -> None:
    """Let each unit forget after a time of its own, between 1 and the length of the sequence."""
    keep = np.log(random.uniform(1, length - 1, HIDDEN))
    layer.bias_hh_l0.array[...] = 0
    if isinstance(layer, nn.LSTM):
        layer.bias_ih_l0.array[:2 * HIDDEN] = np.concatenate([-keep, keep])  # the gates i and f
    if isinstance(layer, nn.GRU):
        layer.bias_ih_l0.array[HIDDEN:2 * HIDDEN] = keep  # the gate z


# %% Training: every batch is fresh, the error is measured on sequences that were never seen
def train(kind: str, seed: int) -> float:
    minidl.seed(seed)
    random = np.random.default_rng(seed)
    model = Adder(kind)
    open_gates(model.recurrent, random)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        x, sums = draw(BATCH, random)
        optimizer.zero_grad()
        F.mse_loss(model(x), sums).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    x, sums = draw(2000, np.random.default_rng(10_000 + seed))
    with minidl.no_grad():
        return F.mse_loss(model(x), sums).item()


# %% Three kinds of memory
print(f"length {length}, {steps} steps of batch {BATCH}, mean squared error on 2,000 new sequences; always 1: "
      f"{BASELINE:.4f}")
for kind in ("RNN", "LSTM", "GRU"):
    start = time.perf_counter()
    errors = [train(kind, seed) for seed in range(seeds)]
    verdict = "learnt it" if max(errors) < BASELINE / 10 else "did not learn it"
    print(f"{kind:4} {', '.join(f'{error:.5f}' for error in errors)}: {verdict} "
          f"({(time.perf_counter() - start) / seeds:.0f} s a seed)")
