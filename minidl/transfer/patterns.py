"""Which modules and parameters a pattern such as "features.*" or "*.bias" means.

Patterns are those of the shell (`fnmatch`): `*` stands for any characters, dots included, `?` for one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from minidl.errors import nearest
from minidl.nn.module import Module


def check_model(verb: str, model: object) -> None:
    """Raise TypeError unless `model` is a Module."""
    if not isinstance(model, Module):
        hint = "; models.create_model(name) makes it" if isinstance(model, str) else ""
        raise TypeError(f"{verb}: the model itself, a Module, is needed first, got {type(model).__name__}{hint}")


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that the pattern fits."""
    return [name for name in names if fnmatchcase(name, pattern)]


def nothing_matches(pattern: str, names: Iterable[str], what: str) -> str:
    """The message for a pattern that fits none of `names`."""
    names = [name for name in names if name]
    some = ", ".join(name[:100] for name in names[:8]) + ("…" if len(names) > 8 else "")
    return f"{what}: the pattern '{pattern}' matches nothing{nearest(pattern, names) or f'; there are {some}'}"


def every_module(module: Module, path: str = "") -> Iterator[tuple[str, Module]]:
    """As `named_modules`, but a shared module appears at each of its places."""
    yield path, module
    for name, child in module.named_children():
        yield from every_module(child, f"{path}.{name}" if path else name)
