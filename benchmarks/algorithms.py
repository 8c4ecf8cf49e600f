"""Which way minidl takes for a shape, asked from its kernels, for the tables' column "algorithm"."""

from __future__ import annotations

import os

from benchmarks.shapes import Layer
from minidl import kernels


def _compiled() -> bool:
    """Whether the kernels written in Numba are what runs."""
    chosen = os.environ.get("MINIDL_BACKEND") or "cpu"
    return kernels.backend_module(chosen).__name__.endswith(".cpu")


def of_product(m: int, n: int, k: int) -> str:
    """For (m, k) times (k, n): "gemm", minidl's own, or "numpy", the BLAS of NumPy."""
    if not _compiled() or not hasattr(kernels.backend_module("cpu"), "matmul"):
        return "numpy"
    from minidl.kernels.cpu import gemm  # loads Numba

    return gemm.chosen(m, n, k)


def of_layer(layer: Layer, direction: str) -> str:
    """For a direction of a convolution: its algorithm, "reference" for NumPy."""
    name = {"forward": "conv2d", "input gradient": "conv2d_grad_input"}.get(direction, "conv2d_grad_weight")
    if not _compiled() or not hasattr(kernels.backend_module("cpu"), name):
        return "reference"
    if layer.groups > 1 and layer.groups == layer.channels:
        return "depthwise"
    winograd = _by_winograd(layer, direction)
    if direction == "input gradient" and _by_samples(layer, winograd):
        return "samples"
    if winograd:
        return "Winograd"
    from minidl.kernels.cpu import conv_dots, conv_lowered, conv_narrow  # loads Numba

    pointwise = (layer.kernel, layer.stride, layer.padding) == (1, 1, 0)
    inputs, outputs = layer.channels // layer.groups, layer.outputs // layer.groups
    size = (layer.output_size, layer.output_size)
    if conv_lowered.pays(layer.batch, inputs, outputs, size, layer.kernel**2, layer.groups,
                         turned=direction == "input gradient"):
        return "im2col GEMM"
    if direction == "weight gradient":
        columns = layer.output_size
        columns = conv_dots.image_rows(columns**2, columns) if pointwise else columns
        if conv_dots.few_sums(outputs, inputs * layer.kernel**2, columns):
            return "dot products"
    elif (inputs if direction == "input gradient" else outputs) <= conv_narrow.NARROW:
        return "narrow"
    return "GEMM" if pointwise else "implicit GEMM"


def _by_winograd(layer: Layer, direction: str) -> bool:
    from minidl.kernels.cpu import winograd  # loads Numba

    kinds, size = [layer.channels // layer.groups, layer.outputs // layer.groups], layer.output_size
    if direction == "input gradient":
        kinds, size = kinds[::-1], layer.size
    return winograd.suits(layer.batch, *kinds, (size, size), *[(number, number) for number in
                          (layer.kernel, layer.stride, layer.padding, 1)], sums=direction == "weight gradient")


def _by_samples(layer: Layer, winograd: bool) -> bool:
    from minidl.kernels.cpu import conv_narrow, conv_samples  # loads Numba

    inputs, outputs = layer.channels // layer.groups, layer.outputs // layer.groups
    numbers = layer.size, layer.output_size, layer.kernel, layer.stride, layer.padding, 1
    pairs = [(number, number) for number in numbers]
    return inputs > conv_narrow.NARROW and conv_samples.pays(layer.batch, outputs, inputs, *pairs, winograd)
