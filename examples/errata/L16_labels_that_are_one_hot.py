"""Listing L16: one-hot labels, as Keras' categorical_crossentropy takes them, as whole numbers.

Cure: class numbers, `labels.argmax(1)`, or `labels.float()`.
"""

import minidl
from minidl import nn

nn.CrossEntropyLoss()(minidl.randn(4, 3), minidl.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]))
