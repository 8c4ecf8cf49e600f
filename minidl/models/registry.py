"""The models by name: `create_model("resnet18", num_classes=10)`, and `list_models()` for the names.

Each architecture's file enters its models here. `create_model(…, pretrained=path)` fills one with weights from a file
of any kind that `minidl.transfer.load` reads, and gives it a fresh head where another number of classes is asked for.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from minidl.errors import did_you_mean
from minidl.formats.tensors import is_keras, read
from minidl.models import weights
from minidl.nn import init
from minidl.nn.module import Module
from minidl.transfer.files import fill
from minidl.transfer.head import head_path, rehead
from minidl.transfer.matching import COUNTER, rename_all, rename_by_order

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


def create_model(name: str, num_classes: int | None = None, pretrained: str | os.PathLike | None = None, *,
                 rename: Mapping[str, str] | None = None, allow: Mapping[str, str] | None = None,
                 **options: Any) -> Module:
    """A model by its name, with fresh weights as the architecture's authors draw them, or with those of a file.

    num_classes: the architecture's own number unless given (1000, or 10 for the small ones), or the file's.
    pretrained: the path of a file that `transfer.load_tensors` reads, or a name in `weights.WEIGHTS`, whose file is
        looked for in the folder `weights` of `MINIDL_DATA` and of the user's cache folder. It is loaded as strictly as
        by `transfer.load`, which explains rename and allow; only the counters of batches, which old files lack, may be
        missing. If num_classes differs from the file's, the model then gets a fresh head (`transfer.rehead`).
    options: further arguments of the architecture, such as dropout=0.1.
    Raises ValueError with the nearest names for a name that is not known, DataNotFoundError for a file that is not
    there, FileFormatError and LoadError as `transfer.load`.
    """
    if name not in _models:
        raise ValueError(f"create_model: no model is called {name!r}{did_you_mean(str(name), _models)}; "
                         "list_models() names them all")
    if num_classes is not None and (type(num_classes) is not int or num_classes < 1):
        raise ValueError(f"create_model: num_classes must be a whole number of at least 1, not {num_classes!r}")
    if pretrained is not None:
        return _pretrained(name, num_classes, pretrained, rename, allow, options)
    if rename or allow:
        raise ValueError("create_model: rename and allow are for weights from a file, give pretrained= too")
    return _models[name](**options) if num_classes is None else _models[name](num_classes=num_classes, **options)


def _pretrained(name: str, num_classes: int | None, wanted: str | os.PathLike, rename: Mapping[str, str] | None,
                allow: Mapping[str, str] | None, options: dict[str, Any]) -> Module:
    path, known = weights.find(wanted, name)
    what = f"create_model: {path}"
    if is_keras(path):
        raise ValueError(f"{what}: Keras' layers have other names: make the model without pretrained=, then "
                         "transfer.load(path, model, rename=transfer.rename_keras_by_order(path, model))")
    tensors, metadata = read(path)
    # All that would be drawn is read from the file; what lies in memory until then overflows in any arithmetic.
    with init.skipped() if not allow else nullcontext(), np.errstate(all="ignore"):
        model = _models[name](**options)
        head = head_path(model)
        if known is not None:
            metadata = known.metadata()
            rename = rename or (rename_by_order(tensors, model) if known.by_order else known.rename)
        given = {new: tensors[old] for old, new in rename_all(tensors, rename, what).items()}.get(f"{head}.weight")
        count, *inputs = model.get_submodule(head).weight.shape
        if given is not None and given.size and given.shape[0] != count and given.shape[1:] == tuple(inputs):
            count = given.shape[0]
            model = _models[name](num_classes=count, **options)
    counters = [tensor for tensor in model.state_dict() if tensor.endswith(COUNTER)]
    if counters and not any(tensor.endswith(COUNTER) for tensor in tensors):
        allow = {**(allow or {}), f"*{COUNTER}": "skip"}
    fill(model, tensors, metadata, what, allow, rename)
    return model if num_classes in (None, count) else rehead(model, num_classes)
