"""Listing L11: 1600 unbounded features compared with one digit by binary cross-entropy.

Cure: a classifier, `nn.Linear(1600, 10)` behind the features, and `nn.CrossEntropyLoss()`.
"""

import minidl
from minidl import nn

features = minidl.randn(32, 1600)
digits = minidl.randint(0, 10, (32,))
nn.BCEWithLogitsLoss()(features, digits)
