"""A small network, data and a trainer, shared by the tests of `minidl.train`."""

import numpy as np

from minidl import nn, optim, random
from minidl.train import Trainer


def samples(count=44, dtype=np.float64):
    inputs = np.random.default_rng(3).standard_normal((count, 5)).astype(dtype)
    return inputs, (inputs[:, 0] + inputs[:, 1] > 0).astype(np.int64)


def network(dtype=np.float64):
    random.seed(11)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)).to(dtype)


def trainer_for(model, lr=0.1, metrics=(), loss=None):
    optimizer = optim.SGD(model.named_parameters(), lr=lr, momentum=0.9)
    return Trainer(model, loss or nn.CrossEntropyLoss(), optimizer, metrics)


def weights(model):
    return np.concatenate([parameter.array.ravel() for parameter in model.parameters()])


class Batches:
    """An iterable of batches that is neither a list nor a DataLoader and does not know its length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)
