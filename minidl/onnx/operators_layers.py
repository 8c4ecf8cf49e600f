"""ONNX's convolution, pooling, normalisation and resizing, for weights that come at run time.

Where the weights stand in the file, `layers.py` makes layers of `minidl.nn` instead. ONNX pads each side as it likes;
what minidl's operations cannot pad themselves is padded before.
"""

from __future__ import annotations

import math

import numpy as np

from minidl import ops
from minidl.onnx.operators import Integers, integers, operator
from minidl.onnx.operators_shape import dims_of
from minidl.tensor import Tensor

AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def same_pads(sizes, kernel, strides, dilations, upper: bool) -> list[int]:
    """Pads (begins, ends) with which ceil(size / stride) windows fit; the odd one goes to the end if `upper`."""
    totals = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
              for n, k, s, d in zip(sizes, kernel, strides, dilations)]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return small + large if upper else large + small


def padded(x, pads, value: float = 0.0):
    """x (N, C, …) with its spatial axes padded: begins, then ends, as ONNX writes them."""
    half = len(pads) // 2
    if not any(pads):
        return x
    return ops.pad(x, [n for axis in reversed(range(half)) for n in (pads[axis], pads[axis + half])], value=value)


@operator("pad_spatial")  # of minidl: what stands before a layer that cannot pad its sides differently
def pad_spatial(x, *, pads: Integers, lowest: int = 0):
    return padded(x, pads, -math.inf if lowest else 0.0)


@operator("pad_same")
def pad_same(x, *, kernel_shape: Integers, strides: Integers, dilations: Integers, upper: int, lowest: int = 0):
    return padded(x, same_pads(x.shape[2:], kernel_shape, strides, dilations, bool(upper)),
                  -math.inf if lowest else 0.0)


def window(x, kernel, strides, dilations, pads, auto_pad):
    """Strides, dilations and pads with what is left out filled in."""
    dims = len(kernel)
    if dims not in (1, 2) or x.ndim != dims + 2:
        raise ValueError(f"windows over 1 or 2 spatial axes are there, not kernel {tuple(kernel)} on shape {x.shape}")
    if auto_pad not in AUTO_PADS:
        raise ValueError(f"auto_pad is one of {', '.join(AUTO_PADS)}, not {auto_pad[:50]!r}")
    strides, dilations = tuple(strides or (1,) * dims), tuple(dilations or (1,) * dims)
    if auto_pad.startswith("SAME"):
        pads = same_pads(x.shape[2:], kernel, strides, dilations, auto_pad == "SAME_UPPER")
    elif auto_pad == "VALID" or pads is None:
        pads = (0,) * (2 * dims)
    if not len(strides) == len(dilations) == len(pads) / 2 == dims:
        raise ValueError(f"kernel {kernel}, strides {strides}, dilations {dilations} and pads {pads} do not fit")
    return strides, dilations, list(pads)


@operator("Conv")
def conv(x, weight, bias=None, *, auto_pad: str = "NOTSET", dilations: Integers | None = None, group: int = 1,
         kernel_shape: Integers | None = None, pads: Integers | None = None, strides: Integers | None = None):
    strides, dilations, pads = window(x, weight.shape[2:], strides, dilations, pads, auto_pad)
    dims = len(strides)
    convolve = ops.conv1d if dims == 1 else ops.conv2d
    if pads[:dims] == pads[dims:] and min(pads) >= 0:
        return convolve(x, weight, bias, strides, tuple(pads[:dims]), dilations, group)
    return convolve(padded(x, pads), weight, bias, strides, 0, dilations, group)


@operator("ConvTranspose")
def conv_transpose(x, weight, bias=None, *, auto_pad: str = "NOTSET", dilations: Integers | None = None,
                   group: int = 1, kernel_shape: Integers | None = None, output_padding: Integers | None = None,
                   output_shape: Integers | None = None, pads: Integers | None = None,
                   strides: Integers | None = None):
    kernel = weight.shape[2:]
    dims = len(kernel)
    strides, dilations, given = window(x, kernel, strides, dilations, pads, "NOTSET")
    extra = list(output_padding or (0,) * dims)
    full = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(x.shape[2:], strides, dilations, kernel)]
    if output_shape is not None or auto_pad.startswith("SAME"):
        target = list(output_shape[-dims:]) if output_shape is not None else \
            [n * s for n, s in zip(x.shape[2:], strides)]
        totals = [f + e - t for f, e, t in zip(full, extra, target)]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        given = small + large if auto_pad == "SAME_UPPER" else large + small
    turn = ops.conv_transpose1d if dims == 1 else ops.conv_transpose2d
    y = turn(x, weight, bias, strides, 0, 0, group, dilations)
    # cut the begins off; at the ends cut less, or add what the bias alone makes, for the output padding
    crops = [-n for n in given[:dims]] + [e - n for e, n in zip(extra, given[dims:])]
    if bias is None or max(crops) <= 0:
        return padded(y, crops)
    return padded(turn(x, weight, None, strides, 0, 0, group, dilations), crops) + \
        ops.reshape(bias, (-1,) + (1,) * dims)


def _ceil_ends(sizes, kernel, strides, dilations, pads) -> list[int]:
    """What to add at the ends so that the last windows of ceil_mode fit; those that start beyond do not count."""
    dims = len(kernel)
    more = []
    for axis in range(dims):
        size, begin, end = sizes[axis], pads[axis], pads[axis + dims]
        left = size + begin + end - dilations[axis] * (kernel[axis] - 1) - 1
        windows = -(-left // strides[axis]) + 1
        if (windows - 1) * strides[axis] >= size + begin:
            windows -= 1
        more.append(max((windows - 1) * strides[axis] - left, 0))
    return more


@operator("MaxPool")
def max_pool(x, *, kernel_shape: Integers, auto_pad: str = "NOTSET", ceil_mode: int = 0,
             dilations: Integers | None = None, pads: Integers | None = None, storage_order: int = 0,
             strides: Integers | None = None):
    strides, dilations, edges = window(x, kernel_shape, strides, dilations, pads, auto_pad)
    dims = len(strides)
    if ceil_mode:
        more = _ceil_ends(x.shape[2:], kernel_shape, strides, dilations, edges)
        edges[dims:] = [end + n for end, n in zip(edges[dims:], more)]
    pool = ops.max_pool1d if dims == 1 else ops.max_pool2d
    if x.dtype.kind != "f":
        wide = np.pad(x.array.astype(np.float64), [(0, 0)] * 2 + list(zip(edges[:dims], edges[dims:])),
                      constant_values=np.iinfo(x.dtype).min)
        return Tensor(pool(Tensor(wide), tuple(kernel_shape), strides, 0, dilations).array.astype(x.dtype))
    return pool(padded(x, edges, -math.inf), tuple(kernel_shape), strides, 0, dilations)


@operator("AveragePool")
def average_pool(x, *, kernel_shape: Integers, auto_pad: str = "NOTSET", ceil_mode: int = 0,
                 count_include_pad: int = 0, dilations: Integers | None = None, pads: Integers | None = None,
                 strides: Integers | None = None):
    strides, dilations, pads = window(x, kernel_shape, strides, dilations, pads, auto_pad)
    dims = len(strides)
    n, c, *sizes = x.shape
    counted = Tensor(np.ones((1, 1, *sizes), x.dtype))
    x, counted = padded(x, pads), padded(counted, pads, 1.0 if count_include_pad else 0.0)
    if ceil_mode:
        more = _ceil_ends(sizes, kernel_shape, strides, dilations, pads)
        x, counted = padded(x, [0] * dims + more), padded(counted, [0] * dims + more)
    ones = Tensor(np.ones((1, 1, *kernel_shape), x.dtype))
    convolve = ops.conv1d if dims == 1 else ops.conv2d
    sums = convolve(ops.reshape(x, (n * c, 1, *x.shape[2:])), ones, None, strides, 0, dilations)
    y = sums / convolve(counted, ones, None, strides, 0, dilations)
    return ops.reshape(y, (n, c, *y.shape[2:]))


def _spatial(x) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@operator("GlobalAveragePool")
def global_average_pool(x):
    return ops.mean(x, _spatial(x), True)


@operator("GlobalMaxPool")
def global_max_pool(x):
    return ops.amax(x, _spatial(x), True)


@operator("BatchNormalization")
def batch_normalization(x, scale, bias, mean, variance, *, epsilon: float = 1e-5, momentum: float = 0.9,
                        training_mode: int = 0, spatial: int = 1):
    if training_mode or not spatial:
        raise ValueError("BatchNormalization in training_mode, or not spatial, is not read: export the network in "
                         "evaluation mode")
    return ops.batch_norm(x, scale, bias, mean.detach(), variance.detach(), False, 0.1, epsilon)


@operator("InstanceNormalization")
def instance_normalization(x, scale, bias, *, epsilon: float = 1e-5):
    return ops.group_norm(x, scale, bias, x.shape[1], epsilon)


@operator("GroupNormalization")
def group_normalization(x, scale, bias, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1):
    if scale.shape != x.shape[1:2] and scale.shape == (num_groups,):  # before opset 21: one for each group
        places = np.repeat(np.arange(num_groups), x.shape[1] // num_groups)
        scale, bias = scale[(places,)], bias[(places,)]
    return ops.group_norm(x, scale, bias, num_groups, epsilon)


@operator("LayerNormalization", outputs=3)
def layer_normalization(x, scale, bias=None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1):
    (dim,) = dims_of((axis,), x.ndim)
    dims = tuple(range(dim, x.ndim))
    mean = ops.mean(x, dims, True)
    centred = x - mean
    inverse = ops.rsqrt(ops.mean(ops.square(centred), dims, True) + epsilon)
    y = centred * inverse * scale
    return (y if bias is None else y + bias), mean, inverse


@operator("RMSNormalization")
def rms_normalization(x, scale, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1):
    (dim,) = dims_of((axis,), x.ndim)
    return x * ops.rsqrt(ops.mean(ops.square(x), tuple(range(dim, x.ndim)), True) + epsilon) * scale


@operator("LpNormalization")
def lp_normalization(x, *, axis: int = -1, p: int = 2):
    length = ops.norm(x, p, axis, True)
    return ops.where(ops.eq(length, 0), 0.0, x / ops.where(ops.eq(length, 0), 1.0, length))


@operator("LRN")
def local_response_normalization(x, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0):
    before = (size - 1) // 2
    squares = ops.square(x)
    flat = [0, 0] * (x.ndim - 2) + [before, size - 1 - before]
    wide = ops.pad(squares, flat)
    total = wide[:, :x.shape[1]]
    for shift in range(1, size):
        total = total + wide[:, shift:shift + x.shape[1]]
    return x / ops.pow(total * (alpha / size) + bias, float(beta))


@operator("Resize")
def resize(x, roi=None, scales=None, sizes=None, *, antialias: int = 0, axes: Integers | None = None,
           coordinate_transformation_mode: str = "half_pixel", cubic_coeff_a: float = -0.75, exclude_outside: int = 0,
           extrapolation_value: float = 0.0, keep_aspect_ratio_policy: str = "stretch", mode: str = "nearest",
           nearest_mode: str = "round_prefer_floor"):
    """Each axis by itself: every output is the nearest input, or a blend of its 2 or 4 neighbours."""
    dims = list(range(x.ndim)) if axes is None else list(dims_of(axes, x.ndim))
    if sizes is not None and sizes.array.size:
        targets = integers(sizes)
        factors = [t / x.shape[d] for t, d in zip(targets, dims)]
        if keep_aspect_ratio_policy != "stretch":
            factor = (min if keep_aspect_ratio_policy == "not_larger" else max)(factors)
            factors = [factor] * len(factors)
            targets = [math.floor(factor * x.shape[d] + 0.5) for d in dims]
    else:
        factors = [float(f) for f in scales.array]
        targets = [math.floor(x.shape[d] * f) for f, d in zip(factors, dims)]
    for d, factor, target in zip(dims, factors, targets):
        if factor == 1 and target == x.shape[d]:
            continue
        places = _source_places(x.shape[d], target, factor, coordinate_transformation_mode)
        if mode == "nearest":
            x = _take(x, d, _nearest(places, nearest_mode), x.shape[d])
        else:
            x = _blend(x, d, places, mode, cubic_coeff_a, bool(exclude_outside))
    return x


def _source_places(size: int, target: int, factor: float, mode: str) -> np.ndarray:
    """Where in the input each output lies."""
    out = np.arange(target, dtype=np.float64)
    if mode == "align_corners":
        return out * ((size - 1) / (factor * size - 1)) if factor * size != 1 else np.zeros(target)
    if mode == "asymmetric":
        return out / factor
    if mode == "pytorch_half_pixel" and target == 1:
        return np.zeros(1)
    if mode == "half_pixel_symmetric":
        shift = size / 2 * (1 - target / (factor * size))
        return shift + (out + 0.5) / factor - 0.5
    if mode not in ("half_pixel", "pytorch_half_pixel"):
        raise ValueError(f"Resize: the coordinate_transformation_mode {mode[:50]!r} is not there")
    return (out + 0.5) / factor - 0.5


def _nearest(places: np.ndarray, mode: str) -> np.ndarray:
    rounded = {"round_prefer_floor": lambda p: np.ceil(p - 0.5), "round_prefer_ceil": lambda p: np.floor(p + 0.5),
               "floor": np.floor, "ceil": np.ceil}
    if mode not in rounded:
        raise ValueError(f"Resize: the nearest_mode {mode[:50]!r} is not there")
    return rounded[mode](places).astype(np.int64)


def _take(x, dim: int, places: np.ndarray, size: int):
    return x[(slice(None),) * dim + (np.clip(places, 0, size - 1),)]


def _blend(x, dim: int, places: np.ndarray, mode: str, a: float, exclude_outside: bool):
    """The weighted sum of each place's neighbours along a dim."""
    size, first = x.shape[dim], np.floor(places).astype(np.int64)
    share = places - first
    if mode == "linear":
        taps = [(0, 1 - share), (1, share)]
    elif mode == "cubic":  # Keys 1981, "Cubic convolution interpolation for digital image processing"
        def near(t):
            return ((a + 2) * t - (a + 3)) * t * t + 1

        def far(t):
            return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

        taps = [(-1, far(1 + share)), (0, near(share)), (1, near(1 - share)), (2, far(2 - share))]
    else:
        raise ValueError(f"Resize: the mode {mode[:50]!r} is not there")
    weights = np.stack([weight for _, weight in taps])
    if exclude_outside:
        inside = np.stack([(first + shift >= 0) & (first + shift < size) for shift, _ in taps])
        weights = weights * inside
        weights = weights / weights.sum(axis=0)
    shape = [1] * x.ndim
    shape[dim] = len(places)
    total = 0
    for (shift, _), weight in zip(taps, weights):
        total = total + _take(x, dim, first + shift, size) * Tensor(weight.astype(x.dtype).reshape(shape))
    return total
