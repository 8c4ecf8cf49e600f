"""The worked example: y = 2x from x = 50 … with a learning rate of 0.1 and x as it is.

Cure: standardise x, or a learning rate below 2.7e-5.
"""

import numpy as np

from minidl import nn, optim
from minidl.train import Trainer

x = np.array([[50.0], [100.0], [150.0], [200.0]], np.float32)
model = nn.Linear(1, 1)
with np.errstate(over="ignore", invalid="ignore"):
    Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1)).fit((x, 2 * x), epochs=100, progress=False)
