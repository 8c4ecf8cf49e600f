"""Emitters for products and normalisation: dense layers, convolutions, matrix products, batch, layer and group norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.kernels.shapes import same_padding
from minidl.onnx.export_graph import Graph, Value
from minidl.onnx.export_table import emitter
from minidl.ops.einsum import parse
from minidl.ops.spatial import integers


def rectified(g: Graph, y: Value, relu: bool) -> Value:
    return g.node("Relu", [y]) if relu else y


@emitter()
def linear(g: Graph, x: Value, weight: Value, bias: Value | None, relu: bool) -> Value:
    if x.ndim == 2:
        return rectified(g, g.node("Gemm", [x, weight, bias], transB=1), relu)
    y = g.node("MatMul", [x, g.transpose(weight, (1, 0))])
    return rectified(g, y if bias is None else g.node("Add", [y, bias]), relu)


@emitter()
def matmul(g: Graph, x: Value, y: Value) -> Value:
    return g.node("MatMul", [g.cast(x, g.result_dtype), g.cast(y, g.result_dtype)])


@emitter()
def einsum(g: Graph, *xs: Value, equation: str) -> Value:
    parts = [g.cast(x, g.result_dtype) for x in xs]
    names, result = parse(equation, [tuple([n if isinstance(n, int) else -1 for n in x.shape]) for x in xs])
    pairs = [pair for name, x in zip(names, xs) for pair in zip(name, x.shape)]
    lengths = dict(pairs) | {letter: length for letter, length in pairs if length != 1}
    # a letter has one length in ONNX: what broadcasts is expanded
    parts = [g.expand(x, [lengths[letter] for letter in name]) for x, name in zip(parts, names)]
    return g.node("Einsum", parts, equation=f"{','.join(names)}->{result}")


def images(g: Graph, x: Value, dims: int) -> tuple[Value, bool]:
    """x with a batch axis, and whether it had none."""
    return (g.unsqueeze(x, [0]), True) if x.ndim == dims + 1 else (x, False)


def alone(g: Graph, y: Value, without_batch: bool) -> Value:
    return g.squeeze(y, [0]) if without_batch else y


@emitter()
def conv1d(g: Graph, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any, dilation: Any, groups: int,
           relu: bool) -> Value:
    return _convolve(g, x, weight, bias, stride, padding, dilation, groups, relu, 1)


@emitter()
def conv2d(g: Graph, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any, dilation: Any, groups: int,
           relu: bool) -> Value:
    return _convolve(g, x, weight, bias, stride, padding, dilation, groups, relu, 2)


def _convolve(g: Graph, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any, dilation: Any,
              groups: int, relu: bool, dims: int) -> Value:
    kernel = [int(size) for size in weight.shape[2:]]
    dilations = integers("conv", "dilation", dilation, dims, 1)
    if padding == "same":
        edges = [same_padding(k, d) for k, d in zip(kernel, dilations)]
        pads = [before for before, _ in edges] + [after for _, after in edges]
    else:
        pads = [*integers("conv", "padding", 0 if padding == "valid" else padding, dims)] * 2
    source, widths = g.padded.get(x.name, (x, []))
    if widths and len(widths) == dims:  # a convolution of ONNX pads each end as it likes
        x = source
        pads = [pad + width for pad, width in zip(pads, [pair[0] for pair in widths] + [pair[1] for pair in widths])]
    x, single = images(g, x, dims)
    y = g.node("Conv", [x, weight, bias], kernel_shape=kernel, strides=integers("conv", "stride", stride, dims, 1),
               pads=pads, dilations=dilations, group=groups, shape=(0,) * (dims + 2))
    return alone(g, rectified(g, y, relu), single)


@emitter()
def conv_transpose1d(g: Graph, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any,
                     output_padding: Any, groups: int, dilation: Any) -> Value:
    return _transposed(g, x, weight, bias, stride, padding, output_padding, groups, dilation, 1)


@emitter()
def conv_transpose2d(g: Graph, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any,
                     output_padding: Any, groups: int, dilation: Any) -> Value:
    return _transposed(g, x, weight, bias, stride, padding, output_padding, groups, dilation, 2)


def _transposed(g: Graph, x: Value, weight: Value, bias: Value | None, stride: Any, padding: Any, output_padding: Any,
                groups: int, dilation: Any, dims: int) -> Value:
    def sizes(option: str, value: Any) -> tuple[int, ...]:
        return integers("conv_transpose", option, value, dims)

    x, single = images(g, x, dims)
    strides, pads, more = sizes("stride", stride), sizes("padding", padding), sizes("output_padding", output_padding)
    options: dict[str, Any] = {
        "kernel_shape": [int(size) for size in weight.shape[2:]], "strides": strides, "group": groups,
        "dilations": sizes("dilation", dilation), "shape": (0,) * (dims + 2)}
    if all(extra < step for extra, step in zip(more, strides)):
        y = g.node("ConvTranspose", [x, weight, bias], pads=pads * 2, output_padding=more, **options)
        return alone(g, y, single)
    # ONNX Runtime wants output_padding below the stride: cut off less at the end, and add zeros where that is too few
    ends = [max(pad - extra, 0) for pad, extra in zip(pads, more)]
    y = g.node("ConvTranspose", [x, weight], pads=[*pads, *ends], **options)
    zeros_behind = [max(extra - pad, 0) for pad, extra in zip(pads, more)]
    y = g.node("Pad", [y, np.array([0] * (dims + 4) + zeros_behind)], shape=y.shape)
    y = y if bias is None else g.node("Add", [y, g.unsqueeze(bias, list(range(1, dims + 1)))], shape=y.shape)
    return alone(g, y, single)


@emitter()
def batch_norm(g: Graph, x: Value, weight: Value | None, bias: Value | None, running_mean: Value | None,
               running_var: Value | None, training: bool, momentum: float, eps: float) -> Value:
    channels = x.shape[1]
    scale = ones(g, channels, x.dtype) if weight is None else g.cast(weight, x.dtype)
    shift = zeros(g, channels, x.dtype) if bias is None else g.cast(bias, x.dtype)
    if not training:
        assert running_mean is not None and running_var is not None
        statistics = [g.cast(running_mean, x.dtype), g.cast(running_var, x.dtype)]
        return g.node("BatchNormalization", [x, scale, shift, *statistics], epsilon=float(eps))
    axes = [0, *range(2, x.ndim)]
    centred = g.node("Sub", [x, g.reduce("ReduceMean", x, axes, True)], shape=x.shape)
    variance = g.reduce("ReduceMean", g.node("Mul", [centred, centred], shape=x.shape), axes, True)
    deviation = g.node("Sqrt", [g.node("Add", [variance, g.scalar(eps, x.dtype)])])
    y = g.node("Div", [centred, deviation])
    along = list(range(1, x.ndim - 1))
    return g.node("Add", [g.node("Mul", [y, g.unsqueeze(scale, along)]), g.unsqueeze(shift, along)])


@emitter()
def layer_norm(g: Graph, x: Value, weight: Value | None, bias: Value | None, normalized_shape: Any,
               eps: float) -> Value:
    if normalized_shape is None and weight is not None:
        normalized_shape = weight.shape
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    scale = ones(g, shape, x.dtype) if weight is None else g.cast(weight, x.dtype)
    shift = None if bias is None else g.cast(bias, x.dtype)
    return g.node("LayerNormalization", [x, scale, shift], axis=-len(shape), epsilon=float(eps))


@emitter()
def group_norm(g: Graph, x: Value, weight: Value | None, bias: Value | None, num_groups: int, eps: float) -> Value:
    rows = g.node("Reshape", [x, np.array([0, num_groups, -1])])  # N, G, rest
    y = g.node("InstanceNormalization", [rows, ones(g, num_groups, x.dtype), zeros(g, num_groups, x.dtype)],
               epsilon=float(eps))
    y = g.node("Reshape", [y, g.node("Shape", [x], dtype=np.int64)])
    along = list(range(1, x.ndim - 1))
    if weight is not None:
        y = g.node("Mul", [y, g.unsqueeze(g.cast(weight, x.dtype), along)])
    return y if bias is None else g.node("Add", [y, g.unsqueeze(g.cast(bias, x.dtype), along)])


def ones(g: Graph, shape: Any, dtype: Any) -> Value:
    return g.constant(np.ones(shape, dtype))


def zeros(g: Graph, shape: Any, dtype: Any) -> Value:
    return g.constant(np.zeros(shape, dtype))
