"""Listing L6: PyTorch's order of arguments and Keras' names in one call, the kernel size given twice.

Cure: `nn.Conv2d(1, 32, kernel_size=3)`.
"""

from minidl import nn

nn.Conv2d(3, 32, 3, kernel_size=(3, 3))
