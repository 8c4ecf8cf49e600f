"""The six methods that are compared: what each starts with, and how it spends the same number of optimiser steps.

Each sees the same batches in the same order, and takes its steps with AdamW and a rate that goes up and down once
(`one_cycle`). The highest rates in METHODS are the best of 0.001, 0.003, 0.01 and 0.03 on held-out training images,
never on test images: `minidl compare-transfer --source mnist --target fashion_mnist --labels 1%,10% --seeds 2
--budget 300 --source-budget 600 --validate --rate all=RATE`. Other networks and data may want others.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minidl import transfer
from minidl.compare import networks
from minidl.data import DataLoader, TensorDataset
from minidl.nn.module import Module
from minidl.optim.adam import AdamW
from minidl.optim.lr_scheduler import LambdaLR
from minidl.train import LearningRate, Trainer
from minidl.train.finetune import ClassLoss, fine_tune, one_cycle, train_head
from minidl.transfer.lora_layers import ADAPTED, unfit

HEAD_PART = 0.2  # of fine_tune's steps for the head alone
HEAD_RATE = 1e-2  # of the head alone
RANK = 8  # of LoRA's matrices
MOST_KEPT = 512 * 2**20  # bytes of features that are kept instead of being computed in each step


class Run(NamedTuple):
    """One training: a source's network, the labelled images, the indices of each batch, how many classes, the rate."""

    source: networks.Source
    images: Any
    batches: Sequence[np.ndarray]
    classes: int
    rate: float


class Trained(NamedTuple):
    """What came of it: the network, and what its ledger says about every part that was frozen."""

    model: Module
    proof: list[transfer.Verification]


class Method(NamedTuple):
    """A method: how it is called in tables, what it does with `steps` steps, its highest rate, and the function."""

    title: str
    what: str
    rate: float
    train: Callable[[Run], Trained]
    carries: bool = True  # weights of the source: only then its losses are negative transfer


def batches_of(count: int, size: int, steps: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Indices (size,) for each step: the `count` images in a random order, again and again, in another order each time.

    Every batch is full; `size` is the number of images if there are fewer.
    """
    size = min(size, count)
    rounds = math.ceil(steps * size / count)
    order = np.concatenate([generator.permutation(count) for _ in range(rounds)])
    return [order[step * size: (step + 1) * size] for step in range(steps)]


def train(model: Module, images: Any, batches: Sequence[np.ndarray], rate: float) -> None:
    """Train what is trainable of `model` on these batches, a step each; KeyboardInterrupt after Ctrl-C."""
    optimizer = AdamW(model.named_parameters(), lr=rate)
    schedule = LambdaLR(optimizer, functools.partial(one_cycle, steps=len(batches)))
    history = Trainer(model, ClassLoss(), optimizer).fit(
        DataLoader(images, batch_sampler=batches), callbacks=[LearningRate(schedule, "step")], progress=False)
    _unless_interrupted(history)


def _unless_interrupted(history: Any) -> None:
    if history.interrupted:
        raise KeyboardInterrupt


def _verified(model: Module) -> transfer.Verification:
    """What the ledger says; FrozenChanged if something frozen has changed."""
    return transfer.ledger(model).verify(strict=True)


def _whole(model: Module, run: Run) -> Trained:
    train(model, run.images, run.batches, run.rate)
    return Trained(model, [_verified(model)])


def scratch(run: Run) -> Trained:
    return _whole(run.source.fresh(run.classes), run)


def parameters(run: Run) -> Trained:
    return _whole(networks.carried(run.source.load(), run.classes), run)


def structure(run: Run) -> Trained:
    return _whole(networks.rebuilt(run.source.load(), run.classes), run)


def features(run: Run) -> Trained:
    """Images that are seen more than once are sent through the frozen body once, if the outcome can be kept."""
    model, path, at = networks.frozen_body(run.source.load(), run.classes)
    head = model.get_submodule(path)
    sample, _ = transfer.compute_features(model, run.images.select([0]), at)
    seen = sum(map(len, run.batches))
    if sample.ndim == 2 and seen >= len(run.images) and sample.nbytes * len(run.images) <= MOST_KEPT:
        kept = transfer.compute_features(model, run.images, at)
        with transfer.ledger(model).training(detail="the head, on kept features"):
            train(head, TensorDataset(*kept), run.batches, run.rate)
    else:
        train(model, run.images, run.batches, run.rate)
    return Trained(model, [_verified(model)])


def fine_tuned(run: Run) -> Trained:
    model = networks.carried(run.source.load(), run.classes)
    alone = min(len(run.batches) - 1, max(1, round(HEAD_PART * len(run.batches))))
    proof = []
    if alone:
        loader = DataLoader(run.images, batch_sampler=run.batches[:alone])
        _unless_interrupted(train_head(model, loader, epochs=1, lr=HEAD_RATE, metrics=(), progress=False))
        proof.append(_verified(model))
    loader = DataLoader(run.images, batch_sampler=run.batches[alone:])
    _unless_interrupted(
        fine_tune(model, loader, head_epochs=0, epochs=1, lr=run.rate, metrics=(), progress=False))
    return Trained(model, [*proof, _verified(model)])


def lora(run: Run) -> Trained:
    model = networks.carried(run.source.load(), run.classes)
    unable = [path for path, layer in model.named_modules() if type(layer) in ADAPTED and unfit(layer, RANK, 0.0)]
    transfer.lora(model, rank=RANK, alpha=2 * RANK, exclude=unable)
    return _whole(model, run)


METHODS = {
    "scratch": Method("from scratch", "fresh weights; all steps train everything", 1e-2, scratch, carries=False),
    "parameters": Method("parameter transfer", "the source's weights and a fresh head; all steps train everything",
                         1e-2, parameters),
    "features": Method("feature transfer", "the source's body frozen, its outputs computed once if that pays; all "
                       "steps train a fresh head", 1e-2, features),
    "structure": Method("structure transfer", "the source's architecture from its JSON, no weights; all steps train "
                        "everything", 1e-2, structure, carries=False),
    "fine_tune": Method("fine_tune", f"the source's weights and a fresh head; {HEAD_PART:.0%} of the steps train the "
                        f"head alone (rate {HEAD_RATE:g}), the others everything, with rates that fall towards the "
                        "input", 1e-2, fine_tuned),
    "lora": Method("LoRA", f"the source's weights frozen; all steps train adapters of rank {RANK} beside them and a "
                   "fresh head", 1e-2, lora),
}
