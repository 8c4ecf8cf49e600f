"""Keras' weights as PyTorch would have them: other names, axes in another order, gates in another order.

Keras keeps channels last, PyTorch second: a kernel (rows, columns, in, out) becomes (out, in, rows, columns). Arrays
are only moved about; nothing is computed except zeros and ones for what Keras leaves out. `kerasload.py` decides which
layer of a file goes where.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from minidl.formats.kerasconfig import Layer
from minidl.formats.kerasfile import VARIABLES, Weights

Arrays = dict[str, np.ndarray]
CELLS = {"lstm": 4, "gru": 3, "simple_rnn": 1}  # how many gates a cell has
KERNELS = {  # the order of the axes in PyTorch
    "dense": (1, 0), "conv1d": (2, 1, 0), "conv2d": (3, 2, 0, 1), "conv1d_transpose": (2, 1, 0),
    "conv2d_transpose": (3, 2, 0, 1),
}
OLD_NAMES = {"W": "kernel", "b": "bias"}  # of Keras 1, as in the files of VGG16 that are still about: "fc1_W_1"
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class Untranslatable(ValueError):
    """A layer that PyTorch has no equal of, or that is not known here; the message says why."""


def translate(weights: Weights) -> tuple[str, Arrays]:
    """The layer's class in small letters, and its arrays by PyTorch's names: "weight", "bias", "weight_ih_l0", …

    Raises Untranslatable.
    """
    arrays = {name: data.read() for name, data in weights.arrays.items()}
    if weights.kind == "bidirectional" or any(_direction(name) for name in arrays):
        return "bidirectional", _bidirectional(arrays, weights)
    arrays = {name.rpartition("/")[2]: array for name, array in arrays.items()}
    arrays = _named({OLD_NAMES.get(re.sub(r"_\d+$", "", name), name): array for name, array in arrays.items()})
    kind = _kind(weights, arrays)
    if len(arrays) != len(weights.arrays):
        raise Untranslatable(f"'{weights.name}' has several arrays of one name")
    if kind in CELLS:
        return kind, _cell(kind, arrays, weights.layer, weights.name)
    return kind, _simple(kind, arrays, weights)


def _named(arrays: Arrays) -> Arrays:
    """Names for arrays that are only numbered, by their axes."""
    if set(arrays) != {str(number) for number in range(len(arrays))}:
        return arrays
    axes = [array.ndim for array in arrays.values()]
    if axes in ([n, 1] for n in (2, 3, 4)) or axes in ([3], [4]):
        names = VARIABLES["dense"]
    elif axes == [1, 1, 1, 1]:
        names = VARIABLES["batch_normalization"]
    elif axes == [1, 1]:
        names = VARIABLES["layer_normalization"]
    else:
        return arrays
    return dict(zip(names, arrays.values()))


def _kind(weights: Weights, arrays: Arrays) -> str:
    """The layer's class, if the file does not tell it by what its arrays are called and how many axes they have."""
    if weights.layer is not None or weights.kind in VARIABLES or weights.kind in CELLS:
        return weights.kind
    names = set(arrays)
    axes = {name: array.ndim for name, array in arrays.items()}
    guess = re.sub(r"_\d+$", "", weights.name.rpartition("/")[2])  # Keras' own names: "conv2d_transpose_3"
    if "recurrent_kernel" in names and axes["recurrent_kernel"] == 2:
        units, width = arrays["recurrent_kernel"].shape
        return {4 * units: "lstm", 3 * units: "gru", units: "simple_rnn"}.get(width, weights.kind)
    if "depthwise_kernel" in names:
        front = "separable" if "pointwise_kernel" in names else "depthwise"
        return f"{front}_conv{axes['depthwise_kernel'] - 2}d"
    if "moving_mean" in names:
        return "batch_normalization"
    if names <= {"gamma", "beta"}:
        return "layer_normalization"
    if names == {"embeddings"}:
        return "embedding"
    if "kernel" in names and names <= {"kernel", "bias"}:
        plain = {2: "dense", 3: "conv1d", 4: "conv2d"}.get(axes["kernel"], "")
        return guess if guess in VARIABLES and guess.endswith((plain, f"{plain}_transpose")) and plain else plain
    return weights.kind


def _simple(kind: str, arrays: Arrays, weights: Weights) -> Arrays:
    """Layers without gates."""
    name = weights.name
    if kind in KERNELS:
        _require(arrays, {"kernel"}, {"bias"}, name, kind)
        _require_axes(arrays["kernel"], len(KERNELS[kind]), name)
        return {"weight": _moved(arrays["kernel"], KERNELS[kind]), **_renamed(arrays, {"bias": "bias"})}
    if kind in ("depthwise_conv1d", "depthwise_conv2d"):
        kernel = "depthwise_kernel" if "depthwise_kernel" in arrays else "kernel"
        _require(arrays, {kernel}, {"bias"}, name, kind)
        return {"weight": depthwise(arrays[kernel], name, int(kind[-2])), **_renamed(arrays, {"bias": "bias"})}
    if kind in ("separable_conv1d", "separable_conv2d"):
        _require(arrays, {"depthwise_kernel", "pointwise_kernel"}, {"bias"}, name, kind)
        _require_axes(arrays["pointwise_kernel"], int(kind[-2]) + 2, name)
        return {"depthwise.weight": depthwise(arrays["depthwise_kernel"], name, int(kind[-2])),
                "pointwise.weight": _moved(arrays["pointwise_kernel"], KERNELS[kind.removeprefix("separable_")]),
                **_renamed(arrays, {"bias": "pointwise.bias"})}
    if kind == "embedding":
        _require(arrays, {"embeddings"}, set(), name, kind)
        return {"weight": arrays["embeddings"]}
    if kind == "batch_normalization":
        _require(arrays, {"moving_mean", "moving_variance"}, {"gamma", "beta"}, name, kind)
        _require_last_axis(weights)
        mean = arrays["moving_mean"]
        full = {"gamma": np.ones_like(mean), "beta": np.zeros_like(mean), **arrays}
        return {**_renamed(full, BATCH_NORM), "num_batches_tracked": np.zeros((), np.int64)}
    if kind in ("layer_normalization", "group_normalization"):
        _require(arrays, set(), {"gamma", "beta"}, name, kind)
        _require_last_axis(weights)
        return _renamed(arrays, BATCH_NORM)
    if kind == "p_re_lu":
        _require(arrays, {"alpha"}, set(), name, kind)
        if arrays["alpha"].size != arrays["alpha"].shape[-1]:
            raise Untranslatable(f"'{name}' is a PReLU with a slope for every place; PyTorch's has one for a channel")
        return {"weight": arrays["alpha"].reshape(-1)}
    raise Untranslatable(f"'{name}' is of the class {kind[:100] or '(unknown)'}, with the arrays {sorted(arrays)[:5]}, "
                         "which is not translated")


def depthwise(kernel: np.ndarray, name: str, dims: int) -> np.ndarray:
    """(rows, columns, channels, multiplier) as (channels · multiplier, 1, rows, columns)."""
    _require_axes(kernel, dims + 2, name)
    *_, channels, multiplier = kernel.shape
    moved = kernel.transpose(dims, dims + 1, *range(dims))
    return np.ascontiguousarray(moved.reshape(channels * multiplier, 1, *kernel.shape[:dims]))


def _cell(kind: str, arrays: Arrays, layer: Layer | None, name: str, direction: str = "") -> Arrays:
    """One direction of a recurrent layer: gates i, f, g, o as in Keras, but r, z, n where Keras has z, r, h."""
    _require(arrays, {"kernel", "recurrent_kernel"}, {"bias"}, name, kind)
    options = layer.options if layer is not None else {}
    _require_usual(kind, options, name, bool(direction))
    gates = CELLS[kind]
    units = arrays["recurrent_kernel"].shape[0] if arrays["recurrent_kernel"].ndim == 2 else 0
    if arrays["recurrent_kernel"].shape != (units, gates * units) or arrays["kernel"].ndim != 2 or \
            arrays["kernel"].shape[1] != gates * units:
        raise Untranslatable(f"'{name}' has kernels {arrays['kernel'].shape} and {arrays['recurrent_kernel'].shape}, "
                             f"which are not those of {gates} gates")
    made = {"weight_ih": arrays["kernel"], "weight_hh": arrays["recurrent_kernel"]}
    if "bias" in arrays:
        bias = arrays["bias"]
        if kind == "gru" and bias.shape != (2, gates * units):
            raise Untranslatable(f"'{name}' is a GRU with reset_after=False, which applies the reset gate before the "
                                 "product; PyTorch's and this one apply it after it")
        if kind != "gru" and bias.shape != (gates * units,):
            raise Untranslatable(f"'{name}' has a bias {bias.shape}, not {(gates * units,)}")
        made |= {"bias_ih": bias[0], "bias_hh": bias[1]} if kind == "gru" else \
            {"bias_ih": bias, "bias_hh": np.zeros_like(bias)}
    if kind == "gru":
        order = np.r_[units:2 * units, :units, 2 * units:3 * units]
        made = {key: value[..., order] for key, value in made.items()}
    return {f"{key}_l0{direction}": np.ascontiguousarray(value.T) for key, value in made.items()}


def _require_usual(kind: str, options: Mapping[str, object], name: str, backward: bool) -> None:
    usual: dict[str, tuple] = {"activation": ("tanh", "relu") if kind == "simple_rnn" else ("tanh",),
                               "recurrent_activation": ("sigmoid",), "reset_after": (True,)}
    if not backward:
        usual["go_backwards"] = (False,)
    for option, possible in usual.items():
        if option in options and options[option] not in possible:
            raise Untranslatable(f"'{name}' has {option}={options[option]!r:.80}; here it is "
                                 f"{' or '.join(map(repr, possible))}")


def _direction(name: str) -> str:
    """"forward" or "backward" if the array belongs to one half of a Bidirectional layer, else ""."""
    match = re.match(r"(?:.*/)?(forward|backward)_[^/]*/", name)
    return match[1] if match else ""


def _bidirectional(arrays: Arrays, weights: Weights) -> Arrays:
    layer, name = weights.layer, weights.name
    if layer is not None and layer.options.get("merge_mode", "concat") != "concat":
        raise Untranslatable(f"'{name}' merges directions by {layer.options['merge_mode']!r:.80}; here it is 'concat'")
    inner = layer.options.get("layer") if layer is not None else None
    made: Arrays = {}
    for direction, suffix in (("forward", ""), ("backward", "_reverse")):
        part = {key.rpartition("/")[2]: array for key, array in arrays.items() if _direction(key) == direction}
        if len(part) * 2 != len(arrays):
            raise Untranslatable(f"'{name}' has {len(part)} arrays for its {direction} direction, of {len(arrays)}")
        half = Weights(name, layer.wrapping(inner) if layer is not None and isinstance(inner, dict)
                       and isinstance(inner.get("class_name"), str) else None)
        kind = _kind(half, part)
        if kind not in CELLS:
            raise Untranslatable(f"'{name}' runs a {kind[:100] or 'layer of unknown class'} in both directions")
        made |= _cell(kind, part, half.layer, name, suffix)
    return made


def unflattened(array: np.ndarray, channels: int, name: str) -> np.ndarray:
    """The last axis in PyTorch's order of flattened maps, (channels, rows · columns), from Keras' (…, channels)."""
    count = array.shape[-1] if array.ndim else 0
    if channels < 1 or count % channels:
        raise Untranslatable(f"'{name}' takes {count} flattened values, which is no multiple of {channels} channels")
    cut = array.reshape(*array.shape[:-1], count // channels, channels)
    return np.ascontiguousarray(np.swapaxes(cut, -1, -2)).reshape(array.shape)


def _require(arrays: Arrays, needed: set[str], possible: set[str], name: str, kind: str) -> None:
    if not needed <= set(arrays) <= needed | possible:
        raise Untranslatable(f"'{name}' ({kind}) has the arrays {sorted(arrays)[:8]}, not {sorted(needed | possible)}")


def _require_axes(array: np.ndarray, axes: int, name: str) -> None:
    if array.ndim != axes or not math.prod(array.shape):
        raise Untranslatable(f"'{name}' has a kernel of shape {array.shape}; {axes} axes are expected")


def _require_last_axis(weights: Weights) -> None:
    """Normalising over another axis than the last is another layer in PyTorch."""
    if weights.layer is None or weights.layer.shape is None:
        return
    axis = weights.layer.options.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in (-1, len(weights.layer.shape) - 1):
        raise Untranslatable(f"'{weights.name}' normalises over axis {axis!r:.80}, not over the last")


def _renamed(arrays: Arrays, names: Mapping[str, str]) -> Arrays:
    return {new: arrays[old] for old, new in names.items() if old in arrays}


def _moved(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(axes))
