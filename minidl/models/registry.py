"""The models by name: `create_model("resnet18", num_classes=10)`, and `list_models()` for the names.

Each architecture's file enters its models here. `create_model(…, pretrained=path)` fills one with weights from a file
of any kind that `minidl.transfer.load` reads, and gives it a fresh head where another number of classes is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from minidl.errors import did_you_mean
from minidl.nn.module import Module

_models: dict[str, Callable[..., Any]] = {}


def register_model(name: str, make: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """Enter `make(*arguments, …)` under `name`, and return it as a function of the remaining arguments."""
    if name in _models:
        raise ValueError(f"register_model: there is a model called '{name}' already")
    _models[name] = functools.partial(make, *arguments)
    return _models[name]


def list_models(pattern: str = "*") -> list[str]:
    """The names that `create_model` knows, in order; a pattern such as "resnet*" chooses among them."""
    return sorted(name for name in _models if fnmatchcase(name, pattern))


def create_model(name: str, num_classes: int | None = None, **options: Any) -> Module:
    """A model by its name, with fresh weights as the architecture's authors draw them.

    num_classes: the architecture's own number unless given (1000, or 10 for the small ones).
    options: further arguments of the architecture, such as dropout=0.1.
    Raises ValueError with the nearest names for a name that is not known.
    """
    if name not in _models:
        raise ValueError(f"create_model: no model is called {name!r}{did_you_mean(str(name), _models)}; "
                         "list_models() names them all")
    if num_classes is not None and (type(num_classes) is not int or num_classes < 1):
        raise ValueError(f"create_model: num_classes must be a whole number of at least 1, not {num_classes!r}")
    if num_classes is not None:
        options["num_classes"] = num_classes
    return _models[name](**options)
