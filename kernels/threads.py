"""How many threads kernels use: a number that the user chose, or every core that this process may run on.

It stands apart from `cpu/` so that `import minidl` can offer it without loading Numba.
"""

from __future__ import annotations

import os

_chosen: int | None = None


def set_num_threads(n: int) -> None:
    """Run kernels on `n` threads from now on, at most one a core; the results do not depend on it.

    The environment variable MINIDL_THREADS says it from the start. Raises ValueError for n below 1.
    """
    global _chosen
    if int(n) != n or n < 1:
        raise ValueError(f"set_num_threads: expected a whole number of threads from 1, got {n!r}")
    _chosen = int(n)


def get_num_threads() -> int:
    """The number of threads that kernels run on."""
    return CORES if _chosen is None else min(_chosen, CORES)


def _usable_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _preset() -> None:
    text = os.environ.get("MINIDL_THREADS", "")
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"the environment variable MINIDL_THREADS must be a number from 1, got {text!r}")
        set_num_threads(int(text))


CORES = _usable_cores()
_preset()
