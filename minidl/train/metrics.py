"""Metrics, as scikit-learn defines them: objects that count over many batches, and a function of each for one batch.

A metric is anything with a `name` and the methods `reset()`, `update(output, target)` and `compute()`. The output comes
first, as in a loss. What an output may look like, and how it becomes class labels, is in `labels()`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.errors import ShapeError
from minidl.tensor import Tensor

AVERAGES = ("binary", "micro", "macro", "weighted", None)
MOST_CLASSES = 4096  # a confusion matrix of more would not fit


def as_numpy(values: Any) -> np.ndarray:
    """The array of a Tensor, and anything else as NumPy sees it: a list of whole numbers stays whole."""
    return np.asarray(values.array if isinstance(values, Tensor) else values)


def labels(output: Any, target: Any, threshold: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true class of every sample, as two flat integer arrays.

    output: class labels (integers) of the target's shape; or a score for each class, (N, C) or (N, C, ...), of which
        the highest wins; or one score a sample, (N,) or (N, 1), where above `threshold` means class 1 (0 for logits,
        0.5 for probabilities).
    target: class labels (N,) or (N, ...), or for (N, C, ...) scores also probabilities or one-hot rows of that shape.
    Raises ShapeError for shapes that do not fit, TypeError for targets that are no labels, ValueError for labels
    below 0 or beyond the scores' classes.
    """
    output, target = as_numpy(output), as_numpy(target)
    scores = output.ndim >= 2 and output.shape[1] > 1 and output.dtype.kind == "f"
    classes = output.shape[1] if scores else None
    if scores and target.shape == output.shape:
        output, target = output.argmax(axis=1), target.argmax(axis=1)
    elif scores and target.shape == (output.shape[0], *output.shape[2:]):
        output = output.argmax(axis=1)
    elif output.dtype.kind == "f" and (output.shape == target.shape or output.shape == (*target.shape, 1)):
        output, classes = (output > threshold).reshape(target.shape), 2
    elif output.shape != target.shape:
        raise ShapeError(f"metric: output of shape {output.shape} and target of shape {target.shape} do not fit; "
                         "expected labels of one shape, or scores (N, C) with labels (N,)")
    return _checked(output, "output", None), _checked(target, "target", classes)


def _checked(values: np.ndarray, what: str, classes: int | None) -> np.ndarray:
    values = values.ravel()
    if values.dtype.kind not in "iub":
        whole = values.astype(np.int64) if np.isfinite(values).all() else None
        if whole is None or (whole != values).any():
            raise TypeError(f"metric: the {what} must be class labels (whole numbers), got {values.dtype}; "
                            "for a score a class, the scores need the shape (N, C)")
        values = whole
    values = values.astype(np.int64, copy=False)
    if values.size and (values.min() < 0 or classes is not None and values.max() >= classes):
        wrong = values.min() if values.min() < 0 else values.max()
        expected = "from 0" if classes is None else f"from 0 to {classes - 1}"
        raise ValueError(f"metric: the {what} holds the label {wrong}, expected labels {expected}")
    return values


class Metric:
    """Base class of the metrics here; `name` is the key under which a result is reported."""

    name = "metric"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.total, self.count = 0.0, 0

    def update(self, output: Any, target: Any) -> None:
        """Take in one batch."""
        raise NotImplementedError(f"{type(self).__name__} must define update()")

    def compute(self) -> Any:
        """The figure over all samples since `reset()`; raises ValueError if there were none."""
        if not self.count:
            raise ValueError(f"{self.name}: no samples were given, so there is no figure")
        return self.total / self.count

    def __call__(self, output: Any, target: Any) -> Any:
        """The figure of this one batch alone."""
        self.reset()
        self.update(output, target)
        return self.compute()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Accuracy(Metric):
    """The part of samples whose class is right; see `labels` for the shapes."""

    name = "accuracy"

    def __init__(self, threshold: float = 0.0):
        self.threshold = threshold
        super().__init__()

    def update(self, output: Any, target: Any) -> None:
        predicted, true = labels(output, target, self.threshold)
        self.total += int((predicted == true).sum())
        self.count += true.size


class TopKAccuracy(Metric):
    """The part of samples whose true class is among the `k` highest of the scores (N, C).

    Among equal scores the later class counts as higher. A nan score is never among the highest.
    """

    def __init__(self, k: int = 5):
        if k < 1:
            raise ValueError(f"TopKAccuracy: k must be at least 1, got {k}")
        self.k, self.name = k, f"top_{k}_accuracy"
        super().__init__()

    def update(self, output: Any, target: Any) -> None:
        scores, true = as_numpy(output), as_numpy(target)
        if scores.ndim != 2 or true.shape != scores.shape[:1]:
            raise ShapeError(f"{self.name}: expected scores (N, C) and labels (N,), got shapes {scores.shape} and "
                             f"{true.shape}")
        classes = scores.shape[1]
        if self.k > classes:
            raise ValueError(f"{self.name}: there are only {classes} classes")
        true = _checked(true, "target", classes)[:, None]
        own = np.take_along_axis(scores, true, axis=1)  # N, 1
        ahead = (scores > own) | (scores == own) & (np.arange(classes) > true)
        self.total += int(((ahead.sum(axis=1) < self.k) & ~np.isnan(own[:, 0])).sum())
        self.count += len(true)


class ConfusionMatrix(Metric):
    """How often class i (row) was taken for class j (column): (C, C) int64.

    num_classes: C; without it the rows stand for the labels that occur as target or prediction, in order.
    """

    name = "confusion_matrix"

    def __init__(self, num_classes: int | None = None, threshold: float = 0.0):
        _check_count(num_classes, self.name)
        self.num_classes, self.threshold = num_classes, threshold
        super().__init__()

    def reset(self) -> None:
        self.matrix = np.zeros((self.num_classes or 0,) * 2, np.int64)

    def update(self, output: Any, target: Any) -> None:
        predicted, true = labels(output, target, self.threshold)
        size = max(len(self.matrix), _size(predicted, true, self.num_classes, self.name))
        if size > MOST_CLASSES:
            raise ValueError(f"{self.name}: labels up to {size - 1} make too large a matrix; number the classes from 0")
        counts = np.bincount(true * size + predicted, minlength=size * size).reshape(size, size)
        counts[: len(self.matrix), : len(self.matrix)] += self.matrix
        self.matrix = counts

    def compute(self) -> np.ndarray:
        if self.num_classes is not None:
            return self.matrix.copy()
        occurs = (self.matrix.sum(axis=0) + self.matrix.sum(axis=1)) > 0
        return self.matrix[np.ix_(occurs, occurs)]


def _check_count(num_classes: Any, name: str) -> None:
    whole = isinstance(num_classes, (int, np.integer)) and not isinstance(num_classes, bool)
    if num_classes is not None and not (whole and num_classes >= 1):
        raise ValueError(f"{name}: num_classes must be a whole number from 1, got {num_classes!r}; leave it out to "
                         "take the labels that occur")


def _size(predicted: np.ndarray, true: np.ndarray, num_classes: int | None, name: str) -> int:
    """The number of classes: as declared, else up to the highest label there is."""
    highest = max(predicted.max(initial=-1), true.max(initial=-1))
    if num_classes is not None and highest >= num_classes:
        raise ValueError(f"{name}: label {highest} does not fit num_classes={num_classes}")
    return int(highest) + 1 if num_classes is None else num_classes


class _PerClass(Metric):
    """What precision, recall and F1 share: hits, predictions and true samples of each class, and averaging.

    average: "binary" (class 1 of 0 and 1), "micro" (all classes counted together), "macro" (mean over classes),
        "weighted" (mean weighted by true samples), None (an array, one figure a class).
    zero_division: the figure where nothing can be divided by; nan leaves such a class out of the mean.
    num_classes: without it, the classes are the labels that occur as target or prediction.
    """

    def __init__(self, average: str | None = "binary", zero_division: float = 0.0, num_classes: int | None = None,
                 threshold: float = 0.0):
        if average not in AVERAGES:
            raise ValueError(f"{self.name}: average must be one of {AVERAGES}, got {average!r}")
        _check_count(num_classes, self.name)
        self.average, self.zero_division = average, float(zero_division)
        self.num_classes, self.threshold = num_classes, threshold
        super().__init__()

    def reset(self) -> None:
        self.counts = np.zeros((3, self.num_classes or 0), np.int64)  # hits, predicted, true; a column a class

    def update(self, output: Any, target: Any) -> None:
        predicted, true = labels(output, target, self.threshold)
        size = max(self.counts.shape[1], _size(predicted, true, self.num_classes, self.name))
        if self.average == "binary" and size > 2:
            raise ValueError(f"{self.name}: average='binary' is for the labels 0 and 1, there is a label {size - 1}; "
                             "choose average='macro', 'micro', 'weighted' or None")
        hits = true[predicted == true]
        counts = np.stack([np.bincount(values, minlength=size) for values in (hits, predicted, true)])
        counts[:, : self.counts.shape[1]] += self.counts
        self.counts = counts

    def figure(self, hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numerator and denominator of the figure."""
        raise NotImplementedError

    def compute(self) -> Any:
        if not self.counts[2].sum():
            raise ValueError(f"{self.name}: no samples were given, so there is no figure")
        counts = self.counts
        if self.average == "binary":
            counts = np.pad(counts, ((0, 0), (0, 2)))[:, 1:2]
        elif self.average == "micro":
            counts = counts.sum(axis=1, keepdims=True)
        elif self.num_classes is None:
            counts = counts[:, counts[1:].sum(axis=0) > 0]
        numerator, denominator = self.figure(*counts)
        figures = np.full(numerator.shape, self.zero_division)
        np.divide(numerator, denominator, out=figures, where=denominator > 0)
        if self.average is None:
            return figures
        weights = counts[2].astype(np.float64) if self.average == "weighted" else np.ones(len(figures))
        known = ~np.isnan(figures)
        total = weights[known].sum()
        return float((figures[known] * weights[known]).sum() / total) if total else float("nan")


class Precision(_PerClass):
    """hits / predicted: the part of the samples given to a class that belong there. See `_PerClass` for the options."""

    name = "precision"

    def figure(self, hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return hits, predicted


class Recall(_PerClass):
    """hits / true: the part of the samples of a class that were found. See `_PerClass` for the options."""

    name = "recall"

    def figure(self, hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return hits, true


class F1(_PerClass):
    """2 hits / (predicted + true), the harmonic mean of precision and recall. See `_PerClass` for the options."""

    name = "f1"

    def figure(self, hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 2 * hits, predicted + true


class Perplexity(Metric):
    """exp of the mean of -log softmax(output)[target] over all tokens that count: between how many a model wavers.

    output: logits (N, T, C), or (..., C); target: ids (N, T), or (...), of which those equal to `ignore_index`
    (padding) do not count. Batches weigh by their tokens. Summed in float64.
    Raises ShapeError for shapes that do not fit, ValueError for a target outside the classes.
    """

    name = "perplexity"

    def __init__(self, ignore_index: int = -100):
        self.ignore_index = ignore_index
        super().__init__()

    def update(self, output: Any, target: Any) -> None:
        logits, true = as_numpy(output), as_numpy(target)
        if logits.ndim < 2 or logits.shape[:-1] != true.shape:
            raise ShapeError(f"perplexity: logits of shape {logits.shape} and targets of shape {true.shape} do not "
                             "fit; expected (N, T, C), the classes last, and (N, T)")
        counted = true != self.ignore_index
        scores, true = logits[counted].astype(np.float64), true[counted]  # tokens, C
        true = _checked(true, "target", logits.shape[-1])[:, None]
        peak = scores.max(axis=1, keepdims=True)
        log_sum = peak + np.log(np.exp(scores - peak).sum(axis=1, keepdims=True))
        self.total += float((log_sum - np.take_along_axis(scores, true, axis=1)).sum())
        self.count += len(true)

    def compute(self) -> float:
        mean = super().compute()
        return math.inf if mean > 709 else math.exp(mean)  # beyond it no float64 is


class MeanSquaredError(Metric):
    """mean (output - target)^2 over all elements, summed in float64."""

    name = "mean_squared_error"

    def update(self, output: Any, target: Any) -> None:
        self.total += float(np.square(_difference(output, target, self.name)).sum())
        self.count += as_numpy(target).size


class MeanAbsoluteError(Metric):
    """mean |output - target| over all elements, summed in float64."""

    name = "mean_absolute_error"

    def update(self, output: Any, target: Any) -> None:
        self.total += float(np.abs(_difference(output, target, self.name)).sum())
        self.count += as_numpy(target).size


def _difference(output: Any, target: Any, name: str) -> np.ndarray:
    output, target = as_numpy(output), as_numpy(target)
    if output.shape != target.shape:
        raise ShapeError(f"{name}: output has shape {output.shape}, target {target.shape}; they must be equal, nothing "
                         "is broadcast" + ("; use output.squeeze(1)" if output.shape == (*target.shape, 1) else ""))
    return output.astype(np.float64) - target


def accuracy(output: Any, target: Any, threshold: float = 0.0) -> float:
    """The part of samples whose class is right; see `labels` for the shapes."""
    return Accuracy(threshold)(output, target)


def top_k_accuracy(output: Any, target: Any, k: int = 5) -> float:
    """The part of samples whose class is among the `k` highest of the scores (N, C)."""
    return TopKAccuracy(k)(output, target)


def confusion_matrix(output: Any, target: Any, num_classes: int | None = None, threshold: float = 0.0) -> np.ndarray:
    """How often class i (row) was taken for class j (column): (C, C); see `ConfusionMatrix`."""
    return ConfusionMatrix(num_classes, threshold)(output, target)


def precision(output: Any, target: Any, average: str | None = "binary", zero_division: float = 0.0,
              num_classes: int | None = None, threshold: float = 0.0) -> Any:
    """hits / predicted, averaged over classes; see `Precision`."""
    return Precision(average, zero_division, num_classes, threshold)(output, target)


def recall(output: Any, target: Any, average: str | None = "binary", zero_division: float = 0.0,
           num_classes: int | None = None, threshold: float = 0.0) -> Any:
    """hits / true samples, averaged over classes; see `Recall`."""
    return Recall(average, zero_division, num_classes, threshold)(output, target)


def f1(output: Any, target: Any, average: str | None = "binary", zero_division: float = 0.0,
       num_classes: int | None = None, threshold: float = 0.0) -> Any:
    """2 hits / (predicted + true samples), averaged over classes; see `F1`."""
    return F1(average, zero_division, num_classes, threshold)(output, target)


def perplexity(output: Any, target: Any, ignore_index: int = -100) -> float:
    """exp of the mean of -log softmax(output)[target]; see `Perplexity`."""
    return Perplexity(ignore_index)(output, target)


def mean_squared_error(output: Any, target: Any) -> float:
    """mean (output - target)^2 over all elements."""
    return MeanSquaredError()(output, target)


def mean_absolute_error(output: Any, target: Any) -> float:
    """mean |output - target| over all elements."""
    return MeanAbsoluteError()(output, target)
