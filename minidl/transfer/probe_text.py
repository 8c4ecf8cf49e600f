"""What a probe consists of, and its form as JSON values, which are checked as what anybody may have written."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minidl.errors import FileFormatError
from minidl.tensor import Tensor, as_array

MOST_ELEMENTS = 2**20  # of an input that is made, and of all inputs together
MOST_BYTES = 2**20  # of the inputs that stand in the file
MOST_INPUTS, MOST_LAYERS = 8, 24
VALUES, FINAL_VALUES = 64, 1024  # that are kept of a layer's output, and of the model's
DTYPES = ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")
LONGEST_PATH, MOST_TENSORS = 1000, 100_000
KNUTH = 2654435761  # odd, near 2**32 / golden ratio: its multiples spread evenly over 32 bits


class Input(NamedTuple):
    """An input: its elements as bytes in C order, or None where they follow from shape and `below`.

    below: ids from 0 to below - 1 are made, for integers; 0 for numbers in [-1, 1).
    """

    shape: tuple[int, ...]
    dtype: str
    data: bytes | None
    below: int = 0

    @classmethod
    def made(cls, shape: tuple[int, ...], dtype: np.dtype, below: int = 0) -> Input:
        if math.prod(shape) > MOST_ELEMENTS:
            raise ValueError(f"a probe of shape {shape} has more than {MOST_ELEMENTS:,} numbers")
        return cls(shape, dtype.name, None, below)

    @classmethod
    def of(cls, value: Any) -> Input:
        array = np.ascontiguousarray(as_array(value)).reshape(as_array(value).shape)
        if array.dtype.name not in DTYPES:
            raise TypeError(f"a probe is of one of the dtypes {', '.join(DTYPES)}, not {array.dtype}")
        if array.nbytes > MOST_BYTES or array.size == 0:
            raise ValueError(f"a probe of {array.nbytes:,} bytes: at most {MOST_BYTES:,} are kept, one or two samples "
                             "are enough, or the shape of one, probe=(3, 224, 224)")
        return cls(array.shape, array.dtype.name, array.astype(array.dtype.newbyteorder("<")).tobytes())

    def array(self) -> np.ndarray:
        """The elements; made ones are the same on every machine, whatever becomes of NumPy's generators."""
        if self.data is not None:
            return np.frombuffer(bytearray(self.data), np.dtype(self.dtype).newbyteorder("<")).astype(
                self.dtype).reshape(self.shape)
        parts = (np.arange(1, math.prod(self.shape) + 1, dtype=np.uint64) * np.uint64(KNUTH)) % np.uint64(2**32) / 2**32
        values = np.floor(parts * self.below) if self.below else 2 * parts - 1
        return values.reshape(self.shape).astype(self.dtype)

    def as_json(self) -> dict[str, Any]:
        data = None if self.data is None else base64.b64encode(self.data).decode()
        return {"shape": list(self.shape), "dtype": self.dtype, "data": data, "below": self.below}


class Output(NamedTuple):
    """What a module gave: the shapes of its tensors, largest and mean size of an element, some elements as float32."""

    path: str
    shapes: tuple[tuple[int, ...], ...]
    largest: float
    mean: float
    values: np.ndarray

    def is_finite(self) -> bool:
        return bool(math.isfinite(self.largest) and math.isfinite(self.mean) and np.isfinite(self.values).all())

    def difference(self, other: Output) -> float:
        """The largest difference as a share of this output's largest value; infinite for other shapes or nan."""
        if self.shapes != other.shapes or self.values.shape != other.values.shape or not other.is_finite():
            return math.inf
        apart = np.abs(self.values.astype(np.float64) - other.values.astype(np.float64)).max(initial=0)
        apart = max(float(apart), abs(self.largest - other.largest), abs(self.mean - other.mean))
        return apart / self.largest if self.largest else (math.inf if apart else 0.0)

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "shapes": [list(shape) for shape in self.shapes], "largest": self.largest,
                "mean": self.mean, "values": base64.b64encode(self.values.astype("<f4").tobytes()).decode()}


class Probe(NamedTuple):
    """Inputs, outputs in the order in which the modules finish, and the SHA-256 of every tensor in the file."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    sha256: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        return {"inputs": [value.as_json() for value in self.inputs],
                "outputs": [value.as_json() for value in self.outputs], "sha256": dict(self.sha256)}


def sample(path: str, output: Any) -> Output | None:
    """Elements of an output at even distances; of several tensors from each. None if there is no tensor in it."""
    arrays = _arrays(output)
    if not arrays or not any(array.size for array in arrays):
        return None
    most = (FINAL_VALUES if not path else VALUES) // len(arrays)
    values, largest, total = [], 0.0, 0.0
    for array in arrays:
        flat = np.asarray(array).reshape(-1)
        places = np.unique(np.linspace(0, flat.size - 1, min(most, flat.size)).astype(np.int64)) if flat.size else []
        values.append(flat[places].astype(np.float32))
        size = np.abs(flat.astype(np.float64)) if flat.size else np.zeros(1)
        largest, total = float(np.maximum(largest, size.max())), total + float(size.sum())
    mean = total / sum(array.size for array in arrays)
    return Output(path, tuple(array.shape for array in arrays), largest, mean, np.concatenate(values))


def _arrays(output: Any) -> list[Any]:
    """Every tensor in what a module returned, in order."""
    if isinstance(output, Tensor):
        return [output.array]
    items = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return [array for item in items for array in _arrays(item)][:VALUES]


def parse(content: Any, what: str) -> Probe:
    """The probe in a file's metadata, every value checked; raises FileFormatError."""
    what = f"{what}: probe"
    _check(content, {"inputs": list, "outputs": list, "sha256": dict}, what)
    if not 1 <= len(content["inputs"]) <= MOST_INPUTS or not 1 <= len(content["outputs"]) <= MOST_LAYERS + 1:
        raise FileFormatError(f"{what}: it has {len(content['inputs'])} inputs and {len(content['outputs'])} outputs")
    inputs = tuple(_input(entry, f"{what}: input {place}") for place, entry in enumerate(content["inputs"]))
    if sum(math.prod(value.shape) for value in inputs) > MOST_ELEMENTS:
        raise FileFormatError(f"{what}: its inputs have more than {MOST_ELEMENTS:,} numbers")
    outputs = tuple(_output(entry, f"{what}: output {place}") for place, entry in enumerate(content["outputs"]))
    if len({output.path for output in outputs}) != len(outputs):
        raise FileFormatError(f"{what}: it has two outputs of one module")
    hashes = content["sha256"]
    if len(hashes) > MOST_TENSORS or not all(isinstance(h, str) and re.fullmatch("[0-9a-f]{64}", h)
                                             for h in hashes.values()):
        raise FileFormatError(f"{what}: sha256 must map names to 64 hexadecimal digits")
    return Probe(inputs, outputs, hashes)


def _input(entry: Any, what: str) -> Input:
    _check(entry, {"shape": list, "dtype": str, "data": (str, type(None)), "below": int}, what)
    shape, dtype, below = _shape(entry["shape"], what), entry["dtype"], entry["below"]
    if dtype not in DTYPES or not 0 <= below < 2**31 or (below > 0) != (entry["data"] is None and "int" in dtype):
        raise FileFormatError(f"{what}: of dtype {dtype[:50]!r}, below {below}")
    count = math.prod(shape)
    if not 0 < count <= MOST_ELEMENTS:
        raise FileFormatError(f"{what}: of shape {shape}, where 1 to {MOST_ELEMENTS:,} numbers are possible")
    data = None if entry["data"] is None else _decode(entry["data"], count * np.dtype(dtype).itemsize, what)
    return Input(shape, dtype, data, below)


def _output(entry: Any, what: str) -> Output:
    _check(entry, {"path": str, "shapes": list, "largest": (float, int), "mean": (float, int), "values": str}, what)
    if len(entry["path"]) > LONGEST_PATH or not 1 <= len(entry["shapes"]) <= VALUES:
        raise FileFormatError(f"{what}: a path of {len(entry['path'])} characters, {len(entry['shapes'])} shapes")
    shapes = tuple(_shape(shape, what) for shape in entry["shapes"])
    most = (FINAL_VALUES if not entry["path"] else VALUES) // len(shapes)
    count = sum(min(most, math.prod(shape)) for shape in shapes)
    values = np.frombuffer(_decode(entry["values"], 4 * count, what), "<f4").astype(np.float32)
    output = Output(entry["path"], shapes, _number(entry["largest"]), _number(entry["mean"]), values)
    if not output.is_finite() or output.largest < 0:
        raise FileFormatError(f"{what}: it holds nan or infinity")
    return output


def _number(value: float) -> float:
    return float(value) if abs(value) < 1e300 else math.inf


def _shape(values: Any, what: str) -> tuple[int, ...]:
    if not isinstance(values, list) or len(values) > 32 or not all(type(n) is int and 0 <= n < 2**40 for n in values):
        raise FileFormatError(f"{what}: {str(values)[:100]} is no shape")
    if math.prod(values) >= 2**48:
        raise FileFormatError(f"{what}: {str(values)[:100]} is no shape of anything that fits into memory")
    return tuple(values)


def _decode(text: str, size: int, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FileFormatError(f"{what}: no base64: {error}") from error
    if len(data) != size:
        raise FileFormatError(f"{what}: {len(data):,} bytes, where {size:,} are expected")
    return data


def _check(entry: Any, kinds: Mapping[str, Any], what: str) -> None:
    if not isinstance(entry, dict) or entry.keys() != kinds.keys():
        raise FileFormatError(f"{what}: expected an object with {', '.join(kinds)}")
    for name, kind in kinds.items():
        if not isinstance(entry[name], kind) or isinstance(entry[name], bool):
            raise FileFormatError(f"{what}: {name} is of the wrong type, {type(entry[name]).__name__}")
