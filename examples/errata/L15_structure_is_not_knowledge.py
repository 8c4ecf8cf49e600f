"""Listing L15: "structure transfer" by a network of the same structure with fresh weights, used as it is.

Cure: train it; a re-initialised part is marked until then.
"""

import numpy as np

from minidl import nn, transfer
from minidl.train import Trainer

trained = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
twin = transfer.rehead(trained, 3)
Trainer(twin, nn.CrossEntropyLoss()).predict(np.zeros((4, 16), np.float32))
