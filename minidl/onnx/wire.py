"""Protocol buffers, the notation of ONNX files, read without their library and without trust.

A message is a row of fields, each a number with a wire type and a value: an integer of 7 bits a byte, 4 or 8 bytes, or
a length and so many bytes (a text, numbers in a row, or another message). A schema, {field number: Field}, says which
fields are wanted; others are stepped over. Bytes are handed out as views of the file, so that nothing is copied and no
more memory is used than the fields themselves need. Read `reader.py` next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from minidl.errors import FileFormatError

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
KINDS = {  # of values: the wire type of one, and the dtype of several in a row (None: there is no such row)
    "integer": (VARINT, np.dtype(np.uint64)), "float": (FOUR_BYTES, np.dtype("<f4")),
    "double": (EIGHT_BYTES, np.dtype("<f8")), "text": (LENGTH, None), "bytes": (LENGTH, None),
}


class Field(NamedTuple):
    """A field that is wanted: its name, a kind or the schema of a message, and whether there may be several."""

    name: str
    kind: str | Mapping[int, Field]
    repeated: bool = False


Schema = Mapping[int, Field]


def parse(data: memoryview, schema: Schema, what: str) -> dict[str, Any]:
    """The wanted fields of a message by name: a value, a list for repeated ones, an array for rows of numbers.

    What is not there is missing in the dict. Raises FileFormatError for anything that is not such a message.
    """
    found: dict[str, Any] = {}
    for number, wire_type, value in _fields(data, what):
        field = schema.get(number)
        if field is None:
            continue
        if isinstance(field.kind, str):
            value = _value(field, wire_type, value, what)
        elif wire_type == LENGTH:
            value = parse(value, field.kind, f"{what}: {field.name}")
        else:
            raise FileFormatError(f"{what}: {field.name} is not of the kind it should be; the file is damaged")
        if field.repeated:
            found.setdefault(field.name, []).append(value)
        elif field.name in found:
            raise FileFormatError(f"{what}: {field.name} stands there twice")
        else:
            found[field.name] = value
    for field in schema.values():
        if field.repeated and field.kind in ("integer", "float", "double") and field.name in found:
            found[field.name] = _joined(found[field.name], np.int64 if field.kind == "integer" else np.float64)
    return found


def _fields(data: memoryview, what: str) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and value of every field."""
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position, what)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise FileFormatError(f"{what}: a field of number 0: damaged, or not an ONNX file")
        if wire_type == VARINT:
            value, position = _varint(data, position, what)
            yield number, wire_type, value
            continue
        if wire_type == LENGTH:
            length, position = _varint(data, position, what)
        elif wire_type in (EIGHT_BYTES, FOUR_BYTES):
            length = 8 if wire_type == EIGHT_BYTES else 4
        else:
            raise FileFormatError(f"{what}: a field of wire type {wire_type}: damaged, or not an ONNX file")
        if length > end - position:
            raise FileFormatError(f"{what}: truncated or damaged: field {number} says it has {length:,} bytes, "
                                  f"{end - position:,} follow")
        yield number, wire_type, data[position:position + length]
        position += length


def _varint(data: memoryview, position: int, what: str) -> tuple[int, int]:
    """An integer of 7 bits a byte, the lowest first, as it stands there (unsigned), and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise FileFormatError(f"{what}: truncated: the file ends inside of a number")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), position
    raise FileFormatError(f"{what}: a number of more than 10 bytes: damaged, or not an ONNX file")


def signed(value: int) -> int:
    """An unsigned number of 64 bits as the signed one of the same bits."""
    return value - 2**64 if value >= 2**63 else value


def _value(field: Field, wire_type: int, value: Any, what: str) -> Any:
    expected, dtype = KINDS[str(field.kind)]
    if wire_type == LENGTH and field.repeated and dtype is not None:
        return _row(field, value, dtype, what)
    if wire_type != expected:
        raise FileFormatError(f"{what}: {field.name} is not of the kind it should be; the file is damaged")
    if field.kind == "text":
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{what}: {field.name} is no text in UTF-8: {error}") from error
    if wire_type in (FOUR_BYTES, EIGHT_BYTES):
        return np.frombuffer(value, dtype).item()
    if field.kind == "integer":
        return signed(value)
    return value


def _row(field: Field, data: memoryview, dtype: np.dtype, what: str) -> np.ndarray:
    """Numbers in a row: of 4 or 8 bytes each, or integers of 7 bits a byte."""
    if field.kind != "integer":
        if len(data) % dtype.itemsize:
            raise FileFormatError(f"{what}: {field.name} has {len(data):,} bytes, which are not whole numbers of "
                                  f"{dtype.itemsize}")
        return np.frombuffer(data, dtype)
    parts = np.frombuffer(data, np.uint8)
    last = np.flatnonzero(parts < 128)  # the last byte of each number
    first = np.concatenate([[0], last[:-1] + 1])
    if len(parts) and (not len(last) or last[-1] != len(parts) - 1 or (last - first).max() > 9):
        raise FileFormatError(f"{what}: {field.name} is no row of integers; the file is truncated or damaged")
    if not len(parts):
        return np.empty(0, np.int64)
    shifts = (np.arange(len(parts)) - np.repeat(first, last - first + 1)) * 7
    return np.add.reduceat((parts & 127).astype(np.uint64) << shifts.astype(np.uint64), first).view(np.int64)


def _joined(parts: list, dtype: Any) -> np.ndarray:
    """The rows and single numbers of one field as one row."""
    if len(parts) == 1 and isinstance(parts[0], np.ndarray):
        return parts[0]
    if not any(isinstance(part, np.ndarray) for part in parts):
        return np.array(parts, dtype)
    return np.concatenate([np.atleast_1d(part) for part in parts]).astype(dtype, copy=False)
