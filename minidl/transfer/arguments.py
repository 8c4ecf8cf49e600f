"""Checking a layer's constructor arguments that come out of a file, before the constructor sees them.

Each must bear the name of a parameter of the constructor and be of a JSON type that the parameter's annotation
admits, and a number may not be larger than the memory that the caller allows. `structure.py` uses it.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Iterable
from typing import Any, NamedTuple

from minidl.errors import FileFormatError, did_you_mean
from minidl.nn.module import NOT_STRUCTURE

ANYTHING = frozenset({"null", "true or false", "integer", "number", "text", "list"})
ADMITTED = {  # what stands in the annotation -> what may stand in the JSON
    type(None): {"null"}, bool: {"true or false"}, int: {"integer"}, float: {"integer", "number"}, str: {"text"},
    tuple: {"list"}, list: {"list"}, Any: ANYTHING,
}
LONGEST_TEXT, LONGEST_LIST, DEEPEST_LIST = 100, 32, 3


class Argument(NamedTuple):
    """What a file may give for one parameter of a constructor."""

    admitted: frozenset[str]
    required: bool


_accepted: dict[type, dict[str, Argument]] = {}


def accepted(cls: type) -> dict[str, Argument]:
    """The constructor's parameters that a file may set: not the device and the like, nor what stars gather.

    Looked up once, when a class enters the table: resolving annotations evaluates text, though only the class's own.
    """
    if cls in _accepted:
        return _accepted[cls]
    found = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
    stars = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    hints = _hints(cls)
    _accepted[cls] = {
        parameter.name: Argument(_admitted(hints.get(parameter.name, Any)), parameter.default is parameter.empty)
        for parameter in found if parameter.name not in NOT_STRUCTURE and parameter.kind not in stars
    }
    return _accepted[cls]


def check(cls: type, config: Any, limit: float, what: str) -> dict[str, Any]:
    """`config` with its lists as tuples, if all of it may go to `cls(...)`; raises FileFormatError otherwise.

    limit: the largest integer, and the largest product of a list of integers, that is accepted. A class whose
    arguments are of another form checks them itself, in `check_config(config, what)`.
    """
    if hasattr(cls, "check_config"):
        return cls.check_config(config, what)
    if not isinstance(config, dict):
        raise FileFormatError(f"{what}: config must be an object, not {json_type(config)}")
    known = accepted(cls)
    for name in config:
        if name not in known:
            raise FileFormatError(f"{what}: {cls.__name__} takes no argument {name[:100]!r}"
                                  f"{did_you_mean(name[:100], known)}")
    for name, argument in known.items():
        if name not in config and argument.required:
            raise FileFormatError(f"{what}: the argument '{name}' of {cls.__name__} is missing")
    for name, value in config.items():
        admitted = known[name].admitted
        if json_type(value) not in admitted:
            raise FileFormatError(f"{what}: {cls.__name__}'s argument '{name}' must be {' or '.join(sorted(admitted))},"
                                  f" not {json_type(value)}: {str(value)[:100]!r}")
        _check_size(value, limit, f"{what}: {cls.__name__}'s argument '{name}'")
    return {name: _as_tuple(value) for name, value in config.items()}


def json_type(value: Any) -> str:
    """What a value parsed from JSON is called there."""
    names = {type(None): "null", bool: "true or false", int: "integer", float: "number", str: "text", list: "list"}
    return names.get(type(value), "object")


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except (NameError, TypeError):  # annotations that only a type checker can resolve: every JSON type is tried
        return {}


def _admitted(annotation: Any) -> frozenset[str]:
    """The JSON types that an annotation admits; classes that JSON cannot hold admit none."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return frozenset().union(*(_admitted(part) for part in typing.get_args(annotation)))
    if origin is typing.Literal:
        return frozenset(json_type(value) for value in typing.get_args(annotation))
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return frozenset({"list"})
    return frozenset(ADMITTED.get(annotation, ()))


def _check_size(value: Any, limit: float, what: str, depth: int = 0) -> None:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise FileFormatError(f"{what} is a text of {len(value):,} characters")
    if isinstance(value, float) and not math.isfinite(value):
        raise FileFormatError(f"{what} is {value}")
    if isinstance(value, int) and abs(value) > limit:
        raise FileFormatError(f"{what} is {value:,}, more than fits into the memory allowed")
    if isinstance(value, list):
        if len(value) > LONGEST_LIST or depth == DEEPEST_LIST:
            raise FileFormatError(f"{what} is a list of {len(value):,} items, nested {depth} deep")
        for item in value:
            if json_type(item) == "object":
                raise FileFormatError(f"{what} holds an object")
            _check_size(item, limit, what, depth + 1)
        product = math.prod(item for item in value if isinstance(item, int))
        _check_size(product, limit, f"{what}: the product of {value}")


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
