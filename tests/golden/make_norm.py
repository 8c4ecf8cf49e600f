"""Make norm.npz: outputs and running statistics of PyTorch's BatchNorm over five batches, then in evaluation.

Run with PyTorch 2.13 installed: `python tests/golden/make_norm.py`. tests/test_norm.py only reads the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from norm_cases import BATCH_NORMS, batches  # noqa: E402

if __name__ == "__main__":
    values: dict[str, np.ndarray] = {}
    for name, (layer_name, shape, options) in BATCH_NORMS.items():
        layer = getattr(torch.nn, layer_name)(shape[1], dtype=torch.float64, **options)
        for x in batches(shape):
            output = layer(torch.tensor(x))
        values[f"{name}/trained"] = output.detach().numpy()
        layer.eval()
        values[f"{name}/evaluated"] = layer(torch.tensor(x)).detach().numpy()
        for key, buffer in layer.named_buffers():
            values[f"{name}/{key}"] = buffer.numpy()
    path = Path(__file__).with_name("norm.npz")
    np.savez_compressed(path, **values)
    print(f"{len(values)} arrays, {path.stat().st_size / 1e3:.0f} kB")
