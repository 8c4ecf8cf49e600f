"""VGG: nothing but 3x3 convolutions, halved by pooling five times, then three dense layers.

VGG16 has 13 convolutions and 3 dense layers: 138,357,544 parameters, 14,714,688 of them in `features`. Parameters have
torchvision's names. K. Simonyan and A. Zisserman 2015, "Very deep convolutional networks for large-scale image
recognition".
"""

from __future__ import annotations

from minidl import nn
from minidl.models.registry import register_model
from minidl.tensor import Tensor
from minidl.transfer.structure import register

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # a stage


@register
class VGG(nn.Module):
    """Scores (N, num_classes) of images (N, 3, 224, 224), or others of at least 32 pixels a side.

    depth: 11, 13, 16 or 19 layers with weights. batch_norm: BatchNorm after every convolution.
    hidden: the width of the two dense layers before the last.
    """

    def __init__(self, depth: int = 16, batch_norm: bool = False, num_classes: int = 1000, dropout: float = 0.5,
                 hidden: int = 4096):
        if depth not in CONVOLUTIONS:
            raise ValueError(f"VGG: depth is 11, 13, 16 or 19, not {depth}")
        self.depth, self.batch_norm, self.num_classes = depth, batch_norm, num_classes
        self.dropout, self.hidden = dropout, hidden
        self.features = _convolutions(depth, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))  # N, 512, 7, 7
        return self.classifier(x.flatten(1))


def _convolutions(depth: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, count in zip(CHANNELS, CONVOLUTIONS[depth]):
        for _ in range(count):
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU())
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


vgg11 = register_model("vgg11", VGG, 11)
vgg13 = register_model("vgg13", VGG, 13)
vgg16 = register_model("vgg16", VGG, 16)
vgg19 = register_model("vgg19", VGG, 19)
vgg11_bn = register_model("vgg11_bn", VGG, 11, True)
vgg13_bn = register_model("vgg13_bn", VGG, 13, True)
vgg16_bn = register_model("vgg16_bn", VGG, 16, True)
vgg19_bn = register_model("vgg19_bn", VGG, 19, True)
