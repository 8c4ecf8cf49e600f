"""The pieces that an object in an HDF5 file is described by: its shape, type, place, filters, links and attributes.

Each function reads one kind of message; `hdf5.py` finds the messages. A message that says something else than it may
raises FileFormatError. Numbers, texts and bfloat16 are the types that are read.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minidl.errors import FileFormatError

if TYPE_CHECKING:
    from minidl.formats.hdf5 import File

UNDEFINED = 2**64 - 1  # an address that leads nowhere
LARGEST = 2**62
KINDS = ("a whole number", "a number", "a time", "text", "bits", "opaque bytes", "a structure", "a reference",
         "an enumeration", "a sequence", "an array")  # the classes of types, by their numbers
OPAQUE = ("opaque bytes", 2)
FLOATS = {  # size, bits of the exponent and of the fraction, bias
    (2, 5, 10, 15): "f2", (4, 8, 23, 127): "f4", (8, 11, 52, 1023): "f8", (2, 8, 7, 127): "bfloat16",
}
DEFLATE, SHUFFLE, CHECKSUM = 1, 2, 3  # the filters that every HDF5 library has


class Cursor:
    """Bytes that are read from the front; asking for more than there are raises FileFormatError."""

    def __init__(self, data: bytes, what: str):
        self.data, self.what, self.place = data, what, 0

    @property
    def left(self) -> int:
        return len(self.data) - self.place

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise FileFormatError(f"{self.what}: damaged: {count:,} bytes are expected where {self.left:,} are left")
        self.place += count
        return self.data[self.place - count:self.place]

    def skip(self, count: int) -> None:
        self.take(count)

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def numbers(self, count: int, width: int) -> list[int]:
        return [self.number(width) for _ in range(count)]

    def cut(self, count: int) -> Cursor:
        return Cursor(self.take(count), self.what)

    def again(self) -> Cursor:
        return Cursor(self.data, self.what)

    def text_at(self, place: int) -> str:
        """The text that begins there and ends with a zero."""
        end = self.data.find(b"\0", place)
        if place > len(self.data) or end < 0:
            raise self.error("a name lies outside")
        return self.decode(self.data[place:end])

    def decode(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.error(f"the name {raw[:50]!r} is not in UTF-8") from error

    def error(self, problem: str) -> FileFormatError:
        return FileFormatError(f"{self.what}: {problem}")


class Type(NamedTuple):
    """What an element is: "number", "text" (of a fixed length), "texts" (any length) or something that is not read."""

    name: str
    size: int
    dtype: str = ""

    def require_numbers(self, what: str) -> np.dtype:
        if self.name != "number":
            raise FileFormatError(f"{what} holds {self.name}; only numbers are read")
        return np.dtype("<u2" if self.dtype == "bfloat16" else self.dtype)


class Layout(NamedTuple):
    """Where the elements are: inside of the message, in one piece, or in chunks that a B-tree leads to."""

    inside: Cursor | None = None
    address: int = UNDEFINED
    length: int = 0
    chunk: tuple[int, ...] | None = None  # and the bytes of an element


class Attribute(NamedTuple):
    name: str
    kind: Callable[[], Type]
    shape: tuple[int, ...]
    data: Cursor


def shape(message: Cursor) -> tuple[int, ...]:
    """The sizes of the axes: () for one value, (0,) for none."""
    version, rank = message.number(1), message.number(1)
    message.skip(1)
    nothing = False
    if version == 1:
        message.skip(5)
    elif version == 2:
        nothing = message.number(1) == 2
    else:
        raise message.error(f"a shape described in version {version}, of at most 2")
    if rank > 32:
        raise message.error(f"{rank} axes, of at most 32")
    sizes = message.numbers(rank, 8)
    if math.prod(size for size in sizes if size) >= LARGEST:
        raise message.error(f"of shape {str(sizes)[:80]}, which is not possible")
    return (0,) if nothing else tuple(sizes)


def kind(message: Cursor) -> Type:
    """The type of the elements."""
    start, bits, size = message.number(1), message.numbers(3, 1), message.number(4)
    number = start & 15
    name = KINDS[number] if number < len(KINDS) else f"a type of class {number}"
    if start >> 4 not in (1, 2, 3, 4):
        raise message.error(f"a type described in version {start >> 4}, of at most 4")
    order = "<>"[bits[0] & 1]
    if number == 0:
        offset, width = message.number(2), message.number(2)
        if size in (1, 2, 4, 8) and offset == 0 and width == 8 * size:
            return Type("number", size, f"{order}{'i' if bits[0] & 8 else 'u'}{size}")
    if number == 1 and not bits[0] & 64:
        offset, width = message.number(2), message.number(2)
        places = message.numbers(4, 1)
        found = FLOATS.get((size, places[1], places[3], message.number(4)))
        if found and offset == 0 and width == 8 * size and places[::2] == [places[3], 0]:
            if found != "bfloat16":
                return Type("number", size, order + found)
            if order == "<":
                return Type("number", size, found)
    if number == 3:
        return Type("text", size)
    if number == 9 and bits[0] & 15 == 1 and size == 16:
        return Type("texts", size)
    return Type(f"{name} of {size:,} bytes" if number < 2 else name, size)


def layout(message: Cursor) -> Layout:
    """Where the elements are."""
    version, sort = message.number(1), message.number(1)
    if version not in (3, 4):
        raise message.error(f"a layout of version {version}; 3 and 4 are read")
    if sort == 0:
        return Layout(inside=message.cut(message.number(2)))
    if sort == 1:
        return Layout(address=message.number(8), length=message.number(8))
    if sort == 2 and version == 3:
        rank = message.number(1)
        return Layout(address=message.number(8), chunk=tuple(message.numbers(rank, 4)))
    problem = "chunks in a form that only newer libraries write" if sort == 2 else \
        "a virtual dataset, made of other files" if sort == 3 else f"a layout of kind {sort}"
    raise message.error(f"{problem}; such a file is not read")


def filters(message: Cursor) -> list[int]:
    """The filters that chunks have gone through, in the order in which they were written."""
    version, count = message.number(1), message.number(1)
    message.skip(6 if version == 1 else 0)
    found = []
    for _ in range(count):
        number = message.number(2)
        length = message.number(2) if version == 1 or number >= 256 else 0
        message.skip(2)
        values = message.number(2)
        message.skip(length + -length % 8 if version == 1 else length)
        message.skip(4 * (values + values % 2 if version == 1 else values))
        if number not in (DEFLATE, SHUFFLE, CHECKSUM):
            raise message.error(f"packed by the filter {number}; deflate, shuffle and checksums are read")
        found.append(number)
    return found


def link(message: Cursor) -> tuple[str, int]:
    """Name and address of a member of a group."""
    message.skip(1)
    flags = message.number(1)
    sort = message.number(1) if flags & 8 else 0
    message.skip((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    name = message.decode(message.take(message.number(1 << (flags & 3))))
    if sort != 0:
        form = {1: "a soft link", 64: "a link to another file"}.get(sort, f"a link of kind {sort}")
        raise message.error(f"'{name[:100]}' is {form}; only hard ones are read")
    return name, message.number(8)


def require_compact(message: Cursor, name: str, attributes: bool = False) -> None:
    """Raise if members or attributes are kept in the form that newer libraries use for many of them."""
    message.skip(1)
    flags = message.number(1)
    message.skip((2 if attributes else 8) if flags & 1 else 0)
    if message.number(8) != UNDEFINED:
        raise message.error(f"'{name[:100]}' keeps its {'attributes' if attributes else 'members'} in a form that only "
                            'newer libraries read; write it again with h5py.File(path, "w", libver="earliest")')


def attribute(message: Cursor) -> Attribute:
    """A named value at an object; its type is read when it is wanted, since most are never asked for."""
    version = message.number(1)
    if version not in (1, 2, 3):
        raise message.error(f"an attribute of version {version}, of at most 3")
    shared = message.number(1) if version > 1 else message.number(1) * 0
    sizes = message.numbers(3, 2)
    message.skip(1 if version == 3 else 0)
    pieces = [message.cut(size + (-size % 8 if version == 1 else 0)) for size in sizes]
    name = message.decode(pieces[0].data.partition(b"\0")[0])
    if shared:
        return Attribute(name, lambda: Type("a type that lies elsewhere", 0), (1,), message.cut(message.left))
    found = shape(pieces[2])
    return Attribute(name, lambda: kind(pieces[1].again()), found, message.cut(message.left))


def elements(file: File, layout: Layout, filters: list[int], shape: tuple[int, ...], dtype: np.dtype,
             what: str) -> np.ndarray:
    """The bytes of all elements in C order."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes == 0:
        return np.empty(0, np.uint8)
    if layout.chunk is not None:
        return _from_chunks(file, layout, filters, shape, dtype, what)
    if filters:
        raise FileFormatError(f"{what} is packed without being in chunks")
    length = layout.length if layout.inside is None else layout.inside.left
    if layout.inside is None and layout.address == UNDEFINED:
        raise FileFormatError(f"{what} of shape {shape} has no data: it was declared and never written")
    if length < nbytes or layout.inside is None and length != nbytes:
        raise FileFormatError(f"{what} of shape {shape} takes {nbytes:,} bytes, {length:,} are there")
    if layout.inside is not None:
        return np.frombuffer(layout.inside.data[:nbytes], np.uint8).copy()
    return file.array(layout.address, nbytes, f"'{what[-100:]}'")


def _from_chunks(file: File, layout: Layout, filters: list[int], shape: tuple[int, ...], dtype: np.dtype,
                 what: str) -> np.ndarray:
    *sides, width = layout.chunk or (0,)
    if len(sides) != len(shape) or width != dtype.itemsize or not all(0 < c <= n for c, n in zip(sides, shape)):
        raise FileFormatError(f"{what} of shape {shape} is cut into chunks of {sides}, which do not fit it")
    counts = [-(-n // c) for c, n in zip(sides, shape)]
    if math.prod(counts) * 24 > file.size or layout.address == UNDEFINED:
        raise FileFormatError(f"{what} of shape {shape} in chunks of {sides} has less data than that: it was declared "
                              "and never written")
    array = np.empty(shape, dtype)
    done: set[tuple[int, ...]] = set()
    for key, address in file.leaves(layout.address, 1, 8 + 8 * len(sides) + 8, what):
        length, mask, place = key.number(4), key.number(4), tuple(key.numbers(len(sides), 8))
        if place in done or mask or not all(p % c == 0 and p < n for p, c, n in zip(place, sides, shape)):
            raise FileFormatError(f"{what} has a chunk at {place}, which is there twice or lies outside of {shape}")
        done.add(place)
        chunk = _unpack(file.copy(address, length, what), filters, math.prod(sides) * width, width, what)
        inside = tuple(slice(0, n - p) for n, p in zip(shape, place))
        target = array[tuple(slice(p, p + c) for p, c in zip(place, sides))]
        target[...] = chunk.view(dtype).reshape(sides)[inside]
    if len(done) != math.prod(counts):
        raise FileFormatError(f"{what} of shape {shape} has {len(done)} of its {math.prod(counts)} chunks")
    return array.reshape(-1).view(np.uint8)


def _unpack(raw: bytes, filters: list[int], nbytes: int, width: int, what: str) -> np.ndarray:
    """A chunk of `nbytes`; no more is ever unpacked."""
    data: Any = raw
    for number in reversed(filters):
        if number == CHECKSUM:
            data = data[:-4]
        elif number == DEFLATE:
            try:
                data = zlib.decompressobj().decompress(data, nbytes + 4)
            except zlib.error as error:
                raise FileFormatError(f"{what}: a damaged chunk: {error}") from error
        else:
            count = len(data) // width
            shuffled = np.frombuffer(data, np.uint8, count * width).reshape(width, count)
            data = shuffled.T.tobytes() + data[count * width:]
    if len(data) != nbytes:
        raise FileFormatError(f"{what}: a chunk has {len(data):,} bytes, not {nbytes:,}")
    return np.frombuffer(data, np.uint8)
