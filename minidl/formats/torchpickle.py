"""The pickle in a file of PyTorch: which names it may contain, and the tensors that it describes.

`minidl.data.unpickle` reads a pickle without running it. Here stands what it may say: names that rebuild tensors, and
nothing else. A tensor is a view of a storage (offset, size and stride in elements), and must lie within it; the
storages' bytes are read by `torchfile.py`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minidl.data.unpickle import Machine, as_text, set_items

BFLOAT16 = "bfloat16"  # NumPy lacks it; its bits are the upper half of a float32's
DTYPES = {  # PyTorch's name of a dtype -> NumPy's of its bytes
    "float64": "<f8", "float32": "<f4", "float16": "<f2", BFLOAT16: "<u2", "complex64": "<c8", "complex128": "<c16",
    "int64": "<i8", "int32": "<i4", "int16": "<i2", "int8": "|i1", "uint8": "|u1", "bool": "|u1", "uint16": "<u2",
    "uint32": "<u4", "uint64": "<u8",
}
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": BFLOAT16,
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128", "LongStorage": "int64",
    "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "UntypedStorage": "uint8",
}
REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
INERT = ("collections OrderedDict", "torch Size", "torch device", "torch._tensor _rebuild_from_type_v2")
CLASSES = ("torch Tensor", "torch._tensor Tensor", "torch.nn.parameter Parameter")
LARGEST, MOST_AXES = 2**62, 32


class _Name(str):
    """A name that the pickle may contain; it stays a name."""


class _Dtype(str):
    """A dtype by PyTorch's name."""


class _StorageType(str):
    """The class of a storage, by its dtype."""


class Storage(NamedTuple):
    """`length` elements of `dtype`, which lie in the file under `key` from element `start` on."""

    key: str
    dtype: str
    length: int
    start: int = 0


class Described(NamedTuple):
    """A tensor as the pickle describes it: a view of a storage that lies within it."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def nbytes(self) -> int:
        """The bytes of the array that it becomes."""
        return math.prod(self.shape) * (4 if self.dtype == BFLOAT16 else itemsize(self.dtype))


def itemsize(dtype: str) -> int:
    """The bytes of an element in the file."""
    return np.dtype(DTYPES[dtype]).itemsize


class Checkpoint(Machine):
    """Reads the pickle; `storages` collects the storages that it names, each as a whole."""

    def __init__(self, size: int):
        super().__init__(size)
        self.storages: dict[str, Storage] = {}

    def name(self, name: str) -> Any:
        module, _, attribute = name.partition(" ")
        if name in INERT or module == "torch._utils" and attribute in (*REBUILD, *PARAMETERS):
            return _Name(attribute)
        if name in CLASSES:
            return _Name("class")
        if module in ("torch", "torch.cuda", "torch.storage") and attribute in STORAGES:
            return _StorageType(STORAGES[attribute])
        if module == "torch" and attribute in DTYPES:
            return _Dtype(attribute)
        if module.split(".")[0] == "torch" and (attribute.endswith("Storage") or attribute.startswith("_rebuild")
                                                or attribute.startswith("float8")):
            raise ValueError(f"it holds {attribute!r:.80}, which is not a dense tensor of a type that NumPy has")
        raise ValueError(f"it refers to {name!r:.100}; only tensors are read: in PyTorch, save model.state_dict() "
                         "and plain numbers, texts, lists and dicts")

    def call(self, function: Any, arguments: tuple) -> Any:
        if type(function) is not _Name:
            raise ValueError(f"it calls {function!r:.80}")
        if function in REBUILD:
            return _described(arguments[:4], arguments[6] if function == "_rebuild_tensor_v3" else None)
        if function in PARAMETERS:
            if type(arguments[0]) is not Described:
                raise ValueError("its Parameter is made of something that is no tensor")
            return arguments[0]
        if function == "_rebuild_from_type_v2" and arguments[0] in REBUILD:
            return self.call(arguments[0], arguments[2])
        if function == "OrderedDict":
            ordered: dict = {}
            set_items(ordered, arguments[0] if arguments else ())
            return ordered
        if function in ("Size", "device"):
            return arguments[0]
        raise ValueError(f"it calls {str(function)!r:.80}")

    def fill(self, target: Any, state: Any) -> None:
        """Ignore the attributes of an OrderedDict, the versions of modules; nothing else has any."""
        if type(target) is not dict:
            super().fill(target, state)

    def persistent(self, identity: Any) -> Storage:
        """The storage ("storage", class, key, device, length[, view]); a view is (key, start, length) or None."""
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            raise ValueError(f"it refers to something that is no storage: {identity!r:.80}")
        _, kind, key, _, length = identity[:5]
        if type(kind) is not _StorageType:
            raise ValueError("a storage has no class")
        storage = Storage(as_text(key), str(kind), _count(length, "the length of a storage"))
        if self.storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"the storage {storage.key!r:.80} is described in two ways")
        if len(identity) == 5 or identity[5] is None:
            return storage
        _, start, length = identity[5]
        start, length = _count(start, "the start of a view"), _count(length, "the length of a view")
        if start + length > storage.length:
            raise ValueError(f"a view of elements {start} to {start + length} of a storage of {storage.length}")
        return storage._replace(start=start, length=length)


def _count(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < LARGEST:
        raise ValueError(f"{what} is {value!r:.40}")
    return value


def _described(view: tuple, dtype: Any) -> Described:
    """The tensor (storage, offset, size, stride), if it lies within its storage; else ValueError.

    dtype: another type than the storage's, None for the same.
    """
    storage, offset, shape, stride = view
    if type(storage) is not Storage or type(dtype) not in (_Dtype, type(None)):
        raise ValueError("a tensor is made of something that is no storage, or of no type")
    if type(shape) is not tuple or type(stride) is not tuple or len(shape) != len(stride) or len(shape) > MOST_AXES:
        raise ValueError(f"a tensor of size {shape!r:.60} and stride {stride!r:.60}")
    for value in (offset, *shape, *stride):
        _count(value, "an offset, a size or a stride of a tensor")
    kind = storage.dtype if dtype is None else str(dtype)
    if math.prod(size for size in shape if size) * itemsize(kind) >= LARGEST:
        raise ValueError(f"a tensor of size {shape}")
    length = storage.length * itemsize(storage.dtype) // itemsize(kind)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride))
    if 0 not in shape and last >= length:
        raise ValueError(f"a tensor of size {shape} and stride {stride} from element {offset} on ends at element "
                         f"{last} of a storage of {length}")
    return Described(storage, kind, offset, shape, stride)
