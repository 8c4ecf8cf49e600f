"""What the configuration in a Keras file says about the network: its layers in order, and which feeds which.

It is JSON, and is only looked at: no class is made from it, no code in it (a Lambda's, for instance) is ever run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from minidl.errors import FileFormatError
from minidl.formats.tensorfile import parse_json

NETWORKS = ("Sequential", "Functional", "Model")  # configurations that hold layers
DEEPEST = 32  # networks inside of networks
LONGEST_TEXT = 64 * 2**20
# Layers whose output has its input's axes, and as many channels.
KEEPING = {
    "Activation", "AlphaDropout", "AveragePooling1D", "AveragePooling2D", "BatchNormalization", "Cropping1D",
    "Cropping2D", "Dropout", "ELU", "GaussianDropout", "GaussianNoise", "GroupNormalization", "LayerNormalization",
    "LeakyReLU", "MaxPooling1D", "MaxPooling2D", "PReLU", "ReLU", "Rescaling", "Softmax", "SpatialDropout1D",
    "SpatialDropout2D", "ThresholdedReLU", "UpSampling1D", "UpSampling2D", "ZeroPadding1D", "ZeroPadding2D",
}
MAPS = {"Conv1D", "Conv2D", "Conv1DTranspose", "Conv2DTranspose", "SeparableConv1D", "SeparableConv2D",
        "DepthwiseConv1D", "DepthwiseConv2D"}  # channels are last in Keras and second here
SEQUENCES = {"Embedding", "LSTM", "GRU", "SimpleRNN", "Bidirectional", "RNN", "Dense", "TimeDistributed",
             "MultiHeadAttention"}  # features are last in both
JOINING = {"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"}

References = list[tuple[dict[str, list["Layer"]], str]]  # a name, and the network in which it is one


class Layer:
    """A layer: its class, its name with those of the networks around it, its options, and what feeds it."""

    def __init__(self, kind: str, name: str, options: dict[str, Any], shape: Any, sources: References):
        self.kind, self.name, self.options, self.shape, self.sources = kind, name, options, shape, sources

    def inputs(self) -> list[Layer]:
        return [layer for scope, name in self.sources for layer in scope.get(name, [])]

    def wrapping(self, inner: dict[str, Any]) -> Layer:
        """The layer that this one applies to every step, in its place."""
        options = inner.get("config")
        return Layer(inner["class_name"], self.name, options if isinstance(options, dict) else {}, None, self.sources)

    def input_shape(self) -> list[int | None] | None:
        """The shape of its input as far as the file tells it."""
        inputs = self.inputs() if self.shape is None else []
        return inputs[0].shape if len(inputs) == 1 and inputs[0].kind == "InputLayer" else self.shape

    def option(self, name: str, default: Any, *kinds: type) -> Any:
        """An option of the layer, of one of these types; FileFormatError if it is of another."""
        value = self.options.get(name, default)
        if kinds and not isinstance(value, kinds) or isinstance(value, bool) and bool not in kinds:
            raise FileFormatError(f"the configuration of layer '{self.name[:100]}' has {name} = {value!r:.80}")
        return value


class Network:
    """The layers of a configuration in their order, by name, and how the names in the weights' groups lead to them."""

    def __init__(self, text: str, what: str):
        if len(text) > LONGEST_TEXT:
            raise FileFormatError(f"{what}: a text of {len(text):,} characters, of at most {LONGEST_TEXT:,}")
        self.what = what
        self.layers: list[Layer] = []
        self.groups: dict[str, str] = {}  # "functional/conv2d_1": the name of the layer
        node = parse_json(text, what)
        if isinstance(node, dict) and node.get("class_name") in NETWORKS:
            try:
                self._network(node, "", "", [], 0)
            except RecursionError as error:
                raise FileFormatError(f"{what} is nested too deeply") from error
        self.by_name = {layer.name: layer for layer in self.layers}
        self.inside = {(layer.name.split("/")[0], layer.name.rpartition("/")[2]): layer for layer in self.layers}

    def _network(self, node: dict[str, Any], front: str, group: str, outer: References, depth: int) -> set[str]:
        """Enter the layers of a network; returns the names of those that its output comes from."""
        if depth > DEEPEST:
            raise FileFormatError(f"{self.what}: networks in it are nested more than {DEEPEST} deep")
        config = node.get("config")
        nodes = config if isinstance(config, list) else config.get("layers") if isinstance(config, dict) else None
        if not isinstance(nodes, list) or not all(isinstance(inner, dict) for inner in nodes):
            raise FileFormatError(f"{self.what}: a network without a list of layers")
        scope: dict[str, list[Layer]] = {}
        chain, counts = outer, dict[str, int]()
        for inner in nodes:
            kind, options = inner.get("class_name"), inner.get("config")
            name = inner.get("name") or (options.get("name") if isinstance(options, dict) else None)
            if not isinstance(kind, str) or not isinstance(options, (dict, list)):
                raise FileFormatError(f"{self.what}: a layer without a class or a configuration")
            name = name if isinstance(name, str) else f"{snake(kind)}_{len(scope) + 1}"  # before Keras 2.2.3
            if name in scope:
                raise FileFormatError(f"{self.what}: two layers are called {name[:100]!r}")
            if node["class_name"] != "Sequential":
                sources: References = [(scope, source) for source in _sources(inner.get("inbound_nodes"))]
            else:
                sources = chain
            sources = outer if kind == "InputLayer" else sources
            path, base = f"{front}{name}", snake(kind)
            counts[base] = counts.get(base, -1) + 1
            key = f"{group}{base}" + (f"_{counts[base]}" if counts[base] else "")
            self.groups[key] = path
            if kind in NETWORKS:
                first = len(self.layers)
                ends = self._network(inner, f"{path}/", f"{key}/", sources, depth + 1)
                scope[name] = [layer for layer in self.layers[first:] if layer.name in ends]
            elif not isinstance(options, dict):
                raise FileFormatError(f"{self.what}: the layer {name[:100]!r} has no options")
            else:
                scope[name] = [Layer(kind, path, options, _shape(inner), sources)]
                self.layers += scope[name]
            chain = [(scope, name)]
        if node["class_name"] == "Sequential":
            return {layer.name for found, name in chain for layer in found.get(name, [])} if nodes else set()
        outputs = list(_names(config.get("output_layers") if isinstance(config, dict) else None))
        return {layer.name for end in outputs for layer in scope.get(end, [])}


def snake(kind: str) -> str:
    """A class's name as Keras writes it in names: "conv2d" for Conv2D, "batch_normalization"."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", kind)[:200])
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _sources(nodes: Any) -> Iterator[str]:
    """The layers that feed a layer where it is used first."""
    if isinstance(nodes, list) and nodes:
        yield from _names(nodes[0])


def _names(value: Any) -> Iterator[str]:
    """The names in references such as ["conv", 0, 0], which may lie in lists and in descriptions of tensors."""
    if isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and all(type(n) is int for n in value[1:3]):
            yield value[0]
        else:
            for item in value:
                yield from _names(item)
    elif isinstance(value, dict):
        if "keras_history" in value:
            yield from _names(value["keras_history"])
        else:
            for item in value.values():
                if isinstance(item, (dict, list)):
                    yield from _names(item)


def _shape(node: dict[str, Any]) -> Any:
    """The shape of a layer's input where newer files say it, with None for what is not fixed."""
    for name, key in (("build_config", "input_shape"), ("config", "batch_shape"), ("config", "batch_input_shape")):
        part = node.get(name)
        shape = part.get(key) if isinstance(part, dict) else None
        if isinstance(shape, list) and all(n is None or type(n) is int for n in shape):
            return shape
    for tensor in _tensors(node.get("inbound_nodes")):
        return tensor
    return None


def _tensors(value: Any) -> Iterator[list]:
    """The shapes of the tensors that feed a layer, in newer files."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(item, dict) and "keras_history" in item:
            shape = item.get("shape")
            if isinstance(shape, list) and all(n is None or type(n) is int for n in shape):
                yield shape
        else:
            yield from _tensors(item)


def flattened_channels(layer: Layer, steps: list[int] | None = None) -> int | None | str:
    """The channels of the maps whose flattened values a layer takes; None if it takes no such values.

    A text says why it cannot be known. steps: how many may still be taken, since layers may lead round in a circle.
    """
    steps = [10_000] if steps is None else steps
    while steps[0] > 0:
        steps[0] -= 1
        inputs = layer.inputs()
        if len(inputs) > 1:
            return _joined(layer, inputs, steps)
        if not inputs:
            return None
        layer = inputs[0]
        if layer.kind == "Flatten":
            if layer.options.get("data_format") == "channels_first":
                return "the network has its channels first"
            return _channels(layer.inputs(), layer.shape)
        if layer.kind in ("Reshape", "Permute", "Lambda", "RepeatVector"):
            return f"'{layer.name}' ({layer.kind}) changes the shape"
        if layer.kind not in KEEPING | JOINING | {"Concatenate", "InputLayer"}:
            return None if layer.kind in SEQUENCES | MAPS or layer.kind.startswith("Global") else \
                f"'{layer.name}' is a {layer.kind[:100]}"
    return "its inputs lead round in a circle"


def _joined(layer: Layer, inputs: list[Layer], steps: list[int]) -> int | None | str:
    """As flattened_channels, of a layer with several inputs: they must agree, and nothing flattened may be appended."""
    try:
        found = {flattened_channels(Layer("", "", {}, None, [({"": [one]}, "")]), steps) for one in inputs}
    except RecursionError:
        return "too many layers come together in its input"
    if found == {None}:
        return None
    if len(found) == 1 and layer.kind in JOINING:
        return found.pop()
    return f"its input comes from several layers, joined in '{layer.name}'"


def _channels(layers: list[Layer], shape: Any) -> int | None | str:
    """The channels of a map before it is flattened; None if its order is the same here."""
    recorded = shape[-1] if shape else None
    for _ in range(10_000):
        if not layers:
            return "the input's shape is not known"
        layer = layers[0]
        kind = layer.kind
        if kind == "InputLayer" and not layer.inputs():
            shape = layer.shape or shape
            if not shape or shape[-1] is None:
                return "the input's shape is not known"
            return None if len(shape) < 4 else shape[-1]
        if kind in SEQUENCES or kind.startswith("Global"):
            return None if kind != "Dense" or not shape or len(shape) < 4 else recorded
        if kind in ("Conv1D", "Conv2D", "Conv1DTranspose", "Conv2DTranspose", "SeparableConv1D", "SeparableConv2D"):
            return layer.option("filters", None, int)
        if shape and len(shape) >= 4 and recorded is not None:
            return recorded
        if kind not in KEEPING | JOINING | {"InputLayer"}:
            return f"'{layer.name}' is a {kind[:100]}"
        if "ooling" in kind and not layer.inputs():
            return layer.shape[-1] if layer.shape and layer.shape[-1] else "the input's shape is not known"
        layers = layer.inputs()
    return "its inputs lead round in a circle"
