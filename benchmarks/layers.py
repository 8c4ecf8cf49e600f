"""`layers NETWORK …`: every convolution of a network, forward, input gradient and weight gradient each on its own.

minidl's gradients are its kernels, PyTorch's are `aten::convolution_backward` asked for one gradient: what either
calls when it walks back through such a layer. The forward pass is `conv2d` without bias, not recorded. The
arrays are drawn anew for each layer and stay the same during the turns, so whoever keeps what it derived from the
weights may use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minidl
from benchmarks.algorithms import of_layer
from benchmarks.peers import jitted
from benchmarks.shapes import NETWORKS, Layer
from benchmarks.suite import Settings, Work
from benchmarks.timing import Contestant
from minidl import kernels

SAMPLE = slice(1, None, 8)
DIRECTIONS = ("forward", "input gradient", "weight gradient")


def works(settings: Settings, networks: list[str]) -> Iterator[Work]:
    """Three works for each layer of the networks; quick: with one sample (the small images of seeds: 16)."""
    for network in networks:
        for layer in NETWORKS[network][SAMPLE] if settings.sample else NETWORKS[network]:
            if settings.quick:
                layer = layer._replace(batch=16 if network == "seeds" else 1)
            yield from _directions(f"{network} {layer}", layer, settings)


def _directions(name: str, layer: Layer, settings: Settings) -> Iterator[Work]:
    x = settings.normal(layer.batch, layer.channels, layer.size, layer.size)
    weight = settings.normal(layer.outputs, layer.channels // layer.groups, layer.kernel, layer.kernel)
    g = settings.normal(layer.batch, layer.outputs, layer.output_size, layer.output_size)
    sides = [_minidl(x, weight, g, layer)]
    if "torch" in settings.peers:
        sides.append(_torch(settings.peers["torch"], x, weight, g, layer))
    if "jax" in settings.peers:
        sides.append(_jax(settings.peers["jax"], x, weight, g, layer))
    for number, direction in enumerate(DIRECTIONS):
        contestants = {side: Contestant(functions[number]) for side, *functions in sides}
        facts = {"direction": direction, "algorithm": of_layer(layer, direction)}
        yield Work(f"{name}: {direction}", contestants, flops=layer.flops, facts=facts)


def _minidl(x: Any, weight: Any, g: Any, layer: Layer) -> tuple:
    options = {name: (number, number) for name, number in
               (("stride", layer.stride), ("padding", layer.padding), ("dilation", 1))}
    options["groups"] = layer.groups
    size, kernel_size = x.shape[2:], weight.shape[2:]
    inputs = minidl.from_numpy(x), minidl.from_numpy(weight)
    return (
        "minidl",
        lambda _: minidl.nn.functional.conv2d(*inputs, None, layer.stride, layer.padding, 1, layer.groups),
        lambda _: kernels.conv2d_grad_input(g, weight, size, **options),
        lambda _: kernels.conv2d_grad_weight(g, x, kernel_size, **options),
    )


def _torch(torch: Any, x: Any, weight: Any, g: Any, layer: Layer) -> tuple:
    x, weight, g = torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(g)
    pairs = [layer.stride] * 2, [layer.padding] * 2, [1, 1]

    def gradient(number: int) -> Any:
        mask = [number == 0, number == 1, False]
        options = (*pairs, False, [0, 0], layer.groups, mask)  # stride, padding, dilation, transposed, output padding
        return torch.ops.aten.convolution_backward(g, x, weight, None, *options)[number]

    return (
        "torch",
        lambda _: torch.nn.functional.conv2d(x, weight, None, *pairs, layer.groups),
        lambda _: gradient(0),
        lambda _: gradient(1),
    )


def _jax(jax: Any, x: Any, weight: Any, g: Any, layer: Layer) -> tuple:
    x, weight, g = jax.numpy.asarray(x), jax.numpy.asarray(weight), jax.numpy.asarray(g)

    def convolve(x: Any, weight: Any) -> Any:
        return jax.lax.conv_general_dilated(x, weight, (layer.stride,) * 2, [(layer.padding,) * 2] * 2,
                                            feature_group_count=layer.groups)

    forward = jitted(jax, convolve)
    input_gradient = jitted(jax, lambda x, weight, g: jax.vjp(lambda x: convolve(x, weight), x)[1](g)[0])
    weight_gradient = jitted(jax, lambda x, weight, g: jax.vjp(lambda w: convolve(x, w), weight)[1](g)[0])
    return (
        "jax",
        lambda _: forward(x, weight),
        lambda _: input_gradient(x, weight, g),
        lambda _: weight_gradient(x, weight, g),
    )
