"""Kernels compiled by Numba for float32 arrays in C order, the family's files as in `../reference/`.

Each kernel hands over to the reference what its loops do not take: float64, strided or empty arrays. A kernel
that is missing here runs in the reference too. Read `runtime.py` first.
"""

from importlib import import_module
from pathlib import Path

FAMILIES = ("activation", "conv", "dropout", "embedding", "linear", "loss", "norm", "optim", "pool",
            "resize", "softmax")
__all__ = []
for _family in FAMILIES:
    if (Path(__file__).parent / f"{_family}.py").exists():
        _module = import_module(f"minidl.kernels.cpu.{_family}")
        globals().update({name: getattr(_module, name) for name in _module.__all__})
        __all__ += _module.__all__
