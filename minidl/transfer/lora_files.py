"""Adapters in a file of their own: a few megabytes that turn a network one has already into another.

`save_lora` writes what was trained, adapters and head, and SHA-256 hashes of what was not; `load_lora` refuses a
network whose frozen part differs in a single bit. It reads peft's adapter files too. See `lora.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minidl.errors import FileFormatError, nearest
from minidl.formats.tensorfile import parse_json
from minidl.formats.tensors import read, save_tensors
from minidl.nn import init
from minidl.nn.module import Module
from minidl.transfer.ledger import ledger_of
from minidl.transfer.ledger.rows import Row, observe
from minidl.transfer.lora import adapters, attach, train_only
from minidl.transfer.lora_layers import ADAPTED, Adapted, LoRAMultiheadAttention
from minidl.transfer.matching import SHOWN, LoadError, rename_all
from minidl.transfer.patterns import every_module
from minidl.transfer.structure import LONGEST_TEXT

FIELD = "minidl.lora"  # in the file's metadata
PEFT_PREFIX, PEFT_CONFIG = "base_model.model.", "adapter_config.json"
PEFT_UNREAD = ("use_dora", "use_rslora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "lora_bias")
PARTS = ("lora_A.weight", "lora_B.weight")


class Content(NamedTuple):
    """A file: tensors by the model's names, (rank, alpha, dropout) for each adapted path, hashes of the base."""

    tensors: dict[str, np.ndarray]
    layers: dict[str, tuple[int, float, float]]
    base: dict[str, str] | None
    untrained: list[str]


def save_lora(model: Module, path: str | os.PathLike) -> None:
    """Write the adapters of `model` and whatever else of it is trainable, such as its head, to a `.safetensors` file.

    Buffers of modules that are not frozen are written too. Of every other tensor the file holds the SHA-256, so that
    `load_lora` knows the network that it belongs to. Names are the model's, `….lora_A.weight`.
    Raises ValueError if the model has no adapters or they are merged, OSError that names the path.
    """
    found = {path: module for path, module in every_module(model) if isinstance(module, Adapted)}
    if not found:
        hint = "unmerge(model) first, or save() the whole" if vars(model).get("_merged_lora") else "lora() makes them"
        raise ValueError(f"save_lora: this {type(model).__name__} has no adapters; {hint}")
    own = {f"{path}.{part}" for path in found for part in PARTS}
    own |= {name for name, parameter in model._every_name() if parameter.requires_grad}
    own |= {f"{path}.{name}" if path else name for path, module in every_module(model) if not module.frozen
            for name, _ in module._own(True)}
    state = {name: tensor.array for name, tensor in model.state_dict().items()}
    layers = {}
    for place, layer in found.items():
        dropout = 0.0 if layer.lora_dropout is None else layer.lora_dropout.p
        layers[place] = [int(layer.rank), float(layer.alpha), float(dropout)]
    text = json.dumps({
        "layers": layers,
        "base": {name: digest(array) for name, array in state.items() if name not in own},
        "untrained": [name for name, parameter in model._every_name() if parameter.untrained and name in own],
    })
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"save_lora: the description is a text of {len(text):,} characters, at most {LONGEST_TEXT:,} "
                         "are read back")
    save_tensors({name: array for name, array in state.items() if name in own}, path, {"format": "pt", FIELD: text})


def load_lora(path: str | os.PathLike, model: Module, *, alpha: float | None = None,
              rename: Mapping[str, str] | None = None) -> Module:
    """Put the adapters of a file on `model`, the network that they were trained on, and return it.

    What was saved with them, such as the head, is copied in; all else is frozen, as `lora` leaves it. The model must
    have the layers of the file without adapters, a head of the same shape (`rehead` makes one), and, for a file of
    `save_lora`, the same bits in everything that was frozen.

    path may be peft's: its `adapter_model.safetensors`, or the folder with that and `adapter_config.json`, which says
    alpha; alpha= stands in for it. Such a file has no hashes: nothing tells whether the base is right.
    rename: as in `load`, from the file's names (of peft's, without "base_model.model.") to the model's.

    Raises FileFormatError for a damaged or hostile file, LoadError with all that does not fit. The model is unchanged
    after an error.
    """
    what = f"load_lora: {os.fspath(path)}"
    content = _content(Path(path), what, alpha)
    if rename:
        content = _renamed(content, rename, what)
    if adapters(model):
        raise ValueError(f"{what}: the model has adapters already; remove_lora(model) or merge(model) first")
    problems = _layer_problems(content, model) or _problems(content, model)
    if problems:
        shown = problems[:SHOWN] + ([f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else [])
        raise LoadError("\n  ".join([f"{what}: does not fit this {type(model).__name__}:", *shown]), problems)
    before = observe(model)
    try:
        with init.skipped():  # what would be drawn is read from the file
            attach(model, content.layers, what)
    except ValueError as error:
        raise LoadError(str(error)) from error
    state = {name: tensor.array for name, tensor in model.state_dict().items()}
    for name, array in content.tensors.items():
        state[name][...] = array
    for name, parameter in model._every_name():
        if name in content.tensors:
            parameter.untrained = name in content.untrained
    rows = {name: Row(name, "loaded", "", tuple(array.shape)) for name, array in content.tensors.items()}
    ledger_of(model).note_load("load_lora", os.fspath(path), rows, before)
    train_only(model, [parameter for name, parameter in model._every_name() if name in content.tensors])
    return model


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's dtype, shape and bytes."""
    head = f"{array.dtype.newbyteorder('<').str} {array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def _content(path: Path, what: str, alpha: float | None) -> Content:
    """The checked content of a file, of whichever of the two kinds."""
    folder = path if path.is_dir() else path.parent
    file = path / "adapter_model.safetensors" if path.is_dir() else path
    tensors, metadata = read(file)
    if FIELD not in metadata:
        return _of_peft(tensors, folder / PEFT_CONFIG, what, alpha)
    if alpha is not None:
        raise ValueError(f"{what}: the file says which alpha it was trained with; leave alpha= out")
    fields = parse_json(metadata[FIELD], f"{what}: {FIELD}")
    if not isinstance(fields, dict) or set(fields) != {"layers", "base", "untrained"}:
        raise FileFormatError(f"{what}: {FIELD} must be an object with layers, base and untrained")
    layers, base, untrained = fields["layers"], fields["base"], fields["untrained"]
    if not isinstance(layers, dict) or not layers or not all(map(_is_setting, layers.values())):
        raise FileFormatError(f"{what}: layers must map paths to rank, alpha and dropout")
    if not isinstance(base, dict) or not all(isinstance(value, str) for value in base.values()):
        raise FileFormatError(f"{what}: base must map names to hashes")
    if not isinstance(untrained, list) or not all(isinstance(name, str) for name in untrained):
        raise FileFormatError(f"{what}: untrained must be a list of names")
    return Content(tensors, {place: tuple(setting) for place, setting in layers.items()}, base, untrained)


def _is_setting(value: Any) -> bool:
    if not isinstance(value, list) or [type(number) for number in value] != [int, float, float]:
        return False
    rank, alpha, dropout = value
    return rank >= 1 and math.isfinite(alpha) and 0 <= dropout < 1


def _of_peft(tensors: dict[str, np.ndarray], config: Path, what: str, alpha: float | None) -> Content:
    """peft's layout: names behind "base_model.model.", wrapped layers called base_layer, alpha in a JSON beside it."""
    names = {name: name.removeprefix(PEFT_PREFIX).replace(".base_layer.", ".").replace(".modules_to_save.", ".")
             for name in tensors}
    renamed = {names[name]: array for name, array in tensors.items()}
    ranks = {name.removesuffix(f".{PARTS[0]}"): len(array) for name, array in renamed.items()
             if name.endswith(f".{PARTS[0]}") and array.ndim}
    if not ranks or len(renamed) != len(tensors) or not all(name.startswith(PEFT_PREFIX) for name in tensors):
        raise FileFormatError(f"{what}: no adapters: neither a file of save_lora nor of peft's, whose names begin with "
                              f"'{PEFT_PREFIX}' and end in '{PARTS[0]}'")
    if config.is_file():
        if config.stat().st_size > LONGEST_TEXT:
            raise FileFormatError(f"{config}: {config.stat().st_size:,} bytes are too many")
        settings = parse_json(config.read_bytes(), str(config))
        if not isinstance(settings, dict):
            raise FileFormatError(f"{config}: it must hold an object")
        unread = [name for name in PEFT_UNREAD if settings.get(name)]
        if unread:
            raise LoadError(f"{what}: adapters with {', '.join(unread)} compute something else, which is not supported")
        alpha = settings.get("lora_alpha") if alpha is None else alpha
    if alpha is None:
        raise LoadError(f"{what}: alpha stands in peft's {PEFT_CONFIG}, which is not beside the file; give alpha=")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise FileFormatError(f"{what}: alpha must be a finite number, not {str(alpha)[:100]!r}")
    return Content(renamed, {place: (rank, float(alpha), 0.0) for place, rank in ranks.items()}, None, [])


def _renamed(content: Content, rename: Mapping[str, str], what: str) -> Content:
    every = list(dict.fromkeys([*content.tensors, *(content.base or ()), *content.untrained]))
    names = rename_all(every, rename, what)
    layers = {names[f"{place}.{PARTS[0]}"].removesuffix(f".{PARTS[0]}"): setting
              for place, setting in content.layers.items() if f"{place}.{PARTS[0]}" in names}
    base = None if content.base is None else {names[name]: value for name, value in content.base.items()}
    return Content({names[name]: array for name, array in content.tensors.items()}, layers, base,
                   [names[name] for name in content.untrained])


def _layer_problems(content: Content, model: Module) -> list[str]:
    """Paths of the file at which the model has no layer that could take the adapter, and matrices that do not fit."""
    places = dict(every_module(model))
    problems = []
    for place, (rank, _, dropout) in content.layers.items():
        layer = places.get(place)
        if layer is None:
            problems.append(f"adapter of '{place[:200]}': the model has no such layer{nearest(place, places)}")
        elif type(layer) not in ADAPTED:
            problems.append(f"adapter of '{place}': the model has a {type(layer).__name__} there")
        elif dropout and ADAPTED[type(layer)] is LoRAMultiheadAttention:
            problems.append(f"adapter of '{place}': a MultiheadAttention's takes no dropout")
        elif (weight := getattr(layer, ADAPTED[type(layer)].adapted)) is None:
            problems.append(f"adapter of '{place}': the projections of the MultiheadAttention there are kept apart")
        else:
            shapes = (rank, *weight.shape[1:]), (len(weight), rank, *(1,) * (weight.ndim - 2))
            problems += [_unlike(f"{place}.{part}", content.tensors.get(f"{place}.{part}"), shape, weight.dtype)
                         for part, shape in zip(PARTS, shapes)]
    return [problem for problem in problems if problem]


def _unlike(name: str, array: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype) -> str:
    if array is None:
        return f"'{name}': the file has no such tensor"
    if (array.shape, array.dtype) != (shape, dtype):
        return f"'{name}' is {array.dtype} {array.shape} in the file, the layer and the rank need {dtype} {shape}"
    return ""


def _problems(content: Content, model: Module) -> list[str]:
    """All other differences: what either side lacks, shapes and dtypes of what is copied, bits of the base."""
    state = {name: tensor.array for name, tensor in model.state_dict().items()}
    parts = {f"{place}.{part}" for place in content.layers for part in PARTS}
    copied = {name: array for name, array in content.tensors.items() if name not in parts}
    problems = []
    for name, array in copied.items():
        if name not in state:
            problems.append(f"'{name[:200]}' {array.shape}: the model has no such tensor{nearest(name, state)}")
        elif (state[name].shape, state[name].dtype) != (array.shape, array.dtype):
            problems.append(f"'{name}' is {array.dtype} {array.shape} in the file, {state[name].dtype} "
                            f"{state[name].shape} in the model; rehead(model, …) makes a head of another size")
    if content.base is None:
        return problems
    for name in content.base.keys() - state.keys():
        problems.append(f"'{name[:200]}' of the base: the model has no such tensor{nearest(name, state)}")
    for name in state:
        if name not in content.base and name not in copied:
            problems.append(f"'{name}': neither among the adapters' tensors nor in the base they were trained on")
    changed = [name for name, array in state.items() if name in content.base and content.base[name] != digest(array)]
    if changed:
        problems.append(f"another base: {len(changed)} of {len(content.base)} frozen tensors hold other bits than "
                        f"those that the adapters were trained on: {', '.join(map(repr, changed[:4]))}"
                        f"{', …' if len(changed) > 4 else ''}")
    return problems
