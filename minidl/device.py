"""Where arrays live. Arrays of NumPy live on the CPU; the array's own type decides which kernels run.

Read `kernels/dispatch.py` to see how the choice is made.
"""

from __future__ import annotations

from typing import Any


class device:
    """A place for tensors: `device("cpu")`. Compares equal to its name."""

    def __init__(self, name: str | device = "cpu"):
        text = str(name)
        self.type, _, index = text.partition(":")
        if self.type not in ("cpu", "cuda"):
            raise ValueError(f"unknown device '{text}': there are 'cpu' and 'cuda'")
        self.index = int(index) if index else None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device('{self}')"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


CPU = device("cpu")


def require_cpu(place: Any) -> None:
    """Raise RuntimeError unless `place` is the CPU, the only device whose kernels exist so far."""
    if device(place).type != "cpu":
        raise RuntimeError(f"device '{place}' is not available: minidl runs on the CPU so far; "
                           "guard the move with `if minidl.cuda.is_available()`")
