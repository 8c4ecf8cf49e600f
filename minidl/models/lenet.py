"""LeNet-5, the network that read cheques: two convolutions, two poolings, three dense layers.

As it is built today: the trained poolings, the partial connections of the second convolution and the distances in
place of scores that the paper has are left out. Layers are called as in PyTorch's tutorials.
Y. LeCun, L. Bottou, Y. Bengio and P. Haffner 1998, "Gradient-based learning applied to document recognition".
"""

from __future__ import annotations

from minidl import nn
from minidl.models.registry import register_model
from minidl.tensor import Tensor
from minidl.transfer.structure import register


@register
class LeNet5(nn.Module):
    """Scores (N, num_classes) of images (N, in_channels, 28, 28); 61,706 parameters for 10 classes and one channel."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1):
        self.num_classes, self.in_channels = num_classes, in_channels
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.AvgPool2d(2)
        self.tanh = nn.Tanh()
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.tanh(self.conv1(x)))  # N, 6, 14, 14
        x = self.pool(self.tanh(self.conv2(x)))  # N, 16, 5, 5
        x = self.tanh(self.fc1(x.flatten(1)))  # N, 120
        x = self.tanh(self.fc2(x))  # N, 84
        return self.fc3(x)


lenet5 = register_model("lenet5", LeNet5)
