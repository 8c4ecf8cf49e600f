"""A network by its depth: groups of layers from the input to the head, rates that fall towards the input, unfreezing.

The layers next to the data see edges and letters, which most tasks share; those next to the head see what the old task
was about. So fine-tuning begins at the head and goes down, and the deeper a layer lies, the smaller its steps.
`minidl/train/finetune.py` puts the pieces together; each can be used alone, with a loop of one's own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl.nn.container import ModuleDict, ModuleList, Sequential
from minidl.nn.embedding import Embedding
from minidl.nn.module import Module, Parameter
from minidl.transfer.freeze import freeze, unfreeze
from minidl.transfer.head import head_path

CONTAINERS = (Sequential, ModuleList, ModuleDict)
LOWEST = 0.2  # rate of the first group as a part of the last one's, where `decay` is not given


def layer_groups(model: Module, head: str | None = None) -> list[list[str]]:
    """The layers of `model` in groups from the input to the head, each a list of paths for `freeze` and `unfreeze`.

    A group is a block (a residual block, a layer of a transformer) or a single layer with a weight, together with the
    normalisation that follows it; embeddings that stand side by side are one. The last group is the head with the
    heads that the model names in `auxiliary_heads`. Together the groups hold every parameter and every buffer once.
    The order is that in which the modules were registered, as PyTorch's is.

    head: path of the layer that makes the class scores, where `head_path` does not find it or finds another.
    Raises ValueError if there is no head, or nothing before it.
    """
    top = head_path(model) if head is None else head
    places = dict(model.named_modules())
    if not top or not _has_state(model.get_submodule(top)):
        raise ValueError(f"layer_groups: the head '{top}' must be a layer inside the model with a weight; "
                         f"{type(model).__name__} has nothing before it" if not top else
                         f"layer_groups: the head '{top}' has no parameters, name another layer with head=")
    parts = top.split(".")
    around = [places[path] for path in (".".join(parts[:n]) for n in range(1, len(parts))) if path in places]
    kinds = Counter(type(module) for module in model.modules())
    repeated = [type(module).__name__ for module in around if kinds[type(module)] > 1 and not _is_list(module)]
    if head is None and repeated:
        raise ValueError(f"layer_groups: the last layer that could be a head, '{top}', lies in a {repeated[0]}, of "
                         f"which there are several, so this {type(model).__name__} has no head of its own; "
                         "name the layer that is to be trained first with head=")
    heads = [top, *(path for path in getattr(type(model), "auxiliary_heads", ()) if path in places and head is None)]
    body = _Body(model, heads)
    body.add("", model)
    groups = body.groups
    while len(groups) == 1 and len(groups[0]) == 1 and _open(model, heads, body):
        groups = body.groups
    if not groups:
        raise ValueError(f"layer_groups: nothing in this {type(model).__name__} comes before its head '{top}', so "
                         "there is no body to freeze or to fine-tune; train it as it is")
    return [*groups, heads]


def layerwise_parameters(model: Module, lr: float, decay: float | None = None, *, head_lr: float | None = None,
                         head: str | None = None) -> list[dict[str, Any]]:
    """A parameter group for any optimiser for each group of layers, with a rate that falls towards the input.

    The last group before the head has the rate `lr`, each group below it `decay` times that of the group above; the
    head has `head_lr`, or `lr`. decay: 0.2^(1 / (G - 1)) for G groups before the head if None, so that the first one
    has a fifth of the rate however deep the network is. The groups have a "name" and named parameters; frozen
    parameters are in them too, so that they can be unfrozen at any time. A tied parameter stands in the first group.
    J. Howard and S. Ruder 2018, "Universal language model fine-tuning for text classification", section 3.2.

    Raises ValueError for a negative rate, for a decay that is not above 0 and at most 1, and as `layer_groups`.
    """
    for option, rate in (("lr", lr), ("head_lr", head_lr)):
        if rate is not None and (not isinstance(rate, (int, float, np.number)) or isinstance(rate, bool)
                                 or not 0 <= rate < math.inf):
            raise ValueError(f"layerwise_parameters: {option} must be a finite number that is not negative, "
                             f"got {rate!r}")
    *body, heads = layer_groups(model, head)
    if decay is None:
        decay = LOWEST ** (1 / max(1, len(body) - 1))
    if isinstance(decay, bool) or not 0 < decay <= 1:
        raise ValueError(f"layerwise_parameters: decay must be above 0 and at most 1, got {decay!r}")
    rates = [lr * decay ** (len(body) - 1 - depth) for depth in range(len(body))]
    groups = zip([*body, heads], [*rates, lr if head_lr is None else head_lr])
    names = {id(parameter): name for name, parameter in reversed(list(model.named_parameters()))}
    found = []
    for paths, rate in groups:
        parameters = [(names.pop(id(p)), p) for path in paths for p in _parameters(model, path) if id(p) in names]
        if parameters:
            found.append({"name": shown(paths), "params": parameters, "lr": rate})
    return found


def unfreeze_top(model: Module, count: int, *, head: str | None = None, batchnorm: str = "train") -> list[str]:
    """Make the head and the `count` groups before it trainable, freeze the rest, and return the paths now trainable.

    count: 0 leaves the head alone, the number of `layer_groups` less one is the whole model, more raises ValueError.
    Dropout before the first trainable layer is off, as in `freeze`. No optimiser needs to be told if it has all
    parameters.
    batchnorm: "train" lets the BatchNorm layers among the unfrozen groups follow the data again; "eval" keeps them
    frozen, weight, bias and statistics.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"unfreeze_top: count must be a whole number from 0, got {count!r}")
    if batchnorm not in ("eval", "train"):
        raise ValueError(f"unfreeze_top: batchnorm must be 'eval' or 'train', not {batchnorm!r}")
    groups = layer_groups(model, head)
    if count > len(groups) - 1:
        raise ValueError(f"unfreeze_top: count {count} is more than the {len(groups) - 1} groups before the head; "
                         f"{len(groups) - 1} makes the whole model trainable, layer_groups(model) lists them")
    chosen = [path for group in groups[max(0, len(groups) - 1 - count):] for path in group]
    if count == len(groups) - 1:
        unfreeze(model)
    else:
        freeze(model)
        unfreeze(model, *(_part(model, path) for path in chosen))
        _release_stateless(model, chosen)
    if batchnorm == "eval":
        heads = [model.get_submodule(path) for path in groups[-1]]
        statistics = [module for module in model.modules() if "running_mean" in module._buffer_names
                      and module not in heads]
        if statistics:
            freeze(model, *statistics)
    return chosen


def unfreeze_next(model: Module, *, head: str | None = None, batchnorm: str = "train") -> list[str]:
    """Make one more group trainable, the one before the first that is, and return its paths.

    Raises ValueError if everything is trainable already.
    """
    *body, _ = layer_groups(model, head)
    count = unfrozen_groups(model, head)
    if count == len(body):
        raise ValueError(f"unfreeze_next: nothing to unfreeze, all {len(body)} groups before the head are trainable")
    unfreeze_top(model, count + 1, head=head, batchnorm=batchnorm)
    return body[len(body) - 1 - count]


def unfrozen_groups(model: Module, head: str | None = None) -> int:
    """How many groups before the head, counted from the top, have a trainable parameter, without a gap."""
    *body, _ = layer_groups(model, head)
    count = 0
    for group in reversed(body):
        parameters = [parameter for path in group for parameter in _parameters(model, path)]
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            break
        count += 1
    return count


def shown(paths: Sequence[str]) -> str:
    """A group in one line: its first path, and its last one if there are several."""
    return paths[0] if len(paths) == 1 else f"{paths[0]} … {paths[-1]}" if len(paths) > 2 else ", ".join(paths)


class _Body:
    """Collects the groups before the head, going through the modules in the order of registration.

    opened: blocks that count as containers because the body would otherwise be a single group.
    """

    def __init__(self, model: Module, heads: Sequence[str]):
        self.model, self.heads = model, heads
        self.kinds = Counter(type(module) for module in model.modules())
        self.opened: set[str] = set()
        self.restart()

    def restart(self) -> None:
        self.groups: list[list[str]] = []
        self.waiting: list[str] = []  # what has no weight of its own and no group before it yet
        self.after_embedding = False
        self.seen = {id(module) for head in self.heads for module in self.model.get_submodule(head).modules()}

    def add(self, path: str, module: Module) -> None:
        if id(module) in self.seen or not _has_state(module):
            return
        self.seen.add(id(module))
        if not self._is_container(path, module):
            self._append(path, module)
            return
        for name, _ in (*module._own(False), *module._own(True)):
            self._join(f"{path}.{name}" if path else name)
        begun = len(self.groups)
        for name, child in module.named_children():
            self.add(f"{path}.{name}" if path else name, child)
        whole = path and isinstance(module, CONTAINERS) and len(self.groups) == begun + 1 and not self._holds_head(path)
        if whole and all(place.startswith(f"{path}.") for place in self.groups[-1]):
            self.groups[-1] = [path]

    def _is_container(self, path: str, module: Module) -> bool:
        """Whether the groups are inside: lists of modules, what holds the head, and what holds such lists, once."""
        if path in self.opened or not path or isinstance(module, CONTAINERS):
            return True
        if self._holds_head(path):
            return True
        lists = any(isinstance(inner, CONTAINERS) and _has_state(inner) for inner in module.modules())
        return lists and self.kinds[type(module)] == 1

    def _holds_head(self, path: str) -> bool:
        return any(head.startswith(f"{path}.") for head in self.heads)

    def _append(self, path: str, module: Module) -> None:
        embedding = isinstance(module, Embedding)
        light = not any(parameter.ndim >= 2 for parameter in module.parameters())
        if light or embedding and self.after_embedding:
            self._join(path)
        else:
            self.groups.append([*self.waiting, path])
            self.waiting = []
        self.after_embedding = embedding

    def _join(self, path: str) -> None:
        (self.groups[-1] if self.groups else self.waiting).append(path)


def _open(model: Module, heads: Sequence[str], body: _Body) -> bool:
    """Look into the only group of the body, if there is something to see."""
    path = body.groups[0][0]
    module = dict(model.named_modules()).get(path)
    if module is None or path in body.opened or not any(_has_state(child) for child in module.children()):
        return False
    body.opened.add(path)
    body.restart()
    body.add("", model)
    return True


def _is_list(module: Module) -> bool:
    return isinstance(module, CONTAINERS)


def _has_state(module: Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


def _part(model: Module, path: str) -> Module | Parameter:
    """The module or the parameter at a path of a group; a buffer of the model's own is reached by its module."""
    parameters = dict(model._every_name())
    if path in parameters:
        return parameters[path]
    places = dict(model.named_modules())
    return places[path] if path in places else places[path.rpartition(".")[0]]


def _parameters(model: Module, path: str) -> list[Parameter]:
    part = _part(model, path)
    return [part] if isinstance(part, Parameter) else list(part.parameters())


def _release_stateless(model: Module, chosen: Sequence[str]) -> None:
    """Let dropout and the like behind the first trainable layer work again: they belong to no group."""
    free = {id(inner) for path in chosen if isinstance(part := _part(model, path), Module) for inner in part.modules()}
    begun = False
    for module in model.modules():
        begun = begun or id(module) in free and _has_state(module)
        if begun and not _has_state(module):
            module.frozen = False
