"""Watching a network at work: the operations that one run of it performs, with what goes in and comes out.

While a `Recorder` watches, every operation of minidl is handed to it (`recording` in `minidl/grad_mode.py`), and what
comes out is a `Traced` array. That is a NumPy array which knows its number, so that NumPy's own functions on it,
which some networks use on masks and lengths, are recorded as well. What NumPy computes and this file does not know
leaves a mark: used later by an operation it is refused, because its value would be frozen into the file.
Read `export_symbols.py` next, which compares several runs.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from minidl import nn
from minidl.grad_mode import no_grad, recording
from minidl.nn.module import Module
from minidl.nn.utils.rnn import PackedSequence
from minidl.tensor import Tensor

REDUCTIONS = {"add": "sum", "logical_and": "all", "logical_or": "any", "maximum": "max", "minimum": "min"}
RECORDED = (np.all, np.any, np.argmax, np.argmin, np.where)
USUAL = {"where": True, "initial": np._NoValue}  # options of NumPy's reductions that say nothing
FRESH = (np.zeros_like, np.ones_like, np.full_like, np.empty_like, np.shape, np.ndim, np.size, np.result_type)


class ExportError(ValueError):
    """A network that cannot be written as ONNX; the message names the operation, the module and the likely fix."""


class Ref(NamedTuple):
    """A result of the run, or an input of it, by its number."""

    number: int


class Weight(NamedTuple):
    """A parameter or buffer of the network."""

    name: str


class Fixed(NamedTuple):
    """An array that comes from neither: the network made it by itself."""

    array: Any


class Opaque(NamedTuple):
    """A module, kept as it is."""

    module: Module


class Call(NamedTuple):
    """One operation: its arguments by name, with arrays replaced by the four above, and the numbers of its results."""

    name: str
    path: str
    arguments: dict[str, Any]
    results: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} in {self.path or 'the model itself'}"


class Traced(np.ndarray):
    """An array with a number; without one, it was computed from such arrays by `origin`, which is not recorded."""

    number: int | None
    origin: str
    plain: Any
    recorder: Any

    def __array_finalize__(self, source: Any) -> None:
        self.number, self.plain = None, None
        self.origin = "a view or a method of NumPy"
        self.recorder = getattr(source, "recorder", None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if out is not None:
            raise ExportError(f"numpy.{ufunc.__name__} changes an array in place, which cannot be exported")
        result = getattr(ufunc, method)(*map(plain, inputs), **options)
        recorder = next(x.recorder for x in inputs if isinstance(x, Traced))
        if method == "__call__" and not options and ufunc.nout == 1:
            return recorder.add_numpy(f"numpy.{ufunc.__name__}", {"xs": list(inputs)}, result)
        name = f"numpy.{ufunc.__name__}.{method}"
        axis = options.get("axis", 0)
        options = {key: value for key, value in options.items() if value is not None and value is not USUAL.get(key)}
        if method == "reduce" and ufunc.__name__ in REDUCTIONS and set(options) <= {"axis", "keepdims", "dtype"}:
            arguments = {"x": inputs[0], "axis": axis, "keepdims": options.get("keepdims", False)}
            return recorder.add_numpy(f"numpy.{REDUCTIONS[ufunc.__name__]}", arguments, result)
        return recorder.unknown(name, result)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        result = function(*plain(args), **plain(options))
        if function in FRESH:
            return result
        if function in RECORDED:
            names = ("condition", "x", "y") if function is np.where else ("x", "axis", "out")
            arguments = {} if function is np.where else {"axis": None, "keepdims": False}
            arguments |= {**dict(zip(names, args)), **options}
            if arguments.pop("out", None) is None and "x" in arguments and set(arguments) <= {*names, "keepdims"}:
                return self.recorder.add_numpy(f"numpy.{function.__name__}", arguments, result)
        return self.recorder.unknown(f"numpy.{function.__name__}", result)

    def __getitem__(self, index: Any) -> Any:
        result = plain(self)[plain(index)]
        return self.recorder.add_numpy("getitem", {"x": self, "index": index}, result)

    def astype(self, dtype: Any, *args: Any, **options: Any) -> Any:
        return self.recorder.add_numpy("cast", {"x": self, "dtype": np.dtype(dtype)}, plain(self).astype(dtype))

    def reshape(self, *shape: Any, **options: Any) -> Any:
        result = plain(self).reshape(*shape, **options)
        return self.recorder.add_numpy("reshape", {"x": self, "shape": result.shape}, result)

    def copy(self, *args: Any, **options: Any) -> Any:
        return self


def plain(value: Any) -> Any:
    """The same with ordinary arrays in place of traced ones, inside tuples, lists, dicts and tensors as well."""
    if isinstance(value, Traced):
        return value.view(np.ndarray) if value.plain is None else value.plain
    if isinstance(value, Tensor):
        return Tensor(plain(value.array)) if isinstance(value.array, Traced) else value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return type(value)(map(plain, value))
    return value


class Recorder:
    """What one run does. `shapes` and `dtypes` hold those of each number; inputs come first."""

    def __init__(self, model: Module):
        self.calls: list[Call] = []
        self.shapes: list[tuple[int, ...]] = []
        self.dtypes: list[np.dtype] = []
        self.path: list[str] = [""]
        self.places: dict[tuple, tuple[int, weakref.ref]] = {}  # by place in memory: number, and the array if alive
        state = [*model.named_parameters(), *model.named_buffers(), *model.state_dict().items()]
        self.weights = {id(tensor.array): Weight(name) for name, tensor in reversed(state)}
        self.kept = [tensor.array for _, tensor in state]

    def new(self, array: Any) -> Traced:
        """A traced array for a new input or result. It is read-only, so that nothing changes it unseen."""
        array = np.asarray(array)
        traced = array.view(Traced)
        traced.flags.writeable = False
        traced.number, traced.plain, traced.recorder = len(self.shapes), array, self
        self.places[_place(array)] = traced.number, weakref.ref(array)
        self.shapes.append(array.shape)
        self.dtypes.append(array.dtype)
        return traced

    def unknown(self, origin: str, result: Any) -> Any:
        """The result of something that is not recorded."""
        if isinstance(result, (tuple, list)):
            return type(result)([self.unknown(origin, item) for item in result])
        if not isinstance(result, (np.ndarray, np.generic)):
            return result
        traced = np.asarray(result).view(Traced)
        traced.origin, traced.recorder = origin, self
        return traced

    def add_numpy(self, name: str, arguments: dict[str, Any], result: Any) -> Traced:
        """Record a function of NumPy; one with an argument of unknown origin is itself of that origin."""
        for leaf in leaves(arguments):
            if isinstance(leaf, Traced) and leaf.number is None:
                return self.unknown(leaf.origin, result)
        return self.add(name, arguments, [result])[0]

    def add(self, name: str, arguments: dict[str, Any], results: list) -> list[Traced]:
        """Record a call and return its results as traced arrays."""
        named = {key: self.leaf(value, name, key) for key, value in arguments.items()}
        traced = [self.new(result) for result in results]
        self.calls.append(Call(name, self.path[-1], named, tuple([int(x.number or 0) for x in traced])))
        return traced

    def leaf(self, value: Any, name: str, key: str) -> Any:
        """An argument with its arrays replaced by what they stand for."""
        if isinstance(value, (tuple, list)):
            return type(value)([self.leaf(item, name, key) for item in value])
        if isinstance(value, slice):
            return slice(*[self.leaf(part, name, key) for part in (value.start, value.stop, value.step)])
        if isinstance(value, Tensor):
            value = value.array
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Traced):
            if value.number is None:
                raise ExportError(f"{name}: '{key}' was computed by {value.origin}, outside minidl's operations: its "
                                  "value would be frozen into the file; use the operations of minidl for it")
            return Ref(value.number)
        if isinstance(value, np.ndarray):
            if id(value) in self.weights:
                return self.weights[id(value)]
            number, alive = self.places.get(_place(value), (0, None))  # np.asarray makes a traced array a plain one
            return Fixed(value) if alive is None or alive() is None else Ref(number)
        return Opaque(value) if isinstance(value, Module) else value

    def changing(self, tensor: Any) -> None:
        """A tensor is about to be changed in place: what is traced is read-only and refuses by itself."""

    def run(self, operation: Callable, args: Any, options: dict[str, Any]) -> Tensor:
        """Run and record an operation of minidl: what `recording.deferring` is asked for."""
        function = inspect.unwrap(operation)  # on arrays
        arrays = [x.array if isinstance(x, Tensor) else x.item() if isinstance(x, np.generic) else x for x in args]
        output, _ = function(*plain(arrays), **plain(options))
        bound = inspect.signature(function).bind(*arrays, **options)
        bound.apply_defaults()
        return Tensor(self.add(function.__name__.lstrip("_"), dict(bound.arguments), [output])[0])

    def recurrent(self, module: Module, forward: Callable, args: Any, options: Any) -> Any:
        """Run a recurrent layer and record it as a whole: ONNX has one for it, which knows lengths of sequences."""
        bound = inspect.signature(forward).bind(*args, **options)
        bound.apply_defaults()
        with handed_to(None):
            y, last = forward(*plain(bound.args), **plain(bound.kwargs))
        states = last if isinstance(last, tuple) else (last,)
        arguments = {"module": module, **bound.arguments}
        output, *ends = map(Tensor, self.add("nn.recurrent", arguments, [x.array for x in (y, *states)]))
        return output, tuple(ends) if isinstance(last, tuple) else ends[0]


def _place(array: np.ndarray) -> tuple:
    """Where in memory the elements of an array lie, and how they are read."""
    return array.ctypes.data, array.shape, array.strides, array.dtype


def leaves(value: Any) -> Iterator[Any]:
    """What stands inside dicts, tuples and lists; tensors as their arrays."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from leaves(item)
    else:
        yield value.array if isinstance(value, Tensor) else value


@contextmanager
def handed_to(recorder: Recorder | None) -> Iterator[None]:
    """Hand the operations of this thread to the recorder; None lets them run by themselves."""
    before = recording.deferring
    recording.deferring = recorder
    try:
        yield
    finally:
        recording.deferring = before


@contextmanager
def watched(model: Module, recorder: Recorder) -> Iterator[None]:
    """Let the recorder know which module is at work, in this thread; the model is what it was afterwards."""
    changed: list[tuple[Module, str, Any]] = []

    def replace(module: Module, name: str, function: Callable) -> None:
        changed.append((module, name, vars(module).get(name)))
        vars(module)[name] = function

    def follow(path: str, module: Module, forward: Callable) -> Callable:
        def run(*args: Any, **options: Any) -> Any:
            if recording.deferring is not recorder:  # another thread, or inside a layer that is recorded as a whole
                return forward(*args, **options)
            recorder.path.append(path)
            try:
                return forward(*args, **options)
            finally:
                recorder.path.pop()
        return run

    def whole(module: Module, function: Callable) -> Callable:
        def run(*args: Any, **options: Any) -> Any:
            packed = any(isinstance(value, PackedSequence) for value in (*args, *options.values()))
            if recording.deferring is not recorder or packed:
                return function(*args, **options)
            return recorder.recurrent(module, function, args, options)
        return run

    try:
        for path, module in model.named_modules():
            forward = module.forward
            if isinstance(module, (nn.RNN, nn.LSTM, nn.GRU)):
                if type(module).forward is nn.RNN.forward:
                    forward = whole(module, forward)
                else:  # a class derived from it may do what it likes before and after
                    replace(module, "_forward_padded", whole(module, module._forward_padded))
            replace(module, "forward", follow(path, module, forward))
        yield
    finally:
        for module, name, before in reversed(changed):
            vars(module).pop(name)
            if before is not None:
                vars(module)[name] = before


class Trace(NamedTuple):
    """One run: what was done, shapes and dtypes by number, and the outputs by name, each a Ref, Weight or Fixed."""

    calls: list[Call]
    shapes: list[tuple[int, ...]]
    dtypes: list[np.dtype]
    outputs: list[tuple[str, Any]]


def trace(model: Module, args: tuple, options: dict[str, Any]) -> Trace:
    """Run `model(*args, **options)` without gradients; arrays and tensors in them are the inputs, in this order."""
    recorder = Recorder(model)

    def taken(value: Any) -> Any:
        return Tensor(recorder.new(value.array if isinstance(value, Tensor) else value)) \
            if isinstance(value, (Tensor, np.ndarray)) else value

    args = tuple([taken(value) for value in args])
    options = {key: taken(value) for key, value in options.items()}
    with no_grad(), watched(model, recorder), handed_to(recorder):
        result = model(*args, **options)
    named = list(outputs(result, "output"))
    if not named:
        raise ExportError(f"the model returned {type(result).__name__}, in which there is no tensor")
    leafs = [(name, recorder.leaf(tensor, "the model", name)) for name, tensor in named]
    return Trace(recorder.calls, recorder.shapes, recorder.dtypes, leafs)


def outputs(result: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in what a model returned, with names from the fields of tuples, the keys of dicts, or numbers."""
    if isinstance(result, Tensor):
        yield name, result
    elif isinstance(result, dict):
        for key, value in result.items():
            yield from outputs(value, str(key))
    elif isinstance(result, (tuple, list)):
        fields = getattr(result, "_fields", None) or [f"{name}_{number}" for number in range(len(result))]
        for field, value in zip(fields, result):
            yield from outputs(value, field)
