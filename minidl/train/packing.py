"""Nested Python values and arrays in one `.safetensors` file, and back: the arrays as tensors, the rest as JSON text.

Nothing is pickled: what comes back are numbers, texts, lists, tuples, dicts and arrays, never an object of a class.
The text and the tensors are covered by a SHA-256, so that damage anywhere in the file is found. `checkpoint.py` says
what is in it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.errors import FileFormatError
from minidl.formats import tensorfile
from minidl.tensor import Tensor

MARK = "!"  # the key of an object that stands for what JSON has no word for
DEEPEST = 50


def write(path: str | os.PathLike, kind: str, content: Mapping[str, Any]) -> None:
    """Write `content` atomically, as a file of this kind. Raises TypeError that names what cannot be stored."""
    tensors: dict[str, np.ndarray] = {}
    text = json.dumps(_pack(dict(content), "", tensors, kind), ensure_ascii=False, allow_nan=False)
    digest = _digest(kind, text, tensors)
    tensorfile.write(tensors, path, {"minidl.kind": kind, "minidl.content": text, "minidl.sha256": digest})


def read(path: str | os.PathLike, kind: str) -> dict[str, Any]:
    """What `write` wrote; FileFormatError for a file of another kind and for a damaged one."""
    with tensorfile.opened(path) as stream:
        tensors, metadata = tensorfile.read(stream, path)
    if metadata.get("minidl.kind") != kind:
        raise FileFormatError(f"{os.fspath(path)}: this is no {kind}"
                              + (f", but a {metadata['minidl.kind'][:50]}" if "minidl.kind" in metadata else ""))
    text = metadata.get("minidl.content", "")
    if metadata.get("minidl.sha256") != _digest(kind, text, tensors):
        raise FileFormatError(f"{os.fspath(path)}: damaged: its content has another SHA-256 than the file says")
    content = _unpack(tensorfile.parse_json(text, f"{os.fspath(path)}: content"), tensors, f"{os.fspath(path)}", 0)
    if not isinstance(content, dict):
        raise FileFormatError(f"{os.fspath(path)}: its content must be an object, not a {type(content).__name__}")
    return content


def field(content: Any, name: str, kind: type | tuple[type, ...], what: str) -> Any:
    """`content[name]`, or FileFormatError unless it is there and of this type."""
    if not isinstance(content, dict) or name not in content:
        raise FileFormatError(f"{what}: '{name}' is missing")
    if not isinstance(content[name], kind) or isinstance(content[name], bool) and kind is int:
        raise FileFormatError(f"{what}: '{name}' is of the wrong type, {type(content[name]).__name__}")
    return content[name]


def _digest(kind: str, text: str, tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(f"{kind}\0{text}\0".encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}\0{array.dtype.str}\0{tensors[name].shape}\0".encode())
        digest.update(memoryview(array.reshape(-1).view(np.uint8)))
    return digest.hexdigest()


def _pack(value: Any, path: str, tensors: dict[str, np.ndarray], what: str) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic) or isinstance(value, (np.ndarray, Tensor)):
        name = path
        while name in tensors:
            name += "_"
        tensors[name] = tensorfile.plain(name, value)
        return {MARK: "number" if isinstance(value, np.generic) else "array", "name": name}
    if isinstance(value, int):
        return int(value) if abs(value) < 2**53 else {MARK: "integer", "value": hex(value)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {MARK: "float", "value": repr(float(value))}
    if isinstance(value, (list, tuple)):
        if len(value) > 100 and all(type(item) is int and 0 <= item < 2**32 for item in value):  # Python's generator
            name = _pack(np.array(value, np.uint32), path, tensors, what)["name"]
            return {MARK: "integers", "name": name, "tuple": isinstance(value, tuple)}
        items = [_pack(item, f"{path}.{number}", tensors, what) for number, item in enumerate(value)]
        return {MARK: "tuple", "items": items} if isinstance(value, tuple) else items
    if isinstance(value, dict):
        pairs = [(key, _pack(item, f"{path}.{key}" if path else str(key), tensors, what))
                 for key, item in value.items()]
        if all(isinstance(key, str) and key != MARK for key in value):
            return dict(pairs)
        return {MARK: "dict", "items": [[_pack(key, f"{path}.key", tensors, what), item] for key, item in pairs]}
    raise TypeError(f"{what}: '{path}' is a {type(value).__name__}, which cannot be stored; numbers, texts, lists, "
                    "dicts, arrays and Tensors can")


def _unpack(value: Any, tensors: Mapping[str, np.ndarray], what: str, depth: int) -> Any:
    if depth > DEEPEST:
        raise FileFormatError(f"{what}: its content is nested more than {DEEPEST} deep")
    if isinstance(value, list):
        return [_unpack(item, tensors, what, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if MARK not in value:
        return {name: _unpack(item, tensors, what, depth + 1) for name, item in value.items()}
    try:
        kind = value[MARK]
        if kind in ("array", "number", "integers"):
            array = tensors[value["name"]]
            if kind == "integers":
                return tuple(array.tolist()) if value["tuple"] else array.tolist()
            return array if kind == "array" else array[()]
        if kind == "integer":
            return int(value["value"][:80], 16)
        if kind == "float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[value["value"]]
        items = _unpack(value["items"], tensors, what, depth + 1)
        return {"tuple": tuple, "dict": dict}[kind](items)
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{what}: its content holds something unknown: {str(value)[:100]}") from error
