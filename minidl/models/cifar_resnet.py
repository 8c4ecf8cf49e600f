"""The ResNets of the CIFAR-10 experiments: three stages of 16, 32 and 64 channels, shortcuts without parameters.

20, 32, 44, 56 or 110 layers with weights, 0.27 to 1.7 million parameters. Where the image is halved, the shortcut takes
every second pixel and fills up the channels with zeros (the paper's option A). Parameters have the names of Y.
Idelbayev's pytorch_resnet_cifar10, whose trained weights fit. K. He, X. Zhang, S. Ren and J. Sun 2016, "Deep residual
learning for image recognition", section 4.2.
"""

from __future__ import annotations

import minidl.nn.functional as F
from minidl import nn
from minidl.models.registry import register_model
from minidl.tensor import Tensor
from minidl.transfer.structure import register


@register
class CifarBlock(nn.Module):
    """relu(x + two 3x3 convolutions of x): (N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1):
        self.in_channels, self.channels, self.stride = in_channels, channels, stride
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.in_channels == self.channels:
            return x
        more = self.channels - self.in_channels
        return F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, more // 2, more - more // 2))


@register
class CifarResNet(nn.Module):
    """Scores (N, num_classes) of images (N, 3, 32, 32). depth: 6 n + 2 layers with weights, 2 n in each stage."""

    def __init__(self, depth: int = 20, num_classes: int = 10):
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"CifarResNet: depth is 6 n + 2, such as 20, 32, 44, 56 or 110, not {depth}")
        self.depth, self.num_classes = depth, num_classes
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, depth // 6, stride=1)
        self.layer2 = _stage(16, 32, depth // 6, stride=2)
        self.layer3 = _stage(32, 64, depth // 6, stride=2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # N, 16, 32, 32
        x = self.layer3(self.layer2(self.layer1(x)))  # N, 64, 8, 8
        return self.linear(x.mean((2, 3)))


def _stage(inputs: int, channels: int, count: int, stride: int) -> nn.Sequential:
    rest = [CifarBlock(channels, channels) for _ in range(count - 1)]
    return nn.Sequential(CifarBlock(inputs, channels, stride), *rest)


resnet20 = register_model("resnet20", CifarResNet, 20)
resnet32 = register_model("resnet32", CifarResNet, 32)
resnet44 = register_model("resnet44", CifarResNet, 44)
resnet56 = register_model("resnet56", CifarResNet, 56)
resnet110 = register_model("resnet110", CifarResNet, 110)
