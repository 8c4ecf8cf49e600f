"""Reading CIFAR-10 in any of its forms: binary batches, python batches, either as .tar.gz, or compact .npz shards.

Every form gives uint8 images (N, 3, 32, 32) in RGB and labels (N,). The python batches are pickles; they are read by
`pickles.py`, which runs nothing in them. `vision.py` decides which form is there and puts the batches together.
Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import errno
import gzip
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data.files import Bounded, check_labels, expect_end, opened, read_exactly, read_up_to
from minidl.data.pickles import PickledArray, read_pickle
from minidl.errors import FileFormatError

CLASSES = 10
SHAPE = (3, 32, 32)
PIXELS = 3072
BATCH = 10_000  # records in each of the six files
_UNPACKED_LIMIT = 256 * 2**20  # either archive unpacks to about 180 MB
_PICKLE_LIMIT = 64 * 2**20  # a python batch has 31 MB, or 45 MB when written again by Python 3
_NPY_START = b"\x93NUMPY\x01\x00"
_NPY_SHAPE = rb"[0-9]{1,5}(?:, [0-9]{1,5})*,?"
_NPY_HEADER = re.compile(rb"{'descr': '\|u1', 'fortran_order': False, 'shape': \((" + _NPY_SHAPE + rb")\), }\s*")
# What zipfile raises for damage: RuntimeError for a file that calls itself encrypted, the rest for wrong offsets.
_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError, struct.error)

Batch = tuple[np.ndarray, np.ndarray]


def read_binary(path: Path, records: int = BATCH) -> Batch:
    """Read a binary batch: `records` times one label byte and 3,072 pixel bytes (all red, all green, all blue)."""
    with opened(path) as stream:
        return _binary_batch(stream, path, records)


def _binary_batch(stream: Any, path: Path, records: int) -> Batch:
    size = records * (1 + PIXELS)
    values = read_exactly(stream, size, path, f"{records:,} records of 1 label and {PIXELS:,} pixels")
    expect_end(stream, path, f"{records:,} records")
    table = values.reshape(records, 1 + PIXELS)
    images = np.ascontiguousarray(table[:, 1:]).reshape(-1, *SHAPE)  # N, 3, 32, 32
    return images, check_labels(table[:, 0], records, CLASSES, path)


def read_python(path: Path, records: int = BATCH) -> Batch:
    """Read a python batch: a pickled dict with `data` uint8 (N, 3072) and `labels`, a list of N ints."""
    with opened(path) as stream:
        return _python_batch(stream, path, records)


def _python_batch(stream: Any, path: Path, records: int) -> Batch:
    raw = read_up_to(stream, _PICKLE_LIMIT + 1)
    if len(raw) > _PICKLE_LIMIT:
        raise FileFormatError(f"{path}: larger than {_PICKLE_LIMIT:,} bytes, a batch of CIFAR-10 has 31 million")
    content = read_pickle(raw, path)
    if not isinstance(content, dict) or not {"data", "labels"} <= set(content):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise FileFormatError(f"{path}: expected a dict with 'data' and 'labels', found {found}")
    data, labels = content["data"], content["labels"]
    if not isinstance(data, PickledArray):
        raise FileFormatError(f"{path}: 'data' is a {type(data).__name__}, expected an array")
    try:
        images = data.uint8()
    except ValueError as error:
        raise FileFormatError(f"{path}: 'data' is an {error}") from error
    if images.shape != (records, PIXELS):
        raise FileFormatError(f"{path}: 'data' has shape {images.shape}, expected {(records, PIXELS)}")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < CLASSES for label in labels):
        raise FileFormatError(f"{path}: 'labels' must be a list of integers from 0 to {CLASSES - 1}")
    return images.reshape(-1, *SHAPE).copy(), check_labels(np.array(labels), records, CLASSES, path)


def read_archive(path: Path, names: Sequence[str], records: int = BATCH) -> list[Batch]:
    """Read the batches called `names` from a .tar.gz without unpacking it to disk; nothing is written anywhere."""
    batches: dict[str, Batch] = {}
    try:
        with gzip.open(path) as stream:
            bounded: Any = Bounded(stream, _UNPACKED_LIMIT, path)
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                for member in archive:
                    name = Path(member.name).name
                    if name in names and name not in batches and member.isreg():
                        read = _binary_batch if name.endswith(".bin") else _python_batch
                        batches[name] = read(archive.extractfile(member), Path(f"{path}/{name}"), records)
                    if len(batches) == len(names):
                        break
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileFormatError(f"{path}: damaged or truncated .tar.gz file ({error}); fetch it again") from error
    missing = [name for name in names if name not in batches]
    if missing:
        raise FileFormatError(f"{path}: the archive has no {', '.join(missing)}")
    return [batches[name] for name in names]


def read_shard(path: Path, limit: int = BATCH) -> Batch:
    """Read a compact shard: an .npz of `labels` uint8 (N,) and `residual` uint8 (3, N, 32, 32), N at most `limit`.

    The pixels are stored as differences modulo 256 (red and blue minus green, then minus the left neighbour, then
    minus the upper one), which halves the compressed size; two running sums undo it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            labels = _member(archive, "labels", path, (limit,), 0)
            residual = _member(archive, "residual", path, (3, limit, 32, 32), 1)
    except FileFormatError:
        raise
    except (*_ZIP_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that one: a damaged table points before 0
            raise
        raise FileFormatError(f"{path}: damaged or truncated .npz file ({error}); fetch it again") from error
    checked = check_labels(labels, residual.shape[1], CLASSES, path)
    pixels = np.cumsum(residual, axis=2, dtype=np.uint8)
    pixels = np.cumsum(pixels, axis=3, dtype=np.uint8)
    pixels[0] += pixels[1]
    pixels[2] += pixels[1]
    return np.ascontiguousarray(pixels.transpose(1, 0, 2, 3)), checked  # N, 3, 32, 32


def _member(archive: zipfile.ZipFile, name: str, path: Path, largest: tuple[int, ...], count_axis: int) -> np.ndarray:
    """Read one uint8 array of an .npz; its header is checked before memory is set aside for it."""
    if f"{name}.npy" not in archive.namelist():
        raise FileFormatError(f"{path}: no array '{name}' inside, only {archive.namelist()[:5]}")
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FileFormatError(f"{path}: '{name}' is compressed by method {entry.compress_type}, NumPy uses 0 or 8")
    with archive.open(entry) as stream:
        start = read_exactly(stream, 10, path, f"'{name}' header").tobytes()
        header = read_exactly(stream, int.from_bytes(start[8:], "little"), path, f"'{name}' header").tobytes()
        match = _NPY_HEADER.fullmatch(header) if start[:8] == _NPY_START else None
        shape = tuple(int(size) for size in match[1].split(b",") if size.strip()) if match else ()
        fits = len(shape) == len(largest) and all(
            1 <= size <= most if axis == count_axis else size == most
            for axis, (size, most) in enumerate(zip(shape, largest))
        )
        if not fits:
            raise FileFormatError(f"{path}: '{name}' is {header.strip()[:120]!r}; expected uint8 ('|u1') of shape "
                                  f"{largest} with at most {largest[count_axis]:,} along axis {count_axis}")
        values = read_exactly(stream, int(np.prod(shape)), path, f"'{name}' of shape {shape}")
        expect_end(stream, path, f"'{name}'")
    return values.reshape(shape)
