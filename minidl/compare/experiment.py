"""compare_transfer: carry a trained network to a task in several ways, several times, and measure all on the same test.

A seed stands for everything that chance decides: the source's training, which images get labels, fresh weights, and
the order of the images. All methods of a seed share the source, the labelled images and their order.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from minidl import random, transfer
from minidl.compare import networks
from minidl.compare.methods import METHODS, Run, batches_of, train
from minidl.compare.report import write_json
from minidl.compare.results import Comparison
from minidl.compare.tasks import Fit, Task, dataset_name, load_task
from minidl.data.images import ImageDataset
from minidl.errors import did_you_mean
from minidl.models.weights import WEIGHTS
from minidl.nn.module import Module
from minidl.report import describe_machine, prepare
from minidl.train import Trainer
from minidl.train.finetune import ClassLoss, class_accuracy

HELD_OUT = 1 / 6  # of the target's training images, where rates are chosen


@dataclass
class Settings:
    """What a comparison is run with.

    source: a data set ("mnist", or some classes of one, "cifar10:cat,dog") or Task on which a network is trained first,
        once for each seed; or the file of a model; or the name of known weights ("resnet20-cifar10").
    target: a data set, some classes of one, or a Task.
    labels: how many labelled images of the target, "1%" of each class or a number balanced over the classes.
    seeds, seed: how many runs of everything, and the first one's seed. methods: names in METHODS; "scratch" is always
        among them. budget: steps of the optimiser on the target, the same for every method. source_budget: steps of
        the source's training. batch_size: images a step.
    model: an architecture of the zoo; if None mnist_cnn, or cifar_cnn for a target in colour; for a file what it says.
    size: rows and columns of the images that the network is given; see `networks.size_for`.
    rates: {method: highest learning rate} instead of those in METHODS; "all" stands for the methods not named.
    validate: measure on a sixth of the target's training images instead of the test images, and train on the others:
        for choosing rates and the like.
    embedded: use the images that come with minidl even where the full data is found.
    output: the folder for the source networks and results.json.
    """

    source: str | Task
    target: str | Task
    labels: Sequence[str | int] = ("1%", "10%", "100%")
    seeds: int = 5
    seed: int = 0
    methods: Sequence[str] = tuple(METHODS)
    budget: int = 500
    source_budget: int = 1000
    batch_size: int = 64
    model: str | None = None
    size: int | None = None
    rates: dict[str, float] | None = None
    validate: bool = False
    embedded: bool = False
    output: str = "runs/compare"

    def __post_init__(self) -> None:
        self.labels = [self.labels] if isinstance(self.labels, (str, int)) else list(self.labels)
        self.methods = [self.methods] if isinstance(self.methods, str) else list(self.methods)
        for name in ("seeds", "budget", "source_budget", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"compare-transfer: {name} {getattr(self, name)}: at least 1 is needed")
        given = dict(self.rates or {})
        every = given.pop("all", None)
        self.rates = {name: every for name in METHODS if every is not None}
        self.rates |= {_method(name): rate for name, rate in given.items()}
        for name, rate in self.rates.items():
            if not 0 < rate < float("inf"):
                raise ValueError(f"compare-transfer: the learning rate of {name} must be above 0, not {rate}")
        chosen = {_method(name) for name in self.methods} | {"scratch"}
        self.methods = [name for name in METHODS if name in chosen]
        if not self.labels:
            raise ValueError("compare-transfer: labels: at least one number is needed")
        self.shares = [_share(label) for label in self.labels]

    def rate(self, method: str) -> float:
        return (self.rates or {}).get(method, METHODS[method].rate)

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON values, with the rate of every method that is compared."""
        return {**{field.name: getattr(self, field.name) for field in fields(self)},
                "source": _name(self.source), "target": _name(self.target),
                "rates": {method: self.rate(method) for method in self.methods}}


def compare_transfer(source: str | Task, target: str | Task, *, progress: bool = True, **settings: Any) -> Comparison:
    """Carry a trained network to the target by each method and seed, measure, and return what was found.

    settings: the further fields of `Settings`. progress: print a line for each run, and on a terminal show a bar.
    After each run results.json in the folder `output` holds all that were finished; Ctrl-C ends the comparison and
    returns them (`complete` is then False). Networks that are trained here are saved there as source-SEED.safetensors.

    Raises ValueError for settings that cannot be run, DataNotFoundError and FileFormatError for data and files that
    cannot be read and OSError for a folder that cannot be written, all before anything is trained.
    """
    return run_comparison(Settings(source, target, **settings), progress)


def run_comparison(settings: Settings, progress: bool = True) -> Comparison:
    """`compare_transfer` with its arguments in a Settings."""
    if not isinstance(settings, Settings):
        raise TypeError(f"run_comparison: a Settings is needed, got {type(settings).__name__}; "
                        "compare_transfer(source, target) makes it of arguments")
    with random.preserved():
        experiment = Experiment(settings)
        prepare(Path(settings.output))
        experiment.run(progress)
    return experiment.results


class Experiment:
    """The tasks, the source and the results of one comparison. Making it checks all that can be checked."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.teacher = _source_task(settings)
        self.target = settings.target if isinstance(settings.target, Task) else \
            load_task(settings.target, settings.embedded)
        if settings.validate:
            kept, held_out = self.target.train.split(HELD_OUT, np.random.default_rng(0))
            self.target = Task(self.target.name, kept, held_out)
        channels, *size = self.target.train.images.shape[1:]
        model = settings.model
        if self.teacher is not None and model is None:
            model = "mnist_cnn" if channels == 1 else "cifar_cnn"
        self.source = networks.Source(None if self.teacher else str(settings.source), model, channels)
        network = self.source.fresh(len(self.teacher.classes)) if self.teacher else self.source.load()
        self.preprocessing = getattr(network, "preprocessing", None) or {"range": [0.0, 1.0]}
        fit = Fit(networks.channels_of(network), networks.size_for(network, tuple(size), settings.size),
                  self.preprocessing)
        self.target = _fitted(self.target, fit)
        if self.teacher is not None:
            self.teacher = _fitted(self.teacher, fit)
        counts = [len(self.labelled(share, settings.seed)) for share in settings.shares]
        if len(set(counts)) < len(counts):
            raise ValueError(f"compare-transfer: labels {', '.join(map(str, settings.labels))} are {counts} images, so "
                             "two of them are the same; give each number once")
        self.results = Comparison(
            settings.as_json(), self._describe_source(network), self._describe_target(counts, fit),
            datetime.datetime.now().astimezone().isoformat(timespec="seconds"), describe_machine(),
            settings.seeds * len(counts) * len(settings.methods))

    def _describe_source(self, network: Module) -> dict[str, Any]:
        trained = "" if self.teacher is None else self.teacher.name
        return {"name": trained or networks.describe(str(self.settings.source)), "trained_here": bool(trained),
                "model": self.source.model or type(network).__name__,
                "parameters": sum(parameter.numel() for parameter in network.parameters())}

    def _describe_target(self, counts: list[int], fit: Fit) -> dict[str, Any]:
        train, test = self.target.train, self.target.test
        return {"name": self.target.name, "classes": list(self.target.classes), "labels": counts,
                "images_available": len(train), "measured_on": "validation" if self.settings.validate else "test",
                "images_measured": len(test), "image_shape": [*train.images.shape[1:]],
                "given_as": [fit.channels, *fit.size], "data": test.source}

    def labelled(self, share: float, seed: int) -> ImageDataset:
        """The images that have labels in this seed; fewer ones are among the more."""
        return self.target.train.balanced(share, np.random.default_rng((seed, 1)))

    def run(self, progress: bool) -> None:
        """All runs, seed by seed, so that what Ctrl-C leaves can be compared."""
        with _lines(self.results.planned, progress) as say:
            try:
                for seed in range(self.settings.seed, self.settings.seed + self.settings.seeds):
                    self._train_source(seed, say)
                    for share in self.settings.shares:
                        images = self.labelled(share, seed)
                        for method in self.settings.methods:
                            self._run(method, images, seed, say)
            except KeyboardInterrupt:
                say(f"stopped by Ctrl-C; {len(self.results.runs)} of {self.results.planned} runs are kept", 0)

    def _train_source(self, seed: int, say: Any) -> None:
        if self.teacher is None:
            if not self.results.sources:
                self.results.sources.append({"seed": None, "file": str(self.settings.source)})
            return
        task, settings = self.teacher, self.settings
        random.seed(seed)
        started = time.perf_counter()
        model = self.source.fresh(len(task.classes))
        batches = batches_of(len(task.train), settings.batch_size, settings.source_budget,
                             np.random.default_rng((seed, 2)))
        train(model, task.train, batches, settings.rate("scratch"))
        seconds = time.perf_counter() - started
        score = self._accuracy(model, task.test)
        file = Path(settings.output) / f"source-{seed}.safetensors"
        transfer.save(model, file, classes=task.classes, preprocessing=self.preprocessing,
                      provenance={"trained_on": task.name, "images": len(task.train), "steps": settings.source_budget,
                                  "seed": seed, "test_accuracy": score})
        self.source.given = str(file)
        self.results.sources.append({"seed": seed, "file": str(file), "accuracy": score, "seconds": seconds,
                                     "steps": settings.source_budget})
        say(f"seed {seed}: source {self.source.model} on {task.name}: {score:.2%} in {seconds:.1f} s", 0)

    def _run(self, method: str, images: ImageDataset, seed: int, say: Any) -> None:
        settings = self.settings
        random.seed(1000 * (list(METHODS).index(method) + 1) + seed)
        batches = batches_of(len(images), settings.batch_size, settings.budget, np.random.default_rng((seed, 3)))
        run = Run(self.source, images, batches, len(self.target.classes), settings.rate(method))
        started = time.perf_counter()
        try:
            model, proof = METHODS[method].train(run)
        except FloatingPointError as error:
            raise FloatingPointError(f"compare-transfer: {method}, {len(images):,} labels, seed {seed}: {error}; its "
                                     f"highest rate, {run.rate:g}, may be too large for this network (--rate {method}="
                                     "…). What was finished is in results.json") from error
        seconds = time.perf_counter() - started
        score = self._accuracy(model, self.target.test)
        self.results.runs.append({
            "method": method, "labels": len(images), "seed": seed, "accuracy": score, "seconds": seconds,
            "steps": len(batches), "rate": run.rate, "trained_parameters": transfer.trainable(model),
            "frozen_parameters": transfer.frozen(model), "verified": [str(line) for line in proof],
            "frozen_bytes_changed": sum(line.bytes_changed for line in proof),
        })
        write_json(self.results, Path(settings.output) / "results.json")
        say(f"seed {seed}: {len(images):,} labels, {METHODS[method].title}: {score:.2%} in {seconds:.1f} s", 1)

    def _accuracy(self, model: Module, images: ImageDataset) -> float:
        trainer = Trainer(model, ClassLoss(), metrics=[class_accuracy])
        return float(trainer.evaluate(images, batch_size=4 * self.settings.batch_size)["accuracy"])


def _source_task(settings: Settings) -> Task | None:
    """The task on which the source is trained; None for a file or known weights."""
    source = settings.source
    if isinstance(source, Task):
        return source
    if os.path.exists(source) and not dataset_name(source) or source in WEIGHTS:
        return None
    if dataset_name(source):
        return load_task(source, settings.embedded)
    raise ValueError(f"compare-transfer: the source {source!r} is no data set, no file and no known weights"
                     f"{did_you_mean(source, [*WEIGHTS, 'mnist', 'fashion_mnist', 'cifar10'])}; known weights are "
                     f"{', '.join(WEIGHTS)}")


def _fitted(task: Task, fit: Fit) -> Task:
    """The task with images as the network is given them."""
    parts = []
    for images in (task.train, task.test):
        if images.transform is not None:
            raise ValueError(f"compare-transfer: {images.name} has a transform; images are given to all methods as "
                             "they are, so set it to None")
        parts.append(images.select(np.arange(len(images))))
        parts[-1].transform = fit
    return Task(task.name, *parts)


def _method(name: str) -> str:
    known = name.strip().lower().replace("-", "_")
    if known not in METHODS:
        raise ValueError(f"compare-transfer: no method is called {name!r}{did_you_mean(name, METHODS)}; there are "
                         f"{', '.join(METHODS)}")
    return known


def _share(label: str | int) -> float:
    """"10%" as the float 0.1 and "200" as the int 200, which `ImageDataset.balanced` tells apart."""
    text = str(label).strip()
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else int(text)
    except ValueError:
        value = 0
    if isinstance(label, bool) or not 0 < value or text.endswith("%") and value > 1:
        raise ValueError(f"compare-transfer: labels {text!r}: give a share of the target's training images such as "
                         "10%, up to 100%, or a number of images such as 200")
    return value


def _name(task: str | Task) -> str:
    return task.name if isinstance(task, Task) else str(task)


class _lines:
    """Says a line for each run, above a bar on a terminal; `say(line, runs)` counts the runs."""

    def __init__(self, total: int, shown: bool):
        self.bar: Any = None
        self.shown = shown
        if shown:
            from tqdm import tqdm  # only when a bar is wanted: importing it takes a while

            self.bar = tqdm(total=total, unit="run", leave=False, disable=None)

    def __enter__(self) -> Any:
        return self

    def __call__(self, line: str, runs: int) -> None:
        if self.bar is not None:
            self.bar.write(line)
            self.bar.update(runs)

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()
