"""Make recurrent.npz: what PyTorch's recurrent layers and cells give for tests/recurrent_cases.py, in float64.

Run with PyTorch 2.13 installed: `python tests/golden/make_recurrent.py`. tests/test_recurrent.py only reads the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from recurrent_cases import VARIANTS, compute  # noqa: E402

if __name__ == "__main__":
    values: dict[str, np.ndarray] = {}
    for name in VARIANTS:
        values |= compute(torch, name, np.float64)
    path = Path(__file__).with_name("recurrent.npz")
    np.savez_compressed(path, **values)
    print(f"{len(values)} arrays, {path.stat().st_size / 1e3:.0f} kB")
