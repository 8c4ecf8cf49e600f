"""Listing L12: a dense head on features (N, 64, 5, 5) that were never flattened.

Cure: `nn.Flatten()` before it.
"""

import minidl
from minidl import nn

features = minidl.randn(32, 64, 5, 5)
nn.Linear(1600, 10)(features)
