"""EfficientNet-Lite0: inverted residuals found by search, without what small devices compute slowly.

4,652,008 parameters. torchvision does not have it; the parameters have timm's names. Padding and BatchNorm (eps 0.001,
momentum 0.01) are TensorFlow's, in which the published weights were trained. M. Tan and Q. Le 2019, "EfficientNet:
rethinking model scaling for convolutional neural networks"; the Lite variants are of R. Liu 2020.
"""

from __future__ import annotations

import math

import minidl.nn.functional as F
from minidl import nn
from minidl.models.registry import register_model
from minidl.nn.conv import Sizes
from minidl.tensor import Tensor
from minidl.transfer.structure import register

STAGES = (  # how many times wider inside, channels, blocks, stride of the first block, kernel size
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


@register
class Conv2dSame(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "SAME": ceil(H / stride) rows, the odd padding at the end."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, groups: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        edges = []
        for size, kernel, stride in zip(x.shape[-1:-3:-1], self.kernel_size[::-1], self.stride[::-1]):
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            edges += [total // 2, total - total // 2]
        left, right, top, bottom = edges
        if (left, top) == (right, bottom):
            return self._apply(x, (top, left), relu)
        return self._apply(F.pad(x, edges), 0, relu)


@register
class SeparableBlock(nn.Module):
    """Filter each channel on its own, then mix them by 1x1: (N, in_channels, H, W) -> (N, out_channels, …)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, kernel_size: int):
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.kernel_size = stride, kernel_size
        self.conv_dw = Conv2dSame(in_channels, in_channels, kernel_size, stride, groups=in_channels)
        self.bn1 = _norm(in_channels)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn1(self.conv_dw(x)))
        y = self.bn2(self.conv_pw(y))
        return x + y if self.stride == 1 and self.in_channels == self.out_channels else y


@register
class InvertedBlock(nn.Module):
    """Widen by 1x1, filter each channel on its own, narrow by 1x1; x is added where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, kernel_size: int, expand_ratio: int):
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.kernel_size, self.expand_ratio = stride, kernel_size, expand_ratio
        hidden = in_channels * expand_ratio
        self.conv_pw = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.bn1 = _norm(hidden)
        self.conv_dw = Conv2dSame(hidden, hidden, kernel_size, stride, groups=hidden)
        self.bn2 = _norm(hidden)
        self.conv_pwl = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self.bn3 = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn1(self.conv_pw(x)))
        y = F.relu6(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.stride == 1 and self.in_channels == self.out_channels else y


@register
class EfficientNetLite(nn.Module):
    """Scores (N, num_classes) of images (N, 3, 224, 224) or other sizes; trained on (bytes - 127) / 128."""

    def __init__(self, num_classes: int = 1000, dropout: float = 0.2):
        self.num_classes, self.dropout = num_classes, dropout
        self.conv_stem = Conv2dSame(3, 32, 3, 2)
        self.bn1 = _norm(32)
        stages, inputs = [], 32
        for expand_ratio, outputs, count, stride, kernel_size in STAGES:
            blocks: list[nn.Module] = []
            for index in range(count):
                shape = (inputs, outputs, stride if index == 0 else 1, kernel_size)
                blocks.append(SeparableBlock(*shape) if expand_ratio == 1 else InvertedBlock(*shape, expand_ratio))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
        self.bn2 = _norm(1280)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(dropout)
        self.classifier = nn.Linear(1280, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = nn.init.fan_in_and_out(module.weight)[1] / module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        nn.init.uniform_(self.classifier.weight, -(num_classes**-0.5), num_classes**-0.5)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv_stem(x)))  # N, 32, H / 2, W / 2
        x = self.blocks(x)  # N, 320, H / 32, W / 32
        x = F.relu6(self.bn2(self.conv_head(x)))
        return self.classifier(self.drop(self.global_pool(x).flatten(1)))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=0.001, momentum=0.01)


efficientnet_lite0 = register_model("efficientnet_lite0", EfficientNetLite)
