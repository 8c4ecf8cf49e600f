"""Where a model computes something else than the Keras network whose weights it takes: strides, padding, flattening.

Keras' padding="same" with a stride pads by what the size needs, at the end more than at the front, where PyTorch's
padding is the same number on both sides. V. Dumoulin and F. Visin 2016, "A guide to convolution arithmetic".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minidl import nn
from minidl.formats.kerasconfig import Layer
from minidl.formats.kerasfile import KerasFile
from minidl.nn.module import Module

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)
CHANNELWISE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.PReLU)


def differences(file: KerasFile, pairs: Iterable[tuple[Layer | None, Module]], model: Module) -> list[str]:
    """What differs between layers of the file and the modules that took their weights, a sentence each."""
    notes = []
    fed = _fed_by_layers(model)
    for layer, module in pairs:
        if layer is None or layer.kind.startswith("Separable"):
            continue
        if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
            for option, own in (("strides", module.stride), ("dilation_rate", module.dilation)):
                theirs = _sizes(layer, option, len(own))
                if theirs is not None and theirs != tuple(own):
                    notes.append(f"'{layer.name}': {option} {theirs} in the file, {tuple(own)} in the model")
        if type(module) in CONVOLUTIONS and isinstance(module.padding, tuple):
            edges = _edges(layer, module.kernel_size, module.stride, module.dilation)
            elsewhere = not any(module.padding) and id(module) not in fed and any(a != b for a, b in edges or ())
            if edges is not None and edges != [(p, p) for p in module.padding] and not elsewhere:
                notes.append(f"'{layer.name}': Keras pads by {_shown(edges)} (before, after), the model by "
                             f"{tuple(module.padding)} on both sides")
        if type(module) in TRANSPOSED:
            notes += _transposed(layer, module)
    for layer in file.network.layers if file.network is not None else ():
        if layer.kind in ("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"):
            sides = _sizes(layer, "pool_size", int(layer.kind[-2]))
            steps = _sizes(layer, "strides", int(layer.kind[-2])) or sides
            edges = _edges(layer, sides, steps, (1,) * len(sides)) if sides and steps else None
            if edges and any(before != after for before, after in edges):
                notes.append(f"'{layer.name}' ({layer.kind}): Keras pads by {_shown(edges)} (before, after); make sure "
                             "that the model does")
    return notes


def _fed_by_layers(model: Module) -> set[int]:
    """The modules that take the output of one of minidl's layers as it is: no other code pads in between."""
    fed = {id(child) for child in list(model.children())[:1]} if type(model) is nn.Sequential else set()
    for module in model.modules():
        if type(module) is nn.Sequential:
            chain = list(module.children())
            fed |= {id(after) for before, after in zip(chain, chain[1:])
                    if type(before).__module__.startswith("minidl.")}
    return fed


def _shown(edges: list[tuple[int, int]]) -> str:
    return " and ".join(map(str, dict.fromkeys(edges)))


def _sizes(layer: Layer, option: str, dims: int) -> tuple[int, ...] | None:
    value = layer.options.get(option)
    value = [value] * dims if type(value) is int else value
    usable = isinstance(value, list) and len(value) == dims and all(type(n) is int and 0 < n < 2**31 for n in value)
    return tuple(value) if usable else None  # type: ignore[arg-type]


def _edges(layer: Layer, kernel: Any, stride: Any, dilation: Any) -> list[tuple[int, int]] | None:
    """What Keras pads before and after each axis, for sizes that the stride divides unless the file tells them."""
    padding = layer.options.get("padding", "valid")
    if padding == "valid":
        before = layer.inputs()
        if len(before) == 1 and before[0].kind in ("ZeroPadding1D", "ZeroPadding2D"):
            return _explicit(before[0].options.get("padding"), len(kernel))
        return [(0, 0)] * len(kernel)
    if padding != "same":
        return None
    given = layer.input_shape()
    shape = given[1:-1] if given and len(given) == len(kernel) + 2 else [None] * len(kernel)
    if layer.options.get("data_format") == "channels_first":
        shape = [None] * len(kernel)
    edges = []
    for size, k, s, d in zip(shape, kernel, stride, dilation):
        rest = (size or 0) % s or s
        total = max(d * (k - 1) + 1 - rest, 0)
        edges.append((total // 2, total - total // 2))
    return edges


def _explicit(padding: Any, dims: int) -> list[tuple[int, int]] | None:
    """The padding of a layer of its own: a number, one for each axis, or two for each."""
    axes = padding if isinstance(padding, list) else [padding] * dims
    axes = [axes] if dims == 1 and len(axes) == 2 and all(type(n) is int for n in axes) else axes
    pairs = [axis if isinstance(axis, list) else [axis, axis] for axis in axes]
    usable = len(pairs) == dims and all(len(pair) == 2 and all(type(n) is int for n in pair) for pair in pairs)
    return [(pair[0], pair[1]) for pair in pairs] if usable else None


def _transposed(layer: Layer, module: Any) -> list[str]:
    """The transpose of a padded convolution cuts off what that pads."""
    same = layer.options.get("padding", "valid") == "same"
    for k, s, padding, more in zip(module.kernel_size, module.stride, module.padding, module.output_padding):
        cut = max(k - s, 0) if same else 0
        longer = max(s - k, 0)
        if (cut // 2, cut - cut // 2 - longer) != (padding, padding - more):
            return [f"'{layer.name}': Keras cuts {cut // 2} off in front and {cut - cut // 2} behind, adds {longer}; "
                    f"the model has padding={module.padding} and output_padding={module.output_padding}"]
    return []


def flattened_by_model(model: Module, place: str) -> int | None:
    """The channels of the map that a chain of modules flattens before the one at `place`; None if it is not seen."""
    if not isinstance(model, nn.Sequential):
        return None
    chain = list(_leaves(model, ""))
    places = [name for name, _ in chain]
    if place not in places:
        return None
    flat = False
    for _, module in reversed(chain[:places.index(place)]):
        if isinstance(module, nn.Flatten):
            flat = True
        elif flat and isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
            return module.out_channels
        elif isinstance(module, (nn.Linear, nn.Embedding, nn.LSTM, nn.GRU, nn.RNN)):
            return None
        elif not flat and isinstance(module, CONVOLUTIONS):
            return None
    return None


def _leaves(module: Module, front: str) -> Iterable[tuple[str, Module]]:
    for name, child in module.named_children():
        path = f"{front}{name}"
        if type(child) is nn.Sequential:
            yield from _leaves(child, f"{path}.")
        else:
            yield path, child
