"""Where a training draws its random numbers from: every generator that can be reached, by its path, and its state.

A generator is found wherever it hangs as an attribute, in a list or dict, or in what a function has taken along: that
of a loader, its data set, transforms and sampler, of a dropout layer, of a callback. `checkpoint.py` saves the states,
`range_test.py` puts them back after a trial.
"""

from __future__ import annotations

import copy
import functools
import random as python_random
from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from minidl import random
from minidl.errors import FileFormatError
from minidl.nn.module import Module
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor

DEEPEST = 8  # levels of attributes and lists in which generators are looked for
MANY = 1000  # a list longer than this holds data
SOURCES = (np.random.Generator, np.random.RandomState, python_random.Random)
OPAQUE = (str, bytes, int, float, np.ndarray, Tensor, type, ModuleType, Optimizer)


def find_streams(**roots: Any) -> dict[str, Any]:
    """Every source of random numbers below the objects given, by its path, after the three that a program shares.

    "minidl" is the generator of `minidl.seed`, "numpy" that of `numpy.random.seed`, "python" that of `random.seed`.
    One that hangs in several places appears once.
    """
    found: dict[str, Any] = {"minidl": random.generator(), "numpy": np.random, "python": python_random}
    seen = {id(found["minidl"])}
    for name, root in roots.items():
        _walk(root, name, found, seen, 0)
    return found


def _walk(value: Any, path: str, found: dict[str, Any], seen: set[int], depth: int) -> None:
    if id(value) in seen or depth > DEEPEST or value is None or isinstance(value, OPAQUE):
        return
    seen.add(id(value))
    if isinstance(value, SOURCES):
        found[path] = value
        return
    for name, item in _inside(value):
        _walk(item, f"{path}.{name}", found, seen, depth + 1)


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, with the names under which it does."""
    if isinstance(value, Module):
        for path, module in value.named_modules():
            for name, item in vars(module).items():
                if not isinstance(item, Module) and name != "_ledger":
                    yield f"{path}.{name}" if path else name, item
    elif isinstance(value, dict):
        if len(value) <= MANY:
            yield from ((str(name), item) for name, item in value.items())
    elif isinstance(value, (list, tuple)):
        if len(value) <= MANY:
            yield from ((str(number), item) for number, item in enumerate(value))
    elif isinstance(value, FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or ()):
            try:
                yield name, cell.cell_contents
            except ValueError:  # a name of the outer function that has no value yet
                continue
    elif isinstance(value, functools.partial):
        yield from (("function", value.func), ("arguments", value.args), ("options", value.keywords))
    elif isinstance(value, MethodType):
        yield "self", value.__self__
    else:
        yield from getattr(value, "__dict__", {}).items()


def get_state(stream: Any) -> Any:
    """Where a source of random numbers is, as a dict or tuple of numbers and arrays."""
    if isinstance(stream, np.random.Generator):
        return stream.bit_generator.state
    return stream.getstate() if hasattr(stream, "getstate") else stream.get_state(legacy=False)


def set_state(stream: Any, state: Any) -> None:
    """Put a source of random numbers where it was when `get_state` returned `state`."""
    if isinstance(stream, np.random.Generator):
        stream.bit_generator.state = state
    elif hasattr(stream, "getstate"):
        stream.setstate(state)
    else:
        stream.set_state(state)


def get_states(streams: dict[str, Any]) -> dict[str, Any]:
    """`get_state` of each."""
    return {path: get_state(stream) for path, stream in streams.items()}


def set_states(streams: dict[str, Any], states: dict[str, Any]) -> None:
    """`set_state` of each that has a state in `states`."""
    for path, state in states.items():
        set_state(streams[path], state)


def check_state(stream: Any, state: Any, what: str) -> None:
    """Raise FileFormatError unless `state`, which came from a file, can be given to `stream`; that is not touched."""
    if isinstance(stream, ModuleType):
        twin = np.random.RandomState() if stream is np.random else python_random.Random()
    else:
        twin = copy.deepcopy(stream)
    try:
        set_state(twin, state)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise FileFormatError(f"{what} is no state of a {type(twin).__name__}: {error}") from error


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal; they may hold arrays."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    return bool(one == other)
