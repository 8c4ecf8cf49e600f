"""Neighbours in a chain of modules that are cheaper together: what a Sequential runs.

A convolution or dense layer cuts its result at zero itself if a ReLU follows, which saves a pass over the result.
Where max pooling follows the ReLU, the two change places: the largest element of a window is the same before and after
the cut, so that ReLU and its gradient see the pooled elements only, and what was not pooled yet need not be kept.
Both give the same outputs and gradients as the modules one by one. Only layers of exactly these classes, with the
forward of their class and without hooks, are joined: nobody can see that the middle result is never there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl.nn.activation import ReLU
from minidl.nn.conv import Conv1d, Conv2d
from minidl.nn.linear import Linear
from minidl.nn.module import Module
from minidl.nn.pool import MaxPool1d, MaxPool2d

PRODUCTS: dict[type, Any] = {layer: layer.forward for layer in (Conv1d, Conv2d, Linear)}
RECTIFIERS: dict[type, Any] = {ReLU: ReLU.forward}
POOLS: dict[type, Any] = {layer: layer.forward for layer in (MaxPool1d, MaxPool2d)}
CALL = Module.__call__


def run_chain(modules: Sequence[Module], x: Any) -> Any:
    """Call the modules one after the other, each on the result of the last, neighbours together where they can be."""
    position = 0
    while position < len(modules):
        module, following = modules[position], modules[position + 1:position + 2]
        if following and _plain(module, RECTIFIERS) and _plain(following[0], POOLS):
            x = module(following[0](x))
            position += 2
        elif following and _plain(module, PRODUCTS) and _plain(following[0], RECTIFIERS) and not (
            position + 2 < len(modules) and _plain(modules[position + 2], POOLS)
        ):
            x = module(x, relu=True)
            position += 2
        else:
            x = module(x)
            position += 1
    return x


def _plain(module: Module, known: dict[type, Any]) -> bool:
    """Whether the module is one of the known classes and does what these do, with nobody watching."""
    kind = type(module)
    return (kind in known and kind.forward is known[kind] and "forward" not in vars(module)
            and not module._forward_hooks and kind.__call__ is CALL)
