"""Where the frozen prefix keeps what it has computed: rows of samples, in memory and beyond that in a temporary file.

`Budget` hands out room, `Kept` holds the rows of one value of the network and knows under which batch sizes they are
the same. `prefix.py` is to be read first.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minidl import kernels

MEMORY_SHARE, DISK_SHARE = 4, 2  # at most a quarter of the memory that is free, then half of the free disk
LARGEST_CHUNK = 1 << 26
DIGEST = 16  # bytes of SHA-256: two different samples share one with odds of 2^-128
WORTH_THREADS = 1 << 19  # bytes to read from which on a second thread pays


class Budget:
    """Room for rows: `memory` bytes in memory, then `disk` bytes in a file in `folder` that vanishes with the process.

    The file has no name, or on Windows is removed when it is closed, so that nothing stays behind however the program
    ends. Its room is reserved before it is used: a full disk means no room, not an error.
    """

    def __init__(self, memory: int, folder: str | None, disk: int):
        self.memory, self.folder, self.disk = memory, folder, disk
        self.used_memory = self.used_disk = 0
        self.file: Any = None

    @classmethod
    def of(cls, cache: Any) -> Budget:
        """From the argument `cache` of FrozenPrefix. Raises TypeError or ValueError for what it cannot be."""
        if cache == "auto":
            folder = tempfile.gettempdir()
            return cls(free_memory() // MEMORY_SHARE, folder, shutil.disk_usage(folder).free // DISK_SHARE)
        if isinstance(cache, (int, np.integer)) and not isinstance(cache, bool):
            if cache < 1:
                raise ValueError(f"frozen_cache: {cache} bytes are no room; use False for no cache")
            return cls(int(cache), None, 0)
        if isinstance(cache, (str, os.PathLike)):
            folder = os.fspath(cache)
            if not Path(folder).is_dir():
                raise ValueError(f"frozen_cache: there is no folder {folder!r}; give 'auto', False, a number of bytes, "
                                 "or a folder for a temporary file")
            return cls(0, folder, shutil.disk_usage(folder).free // DISK_SHARE)
        raise TypeError(f"frozen_cache: 'auto', False, a number of bytes or a folder, not {cache!r:.80}")

    def room(self, size: int) -> np.ndarray | None:
        """So many bytes, or None where there is no room for them."""
        if self.used_memory + size <= self.memory:
            self.used_memory += size
            return np.empty(size, np.uint8)
        step = mmap.ALLOCATIONGRANULARITY
        whole = -(-size // step) * step
        if self.folder is None or self.used_disk + whole > self.disk:
            return None
        try:
            if self.file is None:
                self.file = tempfile.TemporaryFile(dir=self.folder, prefix="minidl-")  # noqa: SIM115
                weakref.finalize(self, self.file.close)
            _reserve(self.file, self.used_disk, whole)
            mapped = mmap.mmap(self.file.fileno(), whole, offset=self.used_disk)
        except OSError:
            self.disk = self.used_disk  # full, or not to be written to
            return None
        self.used_disk += whole
        return np.frombuffer(mapped, np.uint8, size)

    def give_back(self, kept: Kept) -> None:
        """Count the memory of dropped rows as free; the file keeps its length."""
        self.used_memory -= sum(chunk.nbytes for chunk in kept.chunks if chunk.base is None)

    def clear(self) -> None:
        """Forget all room handed out; the file goes when the last row in it does."""
        self.used_memory = self.used_disk = 0
        if self.file is not None:
            self.file.close()
            self.file = None


def _reserve(file: Any, start: int, size: int) -> None:
    """Have the system set aside so many bytes of the file. Raises OSError if the disk is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), start, size)
        return
    file.seek(start)
    for begin in range(0, size, 1 << 20):
        file.write(bytes(min(1 << 20, size - begin)))
    file.flush()


def free_memory() -> int:
    """Bytes of memory that this process may still take: what the system has free, or its control group."""
    free = 1 << 30
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) << 10
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # another system, or a group without a limit
        pass
    return max(free, 0)


class Fact(NamedTuple):
    """How an array looks: its shape, dtype and strides. Kernels choose their way by these too."""

    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]

    def empty(self) -> np.ndarray:
        """An array that looks so, not filled."""
        below = sum((n - 1) * step for n, step in zip(self.shape, self.strides) if step < 0 and n)
        above = sum((n - 1) * step for n, step in zip(self.shape, self.strides) if step > 0 and n)
        memory = np.empty(above - below + self.dtype.itemsize, np.uint8)
        return np.ndarray(self.shape, self.dtype, memory, -below, self.strides)

    def filled(self, values: np.ndarray) -> np.ndarray:
        """An array that looks so, with these values."""
        result = self.empty()
        result[...] = values
        return result


class Kept:
    """The rows of one value of the network, by the digest of the sample and the size of the batch it was computed in.

    A kernel may round differently in batches of another size. So a row computed among n samples counts for a batch of
    m only once a batch of m was computed whose rows were all known, and were all the same to the last bit: `same` holds
    such pairs (n, m), `different` the pairs where they were not. A batch that comes again as a whole (`batches`) needs
    no such proof.
    """

    def __init__(self, name: str, fact: Fact, budget: Budget):
        self.name, self.budget = name, budget
        self.shape, self.dtype = fact.shape[1:], fact.dtype
        self.row_bytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        self.chunks: list[np.ndarray] = []
        self.slots: list[np.ndarray] = []  # a view of a chunk for each row
        self.free = 0  # rows of the last chunk not yet taken
        self.index: dict[bytes, dict[int, int]] = {}  # sample -> size of the batch -> slot
        self.alias: dict[bytes, bytes] = {}  # input of a sample -> all that its row depends on, where that is more
        self.same: set[tuple[int, int]] = set()
        self.different: set[tuple[int, int]] = set()
        self.batches: set[bytes] = set()
        self.full = False

    @property
    def nbytes(self) -> int:
        return len(self.slots) * self.row_bytes

    def find(self, rows: list[bytes]) -> list[int] | None:
        """Where the rows for this batch are; None unless all are there and certain to be what it would compute."""
        size = len(rows)
        slots: list[int] = []
        rows = [self.alias.get(row, row) for row in rows]
        whole = _composition(rows) in self.batches
        for row in rows:
            found = self.index.get(row)
            if found is None:
                return None
            slot = found.get(size) if whole or (size, size) in self.same else None
            if slot is None:
                slot = next((found[n] for n in found if (n, size) in self.same), None)
            if slot is None:
                return None
            slots.append(slot)
        return slots

    def gather(self, slots: list[int], fact: Fact) -> np.ndarray:
        """The rows in one array that looks like the one they were taken from."""
        result = fact.empty()
        for row, slot in zip(result, slots):
            row[...] = self.slots[slot]
        return result

    def put(self, rows: list[bytes], inputs: list[bytes], value: np.ndarray) -> bool:
        """Keep the rows of a batch just computed, and compare those known. False if they show that samples mix.

        That is: another batch of the same size had the same sample, and other bits.
        inputs: the digests of the network's inputs alone; rows may depend on more.
        """
        size = len(rows)
        if rows is not inputs:
            self.alias.update(zip(inputs, rows))
        pairs: dict[tuple[int, int], bool] = {}
        known_before = all(row in self.index for row in rows)
        for row, array in zip(rows, value):
            found = self.index.setdefault(row, {})
            data = array.tobytes()
            for source, slot in found.items():
                equal = self.slots[slot].tobytes() == data
                pairs[source, size] = pairs.get((source, size), True) and equal
                if equal and size not in found:
                    found = self.index[row] = {**found, size: slot}
            if size not in found and (place := self._add(array)) is not None:
                found[size] = place
        self.different |= {pair for pair, equal in pairs.items() if not equal}
        composition = _composition(rows)
        if known_before and composition not in self.batches:
            self.same |= {pair for pair, equal in pairs.items() if equal}
        self.same -= self.different
        self.batches.add(composition)
        return (size, size) not in self.different

    def _add(self, row: np.ndarray) -> int | None:
        if not self.free:
            count = max(1, min(max(len(self.slots), 16), LARGEST_CHUNK // max(self.row_bytes, 1)))
            chunk = self.budget.room(count * self.row_bytes)
            while chunk is None and count > 1:
                count //= 2
                chunk = self.budget.room(count * self.row_bytes)
            if chunk is None:
                self.full = True
                return None
            self.chunks.append(chunk)
            self.free = count
        start = self.chunks[-1].nbytes - self.free * self.row_bytes
        slot = np.ndarray(self.shape, self.dtype, self.chunks[-1], start)
        slot[...] = row
        self.slots.append(slot)
        self.free -= 1
        return len(self.slots) - 1


def _composition(rows: list[bytes]) -> bytes:
    return sha256(b"".join(rows)).digest()[:DIGEST]


def digests(arrays: list[np.ndarray]) -> list[bytes]:
    """A digest of each array's bytes."""
    return in_threads(fingerprint, arrays)


def fingerprint(array: np.ndarray) -> bytes:
    """The digest of a small array, or of a view of any; `digests` for several at once."""
    return sha256(np.ascontiguousarray(array).data).digest()[:DIGEST]


def in_threads(function: Any, arrays: list[np.ndarray]) -> list:
    """`function` of every array; where there is much to read, by as many threads as kernels may use."""
    threads = min(kernels.get_num_threads(), len(arrays))
    if threads < 2 or sum(array.nbytes for array in arrays) < WORTH_THREADS:
        return [function(array) for array in arrays]
    order = sorted(range(len(arrays)), key=lambda place: -arrays[place].nbytes)
    with ThreadPoolExecutor(threads) as pool:  # a share of large and small ones each: a task for each would cost more
        shares = pool.map(lambda share: [(place, function(arrays[place])) for place in share],
                          [order[first::threads] for first in range(threads)])
        found = dict(pair for share in shares for pair in share)
    return [found[place] for place in range(len(arrays))]
