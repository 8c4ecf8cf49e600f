"""Listing L19: the test set is the validation set, although the text calls it unseen.

Cure: `train, validation = train.split(0.1)`, and the test set once, at the end.
"""

from minidl import nn, optim
from minidl.data import mnist
from minidl.train import Trainer

train, test = mnist("train", subset=100), mnist("test", subset=100)
model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1)).fit(train, test, progress=False)
