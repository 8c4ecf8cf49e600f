"""Paths of modules made from the names that nodes and weights have in a file.

"layer1.0.conv1.weight" makes the path "layer1.0.conv1", "/layer1/layer1.0/relu/Relu" makes "layer1.0.relu". What no
path may hold becomes "_"; what is taken gets a number. Layers with weights choose first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from minidl.nn.container import ModuleDict
from minidl.nn.module import Module

LONGEST_PART, MOST_PARTS = 60, 8
_WEIGHT = re.compile(r"(.+)\.(weight|bias|gamma|beta|kernel|weight_\w+|running_\w+)")


def wished(op_type: str, node: str, output: str, weights: tuple[str, ...] = (), layer: bool = True) -> str:
    """The path that a node's names suggest: the front of a weight's name, else the node's own, else its output's.

    PyTorch ends a node's name with its operator, which says nothing more of a layer.
    """
    for weight in weights:
        found = _WEIGHT.fullmatch(weight)
        if found and not weight.startswith("onnx::"):
            return found[1]
    name = node or output or op_type
    parts = [part for part in name.split("/") if part]
    parts = [part for part, following in zip(parts, [*parts[1:], ""]) if not following.startswith(f"{part}.")]
    if layer and len(parts) > 1 and re.fullmatch(rf"{re.escape(op_type)}(_\d+)?", parts[-1]) and name.startswith("/"):
        parts.pop()
    return ".".join(parts) or op_type


class Places:
    """Puts modules under paths of a network, with a ModuleDict for each part of the way.

    first: the paths that layers with weights wish for.
    """

    def __init__(self, network: Module, first: Iterable[str]):
        self.network = network
        self.numbers: dict[tuple[int, str], int] = {}  # the last one given to a name
        self.first = {tuple(_parts(path)) for path in first}
        self.fronts = {path[:length] for path in self.first for length in range(1, len(path))}

    def put(self, path: str, module: Module, op_type: str, weighted: bool) -> str:
        """Enter the module under the path, or one like it that is free, and return which it is."""
        parts = _parts(path)
        if weighted and tuple(parts) in self.fronts:  # other layers lie below
            parts.append(_part(op_type))
        elif not weighted:
            taken = next((n for n in range(1, len(parts) + 1) if tuple(parts[:n]) in self.first), None)
            if taken is not None:  # a layer will stand there: this comes beside it
                rest = parts[taken - 1:] + [op_type] * (taken == len(parts))
                parts = [*parts[:taken - 1], _part("_".join(rest))]
        if len(parts) > MOST_PARTS:
            parts = [*parts[:MOST_PARTS - 1], _part("_".join(parts[MOST_PARTS - 1:]))]
        holder, way = self.network, []
        for place, part in enumerate(parts[:-1]):
            part = _allowed(part, holder)
            inside = vars(holder).get(part)
            if inside is None:
                inside = ModuleDict()
                setattr(holder, part, inside)
            elif type(inside) is not ModuleDict:  # a layer stands here: what lies below comes beside it
                parts = [*parts[:place], _part("_".join(parts[place:]))]
                break
            holder, way = inside, [*way, part]
        last = base = _allowed(parts[-1] if parts else "node", holder)
        number = self.numbers.get((id(holder), base), 1)
        while last in vars(holder) or getattr(type(holder), last, None) is not None:
            number += 1
            last = f"{base}_{number}"
        self.numbers[id(holder), base] = number
        setattr(holder, last, module)
        return ".".join([*way, last])


def _parts(path: str) -> list[str]:
    return [_part(part) for part in path.split(".") if part][:200]


def _part(text: str) -> str:
    """The text with nothing in it that a module's name may not have."""
    text = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:LONGEST_PART].strip("_-")
    return text or "node"


def _allowed(part: str, holder: Module) -> str:
    """The part, changed if the holder has an attribute of that name already that is no module."""
    taken = getattr(type(holder), part, None) is not None or \
        part in vars(holder) and not isinstance(vars(holder)[part], Module)
    return f"{part}_" if taken else part
