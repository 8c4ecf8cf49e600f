"""Listings L7, L10, L13: grey images (N, 28, 28) without a channel axis.

Cure: `x[:, None]`; `minidl.data.mnist()` gives (N, 1, 28, 28) from the start.
"""

import minidl
from minidl import nn

x_train = minidl.rand(64, 28, 28)
nn.Conv2d(1, 32, kernel_size=3)(x_train)
