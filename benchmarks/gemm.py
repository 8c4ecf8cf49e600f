"""`gemm`: products of square matrices, and of the shapes that layers make.

minidl's side of the square products is `kernels.matmul`, arrays in and an array out as NumPy's; what a tensor adds
is measured by `ops.py`. Percentages are of the peak that `ceilings.py` measures in the same process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minidl
from benchmarks.algorithms import of_product
from benchmarks.peers import jitted
from benchmarks.suite import Settings, Work
from benchmarks.timing import Contestant

SIZES = (32, 33, 48, 64, 65, 96, 100, 127, 128, 129, 200, 255, 256, 257, 300, 384, 512, 513, 768, 1000, 1024, 1536,
         2048)
QUICK_SIZES = (64, 256, 1024)
LAYERS = (  # rows, inputs, outputs of dense layers: samples or pixels, features in, features out
    (32, 784, 128), (64, 1600, 64), (64, 4096, 4096), (128, 1024, 1000), (3136, 64, 256), (784, 512, 128),
)


def works(settings: Settings) -> Iterator[Work]:
    """n x n products of growing n, then x @ weight^T + bias as dense layers do it."""
    for n in QUICK_SIZES if settings.quick else SIZES:
        yield _product(f"matmul {n} x {n} x {n}", n, n, n, settings)
    for rows, inputs, outputs in LAYERS[:1] if settings.quick else LAYERS:
        yield _linear(f"linear {rows} x {inputs} -> {outputs}", rows, inputs, outputs, settings)


def _product(name: str, m: int, k: int, n: int, settings: Settings) -> Work:
    a, b = settings.normal(m, k), settings.normal(k, n)
    contestants = {"minidl": Contestant(lambda _: minidl.kernels.matmul(a, b))}
    for peer, module in settings.peers.items():
        contestants[peer] = _peer_product(peer, module, a, b)
    return Work(name, contestants, flops=2.0 * m * n * k, facts={"algorithm": of_product(m, n, k)})


def _peer_product(peer: str, module: Any, a: Any, b: Any) -> Contestant:
    if peer == "torch":
        a, b = module.from_numpy(a), module.from_numpy(b)
        return Contestant(lambda _: module.matmul(a, b))
    if peer == "jax":
        a, b, product = module.numpy.asarray(a), module.numpy.asarray(b), jitted(module, module.numpy.matmul)
        return Contestant(lambda _: product(a, b))
    return Contestant(lambda _: module.matmul(a, b))


def _linear(name: str, rows: int, inputs: int, outputs: int, settings: Settings) -> Work:
    arrays = settings.normal(rows, inputs), settings.normal(outputs, inputs), settings.normal(outputs)
    ours = [minidl.from_numpy(array) for array in arrays]
    contestants = {"minidl": Contestant(lambda _: minidl.nn.functional.linear(*ours))}
    if "torch" in settings.peers:
        torch = settings.peers["torch"]
        theirs = [torch.from_numpy(array) for array in arrays]
        contestants["torch"] = Contestant(lambda _: torch.nn.functional.linear(*theirs))
    if "numpy" in settings.peers:
        x, weight, bias = arrays
        contestants["numpy"] = Contestant(lambda _: x @ weight.T + bias)
    facts = {"algorithm": of_product(rows, outputs, inputs)}
    return Work(name, contestants, flops=2.0 * rows * inputs * outputs, facts=facts)
