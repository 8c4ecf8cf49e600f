"""AlexNet in the form for one processor, which torchvision has: five convolutions and three dense layers.

A. Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks"; the network that won ImageNet
2012 is its parent. Parameters have torchvision's names.
"""

from __future__ import annotations

from minidl import nn
from minidl.models.registry import register_model
from minidl.tensor import Tensor
from minidl.transfer.structure import register


@register
class AlexNet(nn.Module):
    """Scores (N, num_classes) of images (N, 3, 224, 224), or others of at least 63 pixels a side.

    61,100,840 parameters. hidden: the width of the two dense layers before the last.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5, hidden: int = 4096):
        self.num_classes, self.dropout, self.hidden = num_classes, dropout, hidden
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(256 * 6 * 6, hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))  # N, 256, 6, 6
        return self.classifier(x.flatten(1))


alexnet = register_model("alexnet", AlexNet)
