"""MobileNetV2: thin layers joined by shortcuts, widened in between, where each channel is filtered on its own.

3,504,872 parameters. They have torchvision's names; weights of Keras' MobileNetV2 need same_padding=True. M. Sandler,
A. Howard, M. Zhu, A. Zhmoginov and L. Chen 2018, "MobileNetV2: inverted residuals and linear bottlenecks".
"""

from __future__ import annotations

from minidl import nn
from minidl.models.efficientnet_lite import Conv2dSame
from minidl.models.registry import register_model
from minidl.tensor import Tensor
from minidl.transfer.structure import register

STAGES = (  # how many times wider inside, channels, blocks, stride of the first block
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)


@register
class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without activation; x is added where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: int,
                 same_padding: bool = False):
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.expand_ratio, self.same_padding = expand_ratio, same_padding
        hidden = in_channels * expand_ratio
        layers: list[nn.Module] = [] if expand_ratio == 1 else [_conv_norm(in_channels, hidden, 1)]
        layers += [
            _conv_norm(hidden, hidden, 3, stride, hidden, same_padding),
            nn.Conv2d(hidden, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.stride == 1 and self.in_channels == self.out_channels else y


@register
class MobileNetV2(nn.Module):
    """Scores (N, num_classes) of images (N, 3, 224, 224), or of other sizes.

    width_mult: the factor by which all layers are wider, channels rounded to multiples of 8.
    same_padding: pad before stride 2 as TensorFlow and Keras do, only at the end where the size is even.
    """

    def __init__(self, num_classes: int = 1000, width_mult: float = 1.0, dropout: float = 0.2,
                 same_padding: bool = False):
        self.num_classes, self.width_mult, self.dropout = num_classes, width_mult, dropout
        self.same_padding = same_padding
        inputs, last = _multiple_of_8(32 * width_mult), _multiple_of_8(1280 * max(1.0, width_mult))
        layers: list[nn.Module] = [_conv_norm(3, inputs, 3, 2, 1, same_padding)]
        for expand_ratio, channels, count, stride in STAGES:
            outputs = _multiple_of_8(channels * width_mult)
            for index in range(count):
                first = stride if index == 0 else 1
                layers.append(InvertedResidual(inputs, outputs, first, expand_ratio, same_padding))
                inputs = outputs
        self.features = nn.Sequential(*layers, _conv_norm(inputs, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def _conv_norm(inputs: int, outputs: int, kernel_size: int, stride: int = 1, groups: int = 1,
               same_padding: bool = False) -> nn.Sequential:
    conv = Conv2dSame(inputs, outputs, kernel_size, stride, groups) if same_padding else \
        nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8 that takes away at most a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


mobilenet_v2 = register_model("mobilenet_v2", MobileNetV2)
