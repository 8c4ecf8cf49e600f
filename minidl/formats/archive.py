"""Zip archives that may be damaged or hostile, and NumPy's `.npz`, which is one.

The table of an archive is checked against the size of the file before any entry is read, and no more is unpacked than
the limit allows. `torchfile.py` uses it too.
"""

from __future__ import annotations

import ast
import errno
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from minidl import atomic
from minidl.data.files import expect_end, read_exactly
from minidl.errors import FileFormatError

# What zipfile raises for damage: RuntimeError for an entry that calls itself encrypted, the rest for wrong offsets.
ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError, struct.error)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DEFLATE_RATIO = 1032  # what deflate makes of a byte at most
NUMBERS = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f[248]|c8|c16)")  # dtypes of numbers and booleans
LONGEST_HEADER = 10_000  # of an array in an .npz, NumPy's own limit
LEAST_LIMIT, TIMES = 16 * 2**20, 8  # bytes that any file may unpack to, and how many times its size


def default_limit(size: int) -> int:
    """The bytes that the arrays of a file of this size may take unless the caller allows more."""
    return max(LEAST_LIMIT, TIMES * size)


def require_within(limit: float, needed: int, size: int, path: Any) -> None:
    """Raise FileFormatError if the arrays of a file take more memory than it may claim."""
    if needed > limit:
        raise FileFormatError(f"{path}: its tensors take {needed:,} bytes, the file has {size:,} and {limit:,.0f} are "
                              f"allowed; if that is right, pass limit={needed}")


def entries(archive: zipfile.ZipFile, size: int, path: Any) -> dict[str, zipfile.ZipInfo]:
    """The archive's entries by their names, if names and sizes are possible in a file of `size` bytes."""
    found: dict[str, zipfile.ZipInfo] = {}
    packed = 0
    for entry in archive.infolist():
        name = entry.filename
        if name in found:
            raise FileFormatError(f"{path}: two entries are called {name[:100]!r}")
        if entry.compress_type not in METHODS:
            raise FileFormatError(f"{path}: '{name[:100]}' is packed by method {entry.compress_type}, not stored or "
                                  "deflated")
        packed += entry.compress_size
        ratio = 1 if entry.compress_type == zipfile.ZIP_STORED else DEFLATE_RATIO
        if packed > size or entry.file_size > ratio * entry.compress_size:
            raise FileFormatError(f"{path}: '{name[:100]}' says it has {entry.file_size:,} bytes, packed into "
                                  f"{entry.compress_size:,}, which is not possible in a file of {size:,}")
        found[name] = entry
    return found


@contextmanager
def unpacking(stream: BinaryIO, path: Any) -> Iterator[zipfile.ZipFile]:
    """The stream as a zip archive; whatever its damage leads to becomes FileFormatError."""
    try:
        with zipfile.ZipFile(stream) as archive:
            yield archive
    except FileFormatError:
        raise
    except (*ZIP_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that one: a damaged table points before 0
            raise
        raise FileFormatError(f"{path}: damaged or truncated zip archive: {str(error)[:200]}") from error


def read_npz(stream: BinaryIO, size: int, path: Any, limit: float) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` by their names; FileFormatError for anything but numbers and booleans."""
    with unpacking(stream, path) as archive:
        found = entries(archive, size, path)
        require_within(limit, sum(entry.file_size for entry in found.values()), size, path)
        strangers = [name for name in found if not name.endswith(".npy")]
        if strangers:
            raise FileFormatError(f"{path}: not an .npz: '{strangers[0][:100]}' in it is no array")
        arrays = {}
        for name, entry in found.items():
            with archive.open(entry) as inside:
                arrays[name.removesuffix(".npy")] = _read_npy(inside, entry.file_size, f"{path}: '{name[:100]}'")
        return arrays


def _read_npy(stream: Any, size: int, what: str) -> np.ndarray:
    """One array: magic number, version, header (the text of a dict), then the elements."""
    start = read_exactly(stream, min(size, 8), what, "header").tobytes()
    if start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise FileFormatError(f"{what} is no array of NumPy")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(read_exactly(stream, width, what, "header").tobytes(), "little")
    if length > LONGEST_HEADER:
        raise FileFormatError(f"{what} has a header of {length:,} bytes")
    header = read_exactly(stream, length, what, "header").tobytes()
    dtype, fortran, shape = _parse(header, what)
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes != size - 8 - width - length:
        raise FileFormatError(f"{what}: {dtype} of shape {shape} takes {nbytes:,} bytes, but "
                              f"{size - 8 - width - length:,} follow")
    values = read_exactly(stream, nbytes, what, f"{dtype} of shape {shape}").view(dtype)
    expect_end(stream, what, "the array")
    array = values.reshape(shape[::-1]).transpose() if fortran else values.reshape(shape)
    return np.ascontiguousarray(array).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _parse(header: bytes, what: str) -> tuple[np.dtype, bool, tuple[int, ...]]:
    try:
        fields = ast.literal_eval(header.decode("latin-1").strip())
        text, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        dtype = np.dtype(text) if NUMBERS.fullmatch(text) else None
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise FileFormatError(f"{what}: its header {header[:80]!r} is not that of an array") from error
    if dtype is None:
        raise FileFormatError(f"{what} is of dtype {text!r:.80}; only numbers and booleans are read, no objects")
    possible = type(shape) is tuple and len(shape) <= 32 and all(type(n) is int and 0 <= n < 2**62 for n in shape)
    if type(fortran) is not bool or not possible or math.prod(n for n in shape if n) * dtype.itemsize >= 2**62:
        raise FileFormatError(f"{what} is of shape {shape!r:.80}")
    return dtype, fortran, shape


def write_npz(tensors: Mapping[str, np.ndarray], path: Any) -> None:
    """Write arrays to an `.npz`, uncompressed and atomically; equal content, equal bytes."""
    with atomic.atomic_write(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in tensors.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
