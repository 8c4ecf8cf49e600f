"""Memory for large results, used again when they die: fresh pages from the system are slow, each is faulted in.

`empty` hands out ordinary arrays. Under each lies a lease, under the lease a block; when the last view of an array
dies, so does its lease, and the block goes back to a pool. Blocks come in sizes an eighth of a power of two apart, one
stack for each. Only these arrays are concerned: the allocator of the process is left as it is.
MINIDL_POOL_MB limits the free memory that is kept (1024 unless given; 0 keeps none).
"""

from __future__ import annotations

import itertools
import math
import os
from collections import defaultdict, deque
from typing import Any

import numpy as np

SMALLEST = 1 << 15  # bytes: smaller arrays are NumPy's own, whose memory the C library reuses by itself
ALIGNMENT = 64  # bytes of a cache line
LARGE = 1 << 20  # bytes of a block whose return is always a reason to count
FLOAT32, BYTE = np.dtype(np.float32), np.dtype(np.uint8)

# Leases die wherever the garbage collector runs, even inside the functions below, in any thread. So nothing here waits
# for a lock: blocks move by single operations of a deque, each of which is one step for all threads.
_free: defaultdict[int, deque] = defaultdict(deque)  # blocks by their size
_limit = int(os.environ.get("MINIDL_POOL_MB") or 1024) << 20
_returns = itertools.count(1)


class Block(np.ndarray):
    """Bytes of the pool; a class of its own, because NumPy lets an array skip a base of its own class."""

    __slots__ = ()


class Lease(np.ndarray):
    """A block in use: what keeps it from the pool."""

    __slots__ = ()

    def __del__(self, free: Any = _free, returns: Any = _returns) -> None:
        block = self.base
        size = block.size
        free[size].append(block)
        if size >= LARGE or not next(returns) % 64:
            trim(_limit)


def empty(shape: Any, dtype: np.dtype = FLOAT32) -> np.ndarray:
    """An array for a result, not yet filled, in C order, of a shape or a length; a large one starts on a cache line."""
    size = (math.prod(shape) if type(shape) is tuple else shape) * dtype.itemsize
    if size < SMALLEST:
        return np.empty(shape, dtype)
    size = block_size(size)
    try:
        block = _free[size].pop()
    except IndexError:
        block = _fresh(size)
    return np.ndarray(shape, dtype, Lease(size, BYTE, block))


def block_size(size: int) -> int:
    """The smallest size of a block for so many bytes: at most an eighth larger."""
    step = 1 << max(size.bit_length() - 4, 6)
    return -(-size // step) * step


def _fresh(size: int) -> Block:
    memory = np.empty(size + ALIGNMENT, BYTE)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start:start + size].view(Block)


def free_bytes() -> int:
    """The bytes that wait in the pool."""
    return sum([size * len(blocks) for size, blocks in tuple(_free.items())])


def trim(limit: int = 0) -> None:
    """Give memory back to the system until at most `limit` bytes are free: the longest unused, large blocks first."""
    excess = free_bytes() - limit
    if excess <= 0:
        return
    for size in sorted(tuple(_free), reverse=True):
        blocks = _free[size]
        while blocks and excess > 0:
            try:
                blocks.popleft()
            except IndexError:  # another thread took it
                break
            excess -= size
