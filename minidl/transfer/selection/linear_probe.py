"""The linear probe: how well a linear classifier reads the classes from features, by cross-validation.

Multinomial logistic regression with an L2 penalty has one optimum; a small L-BFGS finds it, in float64. The same folds
are used for every network that is asked, so that their accuracies can be compared fold by fold.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minidl.transfer.selection.scores import class_numbers, feature_matrix

STEPS = 40  # that L-BFGS usually takes: whether fewer coordinates are worth their decomposition
MEMORY = 10  # steps from which L-BFGS guesses the curvature


class Probe(NamedTuple):
    """Accuracy of a linear classifier on held-out samples: mean, standard deviation over the folds, and each fold's."""

    accuracy: float
    std: float
    folds: tuple[float, ...]


def linear_probe(features: Any, labels: Any, *, l2: float = 1e-2, folds: int = 5, seed: int = 0,
                 standardize: bool = True) -> Probe:
    """The accuracy of logistic regression on features (N, F), cross-validated.

    l2, folds, seed: the penalty (see `logistic_regression`); into how many parts, each with its share of every class,
    the samples are dealt, and the seed of that. standardize: bring each feature to mean 0 and variance 1 over the
    samples that are trained on; constant ones then count for nothing.
    Raises as `logistic_regression`, and ValueError for fewer than two folds or fewer samples than folds.
    """
    x = feature_matrix("linear_probe", features)
    y = class_numbers("linear_probe", labels, len(x))
    if not 2 <= folds <= len(x):
        raise ValueError(f"linear_probe: folds must be from 2 to the number of samples, {len(x):,}, not {folds!r}")
    part = deal(y, folds, seed)
    accuracies = []
    for fold in range(folds):
        train, test = x[part != fold], x[part == fold]
        if standardize:
            mean, std = train.mean(0), train.std(0)
            std[std <= 1e-10 * np.abs(mean)] = np.inf
            std[std == 0] = np.inf
            train, test = (train - mean) / std, (test - mean) / std
        if train.shape[1] > len(train) and len(train) < STEPS * (y.max() + 1):
            # the weights lie in the span of the samples: the same optimum in fewer numbers
            q, r = np.linalg.qr(train.T)
            train, test = r.T, test @ q
        weight, bias = _fit(train, y[part != fold], int(y.max()) + 1, l2, 1e-6)
        accuracies.append(float(((test @ weight.T + bias).argmax(1) == y[part == fold]).mean()))
    return Probe(float(np.mean(accuracies)), float(np.std(accuracies, ddof=1)), tuple(accuracies))


def deal(numbers: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold (N,) of each sample: every class is shuffled and dealt out like cards, one after the other."""
    shuffled = np.random.default_rng(seed).permutation(len(numbers))
    order = shuffled[np.argsort(numbers[shuffled], kind="stable")]
    part = np.empty(len(numbers), np.intp)
    part[order] = np.arange(len(numbers)) % folds
    return part


def logistic_regression(features: Any, labels: Any, *, l2: float = 1e-2,
                        tolerance: float = 1e-9) -> tuple[np.ndarray, np.ndarray]:
    """Weight (K, F) and bias (K,) of the multinomial logistic regression of the labels on features (N, F).

    They make  mean over samples of cross-entropy(X W^T + b, y) + l2 / 2 |W|^2  least; scikit-learn's C is
    1 / (l2 N). The loss is within about `tolerance` of the least one. Columns are the classes in order.
    Raises ShapeError, TypeError for other arrays; ValueError for NaN, infinities, one class only, l2 not above 0.
    """
    x = feature_matrix("logistic_regression", features)
    y = class_numbers("logistic_regression", labels, len(x))
    return _fit(x, y, int(y.max()) + 1, l2, tolerance)


def _fit(x: np.ndarray, y: np.ndarray, classes: int, l2: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < l2 < np.inf:
        raise ValueError(f"linear_probe: l2 must be above 0, without a penalty separable classes have no optimum; "
                         f"not {l2!r}")
    count, width = x.shape
    wanted = np.zeros((count, classes))
    wanted[np.arange(count), y] = 1

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss and its gradient; parameters (K, F + 1) flat, the bias last."""
        table = parameters.reshape(classes, width + 1)
        weight = table[:, :-1]
        scores = x @ weight.T + table[:, -1]
        scores -= scores.max(1, keepdims=True)
        p = np.exp(scores)
        total = p.sum(1, keepdims=True)
        value = (np.log(total[:, 0]) - (scores * wanted).sum(1)).mean() + l2 / 2 * (weight**2).sum()
        error = (p / total - wanted) / count
        return float(value), np.concatenate([error.T @ x + l2 * weight, error.sum(0)[:, None]], 1).ravel()

    table = _minimise(loss, np.zeros(classes * (width + 1)), 2 * min(l2, 1.0) * tolerance).reshape(classes, -1)
    return table[:, :-1], table[:, -1]


def _minimise(function: Callable, x: np.ndarray, enough: float, most: int = 2000) -> np.ndarray:
    """L-BFGS on a convex function that returns its value and gradient, until |gradient|^2 <= enough.

    J. Nocedal 1980, "Updating quasi-Newton matrices with limited storage".
    """
    value, gradient = function(x)
    steps: list[tuple[np.ndarray, np.ndarray, float]] = []  # step, change of the gradient, 1 / their product
    for _ in range(most):
        if gradient @ gradient <= enough:
            return x
        direction = -_apply_inverse(gradient, steps)
        slope = gradient @ direction
        length = 1.0 if steps else min(1.0, 1 / np.abs(gradient).sum())
        while True:
            new_value, new_gradient = function(x + length * direction)
            if new_value <= value + 1e-4 * length * slope:
                break
            length /= 2
            if length < 1e-12:  # no smaller value can be told from this one in float64
                return x
        step, change = length * direction, new_gradient - gradient
        if step @ change > 0:
            steps = [*steps[-MEMORY + 1:], (step, change, 1 / (step @ change))]
        x, value, gradient = x + step, new_value, new_gradient
    warnings.warn(f"linear_probe: not at the optimum after {most} steps, the gradient is still "
                  f"{np.linalg.norm(gradient):.2g}; standardize the features or give a larger l2",
                  RuntimeWarning, stacklevel=4)
    return x


def _apply_inverse(gradient: np.ndarray, steps: list) -> np.ndarray:
    """The gradient times the guess at the inverse of the second derivatives that the steps give (two loops)."""
    result = gradient.copy()
    shares = []
    for step, change, scale in reversed(steps):
        shares.append(scale * (step @ result))
        result -= shares[-1] * change
    if steps:
        step, change, scale = steps[-1]
        result *= 1 / (scale * (change @ change))
    for (step, change, scale), share in zip(steps, reversed(shares)):
        result += (share - scale * (change @ result)) * step
    return result
