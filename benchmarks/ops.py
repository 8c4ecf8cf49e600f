"""`ops`: pooling, normalisation, softmax, attention, activations and optimisers, forward and gradient each on its own.

Each case is one line of source that runs under minidl and PyTorch alike. Forward: recorded, as in training. Gradient:
`backward` from the result to the leaves; the forward pass before it is not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.suite import Settings, Work
from benchmarks.timing import Contestant
from benchmarks.twins import Library, cnn28, library, resnet18


class Case(NamedTuple):
    """An operation as a function of the library's `nn.functional` and of its inputs, and the inputs' shapes."""

    name: str
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    classes: tuple[int, ...] = ()  # the shape of integer labels below shapes[0][1], given last
    quick: bool = False


def _batch_norm(F: Any, x: Any, weight: Any, bias: Any) -> Any:
    return F.batch_norm(x, None, None, weight, bias, training=True)


def _attention(F: Any, q: Any, k: Any, v: Any) -> Any:
    return F.scaled_dot_product_attention(q, k, v)


def _causal_attention(F: Any, q: Any, k: Any, v: Any) -> Any:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


IMAGES, SMALL = (16, 64, 56, 56), (64, 32, 26, 26)
CASES = (
    Case("max_pool2d 2x2", lambda F, x: F.max_pool2d(x, 2), (IMAGES,)),
    Case("max_pool2d 2x2", lambda F, x: F.max_pool2d(x, 2), (SMALL,), quick=True),
    Case("max_pool2d 3x3 stride 2 pad 1", lambda F, x: F.max_pool2d(x, 3, 2, 1), ((8, 64, 112, 112),)),
    Case("avg_pool2d 2x2", lambda F, x: F.avg_pool2d(x, 2), (IMAGES,), quick=True),
    Case("adaptive_avg_pool2d 1x1", lambda F, x: F.adaptive_avg_pool2d(x, 1), ((16, 512, 7, 7),)),
    Case("batch_norm", _batch_norm, (IMAGES, (64,), (64,))),
    Case("batch_norm", _batch_norm, ((16, 256, 14, 14), (256,), (256,)), quick=True),
    Case("layer_norm", lambda F, x, w, b: F.layer_norm(x, (768,), w, b), ((1024, 768), (768,), (768,)), quick=True),
    Case("group_norm 32 groups", lambda F, x, w, b: F.group_norm(x, 32, w, b), (IMAGES, (64,), (64,))),
    Case("softmax", lambda F, x: F.softmax(x, -1), ((4096, 128),), quick=True),
    Case("log_softmax", lambda F, x: F.log_softmax(x, -1), ((256, 1000),)),
    Case("cross_entropy", lambda F, x, y: F.cross_entropy(x, y), ((64, 10),), classes=(64,)),
    Case("cross_entropy", lambda F, x, y: F.cross_entropy(x, y), ((256, 1000),), classes=(256,), quick=True),
    Case("causal attention", _causal_attention, ((12, 4, 64, 32),) * 3, quick=True),
    Case("attention", _attention, ((16, 12, 64, 32),) * 3),
    Case("attention", _attention, ((2, 8, 512, 64),) * 3),
    Case("causal attention", _causal_attention, ((2, 8, 512, 64),) * 3),
    Case("attention", _attention, ((1, 8, 2048, 64),) * 3),
    Case("causal attention", _causal_attention, ((1, 8, 2048, 64),) * 3),
    Case("relu", lambda F, x: F.relu(x), (IMAGES,)),
    Case("relu", lambda F, x: F.relu(x), (SMALL,), quick=True),
    Case("gelu", lambda F, x: F.gelu(x), (SMALL,), quick=True),
    Case("silu", lambda F, x: F.silu(x), (SMALL,)),
    Case("sigmoid", lambda F, x: F.sigmoid(x), (SMALL,)),
    Case("tanh", lambda F, x: F.tanh(x), (SMALL,)),
    Case("embedding", lambda F, table, y: F.embedding(y, table), ((10000, 128),), classes=(64, 100)),
)
OPTIMIZERS = (
    ("SGD", dict(lr=1e-2, momentum=0.9)), ("Adam", {}), ("AdamW", {}), ("RMSprop", {}),
)


def works(settings: Settings) -> Iterator[Work]:
    """Two works for each case, and one step of each optimiser over all parameters of a network."""
    sides = [library(name) for name in ("minidl", "torch") if name == "minidl" or name in settings.peers]
    for case in [case for case in CASES if case.quick or not settings.quick]:
        yield from _case(case, sides, settings)
    for name, options in OPTIMIZERS[1:2] if settings.quick else OPTIMIZERS:
        yield _optimizer(f"{name} step, CNN 1x28x28", name, options, cnn28, sides, settings)
        if not settings.quick:
            yield _optimizer(f"{name} step, ResNet-18", name, options, resnet18, sides, settings)
    if not settings.quick and "torch" in settings.peers:
        yield _optimizer("Adam step, ResNet-18 (torch: fused=True)", "Adam", {"fused": True}, resnet18, sides, settings)


def _case(case: Case, sides: list[Library], settings: Settings) -> Iterator[Work]:
    arrays = [settings.normal(*shape) for shape in case.shapes]
    limit = case.shapes[0][0 if case.name == "embedding" else 1]
    labels = [settings.generator.integers(0, limit, case.classes)] if case.classes else []
    g = None
    forward, gradient = {}, {}
    for lib in sides:
        leaves = [lib.tensor(array, requires_grad=True) for array in arrays]
        inputs = [*leaves, *(lib.tensor(array) for array in labels)]
        shape = tuple(case.function(lib.F, *inputs).shape)
        g = settings.normal(*shape) if g is None else g
        forward[lib.name] = _forward(case, lib, inputs)
        gradient[lib.name] = _gradient(case, lib, inputs, leaves, lib.tensor(g))
    name = f"{case.name} of {','.join(map(str, case.shapes[0]))}"
    yield Work(f"{name}: forward", forward)
    yield Work(f"{name}: gradient", gradient)


def _forward(case: Case, lib: Library, inputs: list[Any]) -> Contestant:
    return Contestant(lambda _: case.function(lib.F, *inputs))


def _gradient(case: Case, lib: Library, inputs: list[Any], leaves: list[Any], g: Any) -> Contestant:
    def prepare() -> Any:
        for leaf in leaves:
            leaf.grad = None
        return case.function(lib.F, *inputs)

    def run(y: Any) -> list[Any]:
        y.backward(g)
        return [leaf.grad for leaf in leaves]

    return Contestant(run, prepare)


def _optimizer(title: str, name: str, options: dict[str, Any], network: Callable, sides: list[Library],
               settings: Settings) -> Work:
    arrays = [parameter.detach().numpy().copy() for parameter in network(library("minidl")).parameters()]
    gradients = [settings.normal(*array.shape) for array in arrays]
    contestants = {lib.name: _update(name, options, arrays, gradients, lib) for lib in sides}
    return Work(title, contestants, facts={"parameters": sum(array.size for array in arrays)})


def _update(name: str, options: dict[str, Any], arrays: list[np.ndarray], gradients: list[np.ndarray],
            lib: Library) -> Contestant:
    parameters = [lib.nn.Parameter(lib.tensor(array)) for array in arrays]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = lib.tensor(gradient)
    optimizer = getattr(lib.optim, name)(parameters, **options)

    def run(_: None) -> list[Any]:
        optimizer.step()
        return parameters

    return Contestant(run)
