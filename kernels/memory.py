"""Memory for large results, used again when they die: fresh pages from the system are slow, each is faulted in.

`empty` hands out ordinary arrays. Under each lies a lease; when the last view of an array dies, so does its lease, and
the piece of memory under it goes back to a pool. What is asked next takes a piece that had its size, or the smallest
free one that holds it, cut in two; free neighbours are joined again. So a step that needs one large array after many
small ones finds it where those were. For this to work, pieces must be neighbours: they are cut from segments that are
large in addresses, but hold no memory before they are written to.
Only these arrays are concerned: the allocator of the process is left as it is.
MINIDL_POOL_MB limits the free memory that is kept (1024 unless given; 0 keeps none).
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
import sys
import threading
from bisect import bisect_left, insort
from collections import defaultdict, deque
from typing import Any

import numpy as np

SMALLEST = 1 << 15  # bytes: smaller arrays are NumPy's own, whose memory the C library reuses by itself
ALIGNMENT = 64  # bytes of a cache line
LARGE = 1 << 20  # bytes of a piece whose return is always a reason to count
SEGMENT = 1 << 30  # addresses taken at once, where the system can take memory back from the middle of them
HUGE = 1 << 22  # bytes from which pages of 2 MiB are asked for, as NumPy does
FLOAT32, BYTE = np.dtype(np.float32), np.dtype(np.uint8)


class Segment:
    """Memory from the system. `used`: no byte from there on was ever written to."""

    __slots__ = ("bytes", "mapping", "used")

    def __init__(self, size: int):
        self.used = 0
        self.mapping = _mapped(max(size, SEGMENT)) or _mapped(size)
        if self.mapping is not None:
            self.bytes = np.frombuffer(self.mapping, BYTE)
        else:
            memory = np.empty(size + ALIGNMENT, BYTE)
            start = -memory.ctypes.data % ALIGNMENT
            self.bytes = memory[start:start + size]


def _mapped(size: int) -> mmap.mmap | None:
    if sys.platform != "linux" or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    try:
        return mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:  # the process may not have so many addresses
        return None


class Block(np.ndarray):
    """The bytes of a piece; a class of its own, because NumPy lets an array skip a base of its own class."""

    __slots__ = ()


class Piece:
    """A run of bytes of a segment, and its neighbours there."""

    __slots__ = ("segment", "start", "size", "asked", "before", "after", "free", "clean", "number", "block")

    def __init__(self, segment: Segment, start: int, size: int, before: Piece | None = None,
                 after: Piece | None = None, clean: bool = False):
        self.segment, self.start, self.size, self.asked = segment, start, size, size
        self.before, self.after, self.free, self.number = before, after, False, next(_numbers)
        self.clean = clean  # given back to the system since it was written to
        self.block: Block | None = None

    def order(self) -> tuple[int, int, Piece]:
        return self.size, self.number, self

    def held(self) -> int:
        """Bytes of memory, without those that were never written to."""
        return 0 if self.clean else min(self.size, self.segment.used - self.start)


# Leases die wherever the garbage collector runs, even inside the functions below, in any thread. So they wait for no
# lock: a piece comes back, and may leave again, by a single operation of a deque. The lock is for cutting and joining.
_returned: defaultdict[int, deque[Piece]] = defaultdict(deque)  # pieces by the size that was asked
_free: list[tuple[int, int, Piece]] = []  # pieces joined with their free neighbours, the smallest first
_limit = int(os.environ.get("MINIDL_POOL_MB") or 1024) << 20
_numbers, _returns = itertools.count(), itertools.count(1)
_lock, _holder = threading.Lock(), [0]


class Lease(np.ndarray):
    """A piece in use: what keeps it from the pool."""

    __slots__ = ("piece",)

    def __del__(self, returned: Any = _returned, returns: Any = _returns) -> None:
        piece = self.piece
        returned[piece.asked].append(piece)
        if piece.size >= LARGE or not next(returns) % 64:
            trim(_limit, wait=False)


def empty(shape: Any, dtype: np.dtype = FLOAT32) -> np.ndarray:
    """An array for a result, not yet filled, in C order, of a shape or a length; a large one starts on a cache line."""
    size = (math.prod(shape) if type(shape) is tuple else shape) * dtype.itemsize
    if size < SMALLEST:
        return np.empty(shape, dtype)
    size = block_size(size)
    try:
        piece = _returned[size].pop()
    except IndexError:
        piece = _found(size)
    lease = Lease(size, BYTE, piece.block)
    lease.piece = piece
    return np.ndarray(shape, dtype, lease)


def block_size(size: int) -> int:
    """The bytes that are set aside for so many: at most a sixty-fourth more."""
    step = 1 << max(size.bit_length() - 7, 6)
    return -(-size // step) * step


def free_bytes() -> int:
    """The bytes that wait in the pool."""
    returned = sum([size * len(pieces) for size, pieces in tuple(_returned.items())])
    return returned + sum([piece.held() for _, _, piece in tuple(_free)])


def trim(limit: int = 0, *, wait: bool = True) -> None:
    """Give memory back to the system, the largest pieces first, until at most `limit` bytes are free.

    wait: for another thread that is at work on the pool.
    """
    excess = free_bytes() - limit
    if excess > 0 and _enter(wait):
        try:
            _join_returned()
            for piece in sorted([piece for _, _, piece in _free], key=Piece.held, reverse=True):
                if excess <= 0:
                    break
                excess -= _give_back(piece, excess)
        finally:
            _leave()


def _enter(wait: bool = True) -> bool:
    """Take the lock, unless this thread has it: then the garbage collector has called from inside the pool."""
    thread = threading.get_ident()
    if _holder[0] == thread or not _lock.acquire(blocking=wait):
        return False
    _holder[0] = thread
    return True


def _leave() -> None:
    _holder[0] = 0
    _lock.release()


def _found(size: int) -> Piece:
    """A piece of at least so many bytes, from the pool or fresh."""
    if not _enter():
        return _fresh(size)
    try:
        _join_returned()
        at = bisect_left(_free, (size,))
        if at == len(_free):
            return _fresh(size)
        piece = _free.pop(at)[2]
        piece.free = False
        return _cut(piece, size)
    finally:
        _leave()


def _fresh(size: int) -> Piece:
    segment = Segment(size)
    return _cut(Piece(segment, 0, segment.bytes.size), size)


def _cut(piece: Piece, size: int) -> Piece:
    """The beginning of a piece, to be used; the rest becomes free, unless it is too small for anything."""
    if piece.size - size >= SMALLEST:
        rest = Piece(piece.segment, piece.start + size, piece.size - size, piece, piece.after, piece.clean)
        if rest.after is not None:
            rest.after.before = rest
        piece.after, piece.size = rest, size
        _set_free(rest)
    segment, end = piece.segment, piece.start + piece.size
    if end > segment.used:
        if segment.mapping is not None and size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
            start = -(-max(piece.start, segment.used) // mmap.PAGESIZE) * mmap.PAGESIZE
            segment.mapping.madvise(mmap.MADV_HUGEPAGE, start, end - start)
        segment.used = end
    piece.asked, piece.clean = size, False
    piece.block = segment.bytes[piece.start:end].view(Block)
    return piece


def _join_returned() -> None:
    """Join all that came back with its free neighbours."""
    for pieces in tuple(_returned.values()):
        while pieces:
            try:
                piece = pieces.popleft()
            except IndexError:  # another thread took it
                break
            if piece.after is not None and piece.after.free:
                _swallow(piece, piece.after)
            if piece.before is not None and piece.before.free:
                piece, swallowed = piece.before, piece
                _set_taken(piece)
                _swallow(piece, swallowed)
            _set_free(piece)


def _swallow(piece: Piece, after: Piece) -> None:
    """Make one of a piece and the one behind it."""
    if after.free:
        _set_taken(after)
    piece.size, piece.after = piece.size + after.size, after.after
    piece.clean = piece.clean and after.clean
    if piece.after is not None:
        piece.after.before = piece
    after.before = after.after = None  # or they would keep each other alive


def _set_free(piece: Piece) -> None:
    piece.free, piece.block = True, None
    insort(_free, piece.order())


def _set_taken(piece: Piece) -> None:
    piece.free = False
    del _free[bisect_left(_free, piece.order())]


def _give_back(piece: Piece, size: int) -> int:
    """Give memory of a free piece back to the system, `size` bytes or more if there are so many; how many it were."""
    held, segment = piece.held(), piece.segment
    if segment.mapping is None:
        if piece.before is not None or piece.after is not None:
            return 0
        _set_taken(piece)
        return held
    end = piece.start + held
    last = end == segment.used
    start = max(piece.start, end - size) if last else piece.start
    page, pages_end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end if last else end & -mmap.PAGESIZE
    if pages_end > page:
        segment.mapping.madvise(mmap.MADV_DONTNEED, page, pages_end - page)
    if last:
        segment.used = start
    else:
        piece.clean = True
    return end - start


if hasattr(os, "register_at_fork"):  # a child forked while a thread is at work on the pool would inherit half of it
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
