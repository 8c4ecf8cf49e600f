"""Listing L14: the structure of a network is asked of `get_layer(0)`, a look-up by name in Keras.

Cure: `minidl.structure(model)` for the whole network, `model[0]` for its first layer.
"""

from minidl import nn

model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 26 * 26, 10))
structure = model.get_layer(0).get_config()
