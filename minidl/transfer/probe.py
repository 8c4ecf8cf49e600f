"""A probe: an input and what a model makes of it at some layers, kept in its file, so that loading proves itself.

`save(…, probe=…)` writes it into the metadata, together with the SHA-256 of every tensor; `load` compares the bytes,
runs the model on the input in evaluation mode, and refuses it where an output differs. Other readers of the file see
their tensors and nothing else. Nothing in a file is trusted: `probe_text.py` checks what it says, `probe_guard.py`
what running it would take.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from minidl import nn
from minidl.errors import FileFormatError
from minidl.nn.module import Module
from minidl.tensor import Tensor, no_grad
from minidl.transfer.ledger.rows import sha256
from minidl.transfer.matching import COUNTER, LoadError
from minidl.transfer.probe_guard import Guard, TooMuch
from minidl.transfer.probe_text import MOST_LAYERS, Input, Output, Probe, sample

ATTRIBUTE = "_probe_inputs"  # where a model keeps the inputs of the file that it comes from
FAILURES = (ValueError, TypeError, IndexError, RuntimeError, KeyError, AttributeError, ArithmeticError, MemoryError)
TOLERANCES = {2: 2e-2, 4: 1e-4, 8: 1e-4}  # bytes of the dtype -> share of the largest value; backends differ by 4e-6


class _Enough(BaseException):
    """All that can be compared was. Not an Exception, so that no `except Exception` on the way holds it up."""


def make(model: Module, wanted: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The probe of a model as JSON values. wanted: see `save`.

    Raises ValueError if the model does not run on it, gives nan, or gives something else the second time.
    """
    inputs = _guessed(model) if wanted is True else as_inputs(wanted, model)
    size = sum(tensor.array.nbytes for tensor in tensors.values())
    outputs = _outputs(model, inputs, Guard(size))
    paths = [path for path in outputs if path]
    chosen = {paths[round(place)] for place in np.linspace(0, len(paths) - 1, MOST_LAYERS)} if paths else set()
    kept = [output for path, output in outputs.items() if path in chosen or not path]
    for output in kept:
        if not output.is_finite():
            raise ValueError(f"the output of {_named(output.path)} for the probe holds nan or infinity")
    again = _outputs(model, inputs, Guard(size))
    for output in kept:
        if output.difference(again[output.path]) > _tolerance(model):
            raise ValueError(f"the model gives something else when it runs again, at {_named(output.path)} first: "
                             "what it draws at random cannot be checked")
    hashes = {name: sha256(tensor.array) for name, tensor in tensors.items()}
    return Probe(tuple(inputs), tuple(kept), hashes).as_json()


def as_inputs(wanted: Any, model: Module) -> list[Input]:
    """The inputs that `probe=` stands for: arrays, the shape of a sample, or the JSON that a file had."""
    if isinstance(wanted, (Tensor, np.ndarray)):
        return [Input.of(wanted)]
    if isinstance(wanted, (tuple, list)) and wanted:
        if all(isinstance(item, Input) for item in wanted):
            return list(wanted)
        if all(isinstance(item, (Tensor, np.ndarray)) for item in wanted):
            return [Input.of(item) for item in wanted]
        if all(isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size > 0 for size in wanted):
            return [_made(tuple(map(int, wanted)), model)]
    raise TypeError("probe must be an array of inputs (N, …), several in a tuple, the shape of one sample such as "
                    f"(3, 32, 32), True or False, not {type(wanted).__name__}")


def check_bytes(probe: Probe, tensors: Mapping[str, np.ndarray], what: str) -> None:
    """Raise FileFormatError for a tensor that is not the one that was saved."""
    for name, expected in probe.sha256.items():
        if name not in tensors or sha256(tensors[name]) != expected:
            raise FileFormatError(f"{what}: the tensor {name[:100]!r} is not the one that was saved: its SHA-256 "
                                  "differs; the file was damaged or changed. load(…, probe=False) takes it all the "
                                  "same")


def replay(model: Module, probe: Probe, touched: Collection[str], built: bool, size: int, what: str) -> str:
    """Run the model on the probe, compare, and return what was proven, in words.

    touched: names of tensors that do not come from the file; outputs are compared up to the first layer that has one.
    built: the model was built from the file (then running it is bounded by `size`, the bytes of its tensors, and
    every layer of the probe must be there).
    Raises LoadError, or FileFormatError where what the file says cannot be run, naming the first layer that differs.
    """
    paths = {path for path, _ in model.named_modules()}
    missing = [output.path for output in probe.outputs if output.path not in paths]
    if built and missing:
        raise FileFormatError(f"{what}: its probe names a module {missing[0][:100]!r}, which its model does not have")
    owners = {name.rpartition(".")[0] for name in touched if not name.endswith(COUNTER)}
    try:
        found = _outputs(model, probe.inputs, Guard(size) if built else None, owners)
    except (*FAILURES, TooMuch) as error:
        kind = FileFormatError if built else LoadError
        raise kind(f"{what}: the model cannot run on the file's probe: {error}; load(…, probe=False) loads it without "
                   "the proof") from error
    tolerance, largest, compared, last = _tolerance(model), 0.0, 0, ""
    for expected in probe.outputs:
        if expected.path not in found:
            continue
        difference = expected.difference(found[expected.path])
        if not difference <= tolerance:
            before = f"the outputs before it, up to {_named(last)}, agree" if compared else "no output before it does"
            raise LoadError(f"{what}: the model does not reproduce the file's probe: the output of "
                            f"{_named(expected.path)} differs by {difference:.2g} of its largest value, "
                            f"{tolerance:g} are allowed; {before}. The weights are those that were saved, so the model "
                            "computes something else: another eps, padding, activation or order of layers? "
                            "load(…, probe=False) loads it all the same")
        largest, compared, last = max(largest, difference), compared + 1, expected.path
    if not compared:
        return "probe: no output could be compared"
    until = "" if "" in found else f", up to {_named(last)}"
    return f"probe: {compared} of {len(probe.outputs)} outputs reproduced{until}, within {largest:.2g}"


def _outputs(model: Module, inputs: Collection[Input], guard: Guard | None,
             touched: Collection[str] = ()) -> dict[str, Output]:
    """What every innermost module and the model ("") give for the inputs, in the order in which they finish.

    It ends before the first module that is `touched`. The model itself is not run but a twin that shares its tensors,
    so its modes and hooks are left alone.
    """
    twin = _twin(model, {})
    found: dict[str, Output] = {}
    for path, module in list(twin.named_modules()):
        leaf = next(module.named_children(), None) is None
        if path in touched:
            vars(module)["forward"] = _stop
        elif guard is not None and (leaf or next(module.parameters(recurse=False), None) is not None):
            vars(module)["forward"] = functools.partial(_guarded, guard, module, path)
        if leaf or not path:
            module.register_forward_hook(functools.partial(_note, found, path))
    try:
        with no_grad():
            twin(*(Tensor(value.array()) for value in inputs))
    except _Enough:
        pass
    return found


def _twin(module: Module, made: dict[int, Module]) -> Module:
    """A copy of a module and all below it that shares parameters and buffers, in evaluation mode, without hooks."""
    if id(module) not in made:
        twin = made[id(module)] = copy.copy(module)
        vars(twin).pop("_forward_hooks", None)
        twin.training = False
        for name, child in module.named_children():
            vars(twin)[name] = _twin(child, made)
    return made[id(module)]


def _stop(*inputs: Any, **options: Any) -> Any:
    raise _Enough


def _guarded(guard: Guard, module: Module, path: str, *inputs: Any, **options: Any) -> Any:
    """The forward of the module's class, once it is known what it would take."""
    for value in (*inputs, *options.values()):
        if isinstance(value, (Tensor, np.ndarray)):
            guard.check(module, path, value.shape)
            break
    return type(module).forward(module, *inputs, **options)


def _note(found: dict[str, Output], path: str, module: Module, inputs: Any, output: Any) -> None:
    if path not in found:
        seen = sample(path, output)
        if seen is not None:
            found[path] = seen


def _guessed(model: Module) -> list[Input]:
    """Inputs of a shape on which the model runs, tried out by what its first layer with parameters takes."""
    first = next((module for module in model.modules() if next(module.parameters(recurse=False), None) is not None),
                 model)
    shapes: list[tuple[int, ...]] = []
    if isinstance(first, nn.Conv2d):
        shapes = [(first.in_channels, size, size) for size in (32, 28, 64, 96, 128, 224, 299)]
    elif isinstance(first, nn.Conv1d):
        shapes = [(first.in_channels, size) for size in (32, 64, 128, 256, 512, 1024)]
    elif isinstance(first, nn.Linear):
        shapes = [(first.in_features,)]
    elif isinstance(first, (nn.RNN, nn.LSTM, nn.GRU)):
        shapes = [(8, first.input_size)]
    elif isinstance(first, nn.Embedding):
        shapes = [(8,)]
    for shape in shapes:
        inputs = [_made(shape, model)]
        try:
            if "" in _outputs(model, inputs, None):
                return inputs
        except FAILURES:
            continue
    raise ValueError(f"no input was found on which this {type(model).__name__} runs"
                     + (f" (tried {', '.join(map(str, shapes))})" if shapes else "")
                     + "; give the shape of a sample, probe=(3, 32, 32), or the inputs themselves")


def _made(shape: tuple[int, ...], model: Module) -> Input:
    """Two samples of this shape: numbers in [-1, 1), or ids where the first layer with parameters is an embedding."""
    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            if isinstance(module, nn.Embedding):
                return Input.made((2, *shape), np.dtype(np.int64), module.num_embeddings)
            break
    dtype = next((p.dtype for p in model.parameters() if p.dtype.kind == "f"), np.dtype(np.float32))
    return Input.made((2, *shape), dtype)


def _tolerance(model: Module) -> float:
    """That of the coarsest dtype among the parameters."""
    sizes = [parameter.dtype.itemsize for parameter in model.parameters() if parameter.dtype.kind == "f"]
    return TOLERANCES.get(min(sizes, default=4), TOLERANCES[4])


def _named(path: str) -> str:
    return f"'{path}'" if path else "the model itself"
