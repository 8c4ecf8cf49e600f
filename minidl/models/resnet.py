"""ResNet: blocks that add what they compute to what they were given, so that a hundred layers can be trained.

Parameters have torchvision's names. As there, and unlike in the paper, a bottleneck halves the image in its 3x3
convolution (called ResNet v1.5). `cifar_resnet.py` has the small ones for CIFAR-10. K. He, X. Zhang, S. Ren and J. Sun
2016, "Deep residual learning for image recognition".
"""

from __future__ import annotations

from minidl import nn
from minidl.models.registry import register_model
from minidl.tensor import Tensor
from minidl.transfer.structure import register


@register
class BasicBlock(nn.Module):
    """relu(x + two 3x3 convolutions of x): (N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1):
        self.in_channels, self.channels, self.stride = in_channels, channels, stride
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _downsample(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


@register
class Bottleneck(nn.Module):
    """relu(x + convolutions 1x1, 3x3, 1x1 of x): (N, in_channels, H, W) -> (N, 4 channels, H / stride, W / stride)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1):
        self.in_channels, self.channels, self.stride = in_channels, channels, stride
        outputs = self.expansion * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = _downsample(in_channels, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """What brings x to the shape of the block's result, None where it has that shape."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


@register
class ResNet(nn.Module):
    """Scores (N, num_classes) of images (N, 3, 224, 224), or of other sizes.

    block: "basic" or "bottleneck". layers: how many blocks each of the four stages has.
    """

    def __init__(self, block: str, layers: tuple[int, ...], num_classes: int = 1000):
        if block not in BLOCKS or len(layers) != 4:
            raise ValueError(f"ResNet: block is one of {', '.join(BLOCKS)} and layers four numbers, not {block!r} and "
                             f"{layers!r}")
        self.block, self.layers, self.num_classes = block, tuple(layers), num_classes
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        kind = BLOCKS[block]
        inputs = 64
        for stage, (channels, count) in enumerate(zip((64, 128, 256, 512), layers), start=1):
            blocks = []
            for index in range(count):
                blocks.append(kind(inputs, channels, stride=2 if stage > 1 and index == 0 else 1))
                inputs = kind.expansion * channels
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # N, 64, H / 4, W / 4
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # N, C, H / 32, W / 32
        return self.fc(self.avgpool(x).flatten(1))


resnet18 = register_model("resnet18", ResNet, "basic", (2, 2, 2, 2))
resnet34 = register_model("resnet34", ResNet, "basic", (3, 4, 6, 3))
resnet50 = register_model("resnet50", ResNet, "bottleneck", (3, 4, 6, 3))
resnet101 = register_model("resnet101", ResNet, "bottleneck", (3, 4, 23, 3))
resnet152 = register_model("resnet152", ResNet, "bottleneck", (3, 8, 36, 3))
