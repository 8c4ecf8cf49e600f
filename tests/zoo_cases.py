"""The networks of the zoo that are compared with PyTorch: their inputs, and weights that both sides draw alike.

The weights come from a generator seeded by the tensor's name, so that the golden file holds results only, and a
network with another name for a tensor gives other results. golden/make_zoo.py makes the file, test_zoo_golden.py reads.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

CLASSES = 7


class Case(NamedTuple):
    """A model's name, its further arguments, its input's shape, and whether it runs in training mode."""

    name: str
    options: Mapping[str, Any]
    shape: tuple[int, ...]
    training: bool = False
    slow: bool = False

    def key(self) -> str:
        return f"{self.name}{'/training' if self.training else ''}"


CASES = [
    Case("lenet5", {}, (2, 1, 28, 28)),
    Case("alexnet", {"hidden": 48}, (2, 3, 67, 80)),
    *(Case(f"vgg{depth}{norm}", {"hidden": 32}, (2, 3, 32, 48), slow=(depth, norm) not in ((11, "_bn"), (16, "")))
      for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    *(Case(f"resnet{depth}", {}, (2, 3, 64, 48), slow=depth in (34, 101, 152)) for depth in (18, 34, 50, 101, 152)),
    *(Case(f"resnet{depth}", {}, (2, 3, 16, 16), slow=depth > 20) for depth in (20, 32, 44, 56, 110)),
    Case("resnet20", {}, (4, 3, 16, 12), training=True),
    Case("inception_v3", {"transform_input": True}, (2, 3, 96, 80)),
    Case("inception_v3", {"dropout": 0.0}, (3, 3, 299, 299), training=True, slow=True),
    Case("mobilenet_v2", {}, (2, 3, 64, 48)),
    Case("mobilenet_v2", {"dropout": 0.0}, (4, 3, 64, 64), training=True),
    Case("efficientnet_lite0", {}, (2, 3, 65, 48)),
]


def draw(name: str, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
    """float32 values uniform in [low, high), the same for the same name."""
    values = np.random.default_rng(zlib.crc32(name.encode())).random(shape, np.float32)
    return values * np.float32(high - low) + np.float32(low)


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A value for every tensor of a state dict, such that activations neither die nor blow up."""
    values = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            values[name] = np.zeros(shape, np.int64)
        elif name.endswith("running_var"):
            values[name] = draw(name, 0.5, 1.5, shape)
        elif len(shape) > 1:
            bound = (6 / np.prod(shape[1:])) ** 0.5
            values[name] = draw(name, -bound, bound, shape)
        else:
            values[name] = draw(name, 0.5, 1, shape) if name.endswith("weight") else draw(name, -0.1, 0.1, shape)
    return values


def batch(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels."""
    return draw(f"{case.key()} images", -1.7, 1.7, case.shape), np.arange(case.shape[0]) % CLASSES


def sample(gradient: np.ndarray) -> np.ndarray:
    """Up to 12 elements of a gradient."""
    flat = gradient.reshape(-1)
    return flat[:: max(1, flat.size // 12)][:12]


def sampled(names: list[str]) -> list[str]:
    """The parameters whose gradient is compared element by element: the first, one in the middle, the last two."""
    return [names[0], names[len(names) // 2], *names[-2:]]
