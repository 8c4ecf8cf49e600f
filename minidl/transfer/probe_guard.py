"""What a layer would take before it runs: bytes and multiplications, for a model that a file describes.

A file may ask for `AdaptiveAvgPool2d(100_000)` in a few bytes. Replaying a probe must not claim more than the file
could, so each layer is asked beforehand, by its arguments and the shape of its input. `probe.py` uses it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minidl import nn
from minidl.nn.conv import _Conv, _ConvTranspose
from minidl.nn.module import Module
from minidl.nn.pool import _AdaptivePool

LEAST_BYTES, TIMES = 64 * 2**20, 8  # that an output may take, whatever the size of the file, and how many times that
MOST_WORK = 2**37  # multiplications in all; VGG16 takes 2**34 for an image


class TooMuch(Exception):
    """A layer would take more than is allowed."""


class Guard:
    """Adds up what the layers would take; `check` raises TooMuch before one does. size: the bytes of the tensors."""

    def __init__(self, size: int):
        self.most_bytes = max(LEAST_BYTES, TIMES * size)
        self.work = 0

    def check(self, module: Module, path: str, shape: Sequence[int]) -> None:
        elements, work = _estimate(module, tuple(shape))
        self.work += work
        if elements * 8 > self.most_bytes or self.work > MOST_WORK:
            raise TooMuch(f"'{path}' ({type(module).__name__}) would make {elements:,} numbers of an input of shape "
                          f"{tuple(shape)}, in {self.work:,} multiplications so far; {self.most_bytes // 8:,} numbers "
                          f"and {MOST_WORK:,} multiplications are allowed")


def _estimate(module: Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """The numbers that a layer makes of an input of this shape, padding included, and its multiplications; at most."""
    count = math.prod(shape)
    parameters = sum(parameter.numel() for parameter in module.parameters(recurse=False))
    if isinstance(module, (_Conv, _ConvTranspose)):
        spatial, out, padded = shape[-module.dims:], 1, 1
        for size, kernel, stride, dilation, padding in zip(spatial, module.kernel_size, module.stride, module.dilation,
                                                           _paddings(module)):
            reach = dilation * (kernel - 1) + 1
            grown = size * stride + reach + max(getattr(module, "output_padding", (0,)))
            out *= grown if isinstance(module, _ConvTranspose) else max(size + 2 * padding - reach, 0) // stride + 1
            padded *= size + 2 * padding
        images = count // max(math.prod(spatial) * module.in_channels, 1)
        return images * max(module.out_channels * out, module.in_channels * padded), images * out * parameters
    if isinstance(module, _AdaptivePool):
        wanted = module.output_size if isinstance(module.output_size, (tuple, list)) else [module.output_size] * (
            1 if type(module).__name__.endswith("1d") else 2)
        out = math.prod(size or inside for size, inside in zip(wanted, shape[-len(wanted):]))
        return math.prod(shape[:-len(wanted)]) * out, count + math.prod(shape[:-len(wanted)]) * out
    if isinstance(module, nn.Upsample):
        spatial = shape[2:]
        given: Any = module.scale_factor if module.size is None else module.size
        each = given if isinstance(given, (tuple, list)) else [given] * len(spatial)
        out = math.prod(int(n * size if module.size is None else n) + 1 for n, size in zip(each, spatial))
        return math.prod(shape[:2]) * out, math.prod(shape[:2]) * out * 4
    kernel = getattr(module, "kernel_size", 1)
    if isinstance(module, (nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d)):
        kernels = kernel if isinstance(kernel, (tuple, list)) else [kernel] * int(type(module).__name__[-2])
        return 4 * count, 4 * count * math.prod(min(size, extent) for size, extent in zip(kernels, shape[-2:]))
    if isinstance(module, nn.Embedding):
        return count * module.embedding_dim, count * module.embedding_dim
    if isinstance(module, nn.MultiheadAttention):
        return count, count * max(shape[:-1], default=1) + count * parameters // max(shape[-1], 1)
    rows = count // max(shape[-1], 1) if shape else 1
    widest = max((size for parameter in module.parameters(recurse=False) for size in parameter.shape), default=0)
    return max(count, rows * widest), max(count, rows * parameters)


def _paddings(module: Any) -> Sequence[int]:
    if module.padding == "same":
        return [dilation * (kernel - 1) for kernel, dilation in zip(module.kernel_size, module.dilation)]
    return [0] * module.dims if module.padding == "valid" else module.padding
