"""The tensors of an ONNX file as arrays, their bytes in the file itself or in one beside it.

Shape, dtype and number of bytes must agree before an array is made, which is a view of the bytes read wherever they
can be used as they are.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minidl.errors import FileFormatError

DTYPES: dict[int, np.dtype] = {
    1: np.dtype(np.float32), 2: np.dtype(np.uint8), 3: np.dtype(np.int8), 4: np.dtype(np.uint16),
    5: np.dtype(np.int16), 6: np.dtype(np.int32), 7: np.dtype(np.int64), 9: np.dtype(np.bool_),
    10: np.dtype(np.float16), 11: np.dtype(np.float64), 12: np.dtype(np.uint32), 13: np.dtype(np.uint64),
}
BFLOAT16 = 16  # its bits are the upper half of a float32's
NAMES = {8: "text", 14: "complex64", 15: "complex128", 17: "float8", 18: "float8", 19: "float8", 20: "float8",
         21: "uint4", 22: "int4", 23: "float4", 24: "float8"}
ROWS = {  # the field that holds the elements of a dtype, where they do not stand there as bytes
    "float_data": (1,), "int32_data": (2, 3, 4, 5, 6, 9, 10, BFLOAT16), "int64_data": (7,), "double_data": (11,),
    "uint64_data": (12, 13),
}
MOST_DIMS = 32


class Beside:
    """The files with tensors that lie beside an ONNX file, as large networks are written by PyTorch.

    A file's name says nothing but which file of the same folder it is: no folder, no link, nothing but a plain file,
    and no bytes outside of it.
    """

    def __init__(self, path: Any):
        self.folder = Path(path).parent
        self.files: dict[str, BinaryIO] = {}
        self.left: dict[str, int] = {}  # bytes that may still be read of a file: as many as it has in all
        self.size = 0  # the bytes read so far

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *error: Any) -> None:
        for stream in self.files.values():
            stream.close()

    def bytes(self, entries: list[dict[str, str]], needed: int, what: str) -> memoryview:
        """The bytes that a tensor's entries (location, offset, length) name; `needed` are expected."""
        told = {entry.get("key", ""): entry.get("value", "") for entry in entries}
        location = told.get("location", "")
        stream = self._file(location, what)
        available = os.fstat(stream.fileno()).st_size
        numbers = [told.get("offset", "0"), told.get("length", str(needed))]
        if not all(number.isascii() and number.isdecimal() and len(number) < 20 for number in numbers):
            raise FileFormatError(f"{what}: offset {numbers[0][:40]!r} and length {numbers[1][:40]!r} in "
                                  f"{location[:100]!r} are no places in a file")
        offset, length = map(int, numbers)
        if length != needed or offset + length > available:
            raise FileFormatError(f"{what}: needs {needed:,} bytes, its data are said to be bytes {offset:,} to "
                                  f"{offset + length:,} of {location[:100]!r}, which has {available:,}")
        left = self.left.setdefault(location, available)
        if length > left:
            raise FileFormatError(f"{what}: its data are said to be in {location[:100]!r}, of which other tensors have "
                                  f"taken all but {left:,} bytes already")
        self.left[location], self.size = left - length, self.size + length
        stream.seek(offset)
        data = stream.read(length)
        if len(data) != length:
            raise FileFormatError(f"{what}: {location[:100]!r} became shorter while it was read")
        return memoryview(data)

    def _file(self, location: str, what: str) -> BinaryIO:
        if location in self.files:
            return self.files[location]
        if not location or location in (".", "..") or any(sign in location for sign in "/\\:\0"):
            raise FileFormatError(f"{what}: its data are said to be in {location[:200]!r}; only a file beside the ONNX "
                                  "file, named without a folder, is read")
        place = self.folder / location
        try:
            found = os.lstat(place)
        except (OSError, ValueError) as error:
            raise FileFormatError(f"{what}: its data are said to be in '{location[:200]}', which is not there: keep "
                                  "the two files together") from error
        if not stat.S_ISREG(found.st_mode):
            raise FileFormatError(f"{what}: its data are said to be in '{location[:200]}', which is a link, a folder "
                                  "or a device, not a file")
        descriptor = os.open(place, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        self.files[location] = open(descriptor, "rb")
        return self.files[location]


def to_array(tensor: dict[str, Any], beside: Beside, what: str) -> np.ndarray:
    """The array that a parsed TensorProto describes; bfloat16, which NumPy lacks, as float32."""
    kind = tensor.get("data_type", 0)
    if kind not in DTYPES and kind != BFLOAT16:
        raise FileFormatError(f"{what}: elements of type {kind}{f' ({NAMES[kind]})' if kind in NAMES else ''}, which "
                              f"is not read; there are {', '.join(map(str, DTYPES.values()))} and bfloat16")
    dims = tensor.get("dims", np.empty(0, np.int64)).tolist() if len(tensor.get("dims", ())) <= MOST_DIMS else None
    if dims is None or any(not 0 <= n < 2**62 for n in dims) or 0 in dims and math.prod(filter(None, dims)) >= 2**59:
        raise FileFormatError(f"{what}: the shape {str(dims)[:100]} is not one of at most {MOST_DIMS} sizes of at "
                              "least 0")
    if "segment" in tensor:
        raise FileFormatError(f"{what}: comes in segments, which are not read")
    count = math.prod(dims)
    dtype = np.dtype("<u2") if kind == BFLOAT16 else DTYPES[kind].newbyteorder("<")
    held = [name for name in (*ROWS, "raw_data", "string_data") if len(tensor.get(name, ()))]
    external = tensor.get("data_location", 0)
    if len(held) + bool(external) > 1:
        raise FileFormatError(f"{what}: holds its elements twice, as {' and '.join(held)}")
    if external or not held or held == ["raw_data"]:
        data = memoryview(b"") if not external else \
            beside.bytes(tensor.get("external_data", []), count * dtype.itemsize, what)
        data = tensor["raw_data"] if held else data
        if len(data) != count * dtype.itemsize:
            raise FileFormatError(f"{what}: {DTYPES.get(kind, 'bfloat16')} of shape {tuple(dims)} takes "
                                  f"{count * dtype.itemsize:,} bytes, the file has {len(data):,}")
        values = np.frombuffer(data, dtype)
    else:
        values = _from_row(tensor[held[0]], held[0], kind, dtype, count, what)
    if kind == BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if kind == 9:
        values = values.view(np.uint8) != 0
    return values.astype(values.dtype.newbyteorder("="), copy=False).reshape(dims)


def _from_row(row: Any, name: str, kind: int, dtype: np.dtype, count: int, what: str) -> np.ndarray:
    """Elements that stand there as numbers; small integers, booleans and half floats (by their bits) as int32."""
    if kind not in ROWS.get(name, ()) or len(row) != count:
        raise FileFormatError(f"{what}: {DTYPES.get(kind, 'bfloat16')} with {count:,} elements, but {len(row):,} in "
                              f"{name}")
    if name == "int32_data":
        low, high = (0, 2**16) if kind in (10, BFLOAT16) else (0, 2) if kind == 9 else \
            (np.iinfo(dtype).min, np.iinfo(dtype).max + 1)
        if len(row) and not low <= row.min() <= row.max() < high:
            raise FileFormatError(f"{what}: {name} holds numbers that {DTYPES.get(kind, 'bfloat16')} cannot")
        return row.astype(np.uint16).view(dtype) if kind in (10, BFLOAT16) else row.astype(dtype)
    return row.view(np.uint64).astype(dtype, copy=False) if name == "uint64_data" else row.astype(dtype, copy=False)
