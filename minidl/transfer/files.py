"""A model in one `.safetensors` file: its tensors, architecture, preprocessing, class names, licence and provenance.

`save` writes such a file, `load` makes the model again, or fills one that is there, also from files of other kinds. The
safetensors library and PyTorch read the same file (`safetensors.torch.load_file`); what minidl adds stands as text in
its metadata, under the names in `FIELDS`. `minidl/formats` says how files are read, `matching.py` what strict means.
"""

from __future__ import annotations

import functools
import json
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from importlib import import_module
from typing import Any

import numpy as np

import minidl
from minidl.errors import FileFormatError
from minidl.formats.tensorfile import load_metadata, parse_json
from minidl.formats.tensors import is_keras, read, save_tensors
from minidl.nn import init
from minidl.nn.module import Module, Parameter
from minidl.transfer.head import head_path
from minidl.transfer.kerasload import load_keras
from minidl.transfer.ledger import ledger_of
from minidl.transfer.ledger.load import rows_of_load
from minidl.transfer.ledger.rows import observe
from minidl.transfer.matching import LoadError, match, rename_all
from minidl.transfer.patterns import every_module
from minidl.transfer.preprocess import preprocess
from minidl.transfer.probe import ATTRIBUTE as PROBE_INPUTS
from minidl.transfer.probe import FAILURES, check_bytes, make, replay
from minidl.transfer.probe_guard import TooMuch
from minidl.transfer.probe_text import parse
from minidl.transfer.structure import LONGEST_TEXT, build, structure
from minidl.transfer.untrained import untrained, watch

FORMAT = 1
FIELDS: dict[str, type | tuple] = {  # name in the metadata, after "minidl.", and the type of its JSON
    "architecture": dict, "preprocessing": dict, "classes": list, "licence": str, "provenance": dict, "ties": dict,
    "untrained": list, "probe": dict,
}
CARRIED = ("preprocessing", "classes", "licence", "provenance")  # the fields that a loaded model has as attributes


def save(model: Module, path: str | os.PathLike, *, preprocessing: Mapping[str, Any] | None = None,
         classes: Sequence[str] | None = None, licence: str | None = None,
         provenance: Mapping[str, Any] | str | None = None, probe: Any = None) -> None:
    """Write all parameters and persistent buffers of `model`, and what is known about it, to one `.safetensors` file.

    preprocessing: JSON values such as {"range": [0, 1], "mean": [0.13], "std": [0.31]} (see `preprocess`).
    classes: the names of the classes in the order of the outputs. provenance: what it was trained on, text or JSON
    values; minidl's version and the time are added. What is left out is taken from the model, if it was loaded with
    it; provenance that is given keeps the one the model came with under "based_on".

    probe: an input and the model's outputs for it at up to 24 layers go into the file's metadata, with the SHA-256 of
    every tensor, and `load` refuses a model that does not reproduce them. Give inputs (N, …) of at most 1 MiB, several
    in a tuple, or the shape of one sample, such as (3, 32, 32); for True one is found by trying. The model runs twice
    on it, in evaluation mode. None takes the inputs of the file that the model was loaded from, if it had any.

    Saving is atomic and neither changes nor moves the model; ties are kept. A model of a class that `structure` does
    not know is saved without its architecture.
    Raises OSError that names the path, ValueError and TypeError for what cannot be stored; the old file then stays.
    """
    if not isinstance(model, Module):
        raise TypeError(f"save: the first argument must be a Module, not a {type(model).__name__}; tensors alone, "
                        "such as a state_dict(), are for transfer.save_tensors and transfer.load_tensors")
    if os.path.splitext(path)[1] != ".safetensors":
        raise ValueError(f"save: the file must end in .safetensors, for instance {os.fspath(path)}.safetensors")
    known = {"preprocessing": preprocessing, "classes": classes, "licence": licence}
    fields = {name: _from_model(model, name) if value is None else value for name, value in known.items()}
    _check_texts(fields["classes"], fields["licence"])
    fields["provenance"] = _provenance(provenance, _from_model(model, "provenance"))
    fields["architecture"] = _architecture(model)
    tensors, fields["ties"] = _split_ties(model)
    fields["untrained"] = untrained(model)
    if not tensors:
        raise ValueError(f"save: this {type(model).__name__} has no parameters and no buffers: nothing to save")
    fields["probe"] = _probe(model, probe, tensors)
    metadata = {"format": "pt", "minidl.format": str(FORMAT)}  # "pt": layouts and names are PyTorch's
    metadata |= {f"minidl.{name}": _to_json(name, value) for name, value in fields.items() if value}
    save_tensors(tensors, path, metadata)


def load(path: str | os.PathLike, model: Module | None = None, *, allow: Mapping[str, str] | None = None,
         rename: Mapping[str, str] | None = None, probe: bool = True) -> Module:
    """Read a model from a `.safetensors` file; into `model` if one is given, else built from the file's architecture.

    With `model`, the file may be of any kind that `load_tensors` reads, such as PyTorch's `.pth` or NumPy's `.npz`;
    Keras' `.h5` and `.keras` are translated on the way (`load_keras` says how). An `.onnx` file makes a model without
    one, see `minidl.onnx.load`; `allow` and `rename` need the model then.
    Loading is strict: every tensor of the model must be in the file and the other way round, with the same shape and
    dtype; nothing is broadcast or cast. Exceptions are declared:

    allow: {pattern: "reinit" or "skip"}, patterns as in `freeze` on the names of tensors in the model or the file
        (after renaming), the first that fits counts. "reinit": the file's tensor, if there is one, is not read; the
        model's keeps its fresh values and is marked `untrained`. "skip": likewise, without the mark: for tensors of
        the model that hold already what they should, and for tensors of the file that are not wanted.
    rename: {old: new} for whole names in the file or for the front of names up to a dot.

    The architecture with the weights of the first layers only:
    `load(path, allow={"features.conv2.*": "reinit", "classifier.*": "reinit"})`.

    probe: a file that was saved with a probe holds outputs for an input. The model runs on it, in evaluation mode, and
    must give the same, within 1e-4 of an output's largest value (0.02 for float16), at every layer before the
    first tensor that `allow` leaves out; the bytes of all tensors must be those that were saved. False loads without.

    Returns the model, in training mode if it was built here. It carries what the file says as plain attributes:
    `model.preprocessing` (dict), `model.classes` (list), `model.licence` (text), `model.provenance` (dict), None
    where the file says nothing; with preprocessing also `model.preprocess(images)`.
    Raises FileFormatError for a damaged, foreign or hostile file, LoadError (a ValueError) with all that does not
    fit, or names the first layer that does not reproduce the probe. The model is unchanged after an error.
    """
    if is_keras(path):
        return load_keras(path, model, allow=allow, rename=rename)
    if model is None and os.path.splitext(path)[1].lower() == ".onnx":
        if allow or rename:
            raise ValueError(f"load: {os.fspath(path)}: an ONNX file makes its own model, of all its tensors; for "
                             "allow= and rename= pass the model to fill; to change a head use transfer.rehead after it")
        return import_module("minidl.onnx").load(path)  # which stands on this package
    return fill(model, *read(path), f"load: {os.fspath(path)}", allow, rename, probe)


def fill(model: Module | None, tensors: dict[str, np.ndarray], metadata: Mapping[str, str], what: str,
         allow: Mapping[str, str] | None, rename: Mapping[str, str] | None, probe: bool = True) -> Module:
    """`load` from what was read; `what` begins the messages of errors."""
    fields = _fields(metadata, tensors, what)
    proof = parse(fields["probe"], what) if probe and "probe" in fields else None
    if proof is not None:
        check_bytes(proof, tensors, what)
    fresh = model is None
    if model is None:
        size = sum(array.nbytes + 64 for array in tensors.values())
        limit = 2 * size + 2**16  # what the file holds, once more for ties, and a little for small things
        # All that would be drawn is read from the file; what lies in memory until then overflows in any arithmetic.
        with init.skipped() if not allow else nullcontext(), np.errstate(all="ignore"):
            model = _build(fields, limit, what)
    names = rename_all([*tensors, *fields["ties"]], rename, what)
    found = {names[name]: array for name, array in tensors.items()}
    ties = {names[name]: names[first] for name, first in fields["ties"].items()}
    found |= {name: found[first] for name, first in ties.items()}
    if fresh:
        _tie(model, ties, what)
    matched = match(found, model, allow, what)
    before = {} if fresh else observe(model)
    undo = _copy(matched.arrays, model)
    told = ""
    if proof is not None:
        with undoing(undo):
            size = sum(array.nbytes for array in tensors.values())
            told = replay(model, proof, [*matched.reinitialised, *matched.skipped], fresh, size, what)
        vars(model)[PROBE_INPUTS] = proof.inputs
    never_trained = {names.get(name, name) for name in fields["untrained"]}
    for name, parameter in model._every_name():
        if name in matched.arrays:
            parameter.untrained = name in never_trained
        elif name in matched.reinitialised:
            parameter.untrained = True
    _carry(fields, model, {*matched.reinitialised, *matched.skipped})
    watch(model)
    kind, _, detail = what.partition(": ")
    detail += f"; {told}" if told else ""
    ledger_of(model).note_load(kind, detail, rows_of_load(found, names, model, matched, allow, fresh), before)
    return model


def load_structure(path: str | os.PathLike) -> dict[str, Any]:
    """The architecture that a model file holds, for `build`; the tensors are not read.

    Raises FileFormatError for a damaged file, LoadError if it holds no architecture.
    """
    what = f"load_structure: {os.fspath(path)}"
    return _architecture_of(_fields(load_metadata(path), None, what), what)


def _from_model(model: Module, name: str) -> Any:
    """What `load` left on the model under this name; an attribute of the user's own of another type does not count."""
    value = vars(model).get(name)
    expected = (list, tuple) if name == "classes" else FIELDS[name]
    return value if isinstance(value, expected) else None


def _check_texts(classes: Any, licence: Any) -> None:
    if classes is not None and (isinstance(classes, str) or not all(isinstance(name, str) for name in classes)):
        raise TypeError(f"save: classes must be a list of names, not {classes!r}")
    if not isinstance(licence, (str, type(None))):
        raise TypeError(f"save: licence must be a text, not {type(licence).__name__}")


def _probe(model: Module, wanted: Any, tensors: Mapping[str, Any]) -> dict[str, Any] | None:
    """The probe's JSON values; where it was not asked for and cannot be made, a warning instead of it."""
    known = vars(model).get(PROBE_INPUTS)
    if wanted is False or wanted is None and known is None:
        return None
    try:
        return make(model, known if wanted is None else wanted, tensors)
    except (*FAILURES, TooMuch) as error:
        if wanted is None:
            warnings.warn(f"save: written without a probe, since the model does not run on that of the file it came "
                          f"from: {error}; give another one with probe=", stacklevel=3)
            return None
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"save: probe: {error}") from error


def _provenance(given: Any, before: Any) -> dict[str, Any]:
    if given is None:
        told = dict(before or {})
    else:
        told = {"trained_on": given} if isinstance(given, str) else dict(given)
        if before:
            told["based_on"] = before
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {**told, "minidl": minidl.__version__, "saved": now}


def _architecture(model: Module) -> dict[str, Any]:
    try:
        return structure(model)
    except TypeError as error:  # custom code: the file can only name it
        return {"custom": type(model).__name__, "note": str(error)}


def _split_ties(model: Module) -> tuple[dict[str, Any], dict[str, str]]:
    """Each tensor under its first name, and {further name: first name}."""
    tensors: dict[str, Any] = {}
    ties: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, tensor in model.state_dict().items():
        place = first.setdefault(id(tensor.array), name)
        if place == name:
            tensors[name] = tensor
        else:
            ties[name] = place
    return tensors, ties


def _to_json(name: str, value: Any) -> str:
    try:
        text = json.dumps(value if not isinstance(value, tuple) else list(value), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"save: {name} must consist of JSON values (numbers, texts, lists, dicts): {error}") from error
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"save: {name} is a text of {len(text):,} characters, at most {LONGEST_TEXT:,} are read back")
    return text


def _fields(metadata: Mapping[str, str], tensors: Collection[str] | None, what: str) -> dict[str, Any]:
    """The checked fields of a file, None or empty where it has none."""
    version = metadata.get("minidl.format", "1")
    if version != str(FORMAT):
        raise FileFormatError(f"{what}: of format {version[:100]!r}; this minidl reads format {FORMAT} only")
    fields: dict[str, Any] = {"ties": {}, "untrained": []}
    for name, kind in FIELDS.items():
        text = metadata.get(f"minidl.{name}")
        if text is not None:
            if len(text) > LONGEST_TEXT:
                raise FileFormatError(f"{what}: {name} is a text of {len(text):,} characters")
            fields[name] = parse_json(text, f"{what}: {name}")
            if not isinstance(fields[name], kind):
                raise FileFormatError(f"{what}: {name} is a {type(fields[name]).__name__} and not what it should be")
    texts = [*(fields.get("classes") or []), *fields["untrained"], *fields["ties"].values()]
    if not all(isinstance(text, str) for text in texts):
        raise FileFormatError(f"{what}: classes, untrained and ties must hold texts")
    for name, first in fields["ties"].items():
        if tensors is not None and (name in tensors or first not in tensors):
            raise FileFormatError(f"{what}: {name[:100]!r} is said to be tied to {first[:100]!r}, but the tensors "
                                  "in the file say otherwise")
    return fields


def _architecture_of(fields: Mapping[str, Any], what: str) -> dict[str, Any]:
    found = fields.get("architecture")
    if found is None:
        raise LoadError(f"{what}: the file holds tensors but no architecture; pass the model to fill with model=")
    if "custom" in found:
        raise LoadError(f"{what}: the model is of a class of its own, {str(found['custom'])[:100]!r}, which a file "
                        "cannot hold; make it and pass it with model=")
    return found


def _build(fields: Mapping[str, Any], limit: int, what: str) -> Module:
    try:
        return build(_architecture_of(fields, what), limit=limit)
    except FileFormatError as error:
        hint = "; if more than the file holds is right, pass model=build(load_structure(path))"
        hint = hint if isinstance(error.__cause__, MemoryError) else ""
        raise FileFormatError(f"{what}: {error}{hint}") from error


def _tie(model: Module, ties: Mapping[str, str], what: str) -> None:
    """Make the tied names of a model built here one parameter again."""
    parameters = dict(model._every_name())
    places = dict(every_module(model))
    for name, first in ties.items():
        one, other = parameters.get(first), parameters.get(name)
        if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
            raise FileFormatError(f"{what}: {name[:100]!r} cannot be tied to {first[:100]!r}: the model has no such "
                                  "parameters, or of other shapes")
        path, _, attribute = name.rpartition(".")
        if isinstance(vars(places[path]).get(attribute), Parameter):
            setattr(places[path], attribute, one)


def _copy(arrays: Mapping[str, np.ndarray], model: Module) -> list[tuple[np.ndarray, np.ndarray]]:
    """Copy the arrays into the model's; all or nothing, even when interrupted. Returns what `undoing` needs."""
    own = model.state_dict()
    for name in arrays:
        if not own[name].array.flags.writeable:
            raise ValueError(f"load: '{name}' of the model is read-only memory; make it anew with .clone()")
    undo: list[tuple[np.ndarray, np.ndarray]] = []
    with undoing(undo):
        for name, array in arrays.items():
            target = own[name].array
            undo.append((target, target.copy()))
            target[...] = array
    return undo


@contextmanager
def undoing(undo: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[None]:
    """Write the earlier values into the arrays again if the block raises."""
    try:
        yield
    except BaseException:
        for target, before in undo:
            target[...] = before
        raise


def _carry(fields: Mapping[str, Any], model: Module, left_out: Collection[str]) -> None:
    """Put what the file says on the model. Class names are dropped if the head did not come from the file."""
    for name in CARRIED:
        value = fields.get(name)
        if name == "classes" and value is not None and _is_head_among(left_out, model):
            value = None
        present = vars(model).get(name)
        if present is None or _from_model(model, name) is not None:
            setattr(model, name, value)
    if isinstance(vars(model).get("preprocess"), functools.partial):
        del model.preprocess
    if fields.get("preprocessing") and not hasattr(type(model), "preprocess"):
        model.preprocess = functools.partial(preprocess, preprocessing=fields["preprocessing"])


def _is_head_among(names: Collection[str], model: Module) -> bool:
    try:
        head = head_path(model)
    except ValueError:
        return False
    return any(name.rpartition(".")[0] == head for name in names)
