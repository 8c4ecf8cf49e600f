"""Weights of a Keras file into a model: which layer goes where, what is refused, and what else the file says.

`load` in `files.py` comes here for such files. A layer's arrays are translated (`kerasweights.py`), then matched as
strictly as those of any file. What a file's configuration says beyond the weights is used or compared: the constants of
normalisations are set, the order of flattened maps is put right, convolutions that pad differently are named.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl import nn
from minidl.errors import FileFormatError, nearest
from minidl.formats import archive, kerasfile
from minidl.formats.kerasconfig import Layer, flattened_channels
from minidl.formats.kerasfile import KerasFile, Weights
from minidl.formats.kerasweights import CELLS, Arrays, Untranslatable, depthwise, translate, unflattened
from minidl.formats.tensorfile import opened
from minidl.nn.module import Module
from minidl.transfer.kerasgeometry import differences, flattened_by_model
from minidl.transfer.matching import SHOWN, LoadError, rename_all

CLASSES: dict[str, tuple[type[Module], ...]] = {  # what a layer may become
    "dense": (nn.Linear,), "embedding": (nn.Embedding,), "p_re_lu": (nn.PReLU,),
    "conv1d": (nn.Conv1d,), "conv2d": (nn.Conv2d,), "depthwise_conv1d": (nn.Conv1d,), "depthwise_conv2d": (nn.Conv2d,),
    "separable_conv1d": (nn.Conv1d,), "separable_conv2d": (nn.Conv2d,),
    "conv1d_transpose": (nn.ConvTranspose1d,), "conv2d_transpose": (nn.ConvTranspose2d,),
    "batch_normalization": (nn.BatchNorm1d, nn.BatchNorm2d), "layer_normalization": (nn.LayerNorm,),
    "group_normalization": (nn.GroupNorm,), "lstm": (nn.LSTM,), "gru": (nn.GRU,), "simple_rnn": (nn.RNN,),
    "bidirectional": (nn.LSTM, nn.GRU, nn.RNN),
}
ALL = tuple({cls for classes in CLASSES.values() for cls in classes})
NORMS = ("batch_normalization", "layer_normalization", "group_normalization")
EPS, MOMENTUM = 1e-3, 0.99  # Keras' own, where a configuration leaves them out


class Translated:
    """A layer of the file in PyTorch's form. `problem`: why it could not be brought there; its arrays are then raw."""

    def __init__(self, weights: Weights):
        self.weights, self.name, self.layer = weights, weights.name.replace("/", "."), weights.layer
        self.problem = ""
        self.arrays: Arrays
        try:
            self.kind, self.arrays = translate(weights)
        except Untranslatable as error:
            self.kind, self.problem = weights.kind, str(error)
            self.arrays = {name.replace("/", "."): data.read() for name, data in weights.arrays.items()}

    def named(self) -> Arrays:
        return {f"{self.name}.{suffix}": array for suffix, array in self.arrays.items()}


def read_layers(path: str | os.PathLike, limit: float | None = None) -> tuple[KerasFile, list[Translated]]:
    """A Keras file and its layers in PyTorch's form."""
    with opened(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        file = kerasfile.read(stream, size, path, archive.default_limit(size) if limit is None else limit)
        return file, [Translated(weights) for weights in file.layers.values()]


def load_keras(path: str | os.PathLike, model: Module | None, *, allow: Mapping[str, str] | None = None,
               rename: Mapping[str, str] | None = None, flatten: Mapping[str, int | None] | None = None) -> Module:
    """Fill `model` with the weights of a Keras file (`.h5`, `.weights.h5` or `.keras`); Keras itself is not needed.

    The file's tensors are called by Keras' layers and PyTorch's parameters: "conv2d.weight", "dense.bias",
    "lstm.weight_ih_l0", "separable_conv2d.pointwise.weight", "mobilenetv2.Conv1.weight" in a network that is a layer.
    rename and allow act on these, as in `load`; where the model's modules have other names than Keras' layers, give
    rename={"conv2d": "features.0", …}, or `rename_keras_by_order(path, model)` and look at it first.

    Kernels and gates are put in PyTorch's order, and so are the inputs of what follows a flattened map. A file with the
    network's configuration says where that is; for one without (weights only), the model's own chain does, or
    flatten={"dense": 64}: the channels of the map that is flattened before that layer, None if none is.
    eps and momentum of normalisations are set to the file's (momentum m is 1 - m here). A warning names convolutions
    and pooling layers whose stride or padding is another in Keras, and normalisations whose constants a file does not
    tell.

    Raises FileFormatError for a damaged or hostile file; LoadError (a ValueError) for all that does not fit or cannot
    be translated, such as a GRU with reset_after=False. The model is unchanged after an error.
    """
    from minidl.transfer.files import fill

    what = f"load: {os.fspath(path)}"
    if not isinstance(model, Module):
        raise LoadError(f"{what}: a Keras file is read into a model that is there: pass it as model=")
    file, layers = read_layers(path)
    _put_flattened_right(file, layers, model, rename, flatten, what)
    names = rename_all([name for layer in layers for name in layer.named()], rename, what)
    targets = {layer.name: _targets(layer, names, model) for layer in layers}
    problems = [problem for layer in layers for problem in _unlike_target(layer, targets[layer.name])]
    if problems:
        raise LoadError("\n  ".join([f"{what}: does not fit {type(model).__name__}:", *problems[:SHOWN]]), problems)
    tensors = {names[name]: array for layer in layers for name, array in layer.named().items()}
    notes = differences(file, [(layer.layer, target) for layer in layers for target in targets[layer.name]], model)
    norms = [(layer, target) for layer in layers if layer.kind in NORMS for target in targets[layer.name]
             if hasattr(target, "eps")]
    constants = [(target, _constants(layer.layer, layer.kind)) for layer, target in norms if layer.layer is not None]
    notes += [f"'{layer.name}': the file does not tell its eps, here it is {target.eps:g}; Keras' own is {EPS:g}, and "
              f"its momentum {1 - MOMENTUM:.2f} in PyTorch's sense"
              for layer, target in norms if layer.layer is None and target.eps != EPS]
    try:
        fill(model, tensors, {}, what, allow, None)
    except LoadError as error:
        raise _explained(error, layers, bool(rename)) from error
    for target, values in constants:
        for name, value in values.items():
            if getattr(target, name) is not None:
                setattr(target, name, value)
    if notes:
        shown = [*notes[:SHOWN], f"… and {len(notes) - SHOWN} more"] if len(notes) > SHOWN else notes
        warnings.warn("\n  ".join([f"{what}: loaded, but the outputs will differ from Keras' unless this is meant:",
                                   *shown]), stacklevel=2)
    return model


def rename_keras_by_order(path: str | os.PathLike, model: Module) -> dict[str, str]:
    """{layer in a Keras file: module in the model}, for `load(…, rename=…)`, pairing both in their orders.

    Look at the result before you trust it: layers of one shape in another order cannot be told apart, and branches are
    ordered differently (Keras writes a ResNet block's shortcut in front of its last convolution). A file of weights
    alone from Keras 3 does not tell the order of layers of different classes; each class is then paired for itself.
    Raises ValueError that names the first pair that does not fit, what is left over, or what has no known order.
    """
    file, layers = read_layers(path)
    given: dict[str, list[tuple[str, Translated]]] = {}
    for layer in layers:
        for front in dict.fromkeys(name.rpartition(".")[0] for name in layer.named()):
            given.setdefault("" if file.ordered else _group(layer, front), []).append((front, layer))
    wanted: dict[str, list[tuple[str, Module]]] = {}
    for name, module in model.named_modules():
        if any(True for _ in (*module._own(False), *module._own(True))):
            wanted.setdefault("" if file.ordered else _group_of(module), []).append((name, module))
    renamed: dict[str, str] = {}
    for group in dict.fromkeys([*given, *wanted]):
        ours, theirs = wanted.get(group, []), given.get(group, [])
        kinds = sorted({layer.weights.kind for _, layer in theirs})
        if not file.ordered and len(kinds) > 1:
            raise ValueError(f"rename_keras_by_order: the file does not tell the order of its layers of the classes "
                             f"{', '.join(kinds)}; write rename= by hand, or save the whole model as .keras")
        for (front, layer), (name, module) in zip(theirs, ours):
            _require_pair(layer, front, name, module)
            renamed[front] = name
        if len(ours) != len(theirs):
            longer: Any = ours if len(ours) > len(theirs) else theirs
            raise ValueError(f"rename_keras_by_order: the {'model' if longer is ours else 'file'} has "
                             f"{abs(len(ours) - len(theirs))} more {group or 'layers'}, from "
                             f"'{longer[min(len(ours), len(theirs))][0]}' on; write rename= by hand")
    return renamed


def _require_pair(layer: Translated, front: str, name: str, module: Module) -> None:
    if isinstance(module, nn.Conv2d):
        _as_depthwise(layer, module)
    own = {key: value.shape for key, value in module.state_dict().items() if "." not in key}
    for key, array in layer.named().items():
        if key.rpartition(".")[0] == front:
            found = own.get(key.rpartition(".")[2])
            if found != array.shape:
                raise ValueError(f"rename_keras_by_order: '{key}' {array.shape} in the file meets '{name}' "
                                 f"({type(module).__name__}) with {found or 'no such tensor'} in the model; write "
                                 "rename= by hand")


def _group(layer: Translated, front: str) -> str:
    """The kind of module that a layer becomes, for files that tell the order within a class only."""
    if layer.kind.startswith("depthwise") or front.endswith(".depthwise"):
        return "depthwise convolutions"
    if layer.kind.startswith(("conv", "separable")):
        return "transposed convolutions" if layer.kind.endswith("transpose") else "convolutions"
    return "recurrent layers" if layer.kind in (*CELLS, "bidirectional") else layer.kind


def _group_of(module: Module) -> str:
    if isinstance(module, (nn.Conv1d, nn.Conv2d)) and 1 < module.groups == module.in_channels:
        return "depthwise convolutions"
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return "convolutions"
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d)):
        return "transposed convolutions"
    group = next((kind for kind, classes in CLASSES.items() if isinstance(module, classes)), type(module).__name__)
    return "recurrent layers" if group in CELLS else group


def _targets(layer: Translated, names: Mapping[str, str], model: Module) -> list[Module]:
    """The modules that the layer's arrays go to, as far as there are such modules."""
    modules = dict(model.named_modules())
    fronts = dict.fromkeys(names[name].rpartition(".")[0] for name in layer.named())
    found = [modules[front] for front in fronts if front in modules]
    for module in found:
        if isinstance(module, nn.Conv2d):
            _as_depthwise(layer, module)
    return found


def _as_depthwise(layer: Translated, module: nn.Conv2d) -> None:
    """Take a kernel for that of a depthwise convolution where the file does not say and only that fits."""
    data = layer.weights.arrays.get("kernel")
    if layer.layer is None and layer.kind == "conv2d" and data is not None and module.groups > 1 and \
            layer.arrays["weight"].shape != module.weight.shape:
        moved = depthwise(data.read(), layer.name, 2)
        if moved.shape == module.weight.shape:
            layer.kind, layer.arrays["weight"] = "depthwise_conv2d", moved


def _unlike_target(layer: Translated, targets: list[Module]) -> list[str]:
    """Layers that would go into a module of another class."""
    expected = CLASSES.get(layer.kind, ())
    found = [target for target in targets if expected and isinstance(target, ALL) and not isinstance(target, expected)]
    problems = [f"'{layer.name}' in the file is a {layer.kind}, in the model it would be a {type(target).__name__}"
                for target in dict.fromkeys(found)]
    activation = layer.layer.options.get("activation") if layer.layer is not None else None
    for target in targets:
        if isinstance(target, nn.RNN) and layer.kind == "simple_rnn" and activation not in (None, target.nonlinearity):
            problems.append(f"'{layer.name}' in the file has the activation {activation!r:.50}, in the model "
                            f"{target.nonlinearity!r}")
    return problems


def _put_flattened_right(file: KerasFile, layers: list[Translated], model: Module, rename: Mapping[str, str] | None,
                         flatten: Mapping[str, int | None] | None, what: str) -> None:
    """Reorder the inputs of the layers that take flattened maps."""
    told = {name.replace("/", "."): channels for name, channels in (flatten or {}).items()}
    possible = [layer.name for layer in layers if layer.kind in ("dense", *NORMS)]
    for name, count in told.items():
        if name not in possible:
            raise LoadError(f"{what}: flatten={{'{name}': …}} fits no dense layer in the file{nearest(name, possible)}")
        if count is not None and (type(count) is not int or count < 1):
            raise ValueError(f"load_keras: flatten={{'{name}': {count!r}}}: a number of channels is expected, or "
                             "None")
    sizes = _Sizes(layers)
    names = rename_all([name for layer in layers for name in layer.named()], rename, what)
    for layer in layers:
        if layer.kind not in ("dense", *NORMS) or layer.problem or "weight" not in layer.arrays:
            continue
        channels: Any
        if layer.name in told:
            channels = told[layer.name]
        elif layer.layer is not None:
            channels = flattened_channels(layer.layer)
        else:
            place = names[f"{layer.name}.weight"].rpartition(".")[0]
            channels = flattened_by_model(model, place)
            if channels is None and layer.kind == "dense":
                channels = sizes.doubt(layer)
        if isinstance(channels, str):
            raise LoadError(f"{what}: '{layer.name}' takes {layer.arrays['weight'].shape[-1]} values; whether they "
                            f"come from a flattened map, which PyTorch orders differently, is not known: {channels}. "
                            f"Pass the map's channels: transfer.load_keras(path, model, flatten={{'{layer.name}': …}})"
                            ", or None if nothing is flattened")
        sizes.seen(layer)
        if channels is not None:
            try:
                layer.arrays = {name: array if layer.kind == "dense" and name != "weight" or not array.ndim else
                                unflattened(array, channels, layer.name) for name, array in layer.arrays.items()}
            except Untranslatable as error:
                raise LoadError(f"{what}: {error}") from error


class _Sizes:
    """Whether a dense layer's input can only be a vector, judged by the sizes of the layers alone."""

    def __init__(self, layers: list[Translated]):
        maps = [layer.arrays["weight"] for layer in layers if layer.kind.startswith(("conv", "depthwise"))
                and not layer.problem]
        maps += [layer.arrays["pointwise.weight"] for layer in layers if layer.kind.startswith("separable")
                 and not layer.problem]
        self.channels = {array.shape[0] for array in maps}
        self.before: set[int] = set()

    def seen(self, layer: Translated) -> None:
        if layer.kind == "dense":
            self.before = {layer.arrays["weight"].shape[0]}

    def doubt(self, layer: Translated) -> None | str:
        """Why it is not known; None if no map is in the file, or each of its channels is one value."""
        inputs = layer.arrays["weight"].shape[-1]
        if not self.channels or inputs in (self.before or self.channels):
            return None
        fitting = [count for count in sorted(self.channels) if inputs % count == 0]
        hint = f"; there are convolutions with {', '.join(map(str, fitting))} channels" if fitting else ""
        return f"the file has weights and no configuration{hint}"


def _explained(error: LoadError, layers: list[Translated], renamed: bool) -> LoadError:
    """The error with what is particular to Keras: layers that have no equal, and how names are found."""
    problems = [layer.problem for layer in layers if layer.problem]
    hint = "" if renamed else "\n  the file's names are those of Keras' layers: rename={layer: module}, or " \
                              "rename=transfer.rename_keras_by_order(path, model)"
    text = "\n".join(line for line in str(error).split("\n") if "rename_by_order" not in line)
    return LoadError("\n  ".join([text + hint, *problems[:SHOWN]]), [*error.problems, *problems])


def _constants(layer: Layer, kind: str) -> dict[str, float]:
    """eps and momentum of a normalisation as the file tells them."""
    constants = {"eps": _number(layer, "epsilon", EPS)}
    if kind == "batch_normalization":
        constants["momentum"] = float(np.round(1 - _number(layer, "momentum", MOMENTUM), 12))
    return constants


def _number(layer: Layer, name: str, default: float) -> float:
    value = layer.option(name, default, int, float)
    if not 0 <= value <= 1:
        raise FileFormatError(f"the configuration of layer '{layer.name[:100]}' has {name} = {value!r:.80}")
    return float(value)
