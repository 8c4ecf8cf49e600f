"""The libraries that minidl is measured against: loading them, their versions, and one number of threads for all.

A peer that is not installed is skipped by name. PyTorch is eager PyTorch; JAX is `jit`; NumPy takes its own BLAS.
Threads are pinned twice: a process of its own for each thread count starts with that many processor cores and that
environment (`confined`, `environment`), and in it each library is told by its own function (`pin`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

import minidl

PEERS = ("torch", "jax", "numpy")
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MINIDL_THREADS")
BLAS_SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def load(names: Iterable[str]) -> tuple[dict[str, ModuleType], list[str]]:
    """The modules of the peers that can be imported, and the names of those that cannot.

    Raises ValueError for a name that is no peer.
    """
    found, missing = {}, []
    for name in names:
        if name not in PEERS:
            raise ValueError(f"unknown peer '{name}': there are {', '.join(PEERS)}")
        try:
            found[name] = import_module(name)
        except ImportError:
            missing.append(name)
    return found, missing


def environment(threads: int) -> dict[str, str]:
    """The environment of a process whose libraries all start with so many threads.

    A kernel or a cache size that OpenBLAS was told is not handed on: NumPy runs as it comes, not slower.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in BLAS_SETTINGS}
    return {"MINIDL_BACKEND": "cpu", **inherited, **dict.fromkeys(POOLS, str(threads)), "JAX_PLATFORMS": "cpu"}


@contextmanager
def confined(threads: int) -> Iterator[None]:
    """Processes started inside the block may use so many processor cores: JAX knows no other way to be told.

    Where the system cannot do this (macOS), nothing happens.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pin(threads: int, peers: dict[str, ModuleType], blas: bool = True) -> None:
    """Set the number of threads of minidl, of PyTorch, and of the BLAS behind NumPy.

    blas: False where NumPy is not measured: its BLAS then has one thread, as minidl's compiled kernels set it.
    """
    minidl.kernels.backend_module(os.environ.get("MINIDL_BACKEND") or "cpu")
    minidl.set_num_threads(threads)
    if "torch" in peers:
        peers["torch"].set_num_threads(threads)
    threads = threads if blas else 1
    try:
        import_module("threadpoolctl").threadpool_limits(threads, user_api="blas")
    except ImportError:
        if os.environ.get("OPENBLAS_NUM_THREADS") != str(threads):
            raise RuntimeError("the threads of NumPy's BLAS cannot be set: install threadpoolctl, or start with "
                               f"OPENBLAS_NUM_THREADS={threads}") from None


def as_arrays(outputs: Any) -> list[np.ndarray]:
    """The outputs of any of the libraries (tensors, arrays, numbers, None, or a list of them) as NumPy arrays."""
    if outputs is None:
        return []
    if isinstance(outputs, (list, tuple)):
        return [array for output in outputs for array in as_arrays(output)]
    return [outputs.detach().numpy() if hasattr(outputs, "detach") else np.asarray(outputs)]


def jitted(jax: ModuleType, function: Any) -> Any:
    """`function`, compiled by JAX, as a function that returns when the result is there."""
    compiled = jax.jit(function)
    return lambda *arrays: jax.block_until_ready(compiled(*arrays))
