"""What every compiled kernel shares: how loops are compiled, how parallel ones are entered, which arrays they take.

Parallel loops run through `parallel`, one at a time, on the calling thread and on helpers that `team.py` tells how to
share a loop; a forked child starts helpers of its own. How a kernel splits its sums depends on shapes alone, so that
results have the same bits for any number of threads. Read `activation.py` next, the simplest family.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import event

from minidl.kernels.cpu import team
from minidl.kernels.cpu.blas import one_thread, openmp_as_it_was
from minidl.kernels.cpu.cache import kept_on_disk
from minidl.kernels.memory import FLOAT32, empty
from minidl.kernels.threads import get_num_threads, set_num_threads

__all__ = ["compiled", "compiled_parallel", "empty", "fits", "get_num_threads", "not_yet_loaded", "parallel",
           "set_num_threads", "silence"]

# What a loop may do with rounding: fused multiply-add, divisions by a reciprocal, no care for the sign of zero. Not
# among them: leave to assume that there is no NaN or Inf ("nnan", "ninf"), and to change the order of sums ("reassoc").
FLAGS = frozenset({"contract", "arcp", "nsz"})

PATIENCE = 100_000  # looks for work before a helper falls asleep: some milliseconds

_lock = threading.Lock()  # one parallel loop at a time
_parallel_loops: list[Any] = []
_helpers: list[threading.Thread] = []
_asleep: list[threading.Lock] = []  # what each sleeping helper waits for
_announced = threading.Event()


def compiled(function: Callable | None = None, **options: Any) -> Callable:
    """Decorator: a serial loop in machine code, compiled at its first call and kept on disk.

    It runs without the interpreter's lock, does not check bounds, and divides by zero as NumPy does.
    options: of `numba.njit`, in place of those, such as fastmath or forceinline.
    """
    return _decorated(function, options)


def compiled_parallel(function: Callable | None = None, **options: Any) -> Callable:
    """Decorator: like `compiled`, and `numba.prange` loops run on several threads. Call it through `parallel`."""
    return _decorated(function, {"parallel": True, **options})


def _decorated(function: Callable | None, options: dict[str, Any]) -> Callable:
    if function is None:
        return lambda function: _decorated(function, options)
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False, "fastmath": set(FLAGS), **options}
    loop = kept_on_disk(function, **options)
    if options.get("parallel"):
        _parallel_loops.append(loop)
    return loop


def not_yet_loaded() -> list[str]:
    """The parallel loops that this process has neither compiled nor loaded, as "family.loop"."""
    return [f"{loop.py_func.__module__.rpartition('.')[2]}.{loop.py_func.__name__}"
            for loop in _parallel_loops if not loop.signatures]


def parallel(loop: Callable, *arguments: Any, limit: int | None = None) -> Any:
    """Call a `compiled_parallel` loop: one at a time in this process, on `get_num_threads()` threads.

    limit: at most so many threads; 1 for work that takes only some microseconds.
    """
    with _lock:
        threads = limit or get_num_threads()
        if threads > 1:
            _rouse(threads - 1)
        team.call_for(threads)
        try:
            return loop(*arguments)
        finally:
            team.call_for(0)


def _rouse(helpers: int) -> None:
    """Wake the threads that fell asleep, and start those that are not there yet."""
    while _asleep:
        _asleep.pop().release()
    while len(_helpers) < helpers:
        helper = threading.Thread(target=_help, daemon=True, name=f"minidl-{len(_helpers) + 1}")
        _helpers.append(helper)
        helper.start()


def _help() -> None:
    bed = threading.Lock()
    bed.acquire()
    while True:
        team.serve(PATIENCE)
        _asleep.append(bed)
        bed.acquire()


def _let_helpers_rest() -> None:
    """Before the interpreter ends and frees compiled code, wait until no helper runs any."""
    for _ in range(1000):
        if len(_asleep) == len(_helpers):
            break
        time.sleep(0.001)


def _after_fork() -> None:
    """The child has this thread only: it starts helpers of its own at its first parallel loop."""
    _helpers.clear()
    _asleep.clear()
    team.forget()
    _lock.release()


def fits(*arrays: Any) -> bool:
    """Whether compiled loops take these arrays: float32, C-contiguous, writable, aligned and not empty."""
    for array in arrays:
        if type(array) is not np.ndarray or array.dtype != FLOAT32 or not array.flags.carray or not array.size:
            return False
    return True


def silence() -> None:
    """Say nothing when kernels are compiled, as `minidl warmup` does, which shows a bar."""
    _announced.set()


class _Announcement(event.Listener):
    """Says once, on standard error, why the first call takes its time: Numba compiles what the cache lacks."""

    def on_start(self, event: Any) -> None:
        module = event.data["dispatcher"].py_func.__module__
        if module.startswith("minidl.kernels.") and not _announced.is_set():
            silence()
            print("minidl: compiling kernels for this processor, once; `minidl warmup` compiles all ahead",
                  file=sys.stderr)

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announcement())
one_thread()
with openmp_as_it_was():
    team.enlist()
atexit.register(_let_helpers_rest)
if hasattr(os, "register_at_fork"):  # a child forked in the middle of a parallel loop would inherit half its state
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)
