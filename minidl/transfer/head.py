"""The head of a network, its last dense layer: find it, put a fresh one in its place, or do without it.

`rehead(model, 5)` makes a digit reader ready to learn five classes of clothes; `headless(model)` returns what the
head is given. A new head is marked until it is trained (`untrained.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np

from minidl import nn
from minidl.errors import did_you_mean
from minidl.nn import init
from minidl.nn.module import Module, Parameter
from minidl.transfer.freeze import release_containers
from minidl.transfer.ledger import ledger_of
from minidl.transfer.ledger.rows import observe
from minidl.transfer.untrained import watch

HEAD_NAMES = ("fc", "classifier", "head", "heads", "linear")  # what the head is called in the models of the field
CLASS_COUNTS = ("num_classes", "n_classes", "num_labels", "classes")  # attributes in which models keep the count
INITIALISERS = {  # of `_fresh`, in words for the ledger
    "weight": "kaiming_uniform_(a=5**0.5)", "bias": "uniform_(-fan_in**-0.5, fan_in**-0.5)",
}
PROBABILITIES = ("Softmax", "LogSoftmax", "Sigmoid", "LogSigmoid")


def head_path(model: Module) -> str:
    """The path of the layer that makes the class scores: a Linear, or a Conv2d whose kernel is 1x1.

    It is the last such layer of the child called fc, classifier, head, heads or linear (of the one registered last,
    if there are several), else the last of the model. Activations, pools and a softmax may follow it.
    Raises ValueError if the last layer with a weight is of another kind; then say `at=`.
    """
    named = [name for name, _ in model.named_children() if name in HEAD_NAMES]
    for top in (*reversed(named), ""):
        path = _last_weighted(model.get_submodule(top), top)
        if path is not None and _is_head(model.get_submodule(path)):
            return path
    path = _last_weighted(model, "")
    found = f"the last layer with a weight is '{path}': {model.get_submodule(path)!r}" if path is not None else \
        "no layer has a weight"
    raise ValueError(f"{type(model).__name__} has no head that can be recognised, a Linear or a 1x1 Conv2d: {found}; "
                     "name the layer that makes the class scores with at=")


def rehead(model: Module, num_classes: int, *, at: str | None = None,
           generator: np.random.Generator | None = None) -> Module:
    """Replace the head by a fresh one for `num_classes` classes and return the model.

    The new layer has the old one's kind, inputs, bias and dtype, PyTorch's default initialisation, and is trainable.
    Its parameters are `untrained` until a step of an optimiser or a load: predicting before that warns once.
    `num_classes` and the like on the model follow; names of classes (`model.classes`) no longer hold and are dropped.
    Further heads, which a model names in `auxiliary_heads` (paths), are replaced alike.

    at: path of the layer to replace, where `head_path` does not find it.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, (int, np.integer)) or num_classes < 1:
        raise ValueError(f"rehead: num_classes must be a whole number of at least 1, not {num_classes!r}")
    path = head_path(model) if at is None else at
    old = model.get_submodule(path)
    if old is model:
        raise TypeError(f"rehead: the model is nothing but its head; make a new nn.{type(old).__name__} instead")
    if not _is_head(old):
        raise TypeError(f"rehead: '{path}' is no layer that makes class scores, a Linear or a 1x1 Conv2d without "
                        f"groups, but {old!r}")
    places = dict(model.named_modules())
    further = [place for place in getattr(type(model), "auxiliary_heads", ()) if place in places and at is None]
    before = observe(model)
    for place in (path, *further):
        if "lora_A" in vars(places[place]):
            raise TypeError(f"rehead: '{place}' has an adapter beside its weight; merge(model) or "
                            "remove_lora(model) first")
    for place in (path, *further):
        _replace(model, place, int(num_classes), generator)
    if isinstance(vars(model).get("classes"), (list, tuple)):
        model.classes = None
    release_containers(model)
    watch(model)
    detail = f"{', '.join((path, *further))}: {old.weight.shape[0]} to {int(num_classes)} classes"
    ledger_of(model).note_rehead(detail, before, INITIALISERS)
    return model


def _replace(model: Module, path: str, num_classes: int, generator: np.random.Generator | None) -> None:
    """Put a fresh layer in every place of the one at `path`, and the new count on the modules along the path."""
    old = model.get_submodule(path)
    new = _fresh(old, num_classes, generator)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if child is old:
                setattr(module, name, new)
    count = old.weight.shape[0]
    for owner in _along(model, path):
        for name in CLASS_COUNTS:
            value = vars(owner).get(name)
            if type(value) is int and value == count:
                setattr(owner, name, num_classes)


def headless(model: Module, *, at: str | None = None) -> Module:
    """A model that returns what the head is given: the features (N, F) of a classifier.

    It shares all its layers with `model`, which is not changed. A softmax or sigmoid behind the head is left out too.
    Raises ValueError for a path that is not there, with the nearest.
    """
    path = head_path(model) if at is None else at
    if not path:
        return nn.Identity()
    places = dict(model.named_modules())
    if path not in places:
        raise ValueError(f"headless: at='{path}' names no layer of this {type(model).__name__}"
                         f"{did_you_mean(path, places)}; leave at= out to take the head that head_path(model) finds")
    twin = _with_identity(model, path)
    seen = False
    for place, module in model.named_modules():
        seen = seen or place == path
        if seen and type(module).__name__ in PROBABILITIES:
            twin = _with_identity(twin, place)
    return twin


def _with_identity(model: Module, path: str) -> Module:
    """A copy of the modules along `path`, with everything else shared, that ends in Identity instead of the last."""
    name, _, rest = path.partition(".")
    twin = copy.copy(model)
    vars(twin).pop("_forward_hooks", None)
    child = getattr(model, name)
    setattr(twin, name, _with_identity(child, rest) if rest else nn.Identity())
    return twin


def _last_weighted(module: Module, path: str) -> str | None:
    """The path of the last layer, in the order of registration, that has a weight of two or more axes."""
    last = None
    for place, layer in module.named_modules(path):
        is_adapter = place.rpartition(".")[2] in ("lora_A", "lora_B")  # belongs to the layer above it
        if not is_adapter and any(parameter.ndim >= 2 for _, parameter in layer._own(False)):
            last = place
    return last


def _is_head(layer: Module) -> bool:
    if isinstance(layer, nn.Linear):
        return True
    weight = getattr(layer, "weight", None) if isinstance(layer, nn.Conv2d) else None
    return weight is not None and weight.shape[2:] == (1, 1) and layer.groups == 1


def _fresh(old: Module, count: int, generator: np.random.Generator | None) -> Module:
    """A layer like `old` with `count` outputs and PyTorch's default initialisation, trainable."""
    new = copy.copy(old)
    vars(new).pop("_forward_hooks", None)
    setattr(new, "out_features" if isinstance(old, nn.Linear) else "out_channels", count)
    new.weight = Parameter(np.empty((count, *old.weight.shape[1:]), old.weight.dtype))
    init.kaiming_uniform_(new.weight, a=5**0.5, generator=generator)
    new.weight.untrained = True
    if old.bias is not None:
        bound = init.fan_in_and_out(new.weight)[0] ** -0.5
        new.bias = Parameter(np.empty(count, old.bias.dtype))
        init.uniform_(new.bias, -bound, bound, generator=generator)
        new.bias.untrained = True
    return new


def _along(model: Module, path: str) -> Iterator[Module]:
    """The model and every module on the way to `path`."""
    yield model
    parts = path.split(".")
    for length in range(1, len(parts) + 1):
        yield model.get_submodule(".".join(parts[:length]))
