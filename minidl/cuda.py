"""PyTorch's `torch.cuda`, as far as scripts ask it whether there is a GPU: there are no kernels for one yet."""

from __future__ import annotations


def is_available() -> bool:
    """Whether tensors can live on a GPU: not yet."""
    return False


def device_count() -> int:
    """How many GPUs can be used: none yet."""
    return 0


def manual_seed_all(seed: int) -> None:
    """Seed the generators of all GPUs, of which there are none."""
