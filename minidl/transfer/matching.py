"""Which tensor of a file goes where in a model: strictly by name, with the exceptions that the caller declares.

Nothing is changed here; `load` in `files.py` acts on the result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from minidl.errors import nearest
from minidl.nn.module import Module
from minidl.transfer.patterns import matching, nothing_matches

COUNTER = "num_batches_tracked"  # of BatchNorm
SHOWN = 20  # problems in an error's message; all are in its attribute `problems`


class LoadError(ValueError):
    """A file that is sound but does not fit the model, or was not declared to; `problems` lists all differences."""

    def __init__(self, message: str, problems: Collection[str] = ()):
        super().__init__(message)
        self.problems = list(problems)


class Matched(NamedTuple):
    """The outcome: arrays to copy by the model's names, and the model's names that were declared otherwise."""

    arrays: dict[str, np.ndarray]
    reinitialised: list[str]
    skipped: list[str]


def rename_all(names: Collection[str], rename: Mapping[str, str] | None, what: str) -> dict[str, str]:
    """The name in the model for every name in the file.

    rename: {old: new}, where old is a whole name or the front of one up to a dot ("module" or "module." stands for
    "module.conv.weight"; either may be empty); the longest that fits counts. Raises LoadError if an entry fits nothing
    or two names become one.
    """
    entries = {old.rstrip("."): new.rstrip(".") for old, new in (rename or {}).items()}
    result, used = {}, set()
    for name in names:
        fitting = [old for old in entries if not old or name == old or name.startswith(f"{old}.")]
        if fitting:
            old = max(fitting, key=len)
            used.add(old)
            rest = name[len(old):] if old else f".{name}"
            result[name] = (entries[old] + rest).lstrip(".")
        else:
            result[name] = name
    for old in entries:
        if old not in used:
            raise LoadError(f"{what}: rename={{'{old}': …}} fits no name in the file{nearest(old, _prefixes(names))}")
    taken: dict[str, str] = {}
    for name, new in result.items():
        if new in taken:
            raise LoadError(f"{what}: '{taken[new]}' and '{name}' would both become '{new}'; correct rename=")
        taken[new] = name
    return result


def match(found: Mapping[str, np.ndarray], model: Module, allow: Mapping[str, str] | None, what: str) -> Matched:
    """Compare a file's tensors with the model's; raises one LoadError that lists everything that does not fit."""
    own = {name: value.array for name, value in model.state_dict().items()}
    declared = _declared(found, own, allow, what)
    wanted = {name: array for name, array in own.items() if name not in declared}
    given = {name: array for name, array in found.items() if name not in declared}
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    common = [name for name in wanted if name in given]
    covered = {id(own[name]) for name in common}
    problems = [problem for name in common for problem in _differences(name, given[name], wanted[name])]
    problems += _unequal_ties(wanted, given)
    kinds = [("missing", name, wanted[name], unexpected) for name in missing if id(wanted[name]) not in covered]
    kinds += [("unexpected", name, given[name], missing) for name in unexpected]
    for kind, name, array, others in kinds:
        hint = nearest(name, others) if len(problems) < SHOWN else ""
        place = "the file has no such tensor" if kind == "missing" else "the model has no such tensor"
        problems.append(f"{kind} {name[:200]!r} {array.shape}: {place}{hint}")
    if problems:
        hints = _hints({name: wanted[name] for name in missing}, {name: given[name] for name in unexpected})
        raise LoadError(_report(problems, hints, model, what), problems)
    arrays = {name: given[name] for name in common}
    if not arrays:
        raise LoadError(f"{what}: nothing would be loaded into {type(model).__name__}: allow= excludes all "
                        f"{len(own)} tensors of the model" if own else f"{what}: {type(model).__name__} has no tensors")
    kept = {action: [name for name in own if declared.get(name) == action and id(own[name]) not in covered]
            for action in ("reinit", "skip")}
    return Matched(arrays, kept["reinit"], kept["skip"])


def _declared(found: Collection[str], own: Collection[str], allow: Mapping[str, str] | None,
              what: str) -> dict[str, str]:
    """"reinit" or "skip" for each name that `allow` fits, in the file or in the model; the first pattern counts."""
    if not isinstance(allow, (Mapping, type(None))):
        raise TypeError(f"load: allow must map patterns to 'reinit' or 'skip', not be a {type(allow).__name__}")
    names = dict.fromkeys([*own, *found])
    declared: dict[str, str] = {}
    for pattern, action in (allow or {}).items():
        if action not in ("reinit", "skip"):
            raise ValueError(f"load: allow={{'{pattern}': {action!r}}}: 'reinit' and 'skip' are possible")
        fitting = matching(pattern, names)
        if not fitting:
            raise LoadError(nothing_matches(pattern, names, f"{what}: allow"))
        for name in fitting:
            declared.setdefault(name, action)
    return declared


def _differences(name: str, given: np.ndarray, wanted: np.ndarray) -> list[str]:
    problems = []
    if given.shape != wanted.shape:
        problems.append(f"shape of '{name}': {given.shape} in the file, {wanted.shape} in the model")
    if given.dtype != wanted.dtype:
        problems.append(f"dtype of '{name}': {given.dtype} in the file, {wanted.dtype} in the model; nothing is cast, "
                        f"convert the model with model.to('{given.dtype}')")
    return problems


def _unequal_ties(wanted: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> list[str]:
    """Names that are one tensor in the model but hold different values in the file."""
    first: dict[int, str] = {}
    problems = []
    for name in wanted:
        if name in given:
            other = first.setdefault(id(wanted[name]), name)
            if given[other] is not given[name] and given[other].tobytes() != given[name].tobytes():
                problems.append(f"'{name}' and '{other}' are one tensor in the model, but differ in the file")
    return problems


def _report(problems: list[str], hints: list[str], model: Module, what: str) -> str:
    count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
    lines = [f"{what}: does not fit {type(model).__name__} ({count}):", *problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"… and {len(problems) - SHOWN} more")
    lines += [*hints, 'declare what may differ with allow={"pattern": "reinit"} (stays fresh) or {"pattern": "skip"}']
    return "\n  ".join(lines)


def _hints(missing: Mapping[str, np.ndarray], unexpected: Mapping[str, np.ndarray]) -> list[str]:
    """What would make a file fit whose names differ from the model's."""
    if missing and not unexpected and all(name.endswith(COUNTER) for name in missing):
        return [f'files from before PyTorch 0.4.1 do not count batches: allow={{"*{COUNTER}": "skip"}}']
    for name, other in ((u, m) for u in list(unexpected)[:SHOWN] for m in list(missing)[:SHOWN]):
        longer, shorter = (name, other) if len(name) > len(other) else (other, name)
        if longer.endswith(f".{shorter}"):
            front = longer[: -len(shorter)]
            entry = f'{{"{front}": ""}}' if longer == name else f'{{"": "{front}"}}'
            return [f"perhaps rename={entry} is meant"]
    if unexpected and _unlike(unexpected, missing) is None:
        return ["these have the shapes of the model's in the same order: if they are the same under other names, "
                "rename=transfer.rename_by_order(load_tensors(path), model)"]
    return []


def rename_by_order(tensors: Mapping[str, Any], model: Module) -> dict[str, str]:
    """{name in the file: name in the model}, for `load(…, rename=…)`, pairing tensors and model in their orders.

    For weights of the same architecture written with other names. What both call alike is left as it is; counters of
    batches may be missing on either side. Look at the result before you trust it: layers of one shape in another
    order cannot be told apart.
    Raises ValueError that names the first pair whose shapes differ, or what is left over.
    """
    own = {name: value.array for name, value in model.state_dict().items()}
    extra = {name: value for name, value in tensors.items() if name not in own}
    open_names = {name: value for name, value in own.items() if name not in tensors}
    if len(extra) != len(open_names):
        extra, open_names = ({name: value for name, value in side.items() if not name.endswith(COUNTER)}
                             for side in (extra, open_names))
    difference = _unlike(extra, open_names)
    if difference is not None:
        raise ValueError(f"rename_by_order: {difference}; write rename= by hand")
    return dict(zip(extra, open_names))


def _unlike(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first difference of two sequences of shapes, None if they are the same."""
    for (name, value), (own, target) in zip(given.items(), wanted.items()):
        if value.shape != target.shape:
            return f"'{name}' {value.shape} in the file meets '{own}' {target.shape} in the model"
    if len(given) != len(wanted):
        longer, place = (given, "file") if len(given) > len(wanted) else (wanted, "model")
        name = list(longer)[min(len(given), len(wanted))]
        return f"the {place} has {abs(len(given) - len(wanted))} more tensors, from '{name}' on"
    return None


def _prefixes(names: Collection[str]) -> dict[str, Any]:
    """Every name and every front of one."""
    return {".".join(parts[:length]): None for parts in (name.split(".") for name in names)
            for length in range(1, len(parts) + 1)}
