"""How well would this network transfer? Scores of features and of old predictions against the labels of a new task.

Pure functions on arrays, in float64, without any training: `logme` and `h_score` look at features, `leep` and `nce` at
what the old head says. The linear probe is in `linear_probe.py`; `selection.py` computes all of them for several
networks and cut layers from one pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.errors import ShapeError
from minidl.tensor import as_array

GRID = np.linspace(-12.0, 12.0, 97)  # log10 of the ratio alpha / beta over the largest eigenvalue, at first
GOLDEN = (5**0.5 - 1) / 2


def logme(features: Any, targets: Any) -> float:
    """LogME: the largest log evidence of a Bayesian linear model of the targets, a sample and target dimension.

    features (N, F). targets: integers (N,) are classes, each of which becomes a column of zeros and ones; floats (N,)
    or (N, D) are regression targets. Each column y is modelled as y = X w + noise, w ~ N(0, 1 / alpha), noise ~
    N(0, 1 / beta), and the score is the mean over the columns of

        max over alpha, beta of  log N(y | 0, X X^T / alpha + I / beta) / N

    Larger is better. One decomposition X = U S V^T serves all columns: with t = alpha / beta the best
    beta is N / q(t), q(t) = sum (u_i y)^2 t / (t + s_i^2) + |y - U U^T y|^2, and what is left, a function of t alone,
    is searched on a grid and then by golden section, t between 1e-12 and 1e12 of the largest s_i^2. (The paper's
    fixed-point iteration ends at the same place or on a smaller maximum.) The bound on t keeps the score finite where
    features determine the targets exactly.
    K. You, Y. Liu, J. Wang and M. Long 2021, "LogME: practical assessment of pre-trained models for transfer learning".
    Raises ShapeError, TypeError for other arrays; ValueError for NaN, infinities, one class only, constant targets.
    """
    x = feature_matrix("logme", features)
    y = _columns("logme", targets, len(x))
    eigenvalues, u = directions(x)
    eigenvalues = eigenvalues[:, None] / eigenvalues.max(initial=0.0)  # R, 1
    z = u.T @ y  # R, D
    outside = ((y - u @ z) ** 2).sum(0)  # D
    count = len(x)

    def evidence(ratio: np.ndarray) -> np.ndarray:
        """log N(y | 0, …) of every column at its ratio (D,) of alpha to beta, at the best beta."""
        misfit = (z**2 * (ratio / (ratio + eigenvalues))).sum(0) + outside
        determinant = np.log1p(eigenvalues / ratio).sum(0)
        return 0.5 * (count * np.log(count / (2 * np.pi * misfit)) - count - determinant)

    columns = y.shape[1]
    on_grid = np.array([evidence(np.full(columns, 10.0**exponent)) for exponent in GRID])  # grid, D
    best = on_grid.argmax(0)
    found = _golden_section(lambda exponent: evidence(10.0**exponent), GRID[np.maximum(best - 1, 0)],
                            GRID[np.minimum(best + 1, len(GRID) - 1)])
    return float(np.maximum(found, on_grid.max(0)).mean() / count)


def _golden_section(function: Any, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The largest values of `function` between low and high (D,), each with one maximum there."""
    for _ in range(45):  # the interval shrinks to a billionth
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        in_left = function(left) > function(right)
        low, high = np.where(in_left, low, left), np.where(in_left, right, high)
    return function((low + high) / 2)


def leep(source_probabilities: Any, labels: Any) -> float:
    """LEEP: the mean log likelihood of the labels, told from what the old head says about the new data.

    source_probabilities p (N, Z): rows that sum to one, over the Z classes of the old task. labels (N,) integers.

        P(y, z) = 1/N sum over i with y_i = y of p(i, z)        LEEP = 1/N sum_i log sum_z P(y_i | z) p(i, z)

    At most 0; larger is better. C. Nguyen, T. Hassner, M. Seeger and C. Archambeau 2020, "LEEP: a new measure to
    evaluate transferability of learned representations".
    Raises ShapeError, TypeError for other arrays; ValueError for rows that are no probabilities and for one class only.
    """
    p = feature_matrix("leep", source_probabilities)
    if p.min() < 0 or np.abs(p.sum(1) - 1).max() > 1e-3:
        raise ValueError("leep: source_probabilities must be at least 0 and sum to 1 in each row, as after a softmax; "
                         f"they go from {p.min():.4g}, the sums from {p.sum(1).min():.4g} to {p.sum(1).max():.4g}. "
                         "Are they logits?")
    numbers = class_numbers("leep", labels, len(p))
    joint = one_hot(numbers).T @ p / len(p)  # K, Z
    conditional = joint / np.where(joint.sum(0) > 0, joint.sum(0), 1.0)  # P(y | z)
    return float(np.log((conditional[numbers] * p).sum(1)).mean())


def nce(source_labels: Any, labels: Any) -> float:
    """NCE: minus the entropy of the new labels given the old task's, H(Y | Z), in nats.

    source_labels (N,): the class that the old head gives each sample. labels (N,). At most 0; larger is better.
    A. Tran, C. Nguyen and T. Hassner 2019, "Transferability and hardness of supervised classification tasks".
    Raises as `leep`; source_labels may be of one class only.
    """
    given = np.asarray(as_array(source_labels))
    z = class_numbers("nce: source_labels", given, len(given) if given.ndim else 0, least=1)
    y = class_numbers("nce", labels, len(z))
    joint = one_hot(y).T @ one_hot(z) / len(z)  # K, Z
    conditional = joint / joint.sum(0)
    seen = joint > 0
    return float((joint[seen] * np.log(conditional[seen])).sum())


def h_score(features: Any, labels: Any, shrinkage: bool = True) -> float:
    """H-score: how far the classes' mean features lie apart, in units of the features' own spread.

        tr(cov(f)^-1 cov(E[f | y]))

    features f (N, F), labels (N,); larger is better. Without shrinkage this is the score of Bao et al., with a
    pseudo-inverse, which says nothing where F comes near N. With it, cov(f) is replaced by the estimate of Ledoit and
    Wolf, (1 - a) cov(f) + a tr(cov(f)) / F I, and the score multiplied by 1 - a, as Ibrahim et al. propose.
    Y. Bao, Y. Li, S.-L. Huang, L. Zhang, L. Zheng, A. Zamir and L. Guibas 2019, "An information-theoretic approach to
    transferability in task transfer learning"; S. Ibrahim, N. Ponomareva and R. Mazumder 2022, "Newer is not always
    better: rethinking transferability metrics, their peculiarities, stability and performance".
    Raises as `logme`.
    """
    x = feature_matrix("h_score", features)
    numbers = class_numbers("h_score", labels, len(x))
    largest = np.abs(x).max()
    x = x - x.mean(0)
    count, width = x.shape
    if np.abs(x).max() <= 1e-12 * largest:
        return 0.0  # constant features
    squares, u = directions(x)
    spread = squares / count  # R, the eigenvalues of cov(f)
    members = one_hot(numbers)  # N, K
    sizes = members.sum(0)
    means = members.T @ u / sizes[:, None] * np.sqrt(squares)  # K, R: the classes' means along the axes of the spread
    between = (sizes / count) @ means**2  # R
    if not shrinkage:
        return float((between / spread).sum())
    amount = _ledoit_wolf(x, spread)
    inverse = 1 / ((1 - amount) * spread + amount * spread.sum() / width)
    return float((1 - amount) * (between * inverse).sum())


def _ledoit_wolf(x: np.ndarray, spread: np.ndarray) -> float:
    """How far to shrink the covariance of centred x (N, F), whose eigenvalues `spread` are, to a multiple of I."""
    count, width = x.shape
    squares = (spread**2).sum()
    distance = squares - spread.sum() ** 2 / width  # |cov - mean variance * I|^2
    error = ((x**2).sum(1) ** 2).sum() / count**2 - squares / count  # the expected |cov - true cov|^2
    return float(min(max(error, 0.0), distance) / distance) if distance > 0 else 0.0


def directions(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values (R,) of x (N, F) and its left singular vectors (N, R), the R that are not zero.

    From the eigenvectors of the smaller of X X^T and X^T X, which takes a quarter of the time of the singular value
    decomposition. What lies below rounding, about 1e-13 of the largest, counts as zero.
    """
    scale = np.abs(x).max() or 1.0
    scaled = x / scale
    wide = x.shape[1] >= len(x)
    values, vectors = np.linalg.eigh(scaled @ scaled.T if wide else scaled.T @ scaled)
    kept = values > 10 * max(x.shape) * np.finfo(float).eps * max(values[-1], np.finfo(float).tiny)
    values, vectors = values[kept], vectors[:, kept]
    return values * scale**2, vectors if wide else scaled @ vectors / np.sqrt(values)


def feature_matrix(what: str, values: Any) -> np.ndarray:
    """A matrix (N, F) of finite numbers as float64."""
    x = np.asarray(as_array(values))
    if x.ndim != 2 or not x.size:
        raise ShapeError(f"{what}: features (N, F) are needed, N samples of F numbers each, not shape {x.shape}; "
                         "average maps over their pixels first, x.mean((2, 3))")
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{what}: features must be real numbers, not {x.dtype}")
    x = x.astype(np.float64)
    wrong = ~np.isfinite(x)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(f"{what}: {int(wrong.sum()):,} of the features are NaN or infinite, the first is number "
                         f"{column} of sample {row}; does the network give NaN for this input?")
    return x


def class_numbers(what: str, labels: Any, count: int, least: int = 2) -> np.ndarray:
    """Integer labels (N,) as numbers 0, 1, … of the classes that are there; at least `least` of them."""
    y = np.asarray(as_array(labels))
    if y.shape != (count,):
        raise ShapeError(f"{what}: {count:,} samples need labels of shape ({count},), not {y.shape}")
    if y.dtype.kind not in "iub":
        raise TypeError(f"{what}: labels must be integers, the numbers of the classes, not {y.dtype}")
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < least:
        raise ValueError(f"{what}: all {count:,} labels are {classes[0] if count else 'missing'}; a score needs "
                         "samples of at least two classes")
    return numbers.reshape(-1)


def one_hot(numbers: np.ndarray) -> np.ndarray:
    """Class numbers (N,) as columns (N, K) of zeros and ones."""
    return np.eye(int(numbers.max()) + 1)[numbers]


def _columns(what: str, targets: Any, count: int) -> np.ndarray:
    """Classes (N,) as columns of zeros and ones (N, K), regression targets as (N, D)."""
    y = np.asarray(as_array(targets))
    if y.dtype.kind != "f":
        return one_hot(class_numbers(what, y, count))
    y = y.astype(np.float64).reshape(len(y), -1) if y.ndim in (1, 2) else y
    if y.ndim != 2 or len(y) != count:
        raise ShapeError(f"{what}: {count:,} samples need targets (N,) or (N, D), not shape {y.shape}")
    if not np.isfinite(y).all():
        raise ValueError(f"{what}: {int((~np.isfinite(y)).sum()):,} of the targets are NaN or infinite")
    if (y == y[0]).all(0).any():
        raise ValueError(f"{what}: target {int((y == y[0]).all(0).argmax())} is the same for all samples; there is "
                         "nothing to tell from features")
    return y
