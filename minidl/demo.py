"""`minidl demo`: learn MNIST, carry the network to Fashion-MNIST with few labels, and compare four ways of doing so.

scratch     fresh weights, everything trained
parameters  the source's weights, a new head, everything trained
features    the source's body frozen, its outputs computed once, only a new head trained
structure   the source's architecture rebuilt from its JSON, fresh weights, everything trained
All four see the same few labelled images for the same number of epochs. `report.py` writes what came out.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidl import nn, optim, random, transfer
from minidl.compare import networks
from minidl.data import fashion_mnist, mnist
from minidl.data.places import EMBEDDED
from minidl.models import mnist_cnn
from minidl.report import prepare, require_matplotlib, summarise_runs, table, verdicts, write_report
from minidl.train import Trainer, accuracy

METHODS = ("scratch", "parameters", "features", "structure")
HELD_OUT = 1000  # target images behind the curves: neither trained on nor used for a decision


@dataclass
class Settings:
    """What the experiment is run with; every field is an option of the command."""

    labels: int = 1000
    epochs: int = 3
    target_epochs: int = 15
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0
    seeds: int = 1
    output: str = "runs/demo"

    def __post_init__(self) -> None:
        for name in ("epochs", "target_epochs", "batch_size", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: at least 1 is needed")

    def check_labels(self, classes: int, available: int) -> None:
        """Raise ValueError if so many labelled images cannot be had."""
        if not classes <= self.labels <= available - HELD_OUT:
            raise ValueError(f"--labels {self.labels}: between {classes} (one a class) and {available - HELD_OUT:,} of "
                             f"the {available:,} training images can be used; {HELD_OUT:,} are held out for the curves")


@dataclass
class Task:
    """One data set, ready to train on; `held_out` is for the curves."""

    name: str
    classes: tuple[str, ...]
    train: Any
    test: Any
    held_out: Any = None


class Experiment:
    """The source network and the four carried ones, for one seed."""

    def __init__(self, settings: Settings, seed: int, source: Task, target: Task, progress: bool):
        self.settings, self.seed, self.progress = settings, seed, progress
        self.source, self.target = source, target
        self.file = Path(settings.output) / "source.safetensors"

    def run(self) -> dict[str, Any]:
        """Train the source, save it, carry it over in each of the four ways."""
        results: dict[str, Any] = {"seed": self.seed, "source": self.train_source(), "target": {}}
        for offset, method in enumerate(METHODS):
            random.seed(1000 * (offset + 1) + self.seed)
            started = time.perf_counter()
            model, history = getattr(self, method)()
            seconds = time.perf_counter() - started
            results["target"][method] = {
                "test_accuracy": self.test_accuracy(model, self.target),
                "seconds": seconds,
                "trained_parameters": transfer.trainable(model),
                "frozen_parameters": transfer.frozen(model),
                "curve": history["validation_accuracy"],
            }
        return results

    def train_source(self) -> dict[str, Any]:
        random.seed(self.seed)
        model = mnist_cnn(num_classes=len(self.source.classes))
        started = time.perf_counter()
        self.fit(model, self.source.train, None, self.settings.epochs, f"source: {self.source.name}")
        seconds = time.perf_counter() - started
        score = self.test_accuracy(model, self.source)
        transfer.save(model, self.file, classes=self.source.classes, preprocessing={"range": [0.0, 1.0]},
                      provenance={"trained_on": self.source.name, "images": len(self.source.train),
                                  "epochs": self.settings.epochs, "seed": self.seed, "test_accuracy": score})
        return {"test_accuracy": score, "seconds": seconds, "trained_parameters": transfer.trainable(model)}

    def fit(self, model: nn.Module, train: Any, validation: Any, epochs: int, label: str) -> Any:
        optimizer = optim.Adam(model.named_parameters(), lr=self.settings.learning_rate)
        trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=[accuracy])
        return trainer.fit(train, validation, epochs=epochs, batch_size=self.settings.batch_size,
                           progress=self.progress, label=label)

    def test_accuracy(self, model: nn.Module, task: Task) -> float:
        trainer = Trainer(model, nn.CrossEntropyLoss(), metrics=[accuracy])
        return trainer.evaluate(task.test, batch_size=500)["accuracy"]

    def on_target(self, model: nn.Module, label: str) -> tuple[nn.Module, Any]:
        settings = self.settings
        return model, self.fit(model, self.target.train, self.target.held_out, settings.target_epochs, label)

    def scratch(self) -> tuple[nn.Module, Any]:
        return self.on_target(mnist_cnn(num_classes=len(self.target.classes)), "scratch")

    def parameters(self) -> tuple[nn.Module, Any]:
        return self.on_target(networks.carried(transfer.load(self.file), len(self.target.classes)), "parameters")

    def features(self) -> tuple[nn.Module, Any]:
        model, head, at = networks.frozen_body(transfer.load(self.file), len(self.target.classes))
        train, held_out = (
            transfer.compute_features(model, part, at, progress=self.progress)
            for part in (self.target.train, self.target.held_out)
        )
        return model, self.fit(model.get_submodule(head), train, held_out, self.settings.target_epochs, "features")

    def structure(self) -> tuple[nn.Module, Any]:
        return self.on_target(networks.rebuilt(transfer.load(self.file), len(self.target.classes)), "structure")


def load_tasks(settings: Settings, seed: int, embedded: bool) -> tuple[Task, Task]:
    """MNIST, and Fashion-MNIST with `settings.labels` labelled images drawn for this seed."""
    root = EMBEDDED if embedded else None
    source_train, source_test = mnist("train", root=root), mnist("test", root=root)
    target_train, target_test = fashion_mnist("train", root=root), fashion_mnist("test", root=root)
    settings.check_labels(len(target_train.classes), len(target_train))
    draw = np.random.default_rng(seed)
    rest, held_out = target_train.split(HELD_OUT / len(target_train), draw)
    return (Task("MNIST", source_train.classes, source_train, source_test),
            Task("Fashion-MNIST", target_train.classes, rest.balanced(settings.labels, draw), target_test, held_out))


def run_demo(settings: Settings, json_path: Path | None = None, embedded: bool = False, plot: bool = True,
             progress: bool = True) -> dict[str, Any]:
    """Run the experiment for every seed, write the files, print the table; returns what results.json holds.

    Raises ValueError for settings that cannot be run, OSError if the folder cannot be written, ImportError if the
    picture is wanted and matplotlib is not there, all before anything is trained.
    """
    folder = Path(settings.output)
    prepare(folder)
    if json_path is not None:
        prepare(json_path.parent)
    if plot:
        require_matplotlib()
    runs = []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        source, target = load_tasks(settings, seed, embedded)
        print(f"seed {seed}: {source.name} ({len(source.train):,} images), then {target.name} with "
              f"{len(target.train):,} labels", flush=True)
        runs.append(Experiment(settings, seed, source, target, progress).run())
    results = summarise_runs(runs, asdict(settings), source, target)
    write_report(results, folder, plot, json_path)
    print(f"\n{source.name}: {results['source']['test_accuracy']:.2%} test accuracy. Carried to {target.name}:\n")
    print(table(results), *verdicts(results), f"\nwritten to {folder}{os.sep}", sep="\n")
    return results
