"""What `Trainer.fit` looks at before its first step: mistakes that train without an error and end in a bad network.

No pass over the data: the labels where they lie in one array, a few rows of the inputs, and the first batch. Each
check says nothing where it cannot be sure.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

from minidl.data.datasets import Subset, TensorDataset
from minidl.data.loader import DataLoader
from minidl.errors import warn_caller
from minidl.nn.conv import Conv1d, Conv2d
from minidl.nn.functional import cross_entropy, nll_loss
from minidl.nn.linear import Linear
from minidl.nn.loss import CrossEntropyLoss, NLLLoss
from minidl.nn.module import Module
from minidl.optim.optimizer import SCHEDULE_OPTIONS
from minidl.random import preserved
from minidl.tensor import Tensor, no_grad
from minidl.train.callbacks import BestWeights, CSVLog, EarlyStopping, JSONLinesLog
from minidl.train.guards import evaluating
from minidl.train.labels import labels_of

ROWS = 32  # of the inputs, compared to tell whether two data sets are the same
WITHOUT_SCHEDULE = (BestWeights, CSVLog, EarlyStopping, JSONLinesLog)  # callbacks that leave the learning rate alone


class TrainingWarning(UserWarning):
    """Something about a training that runs but cannot do what is hoped for."""


def check_start(run: Any) -> None:
    """Before the first batch: the learning rate and what is held out."""
    groups = run.optimizer.param_groups
    scheduled = any(option in group for group in groups for option in SCHEDULE_OPTIONS)
    others = [callback for callback in run.callbacks if type(callback) not in WITHOUT_SCHEDULE]
    if not scheduled and not others and all(float(group["lr"]) == 0 for group in groups):
        _warn("the learning rate is 0, so that no step changes anything: give the optimiser lr=0.01 or so")
    if isinstance(run.loader, DataLoader) and isinstance(run.validation, DataLoader):
        _check_held_out(run.loader, run.validation)


def check_first_batch(run: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
    """At the first batch, before its loss: all labels against the outputs, and inputs that look like raw pixels."""
    loss = run.trainer.loss
    takes_labels = type(loss) in (CrossEntropyLoss, NLLLoss) or loss in (cross_entropy, nll_loss)
    if takes_labels and isinstance(output, Tensor) and output.ndim == 2:
        ignored = getattr(loss, "ignore_index", -100)
        for name, data in (("training", run.loader), ("validation", run.validation)):
            labels = None if data is None else labels_of(data)
            if labels is not None:
                _check_labels(name, labels, ignored, output.shape[1])
    found = _raw_pixels(inputs[0])
    if found and _reach_the_weights(run.trainer.model, inputs):
        low, high = _trained_range(run.trainer.model)
        if high <= 1.5:
            cure = ("model.preprocess(images), which does what the weights were trained with" if low is not None else
                    "images / 255 as float32, or a data set of minidl.data, which does that")
            _warn(f"{found} go into the first layer as they are, where "
                  + (f"its weights were trained on {low:g} to {high:g}" if low is not None else
                     "about 0 to 1 is expected") + f": give {cure}")


def _warn(message: str) -> None:
    warn_caller(f"fit: {message}", TrainingWarning)


def _check_labels(name: str, labels: np.ndarray, ignored: int, classes: int) -> None:
    wrong = ((labels < 0) | (labels >= classes)) & (labels != ignored)
    if wrong.any():
        at = int(wrong.argmax())
        counted = labels[labels != ignored]
        one_based = counted.min() == 1 and counted.max() == classes
        raise IndexError(f"{name} data: label {labels[at]} of sample {at} lies outside the {classes} classes of the "
                         f"output (0..{classes - 1})"
                         + ("; the labels start at 1: subtract 1" if one_based else
                            f"; a head for these labels has {int(counted.max()) + 1} outputs"))


def _parts(data: Any) -> tuple[Any, np.ndarray | None, Any]:
    """The inputs of a data set as one array, the indices taken of them (None: all), and the data set itself."""
    indices = None
    while isinstance(data, Subset):
        own = np.asarray(data.indices, np.intp)
        indices = own if indices is None else own[indices]
        data = data.dataset
    inputs = data.tensors[0].array if isinstance(data, TensorDataset) else getattr(data, "images", None)
    return (inputs if isinstance(inputs, np.ndarray) else None), indices, data


def _check_held_out(train: DataLoader, validation: DataLoader) -> None:
    """Warn where the validation data is the training data, holds part of it, or is a test set."""
    own = [loader.sampler is not None or loader.batch_sampler is not None for loader in (train, validation)]
    (x, taken, data), (y, held, other) = _parts(train.dataset), _parts(validation.dataset)
    if not any(own):
        shared = ""
        if data is other and (taken is None or held is None or np.intersect1d(taken, held).size):
            same = (taken is None and held is None
                    or taken is not None and held is not None and np.array_equal(np.sort(taken), np.sort(held)))
            shared = "is the training data" if same else "holds samples of the training data"
        elif x is not None and y is not None and taken is None and held is None:
            if _same_rows(x, y) and _same_labels(train, validation):
                shared = "is the training data"
            elif _overlap(x, y):
                shared = "holds samples of the training data"
        if shared:
            _warn(f"the validation data {shared}, so that its figures say nothing about new data: hold a part out, "
                  "such as train, validation = data.split(0.1) or minidl.data.random_split")
    name = getattr(other, "name", None)
    if isinstance(name, str) and re.fullmatch(r"\S+ test", name) and hasattr(other, "split"):
        _warn(f"the validation data is the test set, '{name}': what is chosen by it is not tested on unseen data any "
              "more; validate on a part of the training data, train, validation = train.split(0.1)")


def _same_rows(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether two arrays of inputs agree in shape and in rows spread over all of them, which are not all alike."""
    if x.shape != y.shape or x.dtype != y.dtype or len(x) < 2:
        return False
    rows = np.unique(np.linspace(0, len(x) - 1, ROWS).astype(np.intp))
    chosen = x[rows].reshape(len(rows), -1)
    return np.array_equal(chosen, y[rows].reshape(len(rows), -1)) and bool((chosen != chosen[0]).any())


def _same_labels(train: DataLoader, validation: DataLoader) -> bool:
    one, other = labels_of(train), labels_of(validation)
    return one is None or other is None or np.array_equal(one, other)


def _overlap(x: np.ndarray, y: np.ndarray) -> bool:
    try:
        return np.shares_memory(x, y, max_work=1000)
    except RuntimeError:  # numpy.exceptions.TooHardError: strides that would take long to compare
        return False


def _raw_pixels(x: Tensor) -> str:
    """What to call inputs that are surely pixels 0..255: whole numbers up to 200 or more in images or long rows."""
    array = x.array
    images = array.ndim == 4 and array.shape[1] in (1, 3, 4)
    if array.dtype.kind not in "fu" or not (images or array.ndim == 2 and array.shape[1] >= 64):
        return ""
    if array.dtype.kind == "u" and array.dtype != np.uint8 or not array.size:
        return ""
    low, high = array.min(), array.max()
    if not (0 <= low and 200 <= high <= 255) or array.dtype.kind == "f" and (array != np.floor(array)).any():
        return ""
    return f"{'bytes' if array.dtype == np.uint8 else 'numbers'} from {low:g} to {high:g}, raw pixels by their look,"


def _reach_the_weights(model: Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether the first layer with weights is a convolution or dense layer and sees the inputs as raw as they are.

    A network may scale them itself, look them up in an Embedding, or begin with BatchNorm. One sample is run to see.
    """
    seen: list[tuple[Module, Any]] = []

    def note(module: Module, arguments: tuple, output: Any) -> None:
        seen.append((module, arguments[0] if arguments else None))

    weighted = [module for module in model.modules() if getattr(module, "weight", None) is not None]
    if model in weighted:
        seen.append((model, inputs[0]))  # a layer by itself, whose own hooks are not called below
    handles = [module.register_forward_hook(note) for module in weighted]
    try:
        with evaluating(model), no_grad(), preserved(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.forward(*(Tensor(part.array[:2]) for part in inputs))  # hooks of the whole model belong to the user
    finally:
        for handle in handles:
            handle.remove()
    module, x = seen[0] if seen else (None, None)
    if not isinstance(module, (Conv1d, Conv2d, Linear)) or not isinstance(x, Tensor):
        return False
    array = x.array
    return bool(array.size and array.min() >= 0 and 1.5 < array.max() <= 255)


def _trained_range(model: Module) -> tuple[float | None, float]:
    """The range of inputs that the file of a loaded model names, (None, 1) if it names none."""
    known = getattr(model, "preprocessing", None) if "preprocessing" in vars(model) else None
    if not isinstance(known, dict) or not known:
        return None, 1.0
    low, high = known.get("range", [0.0, 1.0])
    return float(low), float(high)
