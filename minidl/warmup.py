"""Compile every kernel ahead: `minidl warmup`. Compiled kernels stay on disk, beside the installed files.

A kernel is compiled when it is first called, so this calls them all, by layers forward and backward, small (where a
loop runs on one thread) and large (where it is shared). Compiled anew only where Numba, the processor or a kernel's
file has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from minidl import kernels, nn, ops, optim, random
from minidl.nn import functional
from minidl.tensor import Tensor

ACTIVATIONS = [nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.LeakyReLU(), nn.ELU(), nn.SiLU(), nn.Softplus(), nn.GELU(),
               nn.GELU(approximate="tanh"), nn.Dropout(0.5), ops.erf]
IMAGES = [
    nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 40, 1), nn.Conv2d(16, 32, 3, stride=2),
    nn.Conv2d(16, 16, 5, dilation=2, bias=False), nn.Conv2d(32, 32, 3, padding=1, groups=32),
    nn.Conv2d(32, 32, 3, stride=2, groups=32), nn.Conv2d(32, 32, 3, dilation=2, groups=32),
    nn.Conv2d(16, 32, 3, groups=2),
    nn.MaxPool2d(2), nn.MaxPool2d(3, 2, padding=1), nn.MaxPool2d(3, 1), nn.MaxPool2d((1, 2)),
    nn.AvgPool2d(2), nn.AvgPool2d(3, 2, padding=1), nn.AvgPool2d(3, 1),
    nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(5), nn.AdaptiveMaxPool2d(1), nn.AdaptiveMaxPool2d(5),
    nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"),
    nn.BatchNorm2d(16), nn.BatchNorm2d(16, affine=False), nn.BatchNorm2d(16).eval(), nn.GroupNorm(4, 16),
]
ROWS = [nn.Linear(64, 48), nn.Linear(64, 48, bias=False), nn.LayerNorm(64), nn.BatchNorm1d(64), nn.Softmax(1),
        nn.LogSoftmax(1)]
SIZES = {"small": (2, 12), "large": (16, 48)}  # images, and pixels a side
SEQUENCES = [nn.RNN(16, 24), nn.LSTM(16, 24), nn.GRU(16, 24)]
STEPS: list[tuple[Any, dict[str, Any]]] = [
    (optim.SGD, {}), (optim.SGD, {"momentum": 0.9}), (optim.Adam, {}), (optim.Adam, {"amsgrad": True}),
    (optim.RMSprop, {}), (optim.RMSprop, {"momentum": 0.9}),
]


def warm_up(progress: bool = True) -> None:
    """Compile all kernels of the compiled backend, with a bar on standard error if `progress` on a terminal."""
    from tqdm import tqdm

    if kernels.backend_module("cpu") is kernels.backend_module("reference"):
        return
    import_module("minidl.kernels.cpu.runtime").silence()
    generator = random.generator()
    before = generator.bit_generator.state
    bar = tqdm(list(_calls()), desc="compiling kernels", unit="kernel", disable=None if progress else True)
    with kernels.use_backend("cpu"):
        for call, arguments in bar:
            call(*arguments)
    generator.bit_generator.state = before


def _calls() -> Iterator[tuple[Any, tuple]]:
    """What to call, with its arguments, such that every kernel runs."""
    for images, side in SIZES.values():
        for layer in ACTIVATIONS:
            yield _both_ways, (layer, (images, 16, side, side))
        for layer in IMAGES:
            channels = getattr(layer, "in_channels", 16)
            yield _both_ways, (layer, (images, channels, side, side))
        for layer in ROWS:
            yield _both_ways, (layer, (images * side, 64))
        for shape in [(images * side, 64), (images, 10), (images, 16, side, side)]:
            yield _labelled_losses, (shape,)
        yield _element_losses, ((images * side, 64),)
        yield _look_up, (images * side, 64)
        yield _attend, (images, side)
        yield _image_kernels, (images, side)
    yield _both_ways, (nn.Conv2d(16, 16, 3), (32, 16, 6, 6))  # a small map of many samples
    yield _both_ways, (nn.Conv2d(128, 128, 1), (1, 128, 4, 4))  # few positions, many weights
    yield _both_ways, (nn.BatchNorm2d(16), (4, 16, 2, 2))
    for layer in SEQUENCES:
        yield _through_time, (layer, (8, 4, 16))
    for shape in [(72, 72), (320, 320), (16, 72, 72)]:
        yield _square, (shape,)
    for optimizer, options in STEPS:
        yield _step, (optimizer, options)


def _input(shape: tuple[int, ...]) -> Tensor:
    return Tensor(random.generator().standard_normal(shape, dtype=np.float32), requires_grad=True)


def _both_ways(layer: Any, shape: tuple[int, ...]) -> None:
    y = layer(_input(shape))
    y.backward(Tensor(np.ones(y.shape, np.float32)))


def _through_time(layer: Any, shape: tuple[int, ...]) -> None:
    y, _ = layer(_input(shape))
    y.backward(Tensor(np.ones(y.shape, np.float32)))


def _labelled_losses(shape: tuple[int, ...]) -> None:
    target = Tensor(np.zeros(shape[:1] + shape[2:], np.int64))
    functional.cross_entropy(_input(shape), target).backward()
    functional.nll_loss(_input(shape), target).backward()


def _element_losses(shape: tuple[int, ...]) -> None:
    functional.mse_loss(_input(shape), _input(shape)).backward()
    functional.mse_loss(_input(shape), _input(shape), reduction="none")


def _look_up(rows: int, width: int) -> None:
    y = functional.embedding(Tensor(np.zeros(rows, np.int64)), _input((10, width)))
    y.backward(Tensor(np.ones(y.shape, np.float32)))


def _attend(samples: int, length: int) -> None:
    y = functional.packed_attention(_input((samples, length, 192)), num_heads=2)
    y.backward(Tensor(np.ones(y.shape, np.float32)))


def _image_kernels(images: int, side: int) -> None:
    batch, ones = np.zeros((images, 3, side, side), np.float32), np.ones(3, np.float32)
    places = np.zeros(images, np.int64)
    kernels.flip_images(batch, places == 0, vertical=False)
    kernels.crop_images(batch, places, places, size=(side, side), padding=1, fill=0.0)
    kernels.normalize_images(batch, ones, ones)
    kernels.normalize_images(batch.astype(np.uint8), ones, ones)
    kernels.scale_bytes(batch.astype(np.uint8))


def _square(shape: tuple[int, ...]) -> None:
    ops.matmul(_input(shape), _input(shape)).sum().backward()


def _step(optimizer: Any, options: dict[str, Any]) -> None:
    parameter = nn.Parameter(_input((100,)).data)
    parameter.grad = _input((100,)).data
    optimizer([parameter], lr=0.01, **options).step()
