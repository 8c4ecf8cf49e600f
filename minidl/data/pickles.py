"""The values in the pickles that CIFAR-10's python batches are: plain values and one kind of NumPy array.

An array is recognised by its construction steps and kept as a `PickledArray`, to be checked by the caller; see
`unpickle.py` for how a pickle is read without running it. `cifar.py` uses it.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data.unpickle import Machine, as_text

_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2
_ARRAY, _DTYPE, _ENCODE = "array", "dtype", "encode"
_NAMES = {
    **{f"{module} _reconstruct": _ARRAY for module in _MODULES},
    "numpy ndarray": "ndarray",
    "numpy dtype": _DTYPE,
    "_codecs encode": _ENCODE,  # how Python 3 writes bytes in protocol 2
}


class PickledArray:
    """An array as a pickle describes it: shape, dtype name and the bytes as text. `uint8()` checks them."""

    shape: tuple = ()
    dtype = ""
    raw = ""

    def uint8(self) -> np.ndarray:
        """The array, if it is uint8 in C order with as many bytes as its shape needs; else ValueError."""
        if self.dtype != "u1":
            raise ValueError(f"array of dtype {self.dtype!r:.40}; expected uint8 ('u1')")
        if not 1 <= len(self.shape) <= 4 or not all(type(size) is int and 0 <= size < 2**31 for size in self.shape):
            raise ValueError("array whose shape is not 1 to 4 numbers")
        raw = self.raw.encode("latin-1")
        if math.prod(self.shape) != len(raw):
            raise ValueError(f"array of shape {self.shape} needs {math.prod(self.shape):,} bytes, found {len(raw):,}")
        return np.frombuffer(raw, np.uint8).reshape(self.shape)


class _Name(str):
    """A global name the pickle refers to; it stays a name."""


class _Dtype(str):
    """A dtype by its name."""


def read_pickle(raw: bytes, path: Path) -> Any:
    """Return the value that the pickle in `raw` describes; `path` is for messages.

    Text becomes str (Python 2's byte strings as Latin-1). Raises FileFormatError for every step and every name that
    is not part of plain values or of a NumPy array.
    """
    return _Batch(len(raw)).run(io.BytesIO(raw), path)


class _Batch(Machine):
    def name(self, name: str) -> _Name:
        return _Name(_NAMES[name]) if name in _NAMES else super().name(name)

    def call(self, function: Any, arguments: tuple) -> Any:
        if not isinstance(function, _Name):
            raise ValueError("it calls something that is not a name")
        if function == _ARRAY:
            return PickledArray()
        if function == _DTYPE:
            return _Dtype(as_text(arguments[0]))
        if function == _ENCODE and len(arguments) == 2 and as_text(arguments[1]) == "latin1":
            return as_text(arguments[0])
        raise ValueError(f"it calls {str(function)!r}")

    def fill(self, target: Any, state: Any) -> None:
        """Take over what the pickle says about an array; the byte order of a dtype does not matter for bytes."""
        if isinstance(target, _Dtype):
            return
        if not isinstance(target, PickledArray):
            super().fill(target, state)
        _, shape, dtype, fortran, raw = state
        if not isinstance(shape, tuple) or not isinstance(dtype, _Dtype) or fortran:
            raise ValueError("its array is not a plain one in C order")
        target.shape, target.dtype, target.raw = shape, str(dtype), as_text(raw)
