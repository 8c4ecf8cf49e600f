"""fine_tune: a trained network learns a new task, the head first, then the layers below it, from the top down.

Groups of layers, their rates and unfreezing are in `minidl/transfer/depth.py`, which is to be read first; the loop is
`Trainer.fit`. One optimiser holds all parameters by name from the start and one Trainer does all phases, so unfreezing
needs nothing but unfreezing, and while the body is frozen it is truly frozen.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minidl.nn.loss import CrossEntropyLoss
from minidl.nn.module import Module
from minidl.optim.adam import AdamW
from minidl.optim.lr_scheduler import LambdaLR
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor
from minidl.train.batches import as_loader
from minidl.train.callbacks import BestWeights, Callback, LearningRate
from minidl.train.guards import locating
from minidl.train.history import History
from minidl.train.labels import check_labels
from minidl.train.metrics import accuracy
from minidl.train.trainer import Trainer
from minidl.transfer.depth import layer_groups, layerwise_parameters, shown, unfreeze_top

AUXILIARY = 0.4  # weight of the loss of an auxiliary head, as Inception's authors train it
HEAD_STEPS, STEPS = 50, 500  # optimiser steps that the two parts get at least, unless epochs are given
BOLD, GENTLE, SHALLOW = 3e-3, 1e-4, 6  # see `default_rate`
FEWEST, MOST = 1, 40  # epochs that make them


class FineTuneHistory(History):
    """The figures of all phases one after the other, with a column "phase"; see `History` for the rest.

    phases: a dict for each phase begun: "phase", "epochs" finished, "trained" (paths of the groups that were
        trainable), "parameters" (how many numbers those are), "lr" (the highest rate of each such group, by its name).
    """

    def __init__(self, *args: Any, **values: Any):
        super().__init__(*args, **values)
        self.phases: list[dict[str, Any]] = []

    def extend(self, phase: str, other: History) -> None:
        """Add the epochs of `other`, numbered on, under the name of a phase."""
        done = len(self.get("epoch", ()))
        for index, epoch in enumerate(other.get("epoch", ())):
            figures = {name: values[index] for name, values in other.items() if name != "epoch"}
            self.append({"epoch": done + epoch, "phase": phase, **figures})
        self.interrupted, self.stop_reason = other.interrupted, other.stop_reason

    def table(self) -> str:
        """What was trained when, a line a phase."""
        lines = []
        for phase in self.phases:
            names, rates = list(phase["lr"]), list(phase["lr"].values())
            lower = f", {rates[0]:.2g} for '{names[0]}'" if len(rates) > 1 else ""
            lines.append(f"{phase['phase']}: {phase['epochs']} epochs, {phase['parameters']:,} parameters in "
                         f"{len(names)} groups, rates up to {rates[-1]:.2g} for '{names[-1]}'{lower}")
        return "\n".join(lines)


class ClassLoss(CrossEntropyLoss):
    """Cross-entropy that also takes the outputs of a network with an auxiliary head: loss + 0.4 loss of that."""

    def forward(self, input: Any, target: Tensor) -> Tensor:
        if not isinstance(input, tuple):
            return super().forward(input, target)
        scores, *auxiliary = input
        total = super().forward(scores, target)
        for other in auxiliary:
            total = total + super().forward(other, target) * AUXILIARY
        return total


def fine_tune(model: Module, train: Any, validation: Any = None, *, head_epochs: int | None = None,
              epochs: int | None = None, stages: int = 1, head_lr: float = 1e-2, lr: float | None = None,
              decay: float | None = None, batchnorm: str = "train", batch_size: int = 32,
              loss: Callable[[Any, Any], Tensor] | None = None, optimizer: Callable[..., Optimizer] = AdamW,
              metrics: Iterable[Any] | None = None, head: str | None = None, clip_norm: float | None = None,
              generator: np.random.Generator | None = None, callbacks: Iterable[Callback] = (),
              keep_best: bool = False, progress: bool = True) -> FineTuneHistory:
    """Train the head with the body frozen, then unfreeze the body in `stages` steps from the top; return the history.

    train, validation: as for `Trainer.fit`. `rehead` the model first, if its classes are others. What was frozen before
        is unfrozen with its group.
    head_epochs, epochs: of the head alone, and of all stages together; 0 leaves a part out. By default as many as make
        50 and 500 steps of the optimiser, at most 40 and at least 1.
    stages: in how many steps the groups before the head (`layer_groups`) are unfrozen, an equal number of them at a
        time; each step has its share of `epochs`.
    head_lr, lr, decay: highest rate of the head while it is alone; then that of the head and the group before it
        (`default_rate` of the model unless given; `lr_find` looks for one), and the factor from group to group towards
        the input (`layerwise_parameters`). In each phase the rates go up and down once (`one_cycle`).
    batchnorm: "train" lets BatchNorm follow the new data in the groups that are unfrozen; "eval" keeps it frozen, which
        is better for few steps where its momentum is small (0.01 in EfficientNet: the statistics would lag behind).
    loss: cross-entropy unless given. optimizer: a class, or a function of parameter groups and lr.
    metrics: the accuracy unless given or the loss is another. head: path of the head, if `head_path` errs.
    keep_best: put back the weights of the epoch with the best `validation` accuracy (or loss) at the end.
    batch_size, generator, clip_norm, callbacks, progress: as for `Trainer.fit`; callbacks see each phase as a run of
        its own (a `CSVLog` of all of them needs append=True).

    Ctrl-C ends the phase under way and the rest is left out; the model keeps what it has learnt and which parts are
    trainable, `history.phases` says how far it came, and `fine_tune(…, head_epochs=0)` goes on from there.
    Raises ValueError for labels that do not fit the head, labels all alike, arguments out of range, and as
    `layer_groups`; the model is then unchanged. Warns of a head with at least twice as many outputs as classes.
    Yosinski, Clune, Bengio and Lipson 2014, "How transferable are features in deep neural networks?"; for gradual
    unfreezing and layer-wise rates Howard and Ruder 2018, as in `layerwise_parameters`.
    """
    lr = default_rate(model, head) if lr is None else lr
    part = _Tuning("fine_tune", model, train, validation, head, lr, decay, batchnorm, batch_size, loss, optimizer,
                   metrics, clip_norm, generator, callbacks, keep_best, progress)
    body = len(part.groups) - 1
    if isinstance(stages, bool) or not isinstance(stages, int) or not 1 <= stages <= body:
        raise ValueError(f"fine_tune: stages must be a whole number from 1 to {body}, the groups before the head, got "
                         f"{stages!r}")
    head_epochs = part.epochs("head_epochs", head_epochs, HEAD_STEPS)
    epochs = max(part.epochs("epochs", epochs, STEPS), stages if epochs is None else 0)
    if 0 < epochs < stages:
        raise ValueError(f"fine_tune: {epochs} epochs cannot be shared among {stages} stages")
    plan = [("head", 0, head_epochs, head_lr)]
    for stage in range(1, stages + 1):
        count = math.ceil(body * stage / stages)
        share = epochs * stage // stages - epochs * (stage - 1) // stages
        plan.append(("all" if count == body else f"top {count} of {body}", count, share, lr))
    return part.run([phase for phase in plan if phase[2]])


def train_head(model: Module, train: Any, validation: Any = None, *, epochs: int | None = None, lr: float = 1e-2,
               batch_size: int = 32, loss: Callable[[Any, Any], Tensor] | None = None,
               optimizer: Callable[..., Optimizer] = AdamW, metrics: Iterable[Any] | None = None,
               head: str | None = None, clip_norm: float | None = None, generator: np.random.Generator | None = None,
               callbacks: Iterable[Callback] = (), keep_best: bool = False, progress: bool = True) -> FineTuneHistory:
    """Freeze everything but the head and train that: the first phase of `fine_tune`, with the same arguments.

    Everything else has the same bits afterwards, BatchNorm's statistics too, and stays frozen.
    """
    part = _Tuning("train_head", model, train, validation, head, lr, None, "train", batch_size, loss, optimizer,
                   metrics, clip_norm, generator, callbacks, keep_best, progress)
    return part.run([("head", 0, part.epochs("epochs", epochs, HEAD_STEPS), lr)])


class _Tuning:
    """What all phases share: loaders, groups, one optimiser, one trainer. Nothing of the model is changed by making it.

    The arguments are those of `fine_tune`.
    """

    def __init__(self, what: str, model: Module, train: Any, validation: Any, head: str | None, lr: float,
                 decay: float | None, batchnorm: str, batch_size: int, loss: Any, optimizer: Any, metrics: Any,
                 clip_norm: float | None, generator: Any, callbacks: Iterable[Callback], keep_best: bool,
                 progress: bool):
        self.what, self.model, self.head, self.batchnorm = what, model, head, batchnorm
        self.clip_norm, self.callbacks, self.progress = clip_norm, list(callbacks), progress
        if batchnorm not in ("eval", "train"):
            raise ValueError(f"{what}: batchnorm must be 'eval' or 'train', not {batchnorm!r}")
        if isinstance(optimizer, Optimizer):
            raise TypeError(f"{what}: give the class {type(optimizer).__name__} instead of an optimiser, or a function "
                            "that makes one of parameter groups, such as functools.partial(SGD, momentum=0.9)")
        if keep_best and validation is None:
            raise ValueError(f"{what}: keep_best needs validation data to tell which epoch was best")
        self.groups = layer_groups(model, head)
        if loss is None or isinstance(loss, CrossEntropyLoss):
            check_labels(what, model, self.groups[-1][0], train, validation, getattr(loss, "ignore_index", -100))
        if metrics is None:
            metrics = [class_accuracy] if loss is None else []
        self.optimizer = optimizer(layerwise_parameters(model, lr, decay, head=head), lr=lr)
        self.trainer = Trainer(model, ClassLoss() if loss is None else loss, self.optimizer, list(metrics))
        dtype = next(model.parameters()).dtype
        with locating(lambda: what):
            self.train = as_loader(train, batch_size, True, generator, dtype)
            self.validation = None if validation is None else as_loader(validation, max(batch_size, 256), dtype=dtype)
        self.best = None
        if keep_best:
            named = any(metric.name == "accuracy" for metric in self.trainer.metrics)
            self.best = _BestOfAll("validation_accuracy" if named else "validation_loss")

    def epochs(self, name: str, wanted: int | None, steps: int) -> int:
        """The epochs asked for, or as many as make at least `steps` steps, within bounds."""
        if not hasattr(self.train, "__len__"):
            raise TypeError(f"{self.what}: the rates follow the number of batches, which this "
                            f"{type(self.train).__name__} does not say; give a DataLoader, a data set or arrays")
        if wanted is None:
            return min(MOST, max(FEWEST, math.ceil(steps / len(self.train))))
        if isinstance(wanted, bool) or not isinstance(wanted, (int, np.integer)) or wanted < 0:
            raise ValueError(f"{self.what}: {name} must be a whole number from 0, got {wanted!r}")
        return int(wanted)

    def run(self, plan: list[tuple[str, int, int, float]]) -> FineTuneHistory:
        """Do the phases (name, groups unfrozen before the head, epochs, highest rate of the head) in their order."""
        if not plan or not all(epochs for _, _, epochs, _ in plan):
            raise ValueError(f"{self.what}: no epochs, so there is nothing to do")
        history = FineTuneHistory()
        head = shown(self.groups[-1])
        highest = {group["name"]: float(group["lr"]) for group in self.optimizer.param_groups}
        callbacks = [*self.callbacks, *([] if self.best is None else [self.best])]
        for name, count, epochs, head_lr in plan:
            trained = unfreeze_top(self.model, count, head=self.head, batchnorm=self.batchnorm)
            rates = {group: head_lr if group == head else rate for group, rate in highest.items()}
            for group in self.optimizer.param_groups:
                group["initial_lr"] = rates[group["name"]]
            schedule = LambdaLR(self.optimizer, functools.partial(one_cycle, steps=epochs * len(self.train)))
            active = [group["name"] for group in self.optimizer.param_groups
                      if any(parameter.requires_grad for parameter in group["params"])]
            phase = {"phase": name, "epochs": 0, "trained": trained, "lr": {group: rates[group] for group in active},
                     "parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad)}
            history.phases.append(phase)
            done = self.trainer.fit(self.train, self.validation, epochs, [LearningRate(schedule, "step"), *callbacks],
                                    clip_norm=self.clip_norm, progress=self.progress, label=name)
            history.extend(name, done)
            phase["epochs"] = len(done.get("epoch", ()))
            if done.interrupted:
                return history
        if self.best is not None:
            self.best.restore(self.model)
        return history


class _BestOfAll(BestWeights):
    """Best weights over several runs: the second one does not begin anew, and nothing is put back in between."""

    def __init__(self, monitor: str):
        super().__init__(monitor)
        self.began = False

    def on_fit_begin(self, trainer: Any) -> None:
        if not self.began:
            super().on_fit_begin(trainer)
        self.began = True

    def on_fit_end(self, trainer: Any) -> None:
        """The end of a phase is not the end."""


def default_rate(model: Module, head: str | None = None) -> float:
    """3e-3 for a network with BatchNorm or of at most six `layer_groups`, 1e-4 for a deep one without.

    These are rates of AdamW. BatchNorm keeps a layer's output in scale however its weights change; a transformer or a
    VGG without it forgets what it knows at rates that suit a ResNet.
    """
    groups = layer_groups(model, head)
    normalised = any("running_mean" in module._buffer_names for module in model.modules())
    return GENTLE if len(groups) > SHALLOW and not normalised else BOLD


def one_cycle(step: int, steps: int, rise: float = 0.3) -> float:
    """The part of the highest rate at step 0, 1, … of `steps`: up for a part `rise` of them, then down, along cosines.

    As `OneCycleLR`, but from nearly 0 to nearly 0, and of use for one or two steps too. Behind the end it stays.
    """
    place = (min(step, steps - 1) + 1) / (steps + 1)
    part = place / rise if place < rise else (1 - place) / (1 - rise)
    return (1 - math.cos(math.pi * part)) / 2


def class_accuracy(output: Any, target: Tensor) -> float:
    """The part of samples whose class is right; of the main output, where a network has an auxiliary head."""
    return accuracy(output[0] if isinstance(output, tuple) else output, target)


class_accuracy.__name__ = "accuracy"
