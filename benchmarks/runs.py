"""`runs`: the examples `mnist_cnn.py` and `cifar10_cnn.py` whole, minidl and PyTorch from the same weights and batches.

The libraries take turns epoch by epoch in one process; loading data and drawing batches is not timed. After each epoch
both count the test images that they get right: with equal weights and batches at the start they stay together until
rounding has driven them apart, and after it they differ as two seeds do. Quick: 2,000 images, one epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

import minidl
from benchmarks.machine import OtherLoad
from benchmarks.suite import Settings, Work, row_of
from benchmarks.timing import Times, wait_for_quiet
from benchmarks.twins import Library, library
from minidl.data import cifar10, mnist
from minidl.errors import DataNotFoundError
from minidl.models import cifar_cnn, mnist_cnn

BATCH, SEED = 64, 0


class Example(NamedTuple):
    """An example: its network, its data set, how many of the training images it trains on, and its epochs."""

    name: str
    network: Callable[[], Any]
    data: Callable[[str], Any]
    share: float
    epochs: int


EXAMPLES = (
    Example("mnist_cnn.py", lambda: mnist_cnn(10, hidden=128), mnist, 1 - 5000 / 60000, 5),
    Example("cifar10_cnn.py", lambda: cifar_cnn(10), cifar10, 0.9, 10),
)


def rows(settings: Settings, errors: list[str]) -> Iterator[dict[str, Any]]:
    """A row for each example: the median seconds of an epoch, and the accuracies after the last."""
    for example in EXAMPLES:
        try:
            train, test = example.data("train"), example.data("test")
        except DataNotFoundError as error:
            errors.append(f"{settings.threads} threads  {example.name}: {error}")
            continue
        if settings.quick:
            train, test = train.first(2000), test.first(1000)
        train, _ = train.split(1 - example.share, np.random.default_rng(SEED))
        yield _run(example, train, test, 1 if settings.quick else example.epochs, settings)


def _run(example: Example, train: Any, test: Any, epochs: int, settings: Settings) -> dict[str, Any]:
    sides = [library(name) for name in ("minidl", "torch") if name == "minidl" or name in settings.peers]
    minidl.seed(SEED)
    models = {"minidl": example.network()}
    if len(sides) > 1:
        models["torch"] = _as_torch(models["minidl"], sides[1])
    steps = {lib.name: _step(models[lib.name], lib) for lib in sides}
    times: dict[str, Times] = {}
    correct: dict[str, list[float]] = {lib.name: [] for lib in sides}
    generator, others = np.random.default_rng(SEED), OtherLoad()
    for _ in range(epochs):
        order = generator.permutation(len(train))
        batches = [order[start:start + BATCH] for start in range(0, len(order), BATCH)]
        for lib in sides:
            wait_for_quiet()
            seconds = sum(_timed(steps[lib.name], *train.__getitems__(batch)) for batch in batches)
            times.setdefault(lib.name, Times(seconds)).samples.append(seconds)
            correct[lib.name].append(_accuracy(models[lib.name], lib, test))
    work = Work(f"epoch of {example.name}, {len(train):,} images, batch {BATCH}, Adam", {}, facts={
        "accuracy": {name: round(100 * values[-1], 2) for name, values in correct.items()},
        "accuracies": correct, "epochs": epochs, "seed": SEED, "data": train.name,
    })
    return row_of(work, times, None, settings, others)


def _as_torch(model: Any, torch: Library) -> Any:
    """The same network in PyTorch, with the same weights: layers of the two have the same names and arguments."""
    nn = torch.nn
    layers = []
    for name, layer in model.named_modules():
        kind = type(layer).__name__
        if kind == "Conv2d":
            layers.append((name, nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size)))
        elif kind == "Linear":
            layers.append((name, nn.Linear(layer.in_features, layer.out_features)))
        elif kind != "Sequential":
            layers.append((name, nn.MaxPool2d(2) if kind == "MaxPool2d" else getattr(nn, kind)()))
    twin = nn.Sequential(*[layer for _, layer in layers])
    weights = model.state_dict()
    for name, layer in layers:
        if hasattr(layer, "weight"):
            parts = ("weight", "bias")
            layer.load_state_dict({part: torch.tensor(weights[f"{name}.{part}"].numpy()) for part in parts})
    return twin


def _step(model: Any, lib: Library) -> Callable[[np.ndarray, np.ndarray], None]:
    optimizer = lib.optim.Adam(model.parameters(), lr=1e-3)

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        optimizer.zero_grad()
        loss = lib.F.cross_entropy(model(lib.torch.from_numpy(images)), lib.torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def _timed(step: Callable, images: np.ndarray, labels: np.ndarray) -> float:
    start = perf_counter()
    step(images, labels)
    return perf_counter() - start


def _accuracy(model: Any, lib: Library, test: Any) -> float:
    right = 0
    with lib.torch.no_grad():
        for start in range(0, len(test), 500):
            images, labels = test.__getitems__(np.arange(start, min(start + 500, len(test))))
            right += int((model(lib.torch.from_numpy(images)).numpy().argmax(1) == labels).sum())
    return right / len(test)
