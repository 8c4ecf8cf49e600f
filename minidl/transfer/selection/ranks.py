"""Do two lists of numbers put the same things in the same order? Rank correlations, from -1 to 1, ties allowed."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.errors import ShapeError


def spearman(x: Any, y: Any) -> float:
    """Spearman's correlation: that of the ranks of x (N,) and y (N,); equal values share their mean rank.

    NaN where one of them holds nothing but one value. Raises ShapeError and ValueError as `kendall`.
    """
    x, y = _two(x, y, "spearman")
    ranks = [(np.sum(v[:, None] > v, 1) + np.sum(v[:, None] >= v, 1) - 1) / 2 for v in (x, y)]
    a, b = (rank - rank.mean() for rank in ranks)
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else float("nan")


def kendall(x: Any, y: Any) -> float:
    """Kendall's tau-b: pairs in the same order minus pairs in opposite order, over sqrt(untied in x * untied in y).

    NaN where one of them holds nothing but one value. Raises ShapeError unless x and y are (N,) with N of at least 2,
    ValueError for NaN.
    """
    x, y = _two(x, y, "kendall")
    a, b = (np.sign(v[:, None] - v) for v in (x, y))  # N, N
    scale = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / scale) if scale else float("nan")


def _two(x: Any, y: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ShapeError(f"{what}: two lists of the same length, at least 2, are needed, not {x.shape} and {y.shape}")
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError(f"{what}: NaN has no rank")
    return x, y
