"""`minidl.Generator().manual_seed(0)`: a NumPy generator under PyTorch's names, accepted wherever NumPy's is.

Loaded only when asked for, because it needs numpy.random. The numbers are NumPy's, not PyTorch's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.device import require_cpu


class Generator(np.random.Generator):
    """A source of random numbers of its own; `manual_seed(n)` starts it like `numpy.random.default_rng(n)`."""

    def __init__(self, device: Any = "cpu"):
        require_cpu(device)
        super().__init__(np.random.PCG64())

    def manual_seed(self, seed: int) -> Generator:
        """Start again from `seed`, and return this generator."""
        self.bit_generator.state = np.random.PCG64(seed).state
        return self

    def get_state(self) -> dict[str, Any]:
        """The state, as a dictionary of numbers that `set_state` takes."""
        return dict(self.bit_generator.state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_state` returned."""
        self.bit_generator.state = state
