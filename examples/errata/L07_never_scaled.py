"""Listings L7, L10, L13: pixels from 0 to 255 are never divided by 255.

Cure: `images / 255`, or `minidl.data.mnist()`, which does it.
"""

import numpy as np

from minidl import nn, optim
from minidl.train import Trainer

generator = np.random.default_rng(0)
x_train, y_train = generator.integers(0, 256, (64, 1, 28, 28)).astype(np.float32), generator.integers(0, 10, 64)
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 26 * 26, 10))
Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=1e-6)).fit((x_train, y_train), progress=False)
