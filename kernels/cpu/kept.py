"""Arrays derived from weights, kept while the weights do not change: packed or transformed filters.

Weights change in place, also through views, and nobody reports it. So each use takes a fingerprint of all their
numbers, at the speed of memory, which is far less work than to derive anew. What is derived is kept from the second
use of the same numbers on: training, where weights change at each step, keeps nothing. It is dropped when the memory
of the weights is freed, when their numbers change, and when more than `LIMIT` bytes are kept, the longest unused first.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from minidl.kernels.cpu.runtime import compiled, compiled_parallel, parallel

LIMIT = int(os.environ.get("MINIDL_KEPT_BYTES") or 1 << 30)  # bytes of derived arrays; 0 keeps none
SEEN = 4096  # at most so many weights are remembered at all
CHUNK = 1 << 16  # numbers that one thread fingerprints at a time
GOLDEN, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
SHIFT = np.uint64(32)

_lock = threading.Lock()
_entries: OrderedDict[tuple, _Entry] = OrderedDict()  # the longest unused first
_freed: deque[tuple] = deque()  # keys whose weights are gone


class _Entry(NamedTuple):
    fingerprint: int
    derived: Any  # None: seen once
    size: int
    owner: weakref.ref


def kept(array: np.ndarray, kind: Hashable, make: Callable[[], Any]) -> Any:
    """`make()`, which derives from `array` alone, or what it gave for the same numbers before.

    array: float32, C-contiguous. kind: what is derived, with all that it depends on. make gives an array, or a tuple
    that holds some; they must not be written to.
    """
    if LIMIT <= 0:
        return make()
    key = (array.ctypes.data, array.shape, kind)
    now = fingerprint(array)
    with _lock:
        _drop_freed()
        entry = _entries.get(key)
        seen = entry is not None and entry.fingerprint == now
        if seen and entry.derived is not None:
            _entries.move_to_end(key)
            return entry.derived
        if not seen:
            _remember(key, _Entry(now, None, 0, _owner(array, key)))
    derived = make()
    if seen:
        parts = derived if isinstance(derived, tuple) else (derived,)
        size = sum(part.nbytes for part in parts if isinstance(part, np.ndarray))
        with _lock:
            _remember(key, _Entry(now, derived, size, _owner(array, key)))
    _drop_freed_unless_locked()
    return derived


def kept_bytes() -> int:
    """The bytes of all derived arrays that are kept."""
    with _lock:
        _drop_freed()
        return sum(entry.size for entry in _entries.values())


def fingerprint(array: np.ndarray) -> int:
    """64 bits that tell the numbers of a float32 array, and their order, from others."""
    words = array.reshape(-1).view(np.uint32)
    sums = np.empty(-(-words.size // CHUNK), np.uint64)
    parallel(sum_chunks, words, sums, limit=None if sums.size > 1 else 1)
    return int(np.add.reduce(sums))


@compiled_parallel
def sum_chunks(words, sums):
    for chunk in prange(len(sums)):
        first = chunk * CHUNK
        sums[chunk] = sum_mixed(words[first:first + CHUNK], first)


@compiled
def sum_mixed(words, first):
    """The sum of all words, each mixed with its place (the finish of splitmix64, shortened)."""
    total = np.uint64(0)
    for i in range(len(words)):
        mixed = (np.uint64(words[i]) + np.uint64(first + i) * GOLDEN) * FIRST
        mixed = (mixed ^ (mixed >> SHIFT)) * SECOND
        total += mixed ^ (mixed >> SHIFT)
    return total


def _remember(key: tuple, entry: _Entry) -> None:
    """Put an entry in its place; drop the longest unused while there are too many."""
    _entries[key] = entry
    _entries.move_to_end(key)
    total = sum(other.size for other in _entries.values()) if entry.size else 0
    while total > LIMIT or len(_entries) > SEEN:
        _, dropped = _entries.popitem(last=False)
        total -= dropped.size


def _owner(array: np.ndarray, key: tuple) -> weakref.ref:
    """A reference to the array whose memory this is, which notes when it is freed."""
    while type(array) is np.ndarray and isinstance(array.base, np.ndarray):  # a lease of the pool ends before its base
        array = array.base

    def note(reference: weakref.ref) -> None:
        _freed.append(key)
        _drop_freed_unless_locked()

    return weakref.ref(array, note)


def _drop_freed_unless_locked() -> None:
    """Drop now, unless a thread, perhaps this one, is at work on the entries: it drops them afterwards."""
    if _lock.acquire(blocking=False):
        try:
            _drop_freed()
        finally:
            _lock.release()


def _drop_freed() -> None:
    while _freed:
        key = _freed.popleft()
        if key in _entries and _entries[key].owner() is None:  # else another array has taken the place
            del _entries[key]
