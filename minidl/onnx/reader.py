"""An ONNX file as plain data: nodes, named constants, inputs and outputs, all checked, nothing run.

Neither the onnx package nor protobuf is needed. Whatever is wrong with a file ends in `FileFormatError`. The memory
that loading takes is at most three times the bytes of the tensors, a hundred times those that describe the nodes, of
which there may be 20,000, and 16 MiB or eight times the file for constants computed from others (`folding.py`).
Read `importer.py` next.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from minidl.errors import FileFormatError
from minidl.formats import tensorfile
from minidl.onnx import schema
from minidl.onnx.tensors import Beside, to_array
from minidl.onnx.wire import parse

OPSETS = range(7, 29)  # 28 is that of onnx 1.23
MOST_NODES, LONGEST_NAME = 20_000, 2000
ATTRIBUTE_TYPES = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}
REFUSED_TYPES = {5: "a subgraph", 9: "several tensors", 10: "several subgraphs", 11: "a sparse tensor",
                 12: "several sparse tensors", 13: "a type", 14: "several types"}


class Node(NamedTuple):
    """One operation: which, of what (a missing input is ''), into what."""

    op_type: str
    name: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class Network(NamedTuple):
    """What a file says: the nodes in an order in which they can run."""

    opset: int
    nodes: list[Node]
    constants: dict[str, np.ndarray]
    inputs: dict[str, tuple[Any, ...]]  # name -> shape; None or a text for sizes that are open
    outputs: list[str]
    producer: str
    metadata: dict[str, str]
    size: int  # bytes of the file and of those beside it


def read(path: str | os.PathLike) -> Network:
    """The network in an ONNX file. Raises FileFormatError for a damaged, hostile or foreign file."""
    model, size = _parse(path)
    with Beside(path) as beside:
        return _network(model, beside, size, path)


def read_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The initialisers of an ONNX file, its weights, by their names there; arrays of their own."""
    model, _ = _parse(path)
    with Beside(path) as beside:
        return {name: array.copy() for name, array in _initialisers(_graph(model, path), beside, path).items()}


def _network(model: dict[str, Any], beside: Beside, size: int, path: Any) -> Network:
    graph = _graph(model, path)
    constants = _initialisers(graph, beside, path)
    inputs = {name: shape for name, shape in _values(graph, "input", path) if name not in constants}
    outputs = [name for name, _ in _values(graph, "output", path)]
    if not outputs:
        raise FileFormatError(f"{path}: the graph has no outputs")
    nodes = graph.get("node", [])
    if len(nodes) > MOST_NODES:
        raise FileFormatError(f"{path}: {len(nodes):,} nodes; at most {MOST_NODES:,} are read")
    checked = [_node(node, index, beside, path) for index, node in enumerate(nodes)]
    _check_order(checked, {*constants, *inputs}, outputs, path)
    producer = " ".join(filter(None, (model.get("producer_name"), model.get("producer_version"))))
    return Network(_opset(model, path), checked, constants, inputs, outputs, producer[:200], _metadata(model, path),
                   size + beside.size)


def _parse(path: str | os.PathLike) -> tuple[dict[str, Any], int]:
    with tensorfile.opened(path) as stream:
        data = stream.read()
    model = parse(memoryview(data), schema.MODEL, f"{os.fspath(path)}")
    if "graph" not in model or "ir_version" not in model:
        raise FileFormatError(f"{path}: {'truncated, or ' if data else 'empty: '}not an ONNX model: there is no graph "
                              "in it")
    if model.get("functions"):
        raise FileFormatError(f"{path}: the model defines functions of its own, which are not read; inline them, for "
                              "instance with onnx.inliner.inline_local_functions")
    return model, len(data)


def _graph(model: dict[str, Any], path: Any) -> dict[str, Any]:
    graph = model["graph"]
    if graph.get("sparse_initializer"):
        raise FileFormatError(f"{path}: sparse initialisers are not read")
    return graph


def _metadata(model: dict[str, Any], path: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in model.get("metadata_props", []):
        key = entry.get("key", "")
        if key in found:
            raise FileFormatError(f"{path}: two entries of the metadata are called {key[:100]!r}")
        found[key] = entry.get("value", "")
    return found


def _opset(model: dict[str, Any], path: Any) -> int:
    """The version of the standard operators."""
    versions = [entry.get("version", 0) for entry in model.get("opset_import", [])
                if entry.get("domain", "") in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in OPSETS:
        raise FileFormatError(f"{path}: operators of opset {', '.join(map(str, versions[:5])) or 'no version'}; one of "
                              f"{OPSETS.start} to {OPSETS.stop - 1} is needed")
    return versions[0]


def _initialisers(graph: dict[str, Any], beside: Beside, path: Any) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for tensor in graph.get("initializer", []):
        name = _name(tensor.get("name", ""), f"{path}: an initialiser")
        if name in found:
            raise FileFormatError(f"{path}: two initialisers are called {name[:100]!r}")
        found[name] = to_array(tensor, beside, f"{path}: initialiser {name[:100]!r}")
    return found


def _name(name: str, what: str) -> str:
    if not name or len(name) > LONGEST_NAME:
        raise FileFormatError(f"{what} has {f'a name of {len(name):,} characters' if name else 'no name'}")
    return name


def _values(graph: dict[str, Any], kind: str, path: Any) -> list[tuple[str, tuple[Any, ...]]]:
    """The graph's inputs or outputs with their shapes."""
    found: dict[str, tuple[Any, ...]] = {}
    for value in graph.get(kind, []):
        name = _name(value.get("name", ""), f"{path}: an {kind} of the graph")
        if name in found:
            raise FileFormatError(f"{path}: two {kind}s of the graph are called {name[:100]!r}")
        tensor = value.get("type", {}).get("tensor_type", {})
        if "type" in value and "tensor_type" not in value["type"]:
            raise FileFormatError(f"{path}: the {kind} {name[:100]!r} is no tensor; sequences, maps and optional "
                                  "values are not read")
        dims = tensor.get("shape", {}).get("dim", [])
        found[name] = tuple(dim.get("value", dim.get("parameter")) for dim in dims)
    return list(found.items())


def _node(node: dict[str, Any], index: int, beside: Beside, path: Any) -> Node:
    op_type, name = node.get("op_type", ""), node.get("name", "")
    what = f"{path}: node {index} ({op_type[:50]}{f' {name[:100]!r}' if name else ''})"
    if not op_type or len(op_type) > 100 or max(len(name), len(node.get("domain", ""))) > LONGEST_NAME:
        raise FileFormatError(f"{what}: no operator, or a name of thousands of characters")
    inputs, outputs = node.get("input", []), node.get("output", [])
    for value in (*inputs, *outputs):
        if len(value) > LONGEST_NAME:
            raise FileFormatError(f"{what}: a name of {len(value):,} characters")
    attributes: dict[str, Any] = {}
    for attribute in node.get("attribute", []):
        key = _name(attribute.get("name", ""), f"{what}: an attribute")
        if key in attributes:
            raise FileFormatError(f"{what}: two attributes are called {key[:100]!r}")
        attributes[key] = _attribute(attribute, beside, f"{what}: attribute {key[:100]!r}")
    return Node(op_type, name, node.get("domain", ""), tuple(inputs), tuple(outputs), attributes)


def _attribute(attribute: dict[str, Any], beside: Beside, what: str) -> Any:
    """A number, text, tuple of them, or array."""
    kind = attribute.get("type", 0)
    if kind in REFUSED_TYPES:
        raise FileFormatError(f"{what} is {REFUSED_TYPES[kind]}: control flow (If, Loop, Scan) and the like are not "
                              "read")
    if kind not in ATTRIBUTE_TYPES or attribute.get("ref_attr_name"):
        raise FileFormatError(f"{what} is of type {kind}, which there is not")
    field = ATTRIBUTE_TYPES[kind]
    others = [name for name in (*ATTRIBUTE_TYPES.values(), "g", "graphs", "tensors") if name != field]
    if any(len(attribute[name]) if hasattr(attribute[name], "__len__") else attribute[name] for name in others
           if name in attribute):
        raise FileFormatError(f"{what} says that it is of type {field}, but holds something else")
    if field == "t":
        return to_array(attribute.get("t", {}), beside, what)
    if field in ("floats", "ints", "strings"):
        row = attribute.get(field, [])
        return tuple(row.tolist() if isinstance(row, np.ndarray) else row)
    return attribute.get(field, "" if field == "s" else 0)


def _check_order(nodes: list[Node], known: set[str], outputs: list[str], path: Any) -> None:
    """Raise unless every value is defined once, and before it is used: so there is no cycle."""
    later = {output for node in nodes for output in node.outputs}
    for index, node in enumerate(nodes):
        what = f"{path}: node {index} ({node.op_type} {node.name[:100]!r})"
        for value in node.inputs:
            if value and value not in known:
                why = "which it or a later node makes: the graph has a cycle, or its nodes are not in order" \
                    if value in later else "which nothing defines"
                raise FileFormatError(f"{what}: takes {value[:100]!r}, {why}")
        for value in node.outputs:
            if value and value in known:
                raise FileFormatError(f"{what}: makes {value[:100]!r}, which is defined already")
            if value:
                known.add(value)
    for value in outputs:
        if value not in known:
            raise FileFormatError(f"{path}: the output {value[:100]!r} is defined by nothing")
