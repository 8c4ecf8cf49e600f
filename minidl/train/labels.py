"""What can be told of labels before training: whether they fit the head, and whether there is anything to learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from minidl.data.datasets import Subset, TensorDataset
from minidl.data.loader import DataLoader
from minidl.nn.module import Module
from minidl.tensor import Tensor, as_array

MANY_TIMES = 2  # a head with so many outputs for each class in use is likely that of another task


def labels_of(data: Any) -> np.ndarray | None:
    """The labels (N,) of a data set, of the arrays (inputs, labels) or of a DataLoader over them; None if not in sight.

    Nothing is read item by item and nothing is drawn.
    """
    if isinstance(data, DataLoader):
        return labels_of(data.dataset)
    if isinstance(data, Subset):
        labels = labels_of(data.dataset)
        return None if labels is None else labels[np.asarray(data.indices, np.intp)]
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, (tuple, list)) and len(data) > 1 and all(isinstance(p, (np.ndarray, Tensor)) for p in data):
        found = as_array(data[-1])
    else:
        found = getattr(data, "labels", None)
    return found if isinstance(found, np.ndarray) and found.ndim == 1 and found.dtype.kind in "iu" else None


def check_labels(what: str, model: Module, head: str, train: Any, validation: Any, ignore_index: int = -100) -> None:
    """Raise ValueError, with the cure, for labels outside the head's outputs and for training labels all alike.

    Warns if a trained head has far more outputs than there are classes.
    """
    outputs = model.get_submodule(head)
    weight = getattr(outputs, "weight", None)
    if weight is None:
        return
    count = weight.shape[0]
    for name, data in (("train", train), ("validation", validation)):
        labels = None if data is None else labels_of(data)
        if labels is None:
            continue
        labels = labels[labels != ignore_index]
        if not len(labels):
            continue
        low, high = int(labels.min()), int(labels.max())
        if low < 0:
            raise ValueError(f"{what}: the labels of {name} reach down to {low}; classes are counted from 0")
        if high >= count:
            raise ValueError(f"{what}: the head '{head}' has {count} outputs, labels of {name} reach {high}: "
                             f"rehead(model, {high + 1})")
        if name == "train" and low == high:
            raise ValueError(f"{what}: all {len(labels)} training labels are {low}, there is nothing to tell apart; is "
                             "the data sorted by class and cut off?")
        if name == "train" and count >= MANY_TIMES * (high + 1) and not weight.untrained:
            warnings.warn(f"{what}: the head '{head}' has {count} outputs, labels reach no higher than {high}; is it "
                          f"the old task's? rehead(model, {high + 1}) makes a fresh one", stacklevel=4)
