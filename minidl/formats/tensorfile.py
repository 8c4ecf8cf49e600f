"""Reading and writing `.safetensors` files, of which the reader trusts nothing.

A file is 8 bytes with the header's length, the header (JSON: each tensor's dtype, shape and place, and a text
dictionary `__metadata__`), then the tensors' bytes. The header is checked here before the safetensors library sees
it: the library takes the last of several tensors with one name, for instance. Whatever is wrong with a file ends
in `FileFormatError`, and no more memory is asked for than the file holds bytes. Read `formats.py` next.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from minidl import atomic
from minidl.errors import FileFormatError, did_you_mean
from minidl.tensor import as_array

HEADER_LIMIT = 100 * 2**20  # bytes, the safetensors library's own limit
DTYPES = {
    "BOOL": np.dtype(np.bool_), "U8": np.dtype(np.uint8), "I8": np.dtype(np.int8), "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16), "F16": np.dtype(np.float16), "U32": np.dtype(np.uint32), "I32": np.dtype(np.int32),
    "F32": np.dtype(np.float32), "U64": np.dtype(np.uint64), "I64": np.dtype(np.int64), "F64": np.dtype(np.float64),
}
BFLOAT16 = "BF16"  # its bits are the upper half of a float32's


def load_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The text that a `.safetensors` file carries beside its tensors, {} if there is none; the tensors are not read."""
    with opened(path) as stream:
        return _read_header(stream, path)[1]


def read(stream: BinaryIO, path: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of a file, from one reading of it."""
    from safetensors import SafetensorError, deserialize

    tensors, metadata, size = _read_header(stream, path)
    stream.seek(0)
    data = stream.read(size)
    if len(data) != size:
        raise FileFormatError(f"{path}: it became shorter while it was read: {len(data):,} of {size:,} bytes")
    try:
        loaded = dict(deserialize(data))
        arrays = {name: _array(loaded[name]) for name in tensors}
    except (SafetensorError, ValueError, KeyError, OverflowError, TypeError) as error:
        raise FileFormatError(f"{path}: the safetensors library refuses it: {error}") from error
    return arrays, metadata


def _array(entry: dict[str, Any]) -> np.ndarray:
    """What the library found, as an array that can be written to; bfloat16, which NumPy lacks, as float32."""
    if entry["dtype"] == BFLOAT16:
        bits = np.frombuffer(entry["data"], np.uint16).reshape(entry["shape"])
        return (bits.astype(np.uint32) << 16).view(np.float32)
    array = np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return array if array.flags.writeable else array.copy()


def write(tensors: Mapping[str, Any], path: str | os.PathLike, metadata: Mapping[str, str] | None = None) -> None:
    """Write a `.safetensors` file atomically; see `formats.save_tensors`."""
    from safetensors.numpy import save

    arrays = {name: plain(name, value) for name, value in tensors.items()}
    for key, value in (metadata or {}).items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"save_tensors: metadata must be text, '{key}' is {type(value).__name__}: use json.dumps")
    data = memoryview(save(arrays, None))
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8:end]))
    if metadata:  # the library writes metadata in random order, so it is put in here
        header = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT:
        raise ValueError(f"save_tensors: names and metadata take {len(text):,} bytes; {HEADER_LIMIT:,} are allowed")
    atomic.write_bytes(path, len(text).to_bytes(8, "little"), text, data[end:])


def plain(name: Any, value: Any, more: tuple[np.dtype, ...] = ()) -> np.ndarray:
    """The value as an array in C order and of the machine's byte order, if a file can hold it under that name.

    more: dtypes that the file can hold beyond those of `.safetensors`.
    """
    if not isinstance(name, str) or name == "__metadata__":
        raise TypeError(f"save_tensors: {name!r} cannot be the name of a tensor")
    array = np.asarray(value if isinstance(value, (str, bytes)) else as_array(value), order="C")
    if array.dtype.kind in "OSU":
        raise TypeError(f"save_tensors: '{name}' is {array.dtype}, which the format cannot hold: it was given a "
                        f"{type(value).__name__}, not numbers; texts go into metadata= of a .safetensors file")
    if array.dtype.newbyteorder("=") not in (*DTYPES.values(), *more):
        raise TypeError(f"save_tensors: '{name}' is {array.dtype}, which the format cannot hold; there are "
                        f"{', '.join(str(dtype) for dtype in DTYPES.values())}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def opened(path: str | os.PathLike) -> BinaryIO:
    """The file, opened for reading; FileFormatError for what is no file."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        folder, name = os.path.split(os.fspath(path))
        there = sorted(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else []
        advice = did_you_mean(name, there) or "; it must be written first, such as by minidl.save(model, path)"
        raise FileNotFoundError(error.errno, f"no such file{advice}", os.fspath(path)) from None
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise FileFormatError(f"{path}: not a file but a folder, a device or a pipe")
    return open(path, "rb")


def _read_header(stream: BinaryIO, path: Any) -> tuple[dict[str, dict], dict[str, str], int]:
    """The checked header of a file: its tensors' entries in the order of their bytes, its metadata, the file's size."""
    size = os.fstat(stream.fileno()).st_size
    if size < 8:
        raise FileFormatError(f"{path}: {size} bytes are too few for a safetensors file")
    length = int.from_bytes(stream.read(8), "little")
    if length > HEADER_LIMIT or length > size - 8:
        raise FileFormatError(f"{path}: truncated, or not a safetensors file: it declares a header of {length:,} "
                              f"bytes, the file has {size:,} and the limit is {HEADER_LIMIT:,}")
    header = parse_json(stream.read(length), f"{path}: header")
    if not isinstance(header, dict):
        raise FileFormatError(f"{path}: the header must be a JSON object, not {type(header).__name__}")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileFormatError(f"{path}: __metadata__ must map text to text")
    for name, entry in header.items():
        _check_entry(entry, f"{path}: tensor {name[:100]!r}")
    tensors = dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))
    _check_cover(tensors, size - 8 - length, path)
    return tensors, metadata, size


def _check_entry(entry: Any, what: str) -> None:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
        raise FileFormatError(f"{what}: expected an object with dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in (*DTYPES, BFLOAT16):
        raise FileFormatError(f"{what}: dtype {str(dtype)[:100]!r} is not one that NumPy has, nor {BFLOAT16}: "
                              f"{', '.join(DTYPES)}")
    if not _are_counts(shape) or len(shape) > 32:
        raise FileFormatError(f"{what}: shape {str(shape)[:100]} is not a list of at most 32 sizes")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise FileFormatError(f"{what}: data_offsets {str(offsets)[:100]} are not two positions in the file")
    needed = math.prod(shape) * (2 if dtype == BFLOAT16 else DTYPES[dtype].itemsize)
    if offsets[1] - offsets[0] != needed:
        raise FileFormatError(f"{what}: {dtype} of shape {tuple(shape)} takes {needed:,} bytes, but its data_offsets "
                              f"{offsets[0]} to {offsets[1]} hold {offsets[1] - offsets[0]:,}")


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**62 for value in values)


def _check_cover(tensors: dict[str, dict], available: int, path: Any) -> None:
    """Raise unless the tensors lie one after the other, without holes and overlaps, and end with the file."""
    position = 0
    for name, entry in tensors.items():
        begin, end = entry["data_offsets"]
        if begin != position:
            problem = "it overlaps with another" if begin < position else "there is a hole before it"
            raise FileFormatError(f"{path}: tensor {name[:100]!r} begins at byte {begin:,} where {position:,} is "
                                  f"expected: {problem}")
        position = end
    if position != available:
        raise FileFormatError(f"{path}: {'truncated' if position > available else 'too long'}: the header describes "
                              f"{position:,} bytes of tensors, the file has {available:,}")


def parse_json(text: str | bytes, what: str) -> Any:
    """Parse JSON strictly: UTF-8, no name twice in an object, no NaN, no number of hundreds of digits."""
    try:
        value = json.loads(text if isinstance(text, str) else text.decode(), object_pairs_hook=_unique,
                           parse_int=_integer, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is legal JSON but no text
        return value
    except RecursionError as error:
        raise FileFormatError(f"{what} is nested too deeply") from error
    except ValueError as error:
        raise FileFormatError(f"{what} is not the JSON it should be: {str(error)[:300]}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice[:100]!r} stands there twice")
    return values


def _integer(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"the number {text[:20]}… is too long")
    return int(text)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")
