"""Reading the part of HDF5 that h5py writes by default and Keras uses, in plain Python, of which nothing is trusted.

A file is a tree: groups hold links to groups and datasets, both carry attributes. Everything is described by an object
header, a list of messages (`hdf5_parts.py` reads the messages). Only hard links are followed, each object once: no
other file is ever opened, and groups cannot hold each other. Reading the tree and the attributes costs steps and bytes
in proportion to the file; arrays are read one by one, after their sizes have been compared with the file's.

"HDF5 File Format Specification", version 3.0, The HDF Group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from minidl.data.files import read_exactly
from minidl.errors import FileFormatError
from minidl.formats import hdf5_parts as parts
from minidl.formats.hdf5_parts import UNDEFINED, Attribute, Cursor, Layout, Type

SIGNATURE = b"\x89HDF\r\n\x1a\n"
DEEPEST = 64  # groups inside of each other; Keras' networks inside of networks need a few for each
SHARED = 2  # the flag of a message that lies elsewhere
NIL, DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT, FILTERS = 0x0, 0x1, 0x2, 0x3, 0x6, 0x7, 0x8, 0xB
ATTRIBUTE, CONTINUATION, SYMBOLS, MANY_ATTRIBUTES = 0xC, 0x10, 0x11, 0x15  # kinds of messages


class Dataset:
    """An array in the file, described and not yet read."""

    def __init__(self, file: File, name: str, shape: tuple[int, ...], kind: Type, layout: Layout,
                 filters: list[int], attributes: dict[str, Attribute]):
        self.file, self.name, self.shape, self.kind = file, name, shape, kind
        self.layout, self.filters, self.attributes = layout, filters, attributes
        self.nbytes = math.prod(shape) * kind.size

    def read(self) -> np.ndarray:
        """Its elements, in C order and the machine's byte order."""
        what = self.file.what(self.name)
        dtype = self.kind.require_numbers(what)
        raw = parts.elements(self.file, self.layout, self.filters, self.shape, dtype, what)
        array = raw.view(dtype).reshape(self.shape).astype(dtype.newbyteorder("="), copy=False)
        return (array.astype(np.uint32) << 16).view(np.float32) if self.kind.dtype == "bfloat16" else array


class Group:
    """Datasets and groups by their names, in the file's order, and the group's attributes."""

    def __init__(self, file: File, name: str, attributes: dict[str, Attribute]):
        self.file, self.name, self.attributes = file, name, attributes
        self.members: dict[str, Group | Dataset] = {}

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Dataset]]:
        """Every dataset in this group and in those below, with its path from here."""
        for name, member in self.members.items():
            if isinstance(member, Dataset):
                yield prefix + name, member
            else:
                yield from member.walk(f"{prefix}{name}/")

    def at(self, path: str) -> Group | Dataset | None:
        """The member at a path such as "layers/dense/vars", None if there is none."""
        member: Any = self
        for name in path.split("/"):
            member = member.members.get(name) if isinstance(member, Group) else None
        return member

    def texts(self, name: str) -> list[str] | None:
        """An attribute that holds texts, one or many, None if there is no such attribute."""
        found = self.attributes.get(name)
        return None if found is None else self.file.texts(found, f"attribute '{name}' of '{self.name[:100]}'")


class File:
    """An HDF5 file: `root` is its tree. Raises FileFormatError for whatever is wrong with it."""

    def __init__(self, stream: BinaryIO, size: int, path: Any):
        self.stream, self.size, self.path = stream, size, path
        self.steps = size // 4 + 1000  # nothing in a file takes less than 4 bytes
        self.metadata = 2 * size + 2**16  # bytes of descriptions; the front of some is read twice
        self.text = 2 * size + 2**16  # bytes of text, and of the heaps that they lie in
        self.heaps: dict[int, dict[int, bytes]] = {}
        self.seen: set[int] = set()
        self.root = self._group(self._superblock(), "/", 0)

    def what(self, name: str = "") -> str:
        return f"{self.path}: '{name[:100]}'" if name else f"{self.path}"

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise FileFormatError(f"{self.path}: parts of it hold each other")

    def copy(self, start: int, length: int, what: str) -> bytes:
        """A part of the file, copied."""
        return self.array(start, length, what).tobytes()

    def array(self, start: int, length: int, what: str) -> np.ndarray:
        """A part of the file as an array of bytes."""
        if length < 0 or start + length > self.size:
            raise FileFormatError(f"{self.path}: truncated or damaged: {what} of {length:,} bytes at {start:,} ends "
                                  f"behind the file's {self.size:,}")
        self.stream.seek(start)
        return read_exactly(self.stream, length, self.path, what)

    def part(self, start: int, length: int, what: str, signature: bytes = b"") -> Cursor:
        """A part of the file to be read from its front, without the signature that it must begin with."""
        self.step()
        self.metadata -= length
        if self.metadata < 0:
            raise FileFormatError(f"{self.path}: descriptions in it lie over each other")
        cursor = Cursor(self.copy(start, length, what), f"{self.path}: {what}")
        if cursor.take(len(signature)) != signature:
            raise FileFormatError(f"{self.path}: damaged: no {what} at byte {start:,}")
        return cursor

    def _superblock(self) -> int:
        """Where the header of the root group lies."""
        start = self.part(0, min(self.size, 96), "header of HDF5", SIGNATURE)
        version = start.number(1)
        if version > 3:
            raise FileFormatError(f"{self.path}: HDF5 with a superblock of version {version}, of at most 3")
        start.skip(4 if version < 2 else 0)
        sizes = start.number(1), start.number(1)
        if sizes != (8, 8):
            raise FileFormatError(f"{self.path}: HDF5 with addresses and lengths of {sizes} bytes, not (8, 8)")
        start.skip((1 + 4 + 4, 1 + 4 + 4 + 4, 1, 1)[version])
        base, _, end = start.number(8), start.number(8), start.number(8)
        if base != 0:
            raise FileFormatError(f"{self.path}: HDF5 that begins at byte {base:,} of the file, not at its front")
        if end > self.size:
            raise FileFormatError(f"{self.path}: truncated: it says it has {end:,} bytes, of which {self.size:,} are "
                                  "there")
        if version >= 2:
            return start.number(8)
        if start.number(8) != UNDEFINED:
            raise FileFormatError(f"{self.path}: HDF5 spread over several files; only single files are read")
        start.skip(8)
        return start.number(8)

    def _messages(self, address: int, name: str) -> list[tuple[int, int, Cursor]]:
        """The messages of an object: kind, flags and content of each."""
        what = f"object header of '{name[:100]}'"
        if self.copy(address, min(4, self.size), what) == b"OHDR":
            block, ordered = self._second_header(address, what)
        else:
            start = self.part(address, 16, what)
            if start.number(1) != 1:
                raise FileFormatError(f"{self.path}: damaged: no {what} at byte {address:,}")
            start.skip(7)
            block, ordered = self.part(address + 16, start.number(4), what), None
        blocks, messages = [block], []
        while blocks:
            block = blocks.pop(0)
            while block.left >= (8 if ordered is None else 4 + 2 * ordered):
                self.step()
                kind = block.number(2 if ordered is None else 1)
                length, flags = block.number(2), block.number(1)
                block.skip(3 if ordered is None else 2 * ordered)
                content = block.cut(length)
                if kind == CONTINUATION:
                    where, length = content.number(8), content.number(8)
                    if ordered is None:
                        blocks.append(self.part(where, length, what))
                    else:
                        blocks.append(self.part(where, length - 4, what, b"OCHK"))
                elif kind != NIL:
                    messages.append((kind, flags, content))
        return messages

    def _second_header(self, address: int, what: str) -> tuple[Cursor, bool]:
        """The first messages of a header of version 2, and whether they are numbered."""
        start = self.part(address, min(34, self.size - address), what, b"OHDR")
        start.skip(1)
        flags = start.number(1)
        front = 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
        start.skip(front - 6)
        width = 1 << (flags & 3)
        return self.part(address + front + width, start.number(width), what), bool(flags & 4)

    def _object(self, address: int, name: str, depth: int) -> Group | Dataset:
        if address in self.seen:
            raise FileFormatError(f"{self.what(name)} is linked under two names, or holds itself")
        messages = self._messages(address, name)
        if any(kind in (SYMBOLS, LINK_INFO, LINK) for kind, _, _ in messages):
            return self._group(address, name, depth)
        self.seen.add(address)
        found: dict[int, Cursor] = {}
        for kind, flags, content in messages:
            if kind == EXTERNAL:
                raise FileFormatError(f"{self.what(name)} has its data in another file, which is not opened")
            if kind in (DATASPACE, DATATYPE, LAYOUT, FILTERS):
                if flags & SHARED or kind in found:
                    raise FileFormatError(f"{self.what(name)} has a description that lies elsewhere or is there twice")
                found[kind] = content
        if not {DATASPACE, DATATYPE, LAYOUT} <= set(found):
            raise FileFormatError(f"{self.what(name)} is neither a group nor a dataset")
        shape = parts.shape(found[DATASPACE])
        filters = parts.filters(found[FILTERS]) if FILTERS in found else []
        elements, attributes = parts.kind(found[DATATYPE]), self._attributes(messages, name)
        if (elements.name, elements.size) == parts.OPAQUE and "dtype" in attributes and \
                self.texts(attributes["dtype"], f"dtype of '{name[:100]}'") == ["bfloat16"]:
            elements = Type("number", 2, "bfloat16")  # how Keras writes it
        return Dataset(self, name, shape, elements, parts.layout(found[LAYOUT]), filters, attributes)

    def _group(self, address: int, name: str, depth: int) -> Group:
        if depth > DEEPEST:
            raise FileFormatError(f"{self.path}: groups in it are nested more than {DEEPEST} deep")
        self.seen.add(address)
        messages = self._messages(address, name)
        group = Group(self, name, self._attributes(messages, name))
        for kind, _, content in messages:
            if kind == SYMBOLS:
                links = self._symbols(content, name)
            elif kind == LINK:
                links = iter([parts.link(content)])
            else:
                if kind == LINK_INFO:
                    parts.require_compact(content, name)
                continue
            for inner, target in links:
                if inner in group.members or inner in ("", ".", "..") or "/" in inner:
                    raise FileFormatError(f"{self.what(name)}: {inner[:100]!r} is there twice, or is no name")
                place = f"{name.rstrip('/')}/{inner}"
                group.members[inner] = self._object(target, place, depth + 1)
        return group

    def _symbols(self, message: Cursor, name: str) -> Iterator[tuple[str, int]]:
        """Names and addresses of a group's members: a B-tree, whose leaves point to names in a heap."""
        tree, heap = message.number(8), message.number(8)
        what = f"table of '{name[:100]}'"
        start = self.part(heap, 32, what, b"HEAP")
        start.skip(4)
        length = start.number(8)
        start.skip(8)
        names = self.part(start.number(8), length, what)
        for node in self.leaves(tree, 0, 8, what):
            leaf = self.part(node[1], 8, what, b"SNOD")
            leaf.skip(2)
            entries = self.part(node[1] + 8, 40 * leaf.number(2), what)
            while entries.left:
                self.step()
                place, target, cached = entries.number(8), entries.number(8), entries.number(4)
                entries.skip(20)
                inner = names.text_at(place)
                if cached == 2 or target == UNDEFINED:
                    raise FileFormatError(f"{self.what(name)}: '{inner[:100]}' is a soft link; only hard ones are read")
                yield inner, target

    def leaves(self, address: int, kind: int, width: int, what: str) -> Iterator[tuple[Cursor, int]]:
        """Key and address of everything that a B-tree of version 1 leads to; width: bytes of a key."""
        waiting = [(address, 64)]
        while waiting:
            address, above = waiting.pop()
            start = self.part(address, 24, what, b"TREE")
            found, level, count = start.number(1), start.number(1), start.number(2)
            if found != kind or level >= above:
                raise FileFormatError(f"{self.path}: damaged: {what} is a tree of kind {found}, level {level}")
            entries = self.part(address + 24, count * (width + 8), what)
            children = []
            for _ in range(count):
                self.step()
                key, child = entries.cut(width), entries.number(8)
                if level == 0:
                    yield key, child
                else:
                    children.append((child, level))
            waiting += reversed(children)

    def _attributes(self, messages: list[tuple[int, int, Cursor]], name: str) -> dict[str, Attribute]:
        """What is written at an object; the values are read when they are asked for."""
        found: dict[str, Attribute] = {}
        for kind, flags, content in messages:
            if kind == MANY_ATTRIBUTES:
                parts.require_compact(content, name, attributes=True)
            if kind == ATTRIBUTE:
                if flags & SHARED:
                    raise FileFormatError(f"{self.what(name)} has an attribute that lies elsewhere in the file")
                attribute = parts.attribute(content)
                if attribute.name in found:
                    raise FileFormatError(f"{self.what(name)} has the attribute {attribute.name[:100]!r} twice")
                found[attribute.name] = attribute
        return found

    def texts(self, attribute: Attribute, what: str) -> list[str]:
        """The texts of an attribute; an empty list of numbers is one, since NumPy has no other."""
        count = math.prod(attribute.shape)
        if count == 0:
            return []
        kind = attribute.kind()
        if kind.name not in ("text", "texts") or count * kind.size > attribute.data.left:
            raise FileFormatError(f"{self.path}: {what} holds {attribute.data.left:,} bytes as {count:,} of "
                                  f"{kind.name}, not texts")
        content = attribute.data.again()
        result = []
        for _ in range(count):
            self.step()
            raw = content.take(kind.size) if kind.name == "text" else self._from_heap(content, what)
            self.text -= len(raw)
            if self.text < 0:
                raise FileFormatError(f"{self.path}: its attributes hold more text than the file has bytes")
            try:
                result.append(raw.rstrip(b"\0").decode())
            except UnicodeDecodeError as error:
                raise FileFormatError(f"{self.path}: {what} is no text in UTF-8") from error
        return result

    def _from_heap(self, reference: Cursor, what: str) -> bytes:
        """A text of any length, which lies in a heap for all of them."""
        length, address, index = reference.number(4), reference.number(8), reference.number(4)
        if length == 0:
            return b""
        if address not in self.heaps:
            self.heaps[address] = self._heap(address, what)
        found = self.heaps[address].get(index)
        if found is None or len(found) < length:
            raise FileFormatError(f"{self.path}: {what} refers to a text that is not there")
        return found[:length]

    def _heap(self, address: int, what: str) -> dict[int, bytes]:
        start = self.part(address, 16, what, b"GCOL")
        start.skip(4)
        length = start.number(8)
        objects = self.part(address + 16, max(length - 16, 0), what)
        self.text -= length
        found: dict[int, bytes] = {}
        while objects.left >= 16:
            self.step()
            index = objects.number(2)
            objects.skip(6)
            nbytes = objects.number(8)
            if index == 0:  # the rest is free
                break
            found[index] = objects.take(nbytes)
            objects.skip(min(-nbytes % 8, objects.left))
        return found
