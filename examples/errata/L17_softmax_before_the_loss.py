"""Listing L17 and table A2: a network that ends in softmax, trained with a loss that takes logits.

Cure: leave the softmax out; `nn.CrossEntropyLoss()` applies it.
"""

import numpy as np

from minidl import nn, optim
from minidl.train import Trainer

generator = np.random.default_rng(0)
data = generator.random((32, 20), np.float32), generator.integers(0, 3, 32)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3), nn.Softmax(dim=1))
Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1)).fit(data, progress=False)
