"""From a node whose weights stand in the file to a layer of `minidl.nn`.

A maker is given the node, its inputs that are known as arrays, and the number of dims of its first input if that is
known. It returns None where no layer does exactly what the node does; then `Operation` takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minidl import nn
from minidl.nn.module import Module
from minidl.onnx import recurrent
from minidl.onnx.graph import Operation
from minidl.onnx.operators_layers import AUTO_PADS


class Made(NamedTuple):
    """A layer, what of the node's inputs goes through it, its parameters and buffers, and what comes before it."""

    layer: Module
    inputs: tuple[int, ...]
    arrays: dict[str, np.ndarray]
    weights: tuple[int, ...] = ()  # the inputs that the parameters come from, for their names
    before: Module | None = None


Known = list  # of arrays, None for what comes at run time or is missing
MAKERS: dict[str, Callable[[Any, Known, int | None], Made | None]] = {}


def maker(*names: str) -> Callable:
    def enter(function: Callable) -> Callable:
        MAKERS.update(dict.fromkeys(names, function))
        return function

    return enter


def make(node: Any, known: Known, dims: int | None) -> Made | None:
    """The layer for a node, if there is one."""
    return MAKERS[node.op_type](node, known, dims) if node.op_type in MAKERS else None


def _floating(*arrays: Any) -> bool:
    """Whether all that are there are of one floating dtype, and the first is there."""
    there = [array for array in arrays if array is not None]
    return arrays[0] is not None and len({array.dtype for array in there}) == 1 and there[0].dtype.kind == "f"


def _settled(node: Any, known: Known, places: range) -> bool:
    """Whether the inputs at these places are either missing or known."""
    return all(place >= len(node.inputs) or not node.inputs[place] or known[place] is not None for place in places)


def _windows(node: Any, kernel: tuple[int, ...], lowest: bool) -> tuple[dict[str, Any], Module | None] | None:
    """Stride, dilation and padding of a layer, and the operation that pads before it where the sides differ."""
    attributes, dims = node.attributes, len(kernel)
    stride = tuple(attributes.get("strides") or (1,) * dims)
    dilation = tuple(attributes.get("dilations") or (1,) * dims)
    pads = tuple(attributes.get("pads") or (0,) * (2 * dims))
    auto_pad = attributes.get("auto_pad", "NOTSET")
    if dims not in (1, 2) or len(stride) != dims or len(dilation) != dims or len(pads) != 2 * dims or \
            auto_pad not in AUTO_PADS:
        return None
    options = {"stride": stride, "dilation": dilation, "padding": pads[:dims]}
    if auto_pad == "VALID":
        options["padding"] = (0,) * dims
    elif auto_pad.startswith("SAME"):
        options["padding"] = (0,) * dims
        same = [["kernel_shape", list(kernel)], ["strides", list(stride)], ["dilations", list(dilation)],
                ["upper", int(auto_pad == "SAME_UPPER")], ["lowest", int(lowest)]]
        return options, Operation("pad_same", same)
    elif pads[:dims] != pads[dims:] or min(pads) < 0:
        options["padding"] = (0,) * dims
        return options, Operation("pad_spatial", [["pads", list(pads)], ["lowest", int(lowest)]])
    return options, None


@maker("Conv")
def _conv(node, known, dims):
    weight, bias = known[1], known[2] if len(known) > 2 else None
    if not _floating(weight, bias) or not _settled(node, known, range(1, 3)) or weight.ndim not in (3, 4):
        return None
    windows = _windows(node, weight.shape[2:], False)
    groups = node.attributes.get("group", 1)
    if windows is None or groups < 1 or weight.shape[0] % groups or 0 in weight.shape:
        return None
    options, before = windows
    layer = (nn.Conv1d if weight.ndim == 3 else nn.Conv2d)(
        weight.shape[1] * groups, weight.shape[0], weight.shape[2:], groups=groups, bias=bias is not None,
        dtype=weight.dtype, **options)
    return Made(layer, (0,), {"weight": weight, "bias": bias}, (1, 2), before)


@maker("ConvTranspose")
def _conv_transpose(node, known, dims):
    weight, bias = known[1], known[2] if len(known) > 2 else None
    attributes = node.attributes
    if not _floating(weight, bias) or not _settled(node, known, range(1, 3)) or weight.ndim not in (3, 4) or \
            "output_shape" in attributes or 0 in weight.shape:
        return None
    windows = _windows(node, weight.shape[2:], False)
    groups = attributes.get("group", 1)
    if windows is None or windows[1] is not None or groups < 1 or weight.shape[0] % groups:
        return None
    options, _ = windows
    extra = tuple(attributes.get("output_padding") or (0,) * (weight.ndim - 2))
    if any(e >= max(s, d) and e for e, s, d in zip(extra, options["stride"], options["dilation"])):
        return None
    layer = (nn.ConvTranspose1d if weight.ndim == 3 else nn.ConvTranspose2d)(
        weight.shape[0], weight.shape[1] * groups, weight.shape[2:], groups=groups, bias=bias is not None,
        output_padding=extra, dtype=weight.dtype, **options)
    return Made(layer, (0,), {"weight": weight, "bias": bias}, (1, 2))


def linear(weight: Any, bias: Any, weights: tuple[int, ...] = (1, 2)) -> Made | None:
    """A dense layer of weight (O, I) and bias of O elements; None where they do not fit."""
    if not _floating(weight, bias) or weight.ndim != 2 or 0 in weight.shape or \
            bias is not None and (bias.size != weight.shape[0] or bias.shape[-1:] != (bias.size,)):
        return None
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    return Made(layer, (0,), {"weight": weight, "bias": None if bias is None else bias.reshape(-1)}, weights)


@maker("Gemm")
def _gemm(node, known, dims):
    attributes = node.attributes
    if known[1] is None or known[1].ndim != 2 or attributes.get("transA") or attributes.get("alpha", 1) != 1 or \
            attributes.get("beta", 1) != 1 or not _settled(node, known, range(1, 3)):
        return None
    return linear(known[1] if attributes.get("transB") else known[1].T, known[2] if len(known) > 2 else None)


@maker("MatMul")
def _matmul(node, known, dims):
    return None if known[1] is None or known[0] is not None or known[1].ndim != 2 or dims == 1 \
        else linear(known[1].T, None)


@maker("BatchNormalization")
def _batch_norm(node, known, dims):
    if not _floating(*known[1:5]) or not _settled(node, known, range(1, 5)) or dims not in (2, 3, 4) or \
            node.attributes.get("training_mode") or not node.attributes.get("spatial", 1):
        return None
    scale, bias, mean, variance = known[1:5]
    if len({array.shape for array in known[1:5]}) != 1 or scale.ndim != 1:
        return None
    layer = (nn.BatchNorm2d if dims == 4 else nn.BatchNorm1d)(
        len(scale), node.attributes.get("epsilon", 1e-5), 1 - node.attributes.get("momentum", 0.9), dtype=scale.dtype)
    return Made(layer, (0,), {"weight": scale, "bias": bias, "running_mean": mean, "running_var": variance}, (1, 2))


@maker("LayerNormalization")
def _layer_norm(node, known, dims):
    weight, bias = known[1], known[2] if len(known) > 2 else None
    axis = node.attributes.get("axis", -1)
    last = -axis if axis < 0 else None if dims is None else dims - axis
    if not _floating(weight, bias) or not _settled(node, known, range(1, 3)) or weight.ndim != last or \
            bias is not None and bias.shape != weight.shape or sum(map(bool, node.outputs)) > 1:
        return None
    layer = nn.LayerNorm(weight.shape, node.attributes.get("epsilon", 1e-5), bias=bias is not None, dtype=weight.dtype)
    return Made(layer, (0,), {"weight": weight, "bias": bias}, (1, 2))


@maker("InstanceNormalization", "GroupNormalization")
def _group_norm(node, known, dims):
    weight, bias = known[1], known[2]
    groups = node.attributes.get("num_groups", len(weight) if weight is not None and weight.ndim else 1)
    if not _floating(weight, bias) or bias is None or weight.ndim != 1 or weight.shape != bias.shape or \
            groups < 1 or len(weight) % groups or node.op_type == "GroupNormalization" and len(weight) == groups:
        return None
    epsilon = node.attributes.get("epsilon", 1e-5)
    if not (weight - 1).any() and not bias.any() and "Constant" in node.inputs[1]:  # written for a layer without them
        return Made(nn.GroupNorm(groups, len(weight), epsilon, affine=False, dtype=weight.dtype), (0,), {})
    layer = nn.GroupNorm(groups, len(weight), epsilon, dtype=weight.dtype)
    return Made(layer, (0,), {"weight": weight, "bias": bias}, (1, 2))


@maker("Gather")
def _embedding(node, known, dims):
    table = known[0]
    if table is None or known[1] is not None or table.ndim != 2 or table.dtype.kind != "f" or \
            node.attributes.get("axis", 0) != 0 or 0 in table.shape or table.size < 2:
        return None
    return Made(nn.Embedding(*table.shape, dtype=table.dtype), (1,), {"weight": table}, (0,))


@maker("LSTM", "GRU", "RNN")
def _recurrent(node, known, dims):
    kind, attributes = node.op_type, node.attributes
    w, r, b = known[1], known[2], known[3] if len(known) > 3 else None
    directions = recurrent.DIRECTIONS.get(attributes.get("direction", "forward"))
    if not _floating(w, r, b) or r is None or not _settled(node, known, range(1, 4)) or w.ndim != 3 or r.ndim != 3 or \
            attributes.get("direction") == "reverse" or recurrent.unusual(kind, attributes) or \
            kind == "GRU" and not attributes.get("linear_before_reset") or w.dtype != np.float32:
        return None
    hidden, rows = r.shape[2], len(recurrent.GATES[kind]) * r.shape[2]
    if not hidden or w.shape[:2] != (directions, rows) or r.shape != (directions, rows, hidden) or \
            b is not None and b.shape != (directions, 2 * rows) or not w.shape[2]:
        return None
    options = {"bias": b is not None, "bidirectional": directions == 2, "layout": attributes.get("layout", 0)}
    if kind == "RNN" and attributes.get("activations", ("tanh",))[0].lower() == "relu":
        options["nonlinearity"] = "relu"
    arrays = {}
    for d, suffix in enumerate(("l0", "l0_reverse")[:directions]):
        parts = {"weight_ih": w[d], "weight_hh": r[d]}
        if b is not None:
            parts |= {"bias_ih": b[d, :rows], "bias_hh": b[d, rows:]}
        for name, part in parts.items():
            size = hidden
            arrays[f"{name}_{suffix}"] = np.concatenate([part[g * size:(g + 1) * size] for g in recurrent.GATES[kind]])
    return Made(recurrent.LAYERS[kind](w.shape[2], hidden, **options), (0, *range(4, len(node.inputs))), arrays,
                (1, 2, 3))


@maker("MaxPool")
def _max_pool(node, known, dims):
    kernel = node.attributes.get("kernel_shape", ())
    windows = _windows(node, kernel, True)
    if windows is None or sum(map(bool, node.outputs)) > 1 or dims not in (None, len(kernel) + 2):
        return None
    options, before = windows
    ceil = bool(node.attributes.get("ceil_mode"))
    if ceil and before is not None:
        return None
    if any(p > (d * (k - 1) + 1) // 2 for p, d, k in zip(options["padding"], options["dilation"], kernel)):
        return None
    layer = (nn.MaxPool1d if len(kernel) == 1 else nn.MaxPool2d)(kernel, ceil_mode=ceil, **options)
    return Made(layer, (0,), {}, (), before)


@maker("AveragePool")
def _average_pool(node, known, dims):
    kernel = node.attributes.get("kernel_shape", ())
    windows = _windows(node, kernel, False)
    if windows is None or windows[1] is not None or set(windows[0].pop("dilation")) != {1} or \
            any(p > k // 2 for p, k in zip(windows[0]["padding"], kernel)) or dims not in (None, len(kernel) + 2):
        return None
    layer = (nn.AvgPool1d if len(kernel) == 1 else nn.AvgPool2d)(
        kernel, ceil_mode=bool(node.attributes.get("ceil_mode")),
        count_include_pad=bool(node.attributes.get("count_include_pad")), **windows[0])
    return Made(layer, (0,), {})


@maker("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node, known, dims):
    if dims != 4:
        return None
    layer = nn.AdaptiveAvgPool2d if node.op_type == "GlobalAveragePool" else nn.AdaptiveMaxPool2d
    return Made(layer(1), (0,), {})


@maker("PRelu")
def _prelu(node, known, dims):
    slope = known[1]
    if not _floating(slope) or not (slope.size == 1 or dims is not None and dims > 1 and
                                    slope.shape == (slope.size,) + (1,) * (dims - 2)):
        return None
    return Made(nn.PReLU(slope.size, dtype=slope.dtype), (0,), {"weight": slope.reshape(-1)}, (1,))


@maker("Clip")
def _relu6(node, known, dims):
    bounds = [None if known[place:place + 1] in ([], [None]) else known[place].reshape(-1).tolist() for place in (1, 2)]
    return Made(nn.ReLU6(), (0,), {}) if bounds == [[0], [6]] and known[1].dtype.kind == "f" else None


@maker("Dropout")
def _dropout(node, known, dims):
    if not _settled(node, known, range(1, 3)) or len(known) > 2 and known[2] is not None and known[2].any() or \
            sum(map(bool, node.outputs)) > 1:
        return None
    ratio = 0.5 if len(known) < 2 or known[1] is None else float(known[1].reshape(-1)[0])
    return Made(nn.Dropout(round(ratio, 7)), (0,), {}) if 0 <= ratio <= 1 else None


@maker("Flatten")
def _flatten(node, known, dims):
    return Made(nn.Flatten(), (0,), {}) if node.attributes.get("axis", 1) == 1 and dims not in (None, 0, 1) else None


@maker("Softmax", "LogSoftmax", "softmax_flat", "log_softmax_flat")
def _softmax(node, known, dims):
    flat = node.op_type.endswith("flat")
    axis = node.attributes.get("axis", 1 if flat else -1)
    if flat and axis != -1 and (dims is None or axis % dims != dims - 1):
        return None
    return Made((nn.LogSoftmax if "og" in node.op_type else nn.Softmax)(axis), (0,), {})


SIMPLE: dict[str, Callable[[dict], Module]] = {
    "Relu": lambda a: nn.ReLU(), "Sigmoid": lambda a: nn.Sigmoid(), "Tanh": lambda a: nn.Tanh(),
    "Softplus": lambda a: nn.Softplus(), "Mish": lambda a: nn.Mish(), "Identity": lambda a: nn.Identity(),
    "LeakyRelu": lambda a: nn.LeakyReLU(a.get("alpha", 0.01)), "Elu": lambda a: nn.ELU(a.get("alpha", 1.0)),
    "Gelu": lambda a: nn.GELU(a.get("approximate", "none")),
}


@maker(*SIMPLE)
def _simple(node, known, dims):
    return Made(SIMPLE[node.op_type](node.attributes), (0,), {})
