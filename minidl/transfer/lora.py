"""LoRA: train two small matrices beside each large one that stays as it is, and fold them into it afterwards.

`lora(model, "encoder.*")` puts adapters on the layers that the patterns name and freezes the rest, `merge` folds them
into the weights, `unmerge` and `remove_lora` take that, or the adapters, back. The layers are in `lora_layers.py`,
`lora_files.py` saves adapters alone.
Hu et al. 2021, "LoRA: low-rank adaptation of large language models".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from minidl.nn.module import Module
from minidl.transfer.freeze import _select, freeze, unfreeze
from minidl.transfer.ledger import ledger_of
from minidl.transfer.lora_layers import ADAPTED, Adapted, unfit, with_adapter
from minidl.transfer.patterns import check_model, every_module, matching, nothing_matches

Patterns = str | Iterable[str]


class Merged(NamedTuple):
    """What `merge` did at one path: the plain layer that is there now, the one with the adapter, and W before."""

    layer: Module
    adapted: Adapted
    base: np.ndarray


def lora(model: Module, *patterns: str, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0, also: Patterns = (),
         exclude: Patterns = (), generator: np.random.Generator | None = None) -> Module:
    """Put low-rank adapters on the layers that the patterns name, freeze everything else, and return the model.

    A layer with weight W then computes with W + (alpha / rank) B A; A (rank, I) starts as a fresh layer does and B
    (O, rank) at zero, so that the model's outputs are at first what they were. Adapters go to each Linear, Conv2d
    without groups, and MultiheadAttention (on in_proj_weight) that a pattern fits or that lies below a module that it
    fits, as in `freeze`; all without patterns. Other layers there are only frozen. Parameters keep their names, the
    new ones are `….lora_A.weight` and `….lora_B.weight`.

    dropout: of what goes into A, in training. generator: for A and the dropout.
    also: patterns of what is to be trained in full, without an adapter, such as "*.bias" or "head".
    exclude: patterns of layers that get no adapter.
    Layers with `untrained` parameters, such as the head that `rehead` made, get no adapter and stay trainable: an
    adapter corrects what a layer has learnt, and a fresh one has learnt nothing. A head made by hand bears no mark:
    name it in `also`.
    Frozen means what it does in `freeze`: BatchNorm and dropout of the frozen layers are as in evaluation.

    Raises ValueError, and then changes nothing: for a pattern that fits nothing, with the nearest names; if no layer
    is there to adapt; if the model has adapters already; for a rank that is larger than a layer's weight allows; for a
    weight that is tied to another layer's, which a merge would change too.
    """
    if not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise ValueError(f"lora: alpha must be a finite number, not {alpha!r}")
    if not 0 <= dropout < 1:
        raise ValueError(f"lora: dropout is a probability, from 0 to below 1, not {dropout!r}")
    further = _as_patterns(also)
    modules, parameters = _select("lora: also", model, further) if further else ([], [])
    fresh = [parameter for parameter in model.parameters() if parameter.untrained]
    in_full = [*modules, *parameters, *fresh]
    layers = _targets(model, patterns, exclude, in_full)
    attach(model, {path: (rank, alpha, dropout) for path in layers}, "lora", generator)
    train_only(model, in_full)
    return model


def attach(model: Module, layers: Mapping[str, tuple[int, float, float]], what: str,
           generator: np.random.Generator | None = None) -> None:
    """Put an adapter with the given (rank, alpha, dropout) on the layer at each path, on all or none."""
    present = adapters(model)
    if present:
        raise ValueError(f"{what}: '{next(iter(present))}' has an adapter already{_and_more(present)}; first "
                         "merge(model) to keep what it has learnt, or remove_lora(model)")
    places = dict(every_module(model))
    ties = _tied(model)
    for path, (rank, _, dropout) in layers.items():
        layer = places[path]
        if layer is model:
            raise TypeError(f"{what}: the model is nothing but this {type(layer).__name__}; put it into a Sequential")
        problem = unfit(layer, rank, dropout) or ties.get(id(layer), "")
        if problem:
            raise ValueError(f"{what}: '{path}' ({type(layer).__name__}): {problem}")
    made: dict[int, Adapted] = {}
    for path, options in layers.items():
        if id(places[path]) not in made:  # a layer that is used in several places has one adapter
            made[id(places[path])] = with_adapter(places[path], *options, generator)
    _replace(model, made)
    vars(model).pop("_merged_lora", None)


def train_only(model: Module, further: Iterable[Any] = ()) -> None:
    """Freeze all but the adapters and `further` (patterns, modules or parameters)."""
    freeze(model)
    pairs = [layer for adapter in adapters(model).values() for layer in (adapter.lora_A, adapter.lora_B)]
    drops = [adapter.lora_dropout for adapter in adapters(model).values() if adapter.lora_dropout is not None]
    unfreeze(model, *pairs, *drops, *further)


def adapters(model: Module) -> dict[str, Adapted]:
    """The layers with an adapter by their paths, each once; their `lora_A`, `lora_B`, `rank` and `alpha` are there."""
    check_model("adapters", model)
    return {path: module for path, module in model.named_modules() if isinstance(module, Adapted)}


def merge(model: Module) -> Module:
    """Fold every adapter into its layer's weight and return the model, which then consists of plain layers again.

    W becomes W + (alpha / rank) B A, summed in float64 and rounded once to W's dtype: the outputs are the same up to
    rounding, and computing them costs what it did without adapters. Names and architecture are those from before
    `lora`. What was frozen stays frozen. Until `model` is given new adapters it keeps the old ones and W for `unmerge`;
    `forget_merged(model)` frees that memory.
    Raises ValueError if there are no adapters.
    """
    found = _require("merge", model)
    weights = {path: adapter.merged() for path, adapter in found.items()}
    undo = {}
    for path, adapter in found.items():
        undo[path] = Merged(adapter.without_adapter(), adapter, adapter.base.array)
        adapter.base.array = weights[path]
    _replace(model, {id(entry.adapted): entry.layer for entry in undo.values()})
    vars(model)["_merged_lora"] = undo
    _note(model, "merge", found, "W + (alpha / rank) B A")
    return model


def unmerge(model: Module) -> Module:
    """Undo `merge(model)`: the adapters are back beside the weights, which have the bits that they had.

    Raises ValueError if nothing was merged, or if a merged weight was trained, loaded or replaced since.
    """
    undo: dict[str, Merged] = vars(model).get("_merged_lora", {})
    if not undo:
        raise ValueError(f"unmerge: merge() was not called on this {type(model).__name__}, or its memory was dropped")
    places = dict(every_module(model))
    for path, (layer, adapted, base) in undo.items():
        current = adapted.base.array
        if places.get(path) is not layer or _summed(adapted, base).tobytes() != current.tobytes():
            raise ValueError(f"unmerge: '{path}' is not what merge() left: its weight was trained, loaded or converted "
                             "or the layer replaced since, and the old weight would not fit the rest")
    for layer, adapted, base in undo.values():
        adapted.base.array = base
        vars(adapted).update(vars(layer))  # modes, marks of freezing and hooks are as they are now
        for part in (adapted.lora_A, adapted.lora_B, adapted.lora_dropout):
            if part is not None:
                part.train(layer._mode)
    _replace(model, {id(entry.layer): entry.adapted for entry in undo.values()})
    del vars(model)["_merged_lora"]
    _note(model, "unmerge", undo, "as before merge")
    return model


def forget_merged(model: Module) -> Module:
    """Drop what `merge(model)` kept for `unmerge`, which is as much memory as the merged weights take."""
    check_model("forget_merged", model)
    vars(model).pop("_merged_lora", None)
    return model


def remove_lora(model: Module) -> Module:
    """Take the adapters away, unmerged, and return the model: its weights have the bits from before `lora`.

    What is frozen stays frozen. Raises ValueError if there are no adapters.
    """
    found = _require("remove_lora", model)
    _replace(model, {id(adapter): adapter.without_adapter() for adapter in found.values()})
    return model


def _targets(model: Module, patterns: tuple[Any, ...], exclude: Patterns, in_full: Iterable[Any]) -> list[str]:
    """The paths of the layers to adapt; raises if there are none. in_full: modules and parameters to leave out."""
    places = dict(every_module(model))
    named = _below(places, patterns or ("",), "lora")
    left_out = set(_below(places, _as_patterns(exclude), "lora: exclude"))
    able = [path for path in named if type(places[path]) in ADAPTED and path not in left_out]
    whole = {id(parameter) for part in in_full
             for parameter in (part.parameters() if isinstance(part, Module) else [part])}
    trained = {path: any(id(parameter) in whole for name, parameter in places[path]._own(False) if "weight" in name)
               for path in able}
    chosen = [path for path in able if not trained[path]]
    if chosen or any(isinstance(places[path], Adapted) for path in named):
        return chosen
    kinds = sorted({type(places[path]).__name__ for path in named if list(places[path]._own(False))})
    reason = f"'{able[0]}' is trained in full, as it is untrained or in also=" if able else \
        f"the layers with weights there are {', '.join(kinds) or 'none'}"
    raise ValueError(f"lora: {', '.join(map(repr, patterns)) or 'the model'}: no layer to adapt: {reason}; adapters go "
                     f"to layers of the very classes {', '.join(sorted(kind.__name__ for kind in ADAPTED))}")


def _below(places: Mapping[str, Module], patterns: Iterable[Any], what: str) -> list[str]:
    """Paths that a pattern fits, and those below them, in the order of the model."""
    tops: list[str] = []
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{what}: give patterns one by one, not a {type(pattern).__name__}")
        found = matching(pattern, places)
        if not found:
            raise ValueError(nothing_matches(pattern, places, what))
        tops += found
    return [path for path in places if any(not top or path == top or path.startswith(f"{top}.") for top in tops)]


def _as_patterns(patterns: Patterns) -> tuple[Any, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _tied(model: Module) -> dict[int, str]:
    """For modules, by id, one of whose weights is also another module's: what to say about it."""
    owners: dict[int, list[tuple[Module, str]]] = {}
    for path, module in model.named_modules():
        for name, parameter in module._own(False):
            owners.setdefault(id(parameter), []).append((module, f"{path}.{name}" if path else name))
    return {id(module): f"its weight is tied, {' and '.join(repr(name) for _, name in places)} are one tensor, and a "
                        "merge would change all of them; leave it out with exclude=, or untie it first"
            for places in owners.values() if len(places) > 1 for module, _ in places}


def _replace(model: Module, instead: Mapping[int, Module]) -> None:
    """Put modules in the place of others (by id), wherever these are children, of the new ones too."""
    for module in (*list(model.modules()), *instead.values()):
        for name, child in list(module.named_children()):
            if id(child) in instead:
                setattr(module, name, instead[id(child)])


def _require(verb: str, model: Module) -> dict[str, Adapted]:
    found = adapters(model)
    if not found:
        raise ValueError(f"{verb}: this {type(model).__name__} has no adapters; lora(model, …) makes them")
    if "" in found:
        raise TypeError(f"{verb}: the model is nothing but this {type(model).__name__}; give the model it is a part of")
    return found


def _note(model: Module, verb: str, layers: Mapping[str, Any], reason: str) -> None:
    """Write in the ledger that the weights of these layers are others now."""
    names = {id(parameter): name for name, parameter in model._every_name()}
    adapted = [(entry.adapted if isinstance(entry, Merged) else entry) for entry in layers.values()]
    reasons = {names[id(adapter.base)]: reason for adapter in adapted if id(adapter.base) in names}
    ledger_of(model).note_rewritten(verb, f"{len(adapted)} adapters", reasons)


def _summed(adapted: Adapted, base: np.ndarray) -> np.ndarray:
    return (base.astype(np.float64) + adapted.delta()).astype(base.dtype)


def _and_more(present: Mapping[str, Any]) -> str:
    return f", and {len(present) - 1} more" if len(present) > 1 else ""
