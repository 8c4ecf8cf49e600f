"""The weights in a file of Keras, under Keras' names and as they are: `.h5` of Keras 1 to 3, and `.keras`.

An `.h5` file holds a group for each layer, whose attribute `weight_names` lists its arrays; a whole model has them in
`model_weights` and its configuration as JSON in an attribute. A `.weights.h5` of Keras 3 holds numbered arrays, in
groups called after the layers' classes; a `.keras` is a zip archive of such a file and `config.json`. Neither Keras nor
an HDF5 library is needed, and no code in a file is run. `hdf5.py` reads the arrays, `kerasweights.py` makes them
PyTorch's.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from minidl.errors import FileFormatError
from minidl.formats import archive
from minidl.formats.hdf5 import SIGNATURE, Dataset, File, Group
from minidl.formats.kerasconfig import Layer, Network, snake

ARCHIVE = {"config.json", "metadata.json", "model.weights.h5"}
WEIGHTS = "model.weights.h5"
VARIABLES = {  # the arrays that the layers of a class have, in their order in files that only number them
    "dense": ("kernel", "bias"), "embedding": ("embeddings",), "p_re_lu": ("alpha",),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "layer_normalization": ("gamma", "beta"), "group_normalization": ("gamma", "beta"),
    **{f"{front}conv{n}d{end}": ("kernel", "bias") for n in (1, 2) for front, end in
       (("", ""), ("depthwise_", ""), ("", "_transpose"))},
    **{f"separable_conv{n}d": ("depthwise_kernel", "pointwise_kernel", "bias") for n in (1, 2)},
    "cell": ("kernel", "recurrent_kernel", "bias"),
}


class Weights:
    """The arrays of a layer by their names ("kernel", or "forward_lstm/kernel" in a Bidirectional layer).

    layer: what the configuration says, None if the file has none. kind: the layer's class as far as it is known from
    that or from the file's names, in small letters ("conv2d"), else "".
    """

    def __init__(self, name: str, layer: Layer | None, kind: str = ""):
        self.name, self.layer, self.kind = name, layer, kind
        if layer is not None:
            inner = layer.options.get("layer") if layer.kind == "TimeDistributed" else None
            if isinstance(inner, dict) and isinstance(inner.get("class_name"), str):
                self.layer = layer = layer.wrapping(inner)
            self.kind = snake(layer.kind)
        self.arrays: dict[str, Dataset] = {}


class KerasFile:
    """Weights by the names of their layers, in the network's order as far as it is known (`ordered`)."""

    def __init__(self, layers: dict[str, Weights], network: Network | None, ordered: bool):
        self.network, self.ordered = network, ordered
        if network is not None:
            place = {layer.name: index for index, layer in enumerate(network.layers)}
            layers = dict(sorted(layers.items(), key=lambda item: place.get(item[0], len(place))))
        self.layers = layers

    def nbytes(self) -> int:
        return sum(data.nbytes for layer in self.layers.values() for data in layer.arrays.values())

    def tensors(self) -> dict[str, np.ndarray]:
        """Every array by "layer/weight", values untouched."""
        return {f"{layer.name}/{name}": data.read() for layer in self.layers.values()
                for name, data in layer.arrays.items()}


def is_keras(start: bytes, names: set[str] | None = None) -> bool:
    """Whether a file is Keras', by its first bytes or, for an archive, by its entries' names."""
    return start.startswith(SIGNATURE) or names is not None and WEIGHTS in names


def read(stream: BinaryIO, size: int, path: Any, limit: float) -> KerasFile:
    """What lies in the file; arrays are read when they are asked for, and take no more than `limit` together."""
    start = stream.read(8)
    stream.seek(0)
    if start[:2] == b"PK":
        found, text = _unpack(stream, size, path, limit)
        size = len(found.getbuffer())
        stream = found
    else:
        text = None
        if start != SIGNATURE:
            raise FileFormatError(f"{path}: not a file of Keras, which is HDF5 or a zip archive")
    root = File(stream, size, path).root
    if text is None:
        text = _one(root, "model_config")
    network = Network(text, f"{path}: the network's configuration") if text is not None else None
    weights = root.at("model_weights") or root
    if not isinstance(weights, Group):
        raise FileFormatError(f"{path}: 'model_weights' is no group")
    names = _many(weights, "layer_names")
    file = _by_names(weights, names, network, path) if names is not None else _by_numbers(weights, network, path)
    if not file.layers:
        raise FileFormatError(f"{path}: HDF5 without arrays that Keras keeps weights in")
    archive.require_within(limit, file.nbytes(), size, path)
    return file


def _unpack(stream: BinaryIO, size: int, path: Any, limit: float) -> tuple[io.BytesIO, str]:
    """Weights and configuration out of a `.keras` archive; nothing is ever written to a disk."""
    with archive.unpacking(stream, path) as unpacked:
        found = archive.entries(unpacked, size, path)
        if WEIGHTS not in found or "config.json" not in found:
            raise FileFormatError(f"{path}: a zip archive without {WEIGHTS} and config.json, which a .keras file has")
        wanted: list[zipfile.ZipInfo] = [found[WEIGHTS], found["config.json"]]
        archive.require_within(limit, sum(entry.file_size for entry in wanted), size, path)
        data, text = (unpacked.read(entry) for entry in wanted)
    if data[:8] != SIGNATURE:
        raise FileFormatError(f"{path}: {WEIGHTS} in it is not HDF5")
    try:
        return io.BytesIO(data), text.decode()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: config.json in it is no text in UTF-8") from error


def _one(group: Group, name: str) -> str | None:
    texts = group.texts(name)
    if texts is not None and len(texts) != 1:
        raise FileFormatError(f"{group.file.path}: the attribute '{name}' holds {len(texts)} texts")
    return texts[0] if texts else None


def _many(group: Group, name: str) -> list[str] | None:
    """A list of names, which Keras spreads over several attributes if it is long: layer_names0, layer_names1, …"""
    texts = group.texts(name)
    if texts is None and f"{name}0" in group.attributes:
        texts = []
        for number in range(len(group.attributes)):
            texts += group.texts(f"{name}{number}") or []
    return texts


def _by_names(root: Group, names: list[str], network: Network | None, path: Any) -> KerasFile:
    """The layout of Keras 1 and 2, which Keras 3 still writes for `.h5`: lists of layers and of their weights."""
    layers: dict[str, Weights] = {}
    taken: set[str] = set()
    for owner in dict.fromkeys([*names, *(["top_level_model_weights"] if "top_level_model_weights" in root.members
                                          else [])]):
        group = root.members.get(owner)
        if not isinstance(group, Group):
            raise FileFormatError(f"{path}: layer_names lists '{owner[:100]}', for which there is no group")
        for listed in _many(group, "weight_names") or []:
            data = group.at(listed)
            if not isinstance(data, Dataset) or data.name in taken:
                raise FileFormatError(f"{path}: weight_names of '{owner[:100]}' lists '{listed[:100]}', which is "
                                      f"{'listed twice' if isinstance(data, Dataset) else 'no array'}")
            taken.add(data.name)
            name, weight, layer = _place(owner, listed.split("/"), network)
            entry = layers.setdefault(name, Weights(name, layer))
            if weight in entry.arrays:
                raise FileFormatError(f"{path}: '{name[:100]}' has '{weight[:100]}' twice")
            entry.arrays[weight] = data
    return KerasFile(layers, network, True)


def _place(owner: str, parts: list[str], network: Network | None) -> tuple[str, str, Layer | None]:
    """The layer's name, the weight's name and the layer's configuration, from an entry of weight_names.

    Entries are "conv/kernel:0", "sequential/conv/kernel" in newer files, "conv_W" in those of Keras 1, and
    "conv/kernel" below the group of a network that is itself a layer.
    """
    *around, weight = parts
    weight = weight.partition(":")[0].removeprefix(f"{owner}_")
    if network is not None:
        for index in reversed(range(len(around))):
            layer = network.inside.get((owner, around[index]))
            if layer is not None:
                return layer.name, "/".join([*around[index + 1:], weight]), layer
        layer = network.by_name.get(owner)
        if layer is not None:
            return owner, weight, layer
    if owner in around:
        around = around[len(around) - around[::-1].index(owner):]
    cells = [part for part in around if re.fullmatch(r"(?:forward|backward)_.*|.*_cell(?:_\d+)?", part)]
    inner = [part for part in around if part not in cells]
    return "/".join([owner, *inner]), "/".join([*cells, weight]), None


def _by_numbers(root: Group, network: Network | None, path: Any) -> KerasFile:
    """The layout of Keras 3: numbered arrays in groups `vars`, whose path says whose they are."""
    layers: dict[str, Weights] = {}
    for place, data in sorted(root.walk(), key=lambda item: _natural(item[0])):
        parts = place.split("/")
        if parts[0] in ("optimizer", "loss", "compile_metrics", "metrics") or "seed_generator" in parts:
            continue
        if len(parts) < 2 or parts[-2] != "vars" or not re.fullmatch("[0-9]{1,9}", parts[-1]):
            raise FileFormatError(f"{path}: '{place[:100]}' is not where Keras keeps arrays: no layer_names, no vars")
        owner, inner = _owner(parts[:-2])
        key = "/".join(part for part in owner if part != "layers")
        name = network.groups.get(key) if network is not None else None
        layer = network.by_name.get(name) if network is not None and name is not None else None
        name = name or _label(root, owner)
        kind = re.sub(r"_\d+$", "", owner[-1]) if owner else ""
        entry = layers.setdefault(name, Weights(name, layer, kind))
        entry.arrays["/".join([*inner, parts[-1]])] = data
    for entry in layers.values():
        counts = Counter(weight.rpartition("/")[0] for weight in entry.arrays)
        entry.arrays = {_variable(entry, weight, counts): data for weight, data in entry.arrays.items()}
    return KerasFile(layers, network, network is not None)


def _natural(place: str) -> list[tuple[str, int]]:
    """A key that sorts conv2d_2 before conv2d_10."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d{0,18})", place)]


def _owner(parts: list[str]) -> tuple[list[str], list[str]]:
    """The groups that lead to a layer, and those inside of it, such as a cell's."""
    for index, part in enumerate(parts):
        if part in ("cell", "forward_layer", "backward_layer", "layer"):
            return parts[:index], parts[index:]
    return parts, []


def _label(root: Group, owner: list[str]) -> str:
    """A layer's name: its own where the file tells it, else that of its group."""
    names = []
    for index, part in enumerate(owner):
        if part != "layers":
            group = root.at("/".join([*owner[:index + 1], "vars"]))
            told = _one(group, "name") if isinstance(group, Group) else None
            names.append(told.replace("/", "_") if told else part)
    return "/".join(names) or "model"


def _variable(entry: Weights, weight: str, counts: Mapping[str, int]) -> str:
    """The name of a numbered array, as far as the layer's class tells it."""
    *inner, number = weight.split("/")
    kind = "cell" if inner and inner[-1] != "layer" else entry.kind
    names = VARIABLES.get(kind, ())
    if entry.kind in ("batch_normalization", "layer_normalization", "group_normalization"):
        names = _norm_names(entry, names, counts["/".join(inner)])
    return "/".join([*inner, names[int(number)] if int(number) < len(names) else number])


def _norm_names(entry: Weights, names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Those of a normalisation's arrays that it has; () if that cannot be known."""
    if entry.layer is not None:
        left_out = {name for name, option in (("gamma", "scale"), ("beta", "center"))
                    if entry.layer.option(option, True, bool) is False}
        return tuple(name for name in names if name not in left_out)
    if count == len(names):
        return names
    return names[2:] if len(names) == 4 and count == 2 else ()
