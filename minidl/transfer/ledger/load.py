"""What a load did to each tensor and why, in the rows that the ledger keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidl.nn.module import Module
from minidl.transfer.ledger.rows import Row, named_tensors
from minidl.transfer.matching import Matched
from minidl.transfer.patterns import matching


def rows_of_load(found: Mapping[str, Any], names: Mapping[str, str], model: Module, matched: Matched,
                 allow: Mapping[str, str] | None, fresh: bool) -> dict[str, Row]:
    """Status, reason and shape in the file of every tensor that the file or the model has, by the model's names.

    found: the file's arrays by the model's names; names: those names by the file's; fresh: the model was built for
    this load.
    """
    original = {new: old for old, new in names.items() if new != old}
    because = _patterns([*model.state_dict(), *found], allow)
    own = {name: type(module).__name__ for name, module, _ in named_tensors(model)}
    rows = {}
    for name in matched.arrays:
        origin = f"as '{original[name]}' in the file" if name in original else ""
        rows[name] = Row(name, "loaded", origin, tuple(found[name].shape))
    for names_left, status in ((matched.reinitialised, "re-initialised"), (matched.skipped, "skipped")):
        for name in names_left:
            reason = because.get(name, "")
            if status == "re-initialised":
                reason += f": as {own[name]} draws it" if fresh else ": the values that the model had"
            rows[name] = Row(name, status, reason, tuple(found[name].shape) if name in found else None)
    for name, array in found.items():
        if name not in own:
            rows[name] = Row(name, "skipped", because.get(name, ""), tuple(array.shape), dtype=array.dtype.name,
                             kind="file")
    return rows


def _patterns(names: list[str], allow: Mapping[str, str] | None) -> dict[str, str]:
    """The entry of `allow` that counts for each name, the first that fits, as text."""
    because: dict[str, str] = {}
    for pattern, action in (allow or {}).items():
        for name in matching(pattern, names):
            because.setdefault(name, f"allow {pattern!r}: {action!r}")
    return because
