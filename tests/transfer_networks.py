"""The small networks that the tests of model files save and load, and what must not change about them."""

import numpy as np

from minidl import nn
from minidl.tensor import Tensor
from minidl.transfer import untrained

X = Tensor(np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32))


def network(classes=3, hidden=8):
    return nn.Sequential({
        "body": nn.Sequential(nn.Linear(6, hidden), nn.BatchNorm1d(hidden), nn.ReLU()),
        "head": nn.Linear(hidden, classes),
    })


def trained(**options):
    """A network whose every tensor differs from its initial value."""
    model = network(**options)
    for seed, value in enumerate(model.state_dict().values()):
        value.array[...] = np.random.default_rng(seed).uniform(1, 9, value.shape)
    return model


def bits(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def snapshot(model):
    """Everything that a failed load must not change."""
    return bits(model), dict(vars(model)), untrained(model), [(m.training, m.frozen) for m in model.modules()]
