"""Reading the tensors of a file that PyTorch saved (`.pt`, `.pth`, `.th`), without PyTorch and without running it.

Since PyTorch 1.6 such a file is a zip archive: a pickle that describes the tensors, and an entry with the bytes of
each storage. Before, it was a run of pickles followed by the storages. What the pickle may say stands in
`torchpickle.py`. Sizes are compared with the file's before memory is asked for.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from minidl.data.files import read_exactly
from minidl.data.unpickle import Machine
from minidl.errors import FileFormatError, nearest
from minidl.formats.archive import entries, require_within, unpacking
from minidl.formats.torchpickle import BFLOAT16, DTYPES, Checkpoint, Described, Storage, itemsize

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STATE_DICTS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights",
               "params")  # what checkpoints call the part that holds the model
DEEPEST = 32


def read(stream: BinaryIO, size: int, path: Any, part: str | None, limit: float) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch file of either format; see `formats.load_tensors` for `part` and `limit`."""
    start = stream.read(2)
    stream.seek(0)
    if start == b"PK":
        return _read_zip(stream, size, path, part, limit)
    if start[:1] == b"\x80":
        return _read_legacy(stream, size, path, part, limit)
    raise FileFormatError(f"{path}: not a file of PyTorch, which is a zip archive or begins with a pickle")


def _read_zip(stream: BinaryIO, size: int, path: Any, part: str | None, limit: float) -> dict[str, np.ndarray]:
    with unpacking(stream, path) as archive:
        found = entries(archive, size, path)
        root = _root(found, path)
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in found else b"little"
        _require_little(order == b"little", path)
        checkpoint = Checkpoint(size)
        value = checkpoint.run(io.BytesIO(archive.read(f"{root}data.pkl")), path)
        chosen = _choose(value, part, size, path)
        require_within(limit, sum(tensor.nbytes() for tensor in chosen.values()), size, path)
        raw = {}
        for key in _needed(chosen):
            name, nbytes = f"{root}data/{key}", _nbytes(checkpoint.storages[key])
            if name not in found or found[name].file_size != nbytes:
                there = f"has {found[name].file_size:,}" if name in found else "is missing"
                raise FileFormatError(f"{path}: the storage '{name[:100]}' of {nbytes:,} bytes {there}")
            with archive.open(found[name]) as inside:
                raw[key] = read_exactly(inside, nbytes, path, f"storage '{key[:100]}'")
    return _arrays(chosen, raw)


def _root(found: dict[str, zipfile.ZipInfo], path: Any) -> str:
    """The folder inside the archive that all lies in; FileFormatError for archives of other kinds."""
    roots = [name.removesuffix("data.pkl") for name in found if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise FileFormatError(f"{path}: a zip archive with {len(roots)} data.pkl in it, not tensors that PyTorch saved")
    if f"{roots[0]}constants.pkl" in found:
        raise FileFormatError(f"{path}: a TorchScript program; in PyTorch, save the module's state_dict()")
    for name, entry in found.items():
        if entry.compress_type != zipfile.ZIP_STORED:
            raise FileFormatError(f"{path}: '{name[:100]}' is compressed, which PyTorch does not do")
    return roots[0]


def _read_legacy(stream: BinaryIO, size: int, path: Any, part: str | None, limit: float) -> dict[str, np.ndarray]:
    bounded: Any = _Bounded(stream, size)
    head = [Machine(size).run(bounded, path) for _ in range(2)]
    if head != [MAGIC, PROTOCOL]:
        raise FileFormatError(f"{path}: a pickle, but not a file of PyTorch; pickles of other kinds are not read")
    system = Machine(size).run(bounded, path)
    _require_little(isinstance(system, dict) and system.get("little_endian") is True, path)
    checkpoint = Checkpoint(size)
    value = checkpoint.run(bounded, path)
    keys = Machine(size).run(bounded, path)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or \
            sorted(keys) != sorted(checkpoint.storages):
        raise FileFormatError(f"{path}: its list of storages is not that of its tensors")
    places = _places(stream, size, [checkpoint.storages[key] for key in keys], path)
    chosen = _choose(value, part, size, path)
    require_within(limit, sum(tensor.nbytes() for tensor in chosen.values()), size, path)
    raw = {}
    for key in _needed(chosen):
        stream.seek(places[key])
        raw[key] = read_exactly(stream, _nbytes(checkpoint.storages[key]), path, f"storage '{key[:100]}'")
    return _arrays(chosen, raw)


class _Bounded:
    """A stream that is asked for no more bytes than the file has: reading sets memory aside for what is asked."""

    def __init__(self, stream: BinaryIO, size: int):
        self.stream, self.size = stream, size
        self.readline, self.tell = stream.readline, stream.tell

    def read(self, count: int) -> bytes:
        return self.stream.read(min(count, self.size - self.stream.tell()))


def _places(stream: BinaryIO, size: int, storages: Iterable[Storage], path: Any) -> dict[str, int]:
    """Where the bytes of each storage begin; each stands behind its number of elements, and the last ends the file."""
    places = {}
    for storage in storages:
        length = int.from_bytes(stream.read(8), "little")
        end = stream.tell() + _nbytes(storage)
        if length != storage.length or end > size:
            raise FileFormatError(f"{path}: truncated or damaged: a storage of {length:,} elements that ends at byte "
                                  f"{end:,} of {size:,}, described as one of {storage.length:,}")
        places[storage.key] = stream.tell()
        stream.seek(end)
    if stream.tell() != size:
        raise FileFormatError(f"{path}: {size - stream.tell():,} bytes follow after the last storage")
    return places


def _require_little(little: bool, path: Any) -> None:
    if not little:
        raise FileFormatError(f"{path}: not said to be little-endian; on the machine that wrote it, save it again as "
                              ".safetensors")


def _needed(chosen: dict[str, Described]) -> list[str]:
    return list(dict.fromkeys(tensor.storage.key for tensor in chosen.values()))


def _nbytes(storage: Storage) -> int:
    return storage.length * itemsize(storage.dtype)


def _choose(value: Any, part: str | None, size: int, path: Any) -> dict[str, Described]:
    """The tensors of the part that is asked for, or of the model's state dict if the file has one, by dotted names."""
    tensors: dict[str, Described] = {}
    for names, tensor in _walk(value, (), [2 * size + 1000], path):
        name = ".".join(names) or "tensor"
        if name in tensors:
            raise FileFormatError(f"{path}: two tensors are called {name[:100]!r}")
        tensors[name] = tensor
    if not tensors:
        raise FileFormatError(f"{path}: there is no tensor in it")
    if part is not None:
        return below(tensors, part, path)
    while isinstance(value, dict):
        held = [key for key in STATE_DICTS if isinstance(value.get(key), dict)
                and any(name.startswith(f"{key}.") for name in tensors)]
        if len(held) != 1:
            break
        value, tensors = value[held[0]], below(tensors, held[0], path)
    return tensors


def below(tensors: dict[str, Any], part: str, path: Any, dot: str = ".") -> dict[str, Any]:
    """The tensors whose names begin with `part` and a dot, without both; KeyError if there are none."""
    inside = {name.removeprefix(f"{part}{dot}"): value for name, value in tensors.items()
              if name.startswith(f"{part}{dot}")}
    if not inside:
        fronts = {name[:place] for name in tensors for place in range(len(name)) if name[place] == dot}
        raise KeyError(f"{path}: no tensor's name begins with '{part}{dot}'{nearest(part, sorted(fronts))}")
    return inside


def _walk(value: Any, names: tuple[str, ...], left: list[int],
          path: Any) -> Iterator[tuple[tuple[str, ...], Described]]:
    """Every tensor inside of dicts, lists and tuples, with the names that lead to it; `left` bounds the steps."""
    left[0] -= 1
    if len(names) > DEEPEST or left[0] < 0:
        raise FileFormatError(f"{path}: lists and dicts in it hold each other, or are nested too deeply")
    if type(value) is Described:
        yield names, value
    elif isinstance(value, (dict, list, tuple)) and not isinstance(value, Storage):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk(item, (*names, str(key)), left, path)


def _arrays(chosen: dict[str, Described], raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An array of its own for every tensor; those that are one view of one storage become one array."""
    made: dict[Described, np.ndarray] = {}
    seen: set[str] = set()
    for tensor in dict.fromkeys(chosen.values()):
        made[tensor] = _array(tensor, raw[tensor.storage.key], tensor.storage.key not in seen)
        seen.add(tensor.storage.key)
    return {name: made[tensor] for name, tensor in chosen.items()}


def _array(tensor: Described, raw: np.ndarray, first: bool) -> np.ndarray:
    """The tensor's elements in C order; the first of a storage takes over its memory, if it is the whole of it."""
    dtype = np.dtype(DTYPES[tensor.dtype])
    if 0 in tensor.shape:
        array = np.empty(tensor.shape, dtype)
    else:
        begin = tensor.offset * dtype.itemsize + tensor.storage.start * itemsize(tensor.storage.dtype)
        strides = tuple(step * dtype.itemsize for step in tensor.stride)
        array = np.ndarray(tensor.shape, dtype, raw, begin, strides)  # NumPy checks that it lies within the buffer
        if not (first and array.flags.c_contiguous and array.nbytes == raw.nbytes):
            array = array.copy("C")
    if tensor.dtype == BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    if tensor.dtype == "bool":
        return array != 0
    return array.astype(dtype.newbyteorder("="), copy=False)

