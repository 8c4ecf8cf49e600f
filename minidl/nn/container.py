"""Modules made of modules: a chain, a list and a dictionary of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from minidl.nn.fusion import run_chain
from minidl.nn.module import Module


class Sequential(Module):
    """Modules called one after the other; give them in order, or a dict (name -> module).

    Some neighbours, such as Conv2d and ReLU, are computed together, see `fusion.py`.
    """

    def __init__(self, *modules: Any):
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named: Any = modules[0].items()
        else:
            named = ((str(index), module) for index, module in enumerate(modules))
        for name, module in named:
            _require_module(name, module)
            self.add_module(name, module)

    def forward(self, x: Any) -> Any:
        return run_chain(list(self.children()), x)

    def __len__(self) -> int:
        return len(list(self.children()))

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int | slice) -> Module:
        named = list(self.named_children())
        return Sequential(dict(named[index])) if isinstance(index, slice) else named[index][1]

    def __setitem__(self, index: int, module: Module) -> None:
        _require_module(str(index), module)
        setattr(self, list(self.named_children())[index][0], module)

    def append(self, module: Module) -> Sequential:
        _require_module(str(len(self)), module)
        self.add_module(str(len(self)), module)
        return self


class ModuleList(Module):
    """A list of modules whose parameters are found."""

    def __init__(self, modules: Iterable[Module] = ()):
        self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        _require_module(str(len(self)), module)
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(list(self.children()))

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int | slice) -> Any:
        modules = list(self.children())
        return ModuleList(modules[index]) if isinstance(index, slice) else modules[index]

    def __setitem__(self, index: int, module: Module) -> None:
        _require_module(str(index), module)
        setattr(self, list(self.named_children())[index][0], module)


class ModuleDict(Module):
    """A dictionary of modules whose parameters are found."""

    def __init__(self, modules: Mapping[str, Module] | None = None):
        for name, module in (modules or {}).items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        _require_module(name, module)
        self.add_module(name, module)

    def __getitem__(self, name: str) -> Module:
        return dict(self.named_children())[name]

    def __contains__(self, name: str) -> bool:
        return name in dict(self.named_children())

    def __len__(self) -> int:
        return len(list(self.children()))

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.named_children()))

    def keys(self) -> Iterator[str]:
        return iter(self)

    def values(self) -> Iterator[Module]:
        return self.children()

    def items(self) -> Iterator[tuple[str, Module]]:
        return self.named_children()


def _require_module(name: str, module: Any) -> None:
    if not isinstance(module, Module):
        hint = " (the class itself: write it with parentheses)" if isinstance(module, type) else ""
        if isinstance(module, (list, tuple)):
            hint = "; give the modules one by one, with a star: Sequential(*layers)"
        elif callable(module) and not hint:
            hint = "; a function is no module: nn.ReLU() for functional.relu, or call it in forward()"
        raise TypeError(f"'{name}' must be a Module, not {type(module).__name__}{hint}")
