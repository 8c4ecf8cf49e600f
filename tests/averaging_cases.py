"""The weights and data on which averages are compared with PyTorch's (`golden/make_averaging.py`)."""

import numpy as np

SHAPES = {"0.weight": (4, 3), "0.bias": (4,), "1.weight": (4,), "1.bias": (4,), "1.running_mean": (4,),
          "1.running_var": (4,)}
DECAYS = (0.5, 0.99)
STEPS = 6


def snapshots():
    """What the tensors of Sequential(Linear(3, 4), BatchNorm1d(4)) are after each of six steps, float32."""
    rng = np.random.default_rng(0)
    return [{name: rng.uniform(0.5, 2, shape).astype(np.float32) for name, shape in SHAPES.items()}
            for _ in range(STEPS)]


def batches():
    rng = np.random.default_rng(1)
    return [rng.standard_normal((size, 3)).astype(np.float32) for size in (5, 5, 2)]
