"""Listing L12: what the extractor made under no_grad() is cut off from it; fine-tuning it changes nothing.

Cure: call the extractor without no_grad(), in the same network as the head.
"""

import minidl
from minidl import nn

extractor = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
with minidl.no_grad():
    features = extractor(minidl.rand(8, 1, 6, 6))
features.sum().backward()
