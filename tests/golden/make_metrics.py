"""Make metrics.npz: what scikit-learn computes for the label arrays listed here.

Run with scikit-learn 1.9 installed: `python tests/golden/make_metrics.py`. `tests/test_metrics.py` reads the file,
inputs included.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from sklearn import metrics

FUNCTIONS = [metrics.precision_score, metrics.recall_score, metrics.f1_score]
AVERAGES = ["binary", "micro", "macro", "weighted"]
EMPTY = [0.0, 1.0, np.nan]  # zero_division
CLASSES = 6


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> (target, predicted)."""
    random = np.random.default_rng(5)
    many = random.integers(0, 5, 60)
    noisy = np.where(random.random(60) < 0.6, many, random.integers(0, 5, 60))
    two = random.integers(0, 2, 40)
    flipped = np.where(random.random(40) < 0.7, two, 1 - two)
    return {
        "binary": (two, flipped),
        "binary_never_predicted": (two, np.zeros_like(two)),
        "binary_only_zeros": (np.zeros_like(two), np.zeros_like(two)),
        "binary_only_ones": (np.ones_like(two), np.ones_like(two)),
        "many": (many, noisy),
        "perfect": (many, many),
        "missing_in_predictions": (many, np.where(noisy == 2, 4, noisy)),
        "missing_in_targets": (np.where(many == 3, 1, many), noisy),
        "gap": (np.where(many == 3, 1, many), np.where(noisy == 3, 0, noisy)),
        "nothing_right": (many, (many + 1) % 5),
        "one_class": (np.full(7, 4), np.full(7, 4)),
    }


def scores(name: str, target: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """`means` (metric, average, zero_division, labels) and `classes…` (metric, zero_division, class)."""
    def figures(average: str | None, labels: range | None) -> list[list[np.ndarray]]:
        return [[function(target, predicted, average=average, zero_division=empty, labels=labels) for empty in EMPTY]
                for function in FUNCTIONS]

    means = np.full((len(FUNCTIONS), len(AVERAGES), len(EMPTY), 2), np.nan)
    for index, average in enumerate(AVERAGES):
        if average != "binary":
            means[:, index, :, 0], means[:, index, :, 1] = figures(average, None), figures(average, range(CLASSES))
        elif name.startswith("binary"):
            means[:, index, :, 0] = figures(average, None)
    return {"target": target, "predicted": predicted, "accuracy": metrics.accuracy_score(target, predicted),
            "confusion_matrix": metrics.confusion_matrix(target, predicted),
            "confusion_matrix_of_6": metrics.confusion_matrix(target, predicted, labels=range(CLASSES)),
            "means": means, "classes": np.array(figures(None, None)),
            "classes_of_6": np.array(figures(None, range(CLASSES)))}


def main() -> None:
    values: dict[str, np.ndarray] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about labels that do not occur, which is what is asked here
        for name, (target, predicted) in cases().items():
            values |= {f"{name}/{key}": value for key, value in scores(name, target, predicted).items()}
        random = np.random.default_rng(6)
        logits = np.round(random.standard_normal((50, 7)), 1)  # one decimal, so that some scores are equal
        target = random.integers(0, 7, 50)
        figures = [metrics.top_k_accuracy_score(target, logits, k=k, labels=range(7)) for k in range(1, 8)]
        values |= {"ranking/scores": logits, "ranking/target": target, "ranking/top_k": figures}
    output, target = random.standard_normal((2, 20, 3))
    values |= {"regression/output": output, "regression/target": target,
               "regression/mean_squared_error": metrics.mean_squared_error(target, output),
               "regression/mean_absolute_error": metrics.mean_absolute_error(target, output)}
    path = Path(__file__).with_name("metrics.npz")
    np.savez_compressed(path, **values)
    print(f"{len(values)} values, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
