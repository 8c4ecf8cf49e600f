"""Reading the values in a pickle without running it: the CIFAR-10 python batches are pickles.

A pickle is a program for a small stack machine, and Python's own reader lets that program call any function. This
one carries out only the steps that put together dicts, lists, strings, numbers and one kind of NumPy array, and calls
nothing: an array is recognised by its construction steps and kept as a `PickledArray` to be checked by the caller.
`cifar.py` uses it.
"""

from __future__ import annotations

import io
import math
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from minidl.errors import FileFormatError

_CONSTANTS = {"INT", "BININT", "BININT1", "BININT2", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE"}
_FIXED: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2
_ARRAY, _DTYPE, _ENCODE = "array", "dtype", "encode"
_NAMES = {
    **{f"{module} _reconstruct": _ARRAY for module in _MODULES},
    "numpy ndarray": "ndarray",
    "numpy dtype": _DTYPE,
    "_codecs encode": _ENCODE,  # how Python 3 writes bytes in protocol 2
}


# The warning, an error where Python is told so, is pickletools' about odd escapes in damaged names.
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, DeprecationWarning)


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


class _Mark:
    """Marks a place on the stack."""


def read_pickle(raw: bytes, path: Path) -> Any:
    """Return the value that the pickle in `raw` describes; `path` is for messages.

    Text becomes str (Python 2's byte strings as Latin-1). Raises FileFormatError for any step outside the list
    above, in particular for every global name that is not part of a NumPy array.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(raw)):
            if opcode.name == "STOP":
                (value,) = machine.stack
                return value
            machine.step(opcode.name, argument)
    except _DAMAGE as error:
        reason = f"not a pickle of plain values and uint8 arrays ({error}); nothing in it was run"
        raise FileFormatError(f"{path}: {reason}") from error
    raise FileFormatError(f"{path}: truncated pickle, it has no end")


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in _FIXED:
            self.stack.append(_FIXED[name])
        elif name == "EMPTY_DICT":
            self.stack.append({})
        elif name == "EMPTY_LIST":
            self.stack.append([])
        elif name == "MARK":
            self.stack.append(_Mark())
        elif name in _TUPLES:
            self.stack.append(tuple(self.pop(_TUPLES[name])))
        elif name == "TUPLE":
            self.stack.append(tuple(self.pop_to_mark()))
        elif name != "PROTO":
            self.build(name, argument)

    def build(self, name: str, argument: Any) -> None:
        if name in ("APPEND", "APPENDS"):
            items = self.pop(1) if name == "APPEND" else self.pop_to_mark()
            self.top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.pop(2) if name == "SETITEM" else self.pop_to_mark()
            for key, value in zip(items[::2], items[1::2]):
                self.top(dict)[_as_text(key)] = value
        elif name == "GLOBAL":
            if argument not in _NAMES:
                raise ValueError(f"it refers to {argument!r:.80}")
            self.stack.append(_Name(_NAMES[argument]))
        elif name == "REDUCE":
            function, arguments = self.pop(2)
            self.stack.append(_made(function, arguments))
        elif name == "BUILD":
            state = self.pop(1)[0]
            _fill(self.stack[-1], state)
        else:
            raise ValueError(f"it uses the step {name}")

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"it adds items to a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count or any(isinstance(item, _Mark) for item in self.stack[-count:]):
            raise ValueError("its stack runs empty")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def pop_to_mark(self) -> list[Any]:
        items = []
        while not isinstance(item := self.stack.pop(), _Mark):
            items.append(item)
        return items[::-1]


def _made(function: Any, arguments: Any) -> Any:
    """What a call in the pickle stands for, without calling it."""
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise ValueError("it calls something that is not a name")
    if function == _ARRAY:
        return PickledArray()
    if function == _DTYPE:
        return _Dtype(_as_text(arguments[0]))
    if function == _ENCODE and len(arguments) == 2 and _as_text(arguments[1]) == "latin1":
        return _as_text(arguments[0])
    raise ValueError(f"it calls {str(function)!r}")


def _fill(target: Any, state: Any) -> None:
    """Take over what the pickle says about an array; the byte order of a dtype does not matter for bytes."""
    if isinstance(target, _Dtype):
        return
    if not isinstance(target, PickledArray):
        raise ValueError(f"it sets the state of a {type(target).__name__}")
    _, shape, dtype, fortran, raw = state
    if not isinstance(shape, tuple) or not isinstance(dtype, _Dtype) or fortran:
        raise ValueError("its array is not a plain one in C order")
    target.shape, target.dtype, target.raw = shape, str(dtype), _as_text(raw)


def _as_text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"it uses a {type(value).__name__} where text belongs")
    return value
