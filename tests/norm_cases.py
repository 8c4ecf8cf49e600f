"""The BatchNorm layers and batches that golden/make_norm.py gives to PyTorch and test_norm.py to minidl."""

from __future__ import annotations

import numpy as np

BATCH_NORMS = {
    "images": ("BatchNorm2d", (4, 3, 5, 2), {}),
    "rows": ("BatchNorm1d", (6, 3), {"momentum": 0.3, "eps": 1e-2}),
    "sequences": ("BatchNorm1d", (4, 3, 5), {"affine": False}),
    "cumulative": ("BatchNorm2d", (4, 3, 2, 2), {"momentum": None}),
    "no-statistics": ("BatchNorm1d", (6, 3), {"track_running_stats": False}),
}


def batches(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Five batches whose mean and spread move from one to the next."""
    random = np.random.default_rng(sum(shape))
    return [random.standard_normal(shape) * (1 + step) + step for step in range(5)]
