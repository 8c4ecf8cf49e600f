"""Where a network can be cut: the ends of its stages, found by running it once on a few samples.

`run_once` records what each module of the chain gives out; `find_cuts` reads the stages from it: a new one begins where
a layer with weights halves the image, at each dense layer, and at each block of a sequence model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minidl.nn.container import ModuleDict, ModuleList, Sequential
from minidl.nn.module import Module
from minidl.tensor import Tensor
from minidl.transfer.head import head_path

MOST_FEATURES = 2048  # that the maps of one cut are averaged to


class Output(NamedTuple):
    """What the module at `path` gave out; `starts` says whether a stage may begin with it."""

    path: str
    array: np.ndarray
    starts: bool


class Trace(NamedTuple):
    """The outputs of a network's chain of modules in order, the path of its head, and what the head was given."""

    outputs: list[Output]
    head: str | None
    head_input: np.ndarray | None


def cells(shape: tuple[int, ...], grid: int) -> int:
    """Cells a side in which maps of shape (N, C, H, W) are averaged: `grid`, halved until C cells^2 is small enough."""
    channels, *sides = shape[1:]
    size = min(grid, *sides)
    while size > 1 and channels * size ** len(sides) > MOST_FEATURES:
        size //= 2
    return size


def pooled(array: np.ndarray, pool: str = "mean", grid: int = 1) -> np.ndarray:
    """An output as features (N, F): maps (N, C, H, W) averaged in each cell of a grid, sequences (N, T, F) over T.

    grid: cells a side, as `cells` says, which are those of adaptive average pooling; 1 averages over the whole map.
    pool="first" takes the first step of a sequence, the [CLS] token of a BERT, instead of the mean.
    """
    if array.ndim == 3:
        return array[:, 0] if pool == "first" else array.mean(1)
    if array.ndim != 4:
        return array.reshape(len(array), -1)
    size = cells(array.shape, grid)
    rows, columns = ([slice(i * side // size, -(-(i + 1) * side // size)) for i in range(size)]
                     for side in array.shape[2:])
    return np.stack([array[:, :, row, column].mean((2, 3)) for row in rows for column in columns], 2).reshape(
        len(array), -1)


def run_once(model: Module, inputs: Tensor) -> Trace:
    """Run `model` on a few inputs and record the outputs of its chain: the modules that come one after the other.

    A Sequential, and what holds a ModuleList or most of the weights, is looked into; other modules with parts count as
    one block. The head is that of `head_path`, if the model's output is its output.
    """
    try:
        head: str | None = head_path(model)
    except ValueError:
        head = None
    chain = dict(_chain(model, "", sum(parameter.numel() for parameter in model.parameters())))
    outputs: list[Output] = []
    calls: dict[str, int] = {}
    given: dict[str, Any] = {}

    def keep(path: str, starts: bool) -> Callable:
        def hook(module: Module, received: Any, output: Any) -> None:
            calls[path] = calls.get(path, 0) + 1
            if path == head:
                given.setdefault("input", received[0])
                given.setdefault("output", output)
            elif isinstance(output, Tensor) and output.ndim >= 2 and "input" not in given:
                outputs.append(Output(path, output.array, starts))
        return hook

    paths = {**chain, **({head: False} if head else {})}
    handles = [model.get_submodule(path).register_forward_hook(keep(path, starts))
               for path, starts in paths.items()]
    try:
        result = model.forward(inputs)  # not model(inputs): a warning that is said once can wait for a prediction
    finally:
        for handle in handles:
            handle.remove()
    once = [output for output in outputs if calls[output.path] == 1 and len(output.array) == len(inputs)]
    if head and "output" in given and isinstance(result, Tensor) and result.shape[:2] == given["output"].shape[:2]:
        return Trace(once, head, given["input"].array)
    return Trace([output for output in once if output.path != head], None, None)


def _chain(module: Module, path: str, total: int) -> Iterator[tuple[str, bool]]:
    """Paths of the modules in the chain, and whether a stage may begin with each: it has a weight and is not opened."""
    for name, child in module.named_children():
        place = f"{path}.{name}" if path else name
        children = [part for _, part in child.named_children()]
        opened = bool(children) and (
            isinstance(child, (Sequential, ModuleList, ModuleDict))
            or any(isinstance(part, ModuleList) for part in children)
            or sum(parameter.numel() for parameter in child.parameters()) > total / 2)
        if opened:
            yield from _chain(child, place, total)
        yield place, not opened and any(parameter.ndim >= 2 for parameter in child.parameters())


def find_cuts(trace: Trace, most: int = 6, grid: int = 4) -> list[str]:
    """The paths at the ends of the stages, at most so many, spread evenly; not what the head is given as it is.

    A stage is the outputs up to the next layer with weights that halves the number of pixels, is dense, or is a block
    of a sequence model. Of outputs that give the same features, pooled with this grid, only the last is named.
    """
    ends: list[Output] = []
    first: np.ndarray | None = None  # the output that began the stage
    last: Output | None = None
    for output in trace.outputs:
        if output.starts and (first is None or _begins(output.array, first)):
            if first is not None and last is not None:
                ends.append(last)
            first = output.array
        last = output
    if last is not None:
        ends.append(last)
    after = [end.array for end in ends[1:]] + [trace.head_input]
    different = [end.path for end, later in zip(ends, after) if later is None or not _same(end.array, later, grid)]
    if len(different) <= most:
        return different
    return [different[index] for index in np.unique(np.linspace(0, len(different) - 1, most).round().astype(int))]


def _begins(array: np.ndarray, first: np.ndarray) -> bool:
    if array.ndim != first.ndim or array.ndim < 4:
        return True
    return 2 * np.prod(array.shape[2:]) <= np.prod(first.shape[2:])


def _same(array: np.ndarray, later: np.ndarray, grid: int) -> bool:
    one, other = pooled(array, grid=grid), pooled(later, grid=grid)
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-6)
