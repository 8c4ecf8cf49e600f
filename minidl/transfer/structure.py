"""The architecture of a model as JSON, and a model of that architecture with fresh weights.

`structure(model)` writes down class, constructor arguments, dtype and children of every module; `build` makes them
again. A closed table maps names to classes: the public layers of `minidl.nn`, those of `minidl.models` ("models.VGG"),
and what the user's own program has put in with `register`. Nothing that a file names is imported, and every argument
is checked (`arguments.py`).
"""

from __future__ import annotations

import math
import re
from collections import ChainMap
from collections.abc import MutableMapping
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

from minidl import nn
from minidl.errors import FileFormatError, did_you_mean
from minidl.formats.tensorfile import parse_json
from minidl.nn.module import Module, allowance
from minidl.transfer import arguments

LIMIT = 2**31  # bytes of parameters that `build` makes unless it is given another limit
LONGEST_TEXT = 4 * 2**20  # of an architecture's JSON; that of ResNet-152 has a fiftieth of this
DEEPEST = 64
DTYPES = ("float16", "float32", "float64")

LAYERS: dict[str, type[Module]] = {
    name: value for name in nn.__all__
    if isinstance(value := getattr(nn, name), type) and issubclass(value, Module) and value is not Module
}
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # their arguments are their children
for _layer in LAYERS.values():
    arguments.accepted(_layer)
_registered: dict[str, type[Module]] = {}
ROOMS = {"models.": "minidl.models", "onnx.": "minidl.onnx.graph"}  # front of a class's name -> what enters the class
_CHILD_NAME = re.compile(r"(?!__)\w[\w-]{0,99}")

AnyModule = TypeVar("AnyModule", bound=type[Module])


def register(cls: AnyModule) -> AnyModule:
    """Class decorator: let `structure`, `build` and `load` know a Module class of your own by its name.

    It must keep each argument of its constructor as an attribute of the same name (numbers, texts, lists), or define
    `config()` that returns them. Raises ValueError if another class has the name already.
    """
    if not (isinstance(cls, type) and issubclass(cls, Module)):
        if isinstance(cls, Module):
            raise TypeError(f"register: got a {type(cls).__name__} that is made already, the class itself is needed: "
                            f"register({type(cls).__name__}), or @register above the class")
        raise TypeError(f"register: {cls!r} is not a Module class; a class that inherits from nn.Module is needed")
    name = _table_name(cls)
    other = LAYERS.get(name) or _registered.get(name)
    if other and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"register: there is a class named {cls.__name__} already, "
                         f"{other.__module__}.{other.__qualname__}")
    arguments.accepted(cls)
    _registered[name] = cls
    return cls


def structure(model: Module) -> dict[str, Any]:
    """The architecture of `model` as JSON values: class, config, dtype unless float32, children with their names.

    A module that appears a second time is written as {"shared": path of the first}. Weights are not in it.
    Raises TypeError, which names the class and the cure, for a class that is not in the table, for arguments that
    JSON cannot hold, and for names of children that `build` would refuse.
    """
    return _describe(model, "", {}, 0)


def build(structure: dict[str, Any] | str, *, limit: float = LIMIT) -> Module:
    """A model of this architecture (from `structure(model)`, as it is or as JSON text) with fresh weights.

    limit: the most bytes its parameters may take, 2 GiB by default.
    Raises FileFormatError for an unknown class, arguments that do not fit it, or more parameters than the limit.
    """
    if isinstance(structure, (str, bytes)):
        if len(structure) > LONGEST_TEXT:
            raise FileFormatError(f"architecture: a text of {len(structure):,} characters, of at most {LONGEST_TEXT:,}")
        structure = parse_json(structure, "architecture")
    before = allowance.left
    allowance.left = min(before, limit)
    try:
        return _build(structure, "", _Ready(), max(limit / 4, 2**18), 0)
    except MemoryError as error:
        raise FileFormatError(f"architecture: its parameters take more than the {limit:,.0f} bytes allowed") from error
    finally:
        allowance.left = before


class _Ready:
    """The modules that are built: where they are and what they are called."""

    def __init__(self) -> None:
        self.modules: dict[str, Module] = {}
        self.paths: dict[int, str] = {}

    def add(self, path: str, module: Module) -> None:
        self.modules[path] = module
        self.paths.setdefault(id(module), path)


def _describe(module: Module, path: str, seen: MutableMapping[int, str], depth: int) -> dict[str, Any]:
    """The node of `module`; `seen` maps the modules described so far to their paths."""
    if id(module) in seen:
        return {"shared": seen[id(module)]}
    cls, where = type(module), f"structure: {path or 'the model'} ({type(module).__name__})"
    if _class_named(_table_name(cls)) is not cls:
        raise TypeError(f"{where} is a class of your own: decorate it with @minidl.transfer.register so that it can be "
                        f"built from its name, or do without: save() works, and load() needs model={cls.__name__}(…)")
    if depth > DEEPEST:
        raise TypeError(f"{where} lies more than {DEEPEST} modules deep")
    seen[id(module)] = path
    node: dict[str, Any] = {"class": _table_name(cls)}
    config = {} if _is_container(cls) else _config(module, where)
    if config:
        node["config"] = config
    dtype = next((tensor.dtype for tensor in _floating(module)), np.dtype(np.float32))
    if dtype != np.float32:
        node["dtype"] = str(dtype)
    children = []
    for name, child in module.named_children():
        problem = _unfit_name(name, module)
        if problem:
            raise TypeError(f"{where}: its child cannot be called {name!r}: {problem}")
        children.append({"name": name, **_describe(child, _join(path, name), seen, depth + 1)})
    if children:
        node["children"] = children
    return node


def _config(module: Module, where: str) -> dict[str, Any]:
    """The constructor's arguments as JSON values."""
    try:
        config = module.config()
    except AttributeError as error:
        raise TypeError(f"{where} must keep its constructor's arguments as attributes: {error}") from error
    return {name: _as_json(value, f"{where}: argument '{name}'") for name, value in config.items()}


def _as_json(value: Any, what: str) -> Any:
    if isinstance(value, (tuple, list)):
        return [_as_json(item, what) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (type(None), bool, int, float, str)) or value != value or value in (math.inf, -math.inf):
        raise TypeError(f"{what} is {value!r} ({type(value).__name__}), which JSON cannot hold")
    return value


def _floating(module: Module) -> list[Any]:
    """The module's own floating-point parameters and buffers."""
    own = [value for _, value in (*module._own(False), *module._own(True))]
    return [tensor for tensor in own if tensor.dtype.kind == "f"]


def _table_name(cls: type[Module]) -> str:
    """What a class is called in the table: a prefix keeps names of the zoo and the like free for the user's own."""
    prefix = next((front for front in ROOMS if cls.__module__.startswith(f"minidl.{front}")), "")
    return prefix + cls.__name__


def _class_named(name: str) -> type[Module] | None:
    room = next((room for front, room in ROOMS.items() if name.startswith(front)), None)
    if room and name not in _registered:
        import_module(room)  # which enters its classes: it is not needed, and so not loaded, for other models
    return LAYERS.get(name) or _registered.get(name)


def _is_container(cls: type[Module]) -> bool:
    """Whether the class is made empty and given its children afterwards."""
    return any(cls.__init__ is container.__init__ for container in _CONTAINERS)  # type: ignore[misc]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _unfit_name(name: Any, module: Module) -> str:
    """Why a child of `module` may not have this name, '' if it may."""
    if not isinstance(name, str) or not _CHILD_NAME.fullmatch(name):
        return "letters, digits, '_' and '-' are allowed, not two '_' in front"
    if getattr(type(module), name, None) is not None:
        return f"{type(module).__name__} has an attribute of that name"
    if not isinstance(vars(module).get(name), (Module, type(None))):
        return f"this {type(module).__name__} keeps something else under it"
    return ""


def _build(node: Any, path: str, ready: _Ready, limit: float, depth: int) -> Module:
    """The module that `node` describes."""
    what = f"architecture: {path[:200] or 'the model'}"
    if depth > DEEPEST:
        raise FileFormatError(f"{what} lies more than {DEEPEST} modules deep")
    if not isinstance(node, dict) or not set(node) <= {"name", "class", "config", "dtype", "children", "shared"}:
        raise FileFormatError(f"{what}: expected an object with class, config, dtype and children only")
    if "shared" in node:
        first = node["shared"]
        if not isinstance(first, str) or first not in ready.modules:
            raise FileFormatError(f"{what} is shared with {str(first)[:100]!r}, which does not come before it")
        return ready.modules[first]
    name = node.get("class")
    cls = _class_named(name) if isinstance(name, str) else None
    if cls is None:
        hint = did_you_mean(str(name)[:100], [*LAYERS, *_registered])
        raise FileFormatError(f"{what}: unknown layer {str(name)[:100]!r}{hint}; a class of your own "
                              "must be made known with @minidl.transfer.register before loading")
    config = arguments.check(cls, node.get("config", {}), limit, what)
    if _is_container(cls) and config:
        raise FileFormatError(f"{what}: {name} takes children, no arguments")
    module = _construct(cls, config, what)
    _build_children(module, node.get("children", []), path, ready, limit, depth)
    _set_dtype(module, node.get("dtype", "float32"), what)
    ready.add(path, module)
    return module


def _construct(cls: type[Module], config: dict[str, Any], what: str) -> Module:
    try:
        return cls(**config)  # names and types checked against the constructor's signature
    except MemoryError:
        raise
    except Exception as error:  # values from a file can make a constructor fail in any way
        raise FileFormatError(f"{what}: {cls.__name__} refuses its arguments {config}: {error}") from error


def _build_children(module: Module, nodes: Any, path: str, ready: _Ready, limit: float, depth: int) -> None:
    """Give `module` the children of the structure; what its constructor made alike is kept."""
    what = f"architecture: {path[:200] or 'the model'}"
    if not isinstance(nodes, list) or not all(isinstance(node, dict) and "name" in node for node in nodes):
        raise FileFormatError(f"{what}: children must be a list of objects with names")
    made = dict(module.named_children())
    for name in made.keys() - {str(node["name"]) for node in nodes}:
        setattr(module, name, None)  # made by the constructor, taken out before the structure was written
    done: set[str] = set()
    for node in nodes:
        name = node["name"]
        problem = _unfit_name(name, module) or ("there are two of them" if name in done else "")
        if problem:
            raise FileFormatError(f"{what}: a child cannot be called {str(name)[:100]!r}: {problem}")
        done.add(name)
        place = _join(path, name)
        if name in made and _is_as_described(made[name], node, place, ready):
            for inner_place, inner in made[name].named_modules(place):
                ready.add(inner_place, inner)
        elif name in made and _differs_below(made[name], node, place, ready):
            _build_children(made[name], node.get("children", []), place, ready, limit, depth + 1)
            ready.add(place, made[name])
        else:
            module.add_module(name, _build(node, place, ready, limit, depth + 1))


def _is_as_described(made: Module, node: dict[str, Any], place: str, ready: _Ready) -> bool:
    try:
        return {"name": node["name"], **_describe(made, place, ChainMap({}, ready.paths), 0)} == node
    except TypeError as error:
        raise FileFormatError(f"architecture: {place[:200]} cannot be compared with the structure: {error}") from error


def _differs_below(made: Module, node: dict[str, Any], place: str, ready: _Ready) -> bool:
    """Whether the module is what the node describes but for its children: no need to make it once more."""
    if id(made) in ready.paths:
        return False
    own = _describe(made, place, {}, 0)
    return all(node.get(key) == own.get(key) for key in ("class", "config", "dtype", "shared"))


def _set_dtype(module: Module, dtype: Any, what: str) -> None:
    if dtype not in DTYPES:
        raise FileFormatError(f"{what}: dtype must be one of {', '.join(DTYPES)}, not {str(dtype)[:100]!r}")
    for tensor in _floating(module):
        tensor.array = tensor.array.astype(dtype, copy=False)
