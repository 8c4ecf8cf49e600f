"""`frozen`: the head of a network with a frozen body is trained, first epoch and later ones, in ms an image.

minidl computes the body once a sample by itself (`FrozenPrefix`, as in `Trainer`). Beside it PyTorch's plain loop, as a
careful user writes it (the body in evaluation mode under no_grad), and PyTorch with features kept by hand: the body
once over the data set, then the head from an array. All start from the same weights, draw the same batches, and take
turns epoch by epoch; their losses are compared. Gathering the batch is part of the time. Random images and weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from benchmarks.machine import OtherLoad
from benchmarks.suite import OutputsDiffer, Settings, Work, compare, row_of
from benchmarks.timing import Times, wait_for_quiet
from benchmarks.twins import Library, frozen_vgg16, library
from minidl.transfer import FrozenPrefix

SEED, SIDE, EPOCHS, PLAIN_EPOCHS = 0, 224, 6, 2  # every epoch of the plain loop costs the same: two are enough
LOSS_TOLERANCE = 1e-3
BY_HAND = "torch, features kept by hand"


LITE0 = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
         (6, 320, 1, 1, 3))  # of each stage: expansion, channels, blocks, stride of the first, size of the window


class Case(NamedTuple):
    """A network of two parts, body and head, and how many images in which batches it is trained on."""

    name: str
    network: Callable[[Library], Any]
    images: int
    batch: int


def frozen_efficientnet_lite0(lib: Library) -> Any:
    """EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation) with 10 classes, all but the last layer
    frozen, for x (N, 3, H, W)."""
    nn = lib.nn

    def conv(channels: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> list[Any]:
        return [nn.Conv2d(channels, outputs, size, stride, size // 2, groups=groups, bias=False),
                nn.BatchNorm2d(outputs)]

    class Block(nn.Module):
        def __init__(self, channels: int, outputs: int, expansion: int, size: int, stride: int):
            super().__init__()
            inner, self.skip = channels * expansion, stride == 1 and channels == outputs
            expand = [*conv(channels, inner, 1), nn.ReLU6()] if expansion > 1 else []
            self.layers = nn.Sequential(*expand, *conv(inner, inner, size, stride, inner), nn.ReLU6(),
                                        *conv(inner, outputs, 1))

        def forward(self, x: Any) -> Any:
            return self.layers(x) + x if self.skip else self.layers(x)

    layers, channels = [*conv(3, 32, 3, 2), nn.ReLU6()], 32
    for expansion, outputs, count, stride, size in LITE0:
        for number in range(count):
            layers.append(Block(channels, outputs, expansion, size, 1 if number else stride))
            channels = outputs
    layers += [*conv(channels, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(nn.Sequential(*layers), nn.Linear(1280, 10))
    if lib.name == "minidl":
        lib.torch.freeze(model, model[0])
    else:
        model[0].requires_grad_(False)
    return model


CASES = (Case("VGG16 (head 25088-1024-10)", frozen_vgg16, 48, 16),
         Case("EfficientNet-Lite0 (head 1280-10)", frozen_efficientnet_lite0, 192, 32))


def rows(settings: Settings, errors: list[str]) -> Iterator[dict[str, Any]]:
    """Three rows for each case: the first epoch, the second, and the median of those after it. Quick: fewer images."""
    for case in CASES:
        images = 2 * case.batch if settings.quick else case.images
        try:
            yield from _run(case, settings.normal(images, 3, SIDE, SIDE), settings)
        except OutputsDiffer as error:
            errors.append(f"{settings.threads} threads  {error}")


def _run(case: Case, images: np.ndarray, settings: Settings) -> Iterator[dict[str, Any]]:
    labels = settings.generator.integers(0, 10, len(images))
    others, contestants = OtherLoad(), _contestants(case, images, labels, settings)
    generator = np.random.default_rng(SEED)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    losses: dict[str, list[float]] = {name: [] for name in contestants}
    for epoch in range(EPOCHS):
        order = generator.permutation(len(images))
        batches = [order[start:start + case.batch] for start in range(0, len(order), case.batch)]
        for name, run in contestants.items():
            if name == "torch" and epoch >= PLAIN_EPOCHS:
                continue
            wait_for_quiet()
            start = perf_counter()
            losses[name].append(run(batches, epoch == 0))
            seconds[name].append((perf_counter() - start) / len(images))
    difference = compare(Work(f"head of frozen {case.name}", {}, tolerance=LOSS_TOLERANCE),
                         {name: np.array(values[:PLAIN_EPOCHS]) for name, values in losses.items()})
    for words, epochs in (("first epoch", slice(0, 1)), ("second epoch", slice(1, 2)),
                          ("later epochs", slice(2, EPOCHS))):
        times = {name: Times(values[0], values[1:] if name == "torch" else values[epochs])
                 for name, values in seconds.items()}
        work = Work(f"head of frozen {case.name}, {SIDE}x{SIDE}, batch {case.batch}: {words}, an image", {},
                    tolerance=LOSS_TOLERANCE, facts={"images": len(images), "seed": SEED})
        yield row_of(work, times, difference, settings, others)


def _contestants(case: Case, images: np.ndarray, labels: np.ndarray, settings: Settings) -> dict[str, Callable]:
    """For each contestant a function that trains an epoch and returns its mean loss."""
    minidl = library("minidl")
    model = case.network(minidl)
    found = {"minidl": _epoch(minidl, model, FrozenPrefix(model), images, labels)}
    if "torch" not in settings.peers:
        return found
    torch = library("torch")
    twins = []
    for _ in range(2):
        twin = case.network(torch)
        twin.load_state_dict({name: torch.tensor(tensor.numpy()) for name, tensor in model.state_dict().items()})
        twin[0].eval()
        twins.append(twin)
    plain, by_hand = twins

    def network(x: Any) -> Any:
        with torch.torch.no_grad():
            x = plain[0](x)
        return plain[1](x)

    return {**found, "torch": _epoch(torch, plain, network, images, labels),
            BY_HAND: _by_hand(torch, by_hand, images, labels, case.batch)}


def _by_hand(torch: Library, model: Any, images: np.ndarray, labels: np.ndarray, batch: int) -> Callable:
    """As `_epoch`, from features that the first epoch begins with computing."""
    made: list[Callable] = []

    def run(batches: list[np.ndarray], first: bool) -> float:
        if first:
            with torch.torch.no_grad():
                features = [model[0](torch.torch.from_numpy(images[start:start + batch])).numpy()
                            for start in range(0, len(images), batch)]
            made[:] = [_epoch(torch, model, model[1], np.concatenate(features), labels)]
        return made[0](batches, first)

    return run


def _epoch(lib: Library, model: Any, network: Callable, inputs: np.ndarray, labels: np.ndarray) -> Callable:
    """A function that trains `model` on these batches, calling `network`."""
    optimizer = lib.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def run(batches: list[np.ndarray], first: bool) -> float:
        total = 0.0
        for batch in batches:
            optimizer.zero_grad()
            loss = lib.F.cross_entropy(network(lib.torch.from_numpy(inputs[batch])),
                                       lib.torch.from_numpy(labels[batch]))
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / len(batches)

    return run
