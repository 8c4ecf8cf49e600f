"""Training steps of a GPT and of a BERT, and sentences read by a BERT, for the verb `sequence`.

The GPT is nanoGPT's recipe for processors, the BERT has the sizes of all-MiniLM-L6-v2. Both sides start from the same
weights and see the same batches; losses and outputs are compared before anything is timed. Random dropout cannot be
compared: where a row has it, the first steps are made without. Peak memory is measured in a child process a side:
`python -m benchmarks.transformers SIDE TASK`. The twins in PyTorch stand in transformer_twins.py.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.memory import largest_resident_set
from benchmarks.peers import environment
from benchmarks.suite import Settings, Work
from benchmarks.timing import Contestant
from benchmarks.transformer_twins import torch_classifier, torch_gpt
from benchmarks.twins import library

STEPS_COMPARED, STEPS_FOR_MEMORY = 2, 3
TOLERANCE = 1e-3  # of the losses; rounding of the first step is carried on by the second
SENTENCES, TOGETHER = 200, 32
CLEAR = Path("/proc/self/clear_refs")


class Task(NamedTuple):
    """Sizes of a model and its batch; `shrunk` makes all of it tiny, for the work that comes before memory counts."""

    name: str
    make: Callable[..., tuple[Any, Callable]]  # (side, generator, shrunk) -> model, run


def _gpt(side: str, generator: np.random.Generator, shrunk: bool) -> tuple[Any, Callable]:
    """nanoGPT's recipe: 4 layers, 4 heads, 128 wide, blocks of 64 characters, 12 together, AdamW, clipping at 1."""
    lib, models = library(side), import_module("minidl.models")
    model = models.GPT(65, 64, n_layer=1 if shrunk else 4, n_head=4, n_embd=128, bias=False)
    ids, targets = generator.integers(0, 65, (2, 2 if shrunk else 12, 64))
    model = model if side == "minidl" else torch_gpt(model)
    parameters = [*model.parameters()]
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
              {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0}]
    optimizer = lib.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    ids, targets = lib.tensor(ids), lib.tensor(targets.reshape(-1))

    def step() -> float:
        optimizer.zero_grad()
        loss = lib.F.cross_entropy(model(ids).reshape(-1, 65), targets)
        loss.backward()
        lib.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss.item()

    return model, step


def _classifier(side: str, dropout: float, shrunk: bool) -> Any:
    """A BERT of MiniLM's sizes with random weights, the mean over its tokens, and a head of two classes."""
    models, nn = import_module("minidl.models"), library("minidl").nn
    bert = models.BertModel(hidden_size=384, num_hidden_layers=1 if shrunk else 6, num_attention_heads=12,
                            vocab_size=100 if shrunk else 30522, intermediate_size=1536, hidden_dropout_prob=dropout,
                            attention_probs_dropout_prob=dropout, add_pooling_layer=False)
    model = nn.Sequential({"encoder": models.SentenceEncoder(bert), "head": nn.Linear(384, 2)})
    return (model if side == "minidl" else torch_classifier(model)).eval()


def _bert(dropout: float, side: str, generator: np.random.Generator, shrunk: bool) -> tuple[Any, Callable]:
    """A step of fine-tuning all weights: 16 sentences of up to 64 tokens, AdamW."""
    lib, model = library(side), _classifier(side, dropout, shrunk)
    lengths = np.append(generator.integers(16, 65, 15), 64)
    ids = generator.integers(5, 100 if shrunk else 30522, (16, 64)) * (np.arange(64) < lengths[:, None])
    labels = generator.integers(0, 2, 16)
    optimizer = lib.optim.AdamW(model.parameters(), lr=3e-5)
    ids, labels = lib.tensor(ids), lib.tensor(labels)

    def step() -> float:
        optimizer.zero_grad()
        loss = lib.F.cross_entropy(model(ids), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return model, step


def _read(side: str, generator: np.random.Generator, shrunk: bool) -> tuple[Any, Callable]:
    """The vectors of 200 sentences of 5 to 60 tokens, sorted by length, 32 together, each padded to the longest."""
    lib, model = library(side), _classifier(side, 0.0, shrunk)
    model = model.encoder
    lengths = np.sort(np.clip(generator.normal(27, 11, SENTENCES).astype(int), 5, 60))
    batches = []
    for start in range(0, SENTENCES, TOGETHER):
        some = lengths[start:start + TOGETHER]
        ids = generator.integers(5, 100 if shrunk else 30522, (len(some), some[-1]))
        batches.append(lib.tensor(ids * (np.arange(some[-1]) < some[:, None])))

    def read() -> np.ndarray:
        with lib.torch.no_grad():
            return np.concatenate([model(ids).numpy() for ids in batches])

    return model, read


TASKS = (
    Task("training step: GPT 4 layers, 128 wide, 12 x 64 characters, AdamW", _gpt),
    Task("training step: BERT of MiniLM's size, 16 x 64 tokens, AdamW", partial(_bert, 0.0)),
    Task("training step: BERT of MiniLM's size with dropout, 16 x 64 tokens, AdamW", partial(_bert, 0.1)),
    Task("inference: 200 sentences, BERT of MiniLM's size", _read),
)


def works(settings: Settings) -> Iterator[Work]:
    """A row for each task."""
    for task in TASKS:
        if not (settings.sample and "dropout" in task.name):
            yield _work(task, settings)


def _work(task: Task, settings: Settings) -> Work:
    sides = ["minidl", *(["torch"] if "torch" in settings.peers else [])]
    seed = int(settings.generator.integers(2**31))

    def facts() -> dict[str, Any]:
        if settings.sample or settings.quick:
            return {}
        return {"peak_memory_mb": {side: peak_memory(side, task.name, settings.threads) for side in sides}}

    contestants = {side: Contestant(_first_compared(*_made(task, side, seed))) for side in sides}
    return Work(task.name, contestants, tolerance=TOLERANCE, facts=facts)


def _made(task: Task, side: str, seed: int, shrunk: bool = False) -> tuple[Any, Callable]:
    import_module("minidl").seed(seed)  # the twin starts from a minidl model of the same seed
    return task.make(side, np.random.default_rng(seed), shrunk)


def _first_compared(model: Any, run: Callable) -> Callable:
    """A function whose first call makes some steps without dropout, to be compared, and then one a call."""
    called = []

    def turn(_: None) -> Any:
        if called:
            return run()
        called.append(True)
        outputs = np.array([run() for _ in range(STEPS_COMPARED)])
        model.train()
        return outputs

    return turn


def peak_memory(side: str, task_name: str, threads: int) -> float:
    """MiB that the task takes in library `side`, measured in a child process."""
    command = [sys.executable, "-m", "benchmarks.transformers", side, task_name]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], env=environment(threads),
                          stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main(side: str, task_name: str) -> float:
    """MiB by which the resident set rises, at most, while the task is made and run a few times.

    A tiny task comes first, so that libraries, compiled kernels and thread pools are there. Unlike in `memory.py`, the
    peak of their loading is forgotten: it would hide what a small model takes.
    """
    task = next(task for task in TASKS if task.name == task_name)
    before = 0.0
    for shrunk in (True, False):
        gc.collect()
        before = forget_largest_resident_set()
        model, run = _made(task, side, 0, shrunk)
        model.train("training" in task_name)
        for _ in range(STEPS_FOR_MEMORY):
            run()
        del model, run
    return round(largest_resident_set() - before, 1)


def forget_largest_resident_set() -> float:
    """Let the largest resident set be the present one, and return it in MiB; only Linux can, others keep the peak."""
    if CLEAR.exists():
        CLEAR.write_text("5")
    return largest_resident_set()


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
