"""Listing L6: `activation` and `input_shape` as arguments of a layer, as in Keras.

Cure: `nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU())`; the channels that come in are the first argument.
"""

from minidl import nn

nn.Conv2d(1, 32, kernel_size=(3, 3), activation="relu")
