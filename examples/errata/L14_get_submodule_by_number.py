"""Listing L14 in PyTorch's words: a layer asked for by number.

Cure: `model[0]`, or `model.get_submodule("0")` by path.
"""

from minidl import nn

model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU())
model.get_submodule(0)
