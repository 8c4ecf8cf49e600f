"""Listing L17: sizes of layers that were never defined, here left as None.

Cure: `nn.Linear(784, 128)`: both sizes are whole numbers.
"""

from minidl import nn

input_dim = None
nn.Sequential(nn.Linear(input_dim, 128), nn.ReLU(), nn.Linear(128, 64))
