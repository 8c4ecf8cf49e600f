"""Reading a pickle without running it.

A pickle is a program for a small stack machine, and Python's own reader lets that program call any function. The
machine here carries out only the steps that put together dicts, lists, tuples, texts and numbers, and calls nothing:
what a name, a call or a persistent id in the pickle stands for is decided by a subclass, which admits a few of its
own. `pickles.py` has the one for CIFAR-10's batches, `minidl/formats/torchfile.py` the one for PyTorch's files.
"""

from __future__ import annotations

import pickletools
from typing import Any

from minidl.errors import FileFormatError

CONSTANTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8",
}
FIXED: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PUTS, GETS = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
# What a damaged pickle leads to. The warning, an error where Python is told so, is about odd escapes in names.
DAMAGE = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
          DeprecationWarning)
OBJECTS, BYTES_AN_OBJECT = 10_000, 4  # objects that any pickle may make, and the bytes that pay for one more


class _Mark:
    """Marks a place on the stack."""


class Machine:
    """Reads one pickle; subclasses say what names, calls and persistent ids mean, and raise ValueError for others."""

    def __init__(self, size: int) -> None:
        """size: the bytes of the file, which limit how many objects the pickle may make."""
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left = OBJECTS + size // BYTES_AN_OBJECT

    def name(self, name: str) -> Any:
        """What "module name" stands for."""
        raise ValueError(f"it refers to {name!r:.80}")

    def call(self, function: Any, arguments: tuple) -> Any:
        """What a call stands for; `function` is what `name` returned, or anything else that the pickle calls."""
        raise ValueError(f"it calls a {type(function).__name__}")

    def fill(self, target: Any, state: Any) -> None:
        """Take over the state that the pickle sets on an object."""
        raise ValueError(f"it sets the state of a {type(target).__name__}")

    def persistent(self, identity: Any) -> Any:
        """What a persistent id stands for."""
        raise ValueError("it refers to objects outside of it")

    def run(self, stream: Any, what: Any) -> Any:
        """The value that the pickle at the stream's position describes; the stream is left behind its end.

        Raises FileFormatError, beginning with `what`, for any step that is not admitted.
        """
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "STOP":
                    (value,) = self.stack
                    return value
                self._step(opcode.name, argument)
        except DAMAGE as error:
            raise FileFormatError(f"{what}: a pickle that is damaged or does more than hold data: {str(error)[:300]}; "
                                  "nothing in it was run") from error
        raise FileFormatError(f"{what}: truncated pickle, it has no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in CONSTANTS:
            self.stack.append(argument)
        elif name in PUTS or name == "MEMOIZE":
            self._spend()
            self.memo[len(self.memo) if argument is None else argument] = self._top()
        elif name in GETS:
            self.stack.append(self.memo[argument])
        elif name in FIXED:
            self.stack.append(FIXED[name])
        elif name in EMPTY:
            self._push(EMPTY[name]())
        elif name == "MARK":
            self._push(_Mark())
        elif name in TUPLES:
            self._push(tuple(self._pop(TUPLES[name])))
        elif name == "TUPLE":
            self._push(tuple(self._pop_to_mark()))
        elif name not in ("PROTO", "FRAME"):
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        if name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
            self._top(list).extend(items)
        elif name == "LIST":
            self._push(self._pop_to_mark())
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
            set_items(self._top(dict), zip(items[::2], items[1::2]))
        elif name == "DICT":
            items = self._pop_to_mark()
            self._push({})
            set_items(self._top(dict), zip(items[::2], items[1::2]))
        elif name == "GLOBAL":
            self._push(self.name(argument))
        elif name == "STACK_GLOBAL":
            module, attribute = map(as_text, self._pop(2))
            self._push(self.name(f"{module} {attribute}"))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            if type(arguments) is not tuple:
                raise ValueError("it calls with something that is no tuple")
            self._push(self.call(function, arguments))
        elif name == "BUILD":
            (state,) = self._pop(1)
            self.fill(self._top(), state)
        elif name == "BINPERSID":
            (identity,) = self._pop(1)
            self._push(self.persistent(identity))
        else:
            raise ValueError(f"it uses the step {name}")

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("it makes more objects than a file of its size holds")

    def _push(self, value: Any) -> None:
        self._spend()
        self.stack.append(value)

    def _top(self, kind: type | None = None) -> Any:
        top = self.stack[-1]
        if isinstance(top, _Mark) or kind is not None and type(top) is not kind:
            raise ValueError(f"it adds items to a {type(top).__name__}")
        return top

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count or any(isinstance(item, _Mark) for item in self.stack[-count:]):
            raise ValueError("its stack runs empty")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while not isinstance(item := self.stack.pop(), _Mark):
            items.append(item)
        return items[::-1]


def set_items(target: dict, pairs: Any) -> None:
    """Put the pairs into the dict; ValueError for a key that is neither text nor a number, or stands there twice."""
    for key, value in pairs:
        if type(key) is not str and not (type(key) is int and abs(key) < 2**63):
            raise ValueError(f"it uses a {type(key).__name__} where the name of an item belongs")
        if key in target:
            raise ValueError(f"{key!r:.100} stands there twice")
        target[key] = value


def as_text(value: Any) -> str:
    """The value, if it is text; else ValueError."""
    if type(value) is not str:
        raise ValueError(f"it uses a {type(value).__name__} where text belongs")
    return value
