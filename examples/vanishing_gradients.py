"""Vanishing gradients, made visible: how much of the loss at the end reaches the hidden state of each step before it.

dL/dh_t is the product of the Jacobians of all steps after t. In a plain RNN each one shrinks it, so that what happened
100 steps ago has no part in learning (Hochreiter 1991; Bengio, Simard and Frasconi 1994). LSTM and GRU pass their state
on through a gate: while it is open, the gradient passes too. Drawn for networks as they start, for LSTM and GRU
whose gates start open, and for the same networks after some training on the adding problem (adding_problem.py).
"""

# %%
import argparse
import copy
from pathlib import Path

import matplotlib
import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import nn, optim

matplotlib.use("Agg")
import matplotlib.pyplot as pyplot  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="hardly any training")
parser.add_argument("--length", type=int, default=100, help="steps of a sequence")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--picture", type=Path, default=Path("vanishing_gradients.png"))
options = parser.parse_args()
length, steps = options.length, 20 if options.quick else 500
HIDDEN, BATCH = 64, 64
random = np.random.default_rng(options.seed)
minidl.seed(options.seed)


def draw(count: int) -> tuple[minidl.Tensor, minidl.Tensor]:
    """Sequences (T, N, 2) of numbers and marks, and the sums (N, 1) of the two numbers that are marked."""
    numbers, marks = random.random((length, count), np.float32), np.zeros((length, count), np.float32)
    columns, half = np.arange(count), length // 2
    for places in (random.integers(0, half, count), random.integers(half, length, count)):
        marks[places, columns] = 1
    sums = (numbers * marks).sum(axis=0)[:, None]
    return minidl.from_numpy(np.stack([numbers, marks], axis=2)), minidl.from_numpy(sums)


def network(kind: str, gates_open: bool = False) -> nn.ModuleDict:
    model = nn.ModuleDict({"recurrent": getattr(nn, kind)(2, HIDDEN), "head": nn.Linear(HIDDEN, 1)})
    if gates_open:  # units that forget after 1 to T steps, as in adding_problem.py
        keep, bias = np.log(random.uniform(1, length - 1, HIDDEN)), model["recurrent"].bias_ih_l0.array
        model["recurrent"].bias_hh_l0.array[...] = 0
        bias[HIDDEN:2 * HIDDEN] = keep  # the forget gate of an LSTM, the gate z of a GRU
        if kind == "LSTM":
            bias[:HIDDEN] = -keep
    return model


# %% One step after the other with a cell, so that there is a tensor for the state of each step
def gradient_norms(model: nn.ModuleDict, x: minidl.Tensor, sums: minidl.Tensor) -> np.ndarray:
    """The norm of dL/dh_t for each step t, the mean over the batch: (T,). In float64, which reaches down to 1e-308."""
    model = copy.deepcopy(model).double()
    x, sums, layer = x.double(), sums.double(), model["recurrent"]
    cell = getattr(nn, f"{type(layer).__name__}Cell")(2, HIDDEN, dtype=np.float64)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    state, hidden = None, []
    for step in range(length):
        state = cell(x[step], state)
        hidden.append(state[0] if isinstance(state, tuple) else state)
    loss = F.mse_loss(model["head"](hidden[-1]), sums)
    return np.array([np.linalg.norm(gradient.numpy(), axis=1).mean() for gradient in minidl.grad(loss, hidden)])


def train(model: nn.ModuleDict) -> None:
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        x, sums = draw(BATCH)
        optimizer.zero_grad()
        F.mse_loss(model["head"](model["recurrent"](x)[0][-1]), sums).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


# %% The picture
figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
x, sums = draw(BATCH)
for kind, colour in (("RNN", "tab:red"), ("LSTM", "tab:blue"), ("GRU", "tab:green")):
    for gates_open in (False, True) if kind != "RNN" else (False,):
        model, label = network(kind, gates_open), kind + (", gates open" if gates_open else "")
        norms = gradient_norms(model, x, sums)
        left.plot(norms / norms[-1], color=colour, linestyle="-" if gates_open else "--", label=label)
        print(f"{label:16} at the start: the gradient at step 1 is {norms[0] / norms[-1]:.0e} of that at step {length}")
    train(model)
    norms = gradient_norms(model, x, sums)
    right.plot(norms / norms[-1], color=colour, label=label)
    print(f"{label:16} after {steps} steps of training: {norms[0] / norms[-1]:.0e}")
for axes, title in ((left, "at the start"), (right, f"after {steps:,} steps of training")):
    axes.set(title=title, xlabel="step t", yscale="log", ylim=(1e-24, 1e3))
    axes.grid(alpha=0.3)
    axes.legend()
left.set_ylabel(f"norm of dL/dh at step t, over that at step {length}")
figure.savefig(options.picture, dpi=120)
print(f"drawn in {options.picture}")
