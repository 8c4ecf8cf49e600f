"""`export`: a network of minidl as an ONNX file that computes the same, in any runtime and for any batch size.

The network is run on example inputs and watched (`export_trace.py`), several times with different sizes
(`export_symbols.py`); then each operation is written as ONNX nodes by the emitter that `export_table.py` has for it.
What the file says is what evaluation computes: BatchNorm with its running statistics, no dropout.
"""

from __future__ import annotations

import inspect
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import minidl
from minidl.atomic import write_bytes
from minidl.errors import did_you_mean
from minidl.nn.module import Module
from minidl.onnx import (  # noqa: F401  (each file enters its emitters into the table)
    export_attention,
    export_elementwise,
    export_layers,
    export_recurrent,
    export_reduce,
    export_shape,
    export_windows,
)
from minidl.onnx.export_graph import Graph, Value, element_type
from minidl.onnx.export_symbols import Counting, Filled, Listed, Merged, Size, Sizes, Unknown, merge
from minidl.onnx.export_table import EMITTERS, REFUSED
from minidl.onnx.export_trace import Call, ExportError, Fixed, Ref, Weight, trace
from minidl.tensor import Tensor
from minidl.transfer.structure import structure

OPSETS = range(17, 22)
CARRIED = ("preprocessing", "classes", "licence", "provenance")


def export(model: Module, args: Any, path: str | os.PathLike, *, kwargs: Mapping[str, Any] | None = None,
           input_names: Sequence[str] | None = None, output_names: Sequence[str] | None = None,
           dynamic_axes: Mapping[str, Any] | None = None, opset_version: int = 17) -> None:
    """Write `model` as an ONNX file that computes what `model(*args, **kwargs)` computes in evaluation mode.

    args: an example input, or a tuple of them; arrays and tensors become inputs of the file, everything else (None,
        numbers, flags) is a constant. kwargs: further arguments by name. The values do not matter, as long as nothing
        is special about them: a mask of ones alone, which some models leave out, is refused.
    input_names, output_names: unless given, the names of forward()'s parameters, and "output", the fields of a named
        tuple or the keys of a dict.
    dynamic_axes: axes that may have another length in use, {"x": {0: "batch", 2: "length"}} or {"x": [0]}; equal names
        vary together. Left out, the first axis of every input that is as long as the first input's is the batch.
        {} fixes all sizes.
    opset_version: 17 to 21.

    Parameters keep their dotted names, and nodes are named after their module. Class names, preprocessing, licence and
    provenance that the model carries, and its architecture, go into the file's metadata. Writing is atomic. The model
    is not changed. Needs `pip install 'minidl[onnx]'`.
    Raises ExportError (a ValueError) with the operation and the module for what cannot be written: operations without
    a counterpart, a computation that depends on the values, more than 2 GB.
    """
    if not isinstance(model, Module):
        raise TypeError(f"export: the first argument must be a Module, not a {type(model).__name__}")
    if opset_version not in OPSETS:
        raise ValueError(f"export: opset_version must be from {OPSETS[0]} to {OPSETS[-1]}, not {opset_version}")
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    inputs = _inputs(model, args, kwargs or {}, input_names)
    axes = _dynamic(inputs, dynamic_axes, output_names)
    merged = _traces(model, args, dict(kwargs or {}), inputs, axes)
    write_bytes(path, _model(model, merged, inputs, axes, output_names, opset_version).SerializeToString())


def _inputs(model: Module, args: tuple, kwargs: Mapping[str, Any],
            names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """The arrays among the arguments, in order, by the name each has in the file."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    positional += [f"input_{place}" for place in range(len(positional), len(args))]
    found = {name: value for name, value in [*zip(positional, args), *kwargs.items()]
             if isinstance(value, (Tensor, np.ndarray))}
    if not found:
        raise ValueError("export: args holds no tensor or array; give an example input, such as "
                         "minidl.randn(2, 3, 32, 32)")
    if names is not None:
        if len(names) != len(found) or len(set(names)) != len(names):
            raise ValueError(f"export: input_names must be {len(found)} different names, for {', '.join(found)}; they "
                             f"are {list(names)}")
        found = dict(zip(names, found.values()))
    return {name: np.asarray(value.array if isinstance(value, Tensor) else value) for name, value in found.items()}


def _dynamic(inputs: Mapping[str, np.ndarray], asked: Mapping[str, Any] | None,
             output_names: Sequence[str] | None) -> dict[str, dict[int, str]]:
    """For each input the names of its axes that may vary."""
    if asked is None:
        count = next(iter(inputs.values())).shape[:1]
        return {name: {0: "batch"} for name, array in inputs.items() if array.ndim and array.shape[:1] == count}
    axes: dict[str, dict[int, str]] = {}
    for name, wanted in asked.items():
        if name in (output_names or ()) or (output_names is None and name.startswith("output")):
            continue  # PyTorch's scripts name the axes of outputs too, which follow from those of the inputs
        if name not in inputs:
            raise ValueError(f"export: dynamic_axes names '{name}', the inputs are {', '.join(inputs)}"
                             f"{did_you_mean(name, inputs)}")
        named = dict(wanted) if isinstance(wanted, Mapping) else {axis: f"{name}_axis_{axis}" for axis in wanted}
        ndim = inputs[name].ndim
        for axis, label in named.items():
            if not -ndim <= axis < ndim:
                raise ValueError(f"export: dynamic_axes names axis {axis} of '{name}', which has shape "
                                 f"{inputs[name].shape}")
            axes.setdefault(name, {})[axis % ndim] = str(label)
    return axes


def _traces(model: Module, args: tuple, kwargs: dict[str, Any], inputs: Mapping[str, np.ndarray],
            axes: Mapping[str, Mapping[int, str]]) -> Merged:
    """Run the model on inputs of several sizes and values, in evaluation mode, and put the runs together."""
    base: dict[str, int] = {}
    for name, named in axes.items():
        for axis, label in named.items():
            length = max(inputs[name].shape[axis], 2)  # of length 1, an axis may be squeezed or broadcast
            if base.setdefault(label, length) != length:
                raise ValueError(f"export: the dynamic axis '{label}' has length {base[label]} and {length}; axes of "
                                 "one name must be equally long")
    if len(base) > 3:
        raise ValueError(f"export: {len(base)} dynamic axes, {', '.join(base)}; up to 3 are possible")
    sizes = Sizes(base)
    modes = [(module, module._mode) for module in model.modules()]
    traces = []
    try:
        model.eval()
        for number, run in enumerate(sizes.runs):
            varied = [_varied(array, {axis: run[label] for axis, label in axes.get(name, {}).items()}, number)
                      for name, array in inputs.items()]
            traces.append(trace(model, *_with(args, kwargs, varied)))
    except (ValueError, IndexError, TypeError) as error:
        if isinstance(error, ExportError) or not traces:
            raise
        raise ExportError(f"with other sizes of the dynamic axes than the example's ({sizes.runs[len(traces)]}) the "
                          f"model fails: {error}; say in dynamic_axes what may vary, and leave it room") from error
    finally:
        for module, mode in modes:
            module.training = mode
    return merge(traces, sizes)


def _varied(array: np.ndarray, lengths: Mapping[int, int], number: int) -> np.ndarray:
    """The example with other lengths along some axes and, from the second run on, other values in another order."""
    if number:
        array = np.flip(array)
    for axis, length in lengths.items():
        array = np.take(array, np.arange(length) % array.shape[axis], axis)
    if number and array.dtype.kind == "f":
        array = (array + 0.01 * np.random.default_rng(number).random(array.shape)).astype(array.dtype)
    return np.asarray(array, order="C")


def _with(args: tuple, kwargs: dict[str, Any], arrays: Sequence[np.ndarray]) -> tuple[tuple, dict[str, Any]]:
    """The arguments with other arrays in the places of theirs."""
    fresh = iter(arrays)

    def replaced(value: Any) -> Any:
        return Tensor(next(fresh)) if isinstance(value, (Tensor, np.ndarray)) else value

    return tuple([replaced(value) for value in args]), {key: replaced(value) for key, value in kwargs.items()}


class _Writer:
    """The graph of what was merged: calls whose results are used, in their order."""

    def __init__(self, model: Module, merged: Merged, inputs: Mapping[str, np.ndarray], graph: Graph):
        self.merged, self.graph = merged, graph
        tensors = [*model.state_dict().items(), *model.named_buffers()]
        self.weights = {name: Value(name, tensor.shape, tensor.dtype, tensor.array) for name, tensor in tensors}
        self.values = [Value(name, merged.shapes[number], merged.dtypes[number])
                       for number, name in enumerate(inputs)]
        self.values += [Value("")] * (len(merged.shapes) - len(inputs))

    def needed(self) -> list[Call]:
        """The calls on which the outputs depend."""
        wanted = {leaf.number for _, leaf in self.merged.outputs if isinstance(leaf, Ref)}
        calls = []
        for call in reversed(self.merged.calls):
            if not wanted.isdisjoint(call.results):
                calls.append(call)
                wanted |= {leaf.number for leaf in _refs(call.arguments)}
        self.used = wanted
        return calls[::-1]

    def value(self, leaf: Any) -> Any:
        """An argument as the emitter takes it: Values for arrays, everything else as it is."""
        if isinstance(leaf, Ref):
            return self.values[leaf.number]
        if isinstance(leaf, Weight):
            return self.weights[leaf.name]
        if isinstance(leaf, Fixed):
            return self.graph.constant(leaf.array)
        if isinstance(leaf, Filled):
            filled = self.graph.expand(self.graph.scalar(leaf.value, leaf.dtype), leaf.shape)
            return Value(filled.name, leaf.shape, leaf.dtype)
        if isinstance(leaf, Listed):
            listed = self.graph.lengths(leaf.numbers)
            listed.shape = (len(leaf.numbers),)
            return self.graph.cast(self.graph.reshape(listed, leaf.shape), leaf.dtype)
        if isinstance(leaf, Counting):
            ends = [self.graph.scalar(leaf.first, np.int64),
                    self.graph.operand(_more(leaf.length, leaf.first), np.int64), self.graph.scalar(1, np.int64)]
            counted = self.graph.node("Range", ends, shape=(leaf.length,), dtype=np.int64)
            return self.graph.cast(counted, leaf.dtype)
        if type(leaf) in (tuple, list):
            return type(leaf)([self.value(item) for item in leaf])
        if isinstance(leaf, slice):
            return slice(*[self.value(part) for part in (leaf.start, leaf.stop, leaf.step)])
        return leaf

    def write(self, call: Call) -> None:
        graph = self.graph
        graph.path, graph.where = call.path, f"export: {call}"
        if call.name not in EMITTERS:
            raise graph.refuse(REFUSED.get(call.name, "ONNX export does not know this operation"))
        graph.result_shape, graph.result_dtype = (self.merged.shapes[call.results[0]],
                                                  self.merged.dtypes[call.results[0]])
        arguments = {key: self.value(leaf) for key, leaf in call.arguments.items()}
        tensors = arguments.pop("xs") if type(arguments.get("xs")) is tuple else ()
        results = EMITTERS[call.name](graph, *tensors, **arguments)
        for number, result in zip(call.results, results if isinstance(results, list) else [results]):
            result = graph.cast(result, self.merged.dtypes[number])
            self.values[number] = Value(result.name, self.merged.shapes[number], result.dtype, result.array)


def _refs(arguments: Any) -> list[Ref]:
    found: list[Ref] = []
    for leaf in arguments.values() if isinstance(arguments, dict) else arguments:
        if isinstance(leaf, Ref):
            found.append(leaf)
        elif type(leaf) in (tuple, list):
            found += _refs(leaf)
        elif isinstance(leaf, slice):
            found += _refs([leaf.start, leaf.stop, leaf.step])
    return found


def _more(size: Any, number: int) -> Any:
    if not number:
        return size
    terms = dict(size.terms)
    terms[()] = terms.get((), 0) + number
    return Size(tuple(terms.items()))


def _model(model: Module, merged: Merged, inputs: Mapping[str, np.ndarray], axes: Mapping[str, Mapping[int, str]],
           output_names: Sequence[str] | None, opset: int) -> Any:
    """The whole as a ModelProto."""
    from onnx import helper

    names = output_names if output_names is not None else _distinct([name for name, _ in merged.outputs], inputs)
    if len(names) != len(merged.outputs) or len({*names, *inputs}) != len(names) + len(inputs):
        raise ValueError(f"export: output_names must be {len(merged.outputs)} different names that no input has, they "
                         f"are {list(names)}")
    sources = {label: (name, axis) for name, named in axes.items() for axis, label in named.items()}
    graph = Graph(opset, sources)
    graph.names |= {*inputs, *names}
    writer = _Writer(model, merged, inputs, graph)
    for call in writer.needed():
        writer.write(call)
    for number, name in enumerate(inputs):
        if number not in writer.used:
            raise ExportError(f"the input '{name}' has no influence on the outputs in this example; leave it out, or "
                              "give values that do have one (a mask with zeros, for instance)")
    graph.path, results = "", []
    for name, (_, leaf) in zip(names, merged.outputs):
        value = writer.value(leaf)
        graph.nodes.append(helper.make_node("Identity", [graph.use(value)], [name], f"{name}/Identity"))
        shape = merged.shapes[leaf.number] if isinstance(leaf, Ref) else value.shape
        results.append(helper.make_tensor_value_info(name, element_type(value.dtype), [_label(n) for n in shape]))
    given = [helper.make_tensor_value_info(name, element_type(array.dtype), [
        axes.get(name, {}).get(axis, length) for axis, length in enumerate(array.shape)]) for name, array in
        inputs.items()]
    _tidy(graph, results)
    proto = helper.make_model(
        helper.make_graph(graph.nodes, type(model).__name__, given, results, graph.initializers),
        opset_imports=[helper.make_opsetid("", opset)], producer_name="minidl", producer_version=minidl.__version__,
        ir_version=8 if opset < 19 else 9 if opset < 21 else 10)
    helper.set_model_props(proto, _metadata(model))
    return proto


def _distinct(names: list[str], taken: Mapping[str, Any]) -> list[str]:
    """Names for outputs, with a number behind those that are taken."""
    found: list[str] = []
    for name in names:
        number, wanted = 1, name
        while name in found or name in taken:
            number += 1
            name = f"{wanted}_{number}"
        found.append(name)
    return found


def _label(size: Any) -> Any:
    """A length in the type of an output: a number, the name of a dynamic axis, or nothing."""
    return None if isinstance(size, Unknown) else str(size) if isinstance(size, Size) else int(size)


def _tidy(graph: Graph, results: Sequence[Any]) -> None:
    """Leave out nodes that nothing reads, and let the node that makes an output carry its name, instead of an Identity
    behind it, where nothing else reads it.
    """
    needed = {result.name for result in results}
    kept = []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(node.input)
    graph.nodes = kept[::-1]
    graph.initializers = [tensor for tensor in graph.initializers if tensor.name in needed]
    makers = {result: node for node in graph.nodes for result in node.output}
    readers = Counter(name for node in graph.nodes for name in node.input)
    passed = set()
    for node in graph.nodes:
        source = node.input[0] if node.op_type == "Identity" else ""
        if source in makers and readers[source] == 1:
            outputs = makers[source].output
            outputs[list(outputs).index(source)] = node.output[0]
            passed.add(node.name)
    graph.nodes = [node for node in graph.nodes if node.name not in passed]


def _metadata(model: Module) -> dict[str, str]:
    """What the model carries, as texts of JSON under the names that `minidl.transfer.save` uses."""
    fields = {name: vars(model).get(name) for name in CARRIED}
    try:
        fields["architecture"] = structure(model)
    except TypeError:  # a class of the user's own: the graph is all there is to say
        fields["architecture"] = None
    return {f"minidl.{name}": json.dumps(value, ensure_ascii=False, default=list)
            for name, value in fields.items() if value is not None}
