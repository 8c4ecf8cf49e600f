"""The convolutions of the networks that `layers` measures, written down once. Read next: layers.py.

Equal layers of a network stand here once. ResNet-50 takes the stride in its 3x3 convolutions, as everybody's does now.
"""

from __future__ import annotations

from typing import NamedTuple


class Layer(NamedTuple):
    """conv2d of x (N, channels, size, size) with weight (outputs, channels / groups, kernel, kernel)."""

    batch: int
    channels: int
    size: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def output_size(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def flops(self) -> float:
        """Multiplications and additions of the forward pass, and of each of the two gradients."""
        taps = self.channels // self.groups * self.kernel**2
        return 2.0 * self.batch * self.outputs * self.output_size**2 * taps

    def __str__(self) -> str:
        groups = f" groups {self.groups}" if self.groups > 1 else ""
        return (f"{self.batch},{self.channels},{self.size},{self.size} -> {self.outputs}, {self.kernel}x{self.kernel}"
                f" stride {self.stride} pad {self.padding}{groups}")


def _three(batch: int, channels: int, size: int, outputs: int, stride: int = 1) -> Layer:
    return Layer(batch, channels, size, outputs, 3, stride, 1)


def _one(batch: int, channels: int, size: int, outputs: int, stride: int = 1) -> Layer:
    return Layer(batch, channels, size, outputs, 1, stride, 0)


def _depthwise(batch: int, channels: int, size: int, stride: int = 1) -> Layer:
    return Layer(batch, channels, size, channels, 3, stride, 1, channels)


VGG16 = (
    _three(4, 3, 224, 64), _three(4, 64, 224, 64), _three(4, 64, 112, 128), _three(4, 128, 112, 128),
    _three(4, 128, 56, 256), _three(4, 256, 56, 256), _three(4, 256, 28, 512), _three(4, 512, 28, 512),
    _three(4, 512, 14, 512),
)

RESNET18 = (
    Layer(8, 3, 224, 64, 7, 2, 3), _three(8, 64, 56, 64),
    _three(8, 64, 56, 128, 2), _one(8, 64, 56, 128, 2), _three(8, 128, 28, 128),
    _three(8, 128, 28, 256, 2), _one(8, 128, 28, 256, 2), _three(8, 256, 14, 256),
    _three(8, 256, 14, 512, 2), _one(8, 256, 14, 512, 2), _three(8, 512, 7, 512),
)

RESNET50 = (
    Layer(8, 3, 224, 64, 7, 2, 3),
    _one(8, 64, 56, 64), _three(8, 64, 56, 64), _one(8, 64, 56, 256), _one(8, 256, 56, 64),
    _one(8, 256, 56, 128), _three(8, 128, 56, 128, 2), _one(8, 128, 28, 512), _one(8, 256, 56, 512, 2),
    _one(8, 512, 28, 128), _three(8, 128, 28, 128),
    _one(8, 512, 28, 256), _three(8, 256, 28, 256, 2), _one(8, 256, 14, 1024), _one(8, 512, 28, 1024, 2),
    _one(8, 1024, 14, 256), _three(8, 256, 14, 256),
    _one(8, 1024, 14, 512), _three(8, 512, 14, 512, 2), _one(8, 512, 7, 2048), _one(8, 1024, 14, 2048, 2),
    _one(8, 2048, 7, 512), _three(8, 512, 7, 512),
)

MOBILENET_V2 = (
    _three(8, 3, 224, 32, 2), _depthwise(8, 32, 112), _one(8, 32, 112, 16),
    _one(8, 16, 112, 96), _depthwise(8, 96, 112, 2), _one(8, 96, 56, 24),
    _one(8, 24, 56, 144), _depthwise(8, 144, 56), _one(8, 144, 56, 24),
    _depthwise(8, 144, 56, 2), _one(8, 144, 28, 32),
    _one(8, 32, 28, 192), _depthwise(8, 192, 28), _one(8, 192, 28, 32),
    _depthwise(8, 192, 28, 2), _one(8, 192, 14, 64),
    _one(8, 64, 14, 384), _depthwise(8, 384, 14), _one(8, 384, 14, 64), _one(8, 384, 14, 96),
    _one(8, 96, 14, 576), _depthwise(8, 576, 14), _one(8, 576, 14, 96),
    _depthwise(8, 576, 14, 2), _one(8, 576, 7, 160),
    _one(8, 160, 7, 960), _depthwise(8, 960, 7), _one(8, 960, 7, 160), _one(8, 960, 7, 320),
    _one(8, 320, 7, 1280),
)

SEEDS = (  # the two networks of the lessons, `minidl.models.mnist_cnn` and `cifar_cnn`
    Layer(64, 1, 28, 32, 3), Layer(64, 32, 13, 64, 3),
    Layer(64, 3, 32, 32, 3), Layer(64, 32, 15, 64, 3), Layer(64, 64, 6, 64, 3),
)

NETWORKS = {"vgg16": VGG16, "resnet18": RESNET18, "resnet50": RESNET50, "mobilenet_v2": MOBILENET_V2, "seeds": SEEDS}
