"""Listing L3: the dense layer expects 64 maps of 8x8, and nothing makes 8x8 of a 32x32 image.

Cure: `F.max_pool2d(…, 2)` behind each convolution.
"""

import minidl as torch
import minidl.nn as nn
import minidl.nn.functional as F


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(64 * 8 * 8, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = x.view(x.size(0), -1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


ConvNet()(torch.rand(4, 3, 32, 32))
