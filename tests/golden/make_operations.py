"""Make operations.npz: what PyTorch computes for every case of tests/cases.py, forward and every gradient, in float64.

Run with PyTorch 2.13 installed: `python tests/golden/make_operations.py`. The tests only read the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
from cases import CASES, Case  # noqa: E402

OTHERS = {
    "clip": torch.clamp,
}


def reference(operation: str):
    """PyTorch's function for one of minidl's operations: the same name, unless OTHERS says otherwise."""
    for where in (OTHERS.get(operation), getattr(F, operation, None), getattr(torch, operation, None)):
        if where is not None:
            return where
    raise KeyError(f"no PyTorch function known for '{operation}': add it to OTHERS")


def golden(case: Case) -> dict[str, np.ndarray]:
    inputs = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in case.arrays(np.float64)]
    output = reference(case.operation)(*inputs, **case.options)
    weights = weights_for(case, tuple(output.shape))
    output.backward(torch.tensor(weights))
    values = {f"{case.name}/output": output.detach().numpy()}
    for index, x in enumerate(inputs):
        if x.requires_grad:
            values[f"{case.name}/gradient{index}"] = x.grad.numpy()
    return values


def weights_for(case: Case, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient sent into the result: different numbers everywhere, exact in float32."""
    return np.random.default_rng(len(case.name)).standard_normal(shape).astype(np.float32).astype(np.float64)


if __name__ == "__main__":
    values: dict[str, np.ndarray] = {}
    for case in CASES:
        values |= golden(case)
    path = Path(__file__).with_name("operations.npz")
    np.savez_compressed(path, **values)
    print(f"{len(CASES)} cases, {path.stat().st_size / 1e3:.0f} kB")
