"""Listing L6: layers under names that mix two frameworks.

Cure: `nn.Conv2d(in_channels, out_channels, kernel_size)`, `nn.MaxPool2d(2)`.
"""

from minidl import nn

nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPooling2d(2))
