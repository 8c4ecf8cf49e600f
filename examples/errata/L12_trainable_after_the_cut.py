"""Listing L12: `extractor.trainable = True` after its features were computed: no gradient reaches it any more.

Cure: train head and extractor as one network, `minidl.unfreeze(model)`.
"""

import minidl
from minidl import nn

extractor = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
with minidl.no_grad():
    features = extractor(minidl.rand(8, 1, 6, 6))
extractor.trainable = True
