"""Reading data files that may be damaged or hostile: nothing is trusted further than it has been checked.

Memory is set aside only for sizes that were compared with what the data set can have, and decompression stops there,
so a small file cannot blow up. Whatever is wrong with a file ends in one `FileFormatError` that names the file, what
was expected and what was found. `read_idx` reads MNIST's format; `cifar.py` builds on the helpers here.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minidl.errors import FileFormatError

IDX_IMAGES, IDX_LABELS = 2051, 2049  # magic numbers: unsigned bytes in 3 dimensions and in 1


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open `path`, decompressing `.gz` on the way, and turn damage met while reading into FileFormatError."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            yield stream  # type: ignore[misc]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileFormatError(f"{path}: damaged or truncated gzip file ({error}); fetch it again") from error


def read_exactly(stream: Any, size: int, path: Path | str, what: str) -> np.ndarray:
    """Read `size` bytes as a uint8 array; raise FileFormatError if there are fewer."""
    buffer = np.empty(size, np.uint8)
    done = 0
    while done < size:
        got = stream.readinto(buffer[done:].data)
        if not got:
            raise FileFormatError(f"{path}: truncated: expected {size:,} bytes of {what}, found {done:,}")
        done += got
    return buffer


def read_up_to(stream: Any, limit: int) -> bytes:
    """Read to the end, but at most `limit` bytes; memory is set aside for no more than there are."""
    parts = []
    while limit > 0 and (part := stream.read(min(limit, 2**20))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def expect_end(stream: Any, path: Path | str, what: str) -> None:
    """Raise FileFormatError if bytes follow; reading on to the end also checks a gzip file's checksum."""
    if stream.read(1):
        raise FileFormatError(f"{path}: more bytes than expected follow after {what}")


class Bounded:
    """A readable stream that gives up with FileFormatError once more than `limit` bytes have come through."""

    def __init__(self, stream: Any, limit: int, path: Path):
        self.stream, self.left, self.limit, self.path = stream, limit, limit, path

    def read(self, size: int) -> bytes:
        data = self.stream.read(min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise FileFormatError(f"{self.path}: unpacks to more than {self.limit:,} bytes, which is no such data set")
        return data


def read_idx(path: Path, magic: int, largest: tuple[int, ...]) -> np.ndarray:
    """Read an idx file of unsigned bytes: magic number, one big-endian uint32 per dimension, then the values.

    largest: the most items, and the exact size of each further dimension: (60000, 28, 28), or (60000,) for labels.
    Source of the format: yann.lecun.com/exdb/mnist.
    """
    dimensions = len(largest)
    with opened(path) as stream:
        header = read_exactly(stream, 4 * (1 + dimensions), path, "idx header").tobytes()
        found, *shape = struct.unpack(f">{1 + dimensions}I", header)
        if found != magic:
            kind = "images" if magic == IDX_IMAGES else "labels"
            raise FileFormatError(f"{path}: not an idx file of {kind}: expected magic number {magic}, found {found}")
        if not 1 <= shape[0] <= largest[0] or tuple(shape[1:]) != largest[1:]:
            raise FileFormatError(f"{path}: the header declares shape {tuple(shape)}; expected {largest} with at most "
                                  f"{largest[0]:,} items")
        values = read_exactly(stream, int(np.prod(shape)), path, f"idx values of shape {tuple(shape)}")
        expect_end(stream, path, f"{values.size:,} values")
    return values.reshape(shape)


def check_labels(labels: np.ndarray, images: int, classes: int, path: Path) -> np.ndarray:
    """Return the labels as int64 (N,); raise FileFormatError unless there is one in 0..classes-1 for each image."""
    if len(labels) != images:
        raise FileFormatError(f"{path}: {len(labels):,} labels for {images:,} images; the files do not belong together")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise FileFormatError(f"{path}: label {labels[wrong[0]]} of item {wrong[0]} is outside 0..{classes - 1}")
    return labels.astype(np.int64)
