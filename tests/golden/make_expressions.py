"""Make expressions.npz: what PyTorch computes for tests/expressions.py, with the gradient of x where there is one.

Run with PyTorch 2.13 installed: `python tests/golden/make_expressions.py`. The tests only read the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from expressions import EXPRESSIONS, X, weights  # noqa: E402

if __name__ == "__main__":
    values = {}
    for name, expression in EXPRESSIONS.items():
        x = torch.tensor(X, requires_grad=True)
        output = expression(torch, x)
        values[f"{name}/output"] = output.detach().numpy()
        if output.requires_grad:
            output.backward(torch.tensor(weights(tuple(output.shape), output.detach().numpy().dtype)))
            values[f"{name}/gradient"] = x.grad.numpy()
    path = Path(__file__).with_name("expressions.npz")
    np.savez_compressed(path, **values)
    print(f"{len(EXPRESSIONS)} expressions, {path.stat().st_size / 1e3:.0f} kB")
