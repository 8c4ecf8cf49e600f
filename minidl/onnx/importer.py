"""`load`: the network of an ONNX file as a minidl Module.

The nodes are walked once. What depends on constants only is computed (`folding.py`), what has its weights in the file
becomes a layer (`layers.py`), everything else an `Operation`; then the values are numbered and the steps written down
(`graph.py`).
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from minidl.errors import FileFormatError
from minidl.formats.archive import default_limit
from minidl.nn import init
from minidl.nn.module import Module, Parameter
from minidl.onnx import layers, older, recurrent
from minidl.onnx.dims import result_dims
from minidl.onnx.folding import Folder
from minidl.onnx.graph import Constants, Graph, Operation, fits
from minidl.onnx.names import Places, wished
from minidl.onnx.operators import OPERATORS, check
from minidl.onnx.reader import Network, Node, read
from minidl.onnx.tensors import DTYPES
from minidl.transfer import files

SHOWN, MOST_IN_GROUP = 6, 32


def load(path: str | os.PathLike) -> Module:
    """The network of an ONNX file (opset 7 to 28), in evaluation mode, with its weights as parameters.

    `model(*inputs)` takes tensors in the order of the graph's inputs and returns its output, a tuple if there are
    several. Convolutions, dense layers, normalisations, embeddings, recurrent layers and the like become layers of
    `minidl.nn` under the names that weights or nodes have in the file; so `freeze`, `rehead`, `features`, `summary`,
    `save` and training do what they do for every model. Floating-point constants of more than one element that no
    layer holds are parameters too, all others buffers. An exporter has often merged BatchNorm into the convolutions.

    What minidl's own export has written beside the network (`classes`, `preprocessing`, `licence`) is carried as by
    `transfer.load`; `provenance` names the file. Data beside the file, as PyTorch writes large networks, are read from
    a plain file of the same folder.
    Raises FileFormatError for a damaged, hostile or foreign file, and with all their names for operators that are not
    there. No code of the file is run; see `reader.py` for the memory that is used.
    """
    network = read(path)
    constants = dict(network.constants)
    nodes = [older.modern(node, network.opset, index, constants) for index, node in enumerate(network.nodes)]
    _refuse_unsupported(nodes, network, constants, path)
    fields = files._fields(network.metadata, None, f"{os.fspath(path)}")
    with init.skipped():
        graph = _Builder(network, nodes, constants, path).graph()
    source = {"onnx": os.path.basename(path), "opset": network.opset, "producer": network.producer}
    if fields.get("provenance"):
        source["based_on"] = fields["provenance"]
    files._carry({**fields, "provenance": source}, graph, ())
    return graph.eval()


def _refuse_unsupported(nodes: list[Node], network: Network, constants: dict[str, np.ndarray], path: Any) -> None:
    """Raise one error that names every operator, or use of one, that is not there."""
    missing: dict[str, list[str]] = {}
    for index, (node, original) in enumerate(zip(nodes, network.nodes)):
        reason = _unsupported(node, original, path) or \
            ("Dropout in training_mode" if node.op_type == "Dropout" and _is_on(node, constants) else "")
        if reason:
            missing.setdefault(reason, []).append(repr(node.name[:60] or f"#{index}"))
    if missing:
        lines = [f"{reason} (node{'s' * (len(names) > 1)} {', '.join(names[:SHOWN])}"
                 f"{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''})"
                 for reason, names in missing.items()]
        more = f" and {len(lines) - 50} more" if len(lines) > 50 else ""
        raise FileFormatError(f"{path}: opset {network.opset}: not there in minidl: {', '.join(lines[:50])}{more}")


def _is_on(node: Node, constants: dict[str, np.ndarray]) -> bool:
    """Whether the third input, training_mode, is known and true."""
    return len(node.inputs) > 2 and node.inputs[2] in constants and bool(constants[node.inputs[2]].any())


def _unsupported(node: Node, original: Node, path: Any) -> str:
    """What of a node is not there, '' if all is."""
    if node.domain not in ("", "ai.onnx") or original.op_type not in OPERATORS and \
            node.op_type not in OPERATORS and node.op_type != "Constant" or not original.op_type[0].isupper():
        return f"{f'{node.domain[:50]}.' if node.domain not in ('', 'ai.onnx') else ''}{original.op_type[:50]}"
    if node.op_type == "Constant":
        return ""
    known = OPERATORS[node.op_type]
    used = max([place + 1 for place, name in enumerate(node.outputs) if name], default=0)
    if used > known.outputs:
        return f"{node.op_type} with {used} outputs"
    try:
        check(node.op_type, node.attributes, len(node.inputs))
    except ValueError as error:
        raise FileFormatError(f"{path}: node {node.name[:100]!r}: {error}") from error
    attributes = node.attributes
    if node.op_type in recurrent.GATES:
        problem = recurrent.unusual(node.op_type, attributes) or ("peepholes" if "".join(node.inputs[7:]) else "")
        return f"{node.op_type} with {problem}" if problem else ""
    if attributes.get("training_mode"):
        return f"{node.op_type} in training_mode"
    if len(attributes.get("kernel_shape", ())) > 2:
        return f"{node.op_type} over {len(attributes['kernel_shape'])} axes"
    if node.op_type == "Resize":
        modes = {"antialias": attributes.get("antialias"), "tf_crop_and_resize":
                 attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"}
        return "".join(f"Resize with {mode}" for mode, asked in modes.items() if asked)
    if node.op_type == "Cast" and attributes["to"] not in DTYPES:
        return f"Cast to type {attributes['to']}"
    return ""


class _Module(NamedTuple):
    module: Module
    path: str  # that is wished for
    op_type: str
    weighted: bool


class _Step(NamedTuple):
    module: int  # place in the list of modules
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _Builder:
    """What is known of the values while the nodes are walked, and the network that comes of it."""

    def __init__(self, network: Network, nodes: list[Node], constants: dict[str, np.ndarray], path: Any):
        self.network, self.nodes, self.constants, self.path = network, nodes, constants, path
        self.origin = {name: name for name in network.constants}  # constant -> the initialiser it is made of
        self.dims: dict[str, int | None] = {name: len(shape) or None for name, shape in network.inputs.items()}
        self.uses: dict[str, list[int]] = {}
        for index, node in enumerate(nodes):
            for name in node.inputs:
                self.uses.setdefault(name, []).append(index)
        self.folder = Folder(default_limit(network.size), path)
        self.steps: list[_Step] = []
        self.modules: list[_Module] = []
        self.parameters: dict[tuple, tuple[Parameter, Any]] = {}  # by the memory they are made of, to keep ties
        self.layers: dict[tuple, int] = {}  # a layer that is used twice is one module
        self.taken: set[int] = set()  # nodes that went into another's layer

    def graph(self) -> Graph:
        for index, node in enumerate(self.nodes):
            if index not in self.taken:
                self._take(node, index)
        wanted = [name for step in self.steps for name in step.inputs] + self.network.outputs
        loose = [name for name in dict.fromkeys(wanted) if name in self.constants]
        self.steps = [*self._constants(loose), *self.steps]
        return self._numbered()

    def _take(self, node: Node, index: int) -> None:
        if node.op_type == "Constant":
            self.constants[node.outputs[0]] = older.literal(node, self.path)
            return
        known = [self.constants.get(name) if name else None for name in node.inputs]
        if all(array is not None or not name for array, name in zip(known, node.inputs)) and known:
            results = self.folder.fold(node, known)
            if results is not None:
                self._fold(node, results)
                return
        dims = self.dims.get(node.inputs[0]) if node.inputs else None
        if known and known[0] is not None:
            dims = known[0].ndim
        made, output = layers.make(node, known, dims), node.outputs
        if node.op_type == "MatMul" and made is not None:
            node, known, made, output = self._with_bias(node, known, made)
        if made is None:
            self._operation(node, node.outputs)
        else:
            self._layer(node, known, made, output)
        for place, name in enumerate(node.outputs):
            self.dims[name] = result_dims(node, [self._dims(value) for value in node.inputs], known, place)
        if output != node.outputs:
            self.dims[output[0]] = self.dims[node.outputs[0]]

    def _dims(self, name: str) -> int | None:
        return self.constants[name].ndim if name in self.constants else self.dims.get(name)

    def _fold(self, node: Node, results: tuple) -> None:
        sources = [self.origin[name] for name in node.inputs if name in self.origin and self._is_trained(name)]
        copied = node.op_type == "Identity"  # PyTorch writes tensors that happen to be equal once: they are not tied
        for name, array in zip(node.outputs, results):
            if name and copied and sources:
                self.constants[name], self.origin[name] = array.copy(), name
            elif name:
                self.constants[name] = array
                if sources and array.dtype.kind == "f":
                    self.origin[name] = sources[0]

    def _is_trained(self, name: str) -> bool:
        """Whether a constant counts as a weight: an initialiser of finite floating-point numbers, more than one."""
        array = self.constants[name]
        return name in self.origin and array.dtype.kind == "f" and array.size > 1 and bool(np.isfinite(array).all())

    def _with_bias(self, node: Node, known: list, made: layers.Made) -> tuple:
        """A MatMul with the Add of a bias that follows it, as one dense layer."""
        (result,) = node.outputs
        following = self.uses.get(result, [])
        if len(following) == 1 and result not in self.network.outputs:
            add = self.nodes[following[0]]
            other = [name for name in add.inputs if name != result]
            if add.op_type == "Add" and len(other) == 1 and other[0] in self.constants:
                bias = self.constants[other[0]]
                joined = layers.linear(known[1].T, bias) if bias.ndim == 1 and self._dims(node.inputs[0]) != 0 else None
                if joined is not None:
                    self.taken.add(following[0])
                    return node._replace(inputs=(*node.inputs[:2], other[0])), [*known, bias], joined, add.outputs
        return node, known, made, node.outputs

    def _layer(self, node: Node, known: list, made: layers.Made, outputs: tuple[str, ...]) -> None:
        inputs = tuple(node.inputs[place] for place in made.inputs)
        if made.before is not None:
            padded = f"padded\0{len(self.steps)}"
            place = self._add(made.before, f"{wished(node.op_type, node.name, node.outputs[0])}_pad", "Pad")
            self.steps.append(_Step(place, inputs, (padded,)))
            inputs = (padded,)
        weights = tuple(node.inputs[place] for place in made.weights if place < len(node.inputs))
        key = (node.op_type, weights, str(sorted(node.attributes.items(), key=lambda pair: pair[0])))
        if not weights or key not in self.layers:
            self._fill(made)
            names = tuple(self.origin.get(name, "") for name in weights)
            path = wished(node.op_type, node.name, node.outputs[0], names)
            self.layers[key] = self._add(made.layer, path, node.op_type, bool(made.arrays))
        self.steps.append(_Step(self.layers[key], inputs, outputs))

    def _add(self, module: Module, path: str, op_type: str, weighted: bool = False) -> int:
        self.modules.append(_Module(module, path, op_type, weighted))
        return len(self.modules) - 1

    def _fill(self, made: layers.Made) -> None:
        """Give a layer the arrays of the file as its own."""
        own = vars(made.layer)
        for name, array in made.arrays.items():
            if array is None:
                continue
            if not isinstance(own[name], Parameter):
                own[name].array[...] = array
                continue
            memory = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype)
            if memory not in self.parameters:
                own[name].array = np.array(array, order="C")
                self.parameters[memory] = own[name], array  # the array too, lest another takes its place in memory
            setattr(made.layer, name, self.parameters[memory][0])

    def _operation(self, node: Node, outputs: tuple[str, ...]) -> None:
        attributes = [[name, list(value) if isinstance(value, tuple) else value] for name, value in
                      node.attributes.items()]
        path = wished(node.op_type, node.name, next(filter(None, outputs), ""), layer=False)
        place = self._add(Operation(node.op_type, attributes), path, node.op_type)
        self.steps.append(_Step(place, node.inputs, outputs))

    def _constants(self, names: list[str]) -> list[_Step]:
        """Steps that hand out the constants which belong to no layer, those with a common front of name together."""
        groups: dict[tuple, list[tuple[str, str]]] = {}
        latest: dict[tuple, int] = {}
        probe = Constants([], [])
        for count, name in enumerate(names):
            source, trained = self.origin.get(name, name), self._is_trained(name)
            front, _, last = source.rpartition(".")
            if not front or not fits(last, probe):
                front, last = source, "value"
            if not trained and name not in self.origin:
                front, last = "constants", f"c{count}"
            kind = (front, str(self.constants[name].dtype), trained)
            group = groups.setdefault((*kind, latest.setdefault(kind, 0)), [])
            if len(group) == MOST_IN_GROUP or last in [taken for _, taken in group]:
                latest[kind] += 1
                group = groups.setdefault((*kind, latest[kind]), [])
            group.append((name, last))
        return [self._group(key, members) for key, members in groups.items()]

    def _group(self, key: tuple, members: list[tuple[str, str]]) -> _Step:
        front, dtype, trained, _ = key
        module = Constants([last for _, last in members], [list(self.constants[name].shape) for name, _ in members],
                           dtype, trained)
        for name, last in members:
            vars(module)[last].array = np.array(self.constants[name], order="C")
        return _Step(self._add(module, wished("Constant", front, ""), "Constant", trained), (),
                     tuple(name for name, _ in members))

    def _order(self) -> list[int]:
        """The modules in the order in which they are needed: constants where they are used first."""
        makers = {name: step.module for step in self.steps for name in step.outputs if not step.inputs}
        places = (place for step in self.steps if step.inputs
                  for place in (*[makers[name] for name in step.inputs if name in makers], step.module))
        return list(dict.fromkeys([*places, *(step.module for step in self.steps)]))

    def _numbered(self) -> Graph:
        holder = Graph((), (), (), ())
        places = Places(holder, [path for _, path, _, weighted in self.modules if weighted])
        paths = {}
        for place in self._order():
            module, path, op_type, weighted = self.modules[place]
            paths[place] = places.put(path, module, op_type, weighted)
        numbers = {name: number for number, name in enumerate(self.network.inputs)}
        count, steps = len(numbers), []
        for step in self.steps:
            inputs = tuple(numbers[name] if name else -1 for name in step.inputs)
            steps.append((paths[step.module], inputs, len(step.outputs)))
            numbers |= {name: count + place for place, name in enumerate(step.outputs) if name}
            count += len(step.outputs)
        graph = Graph(tuple(name[:200] for name in self.network.inputs), tuple(steps),
                      tuple(numbers[name] for name in self.network.outputs),
                      tuple(name[:200] for name in self.network.outputs))
        for name, child in holder.named_children():
            graph.add_module(name, child)
        return graph
