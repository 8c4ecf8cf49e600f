"""Listing L1: a network that comes with its preprocessing is given photographs as they are, bytes from 0 to 255.

Cure: say what the weights were trained with, `model.preprocess(images)`, or at least divide by 255.
"""

import numpy as np

from minidl import nn, optim
from minidl.train import Trainer

photographs = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8)
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
model.preprocessing = {"range": [0.0, 1.0], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
optimizer = optim.SGD(model.parameters(), lr=1e-6)
Trainer(model, nn.CrossEntropyLoss(), optimizer).fit((photographs, np.arange(8) % 2), progress=False)
