"""Task vectors: what a fine-tuned network has learnt, as a difference of weights that can be added, subtracted and
scaled. Read `averaging.py` first.

Ilharco et al. 2023, "Editing models with task arithmetic".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minidl.errors import nearest
from minidl.transfer.averaging import Source, arrays_of, filled, require_alike
from minidl.transfer.patterns import matching, nothing_matches


class TaskVector:
    """The difference of two networks' floating-point tensors, by name, in float64; see `task_vector`.

    `a + b` learns both tasks, `-a` forgets one, `a * 0.5` goes half the way, `a - b` and `sum([a, b])` work too; all
    give a new one. Raises ValueError for two of different names or shapes.
    """

    def __init__(self, changes: dict[str, np.ndarray], skipped: Iterable[str] = ()):
        self.changes, self.skipped = changes, frozenset(skipped)

    def apply(self, model: Source, scaling: float = 1.0) -> Any:
        """`model` + scaling times the vector: a new model, or a dict of tensors for a state dict or file.

        The sum is taken in float64 and rounded once. Tensors that the vector does not change, or whose names were
        skipped, keep their bits. Statistics of BatchNorm are tensors like others: after adding several vectors
        compute them anew with `update_bn`.
        Raises ValueError for other names or shapes, with the nearest names, and for a variance that would be negative.
        """
        if not isinstance(scaling, (int, float, np.number)) or not np.isfinite(scaling):
            raise ValueError(f"TaskVector.apply: scaling must be a finite number, not {scaling!r}")
        arrays = arrays_of(model)
        own = {name: array for name, array in arrays.items() if array.dtype.kind == "f" and name not in self.skipped}
        self._require_alike("apply", {name: array.shape for name, array in own.items()}, "the model")
        result = dict(arrays)
        for name, change in self.changes.items():
            if scaling and change.any():
                result[name] = (own[name].astype(np.float64) + scaling * change).astype(own[name].dtype)
                if name.rpartition(".")[2] == "running_var" and (result[name] < 0).any():
                    raise ValueError(f"TaskVector.apply: '{name}' would hold negative variances; leave statistics out "
                                     "with task_vector(…, skip='*.running_*') and compute them with update_bn")
        return filled(model, result)

    def norm(self) -> float:
        """The length of the vector, sqrt of the sum of all squares."""
        return float(np.sqrt(sum(np.square(change).sum() for change in self.changes.values())))

    def __add__(self, other: TaskVector) -> TaskVector:
        return self._with("+", other, np.add)

    def __sub__(self, other: TaskVector) -> TaskVector:
        return self._with("-", other, np.subtract)

    def __radd__(self, other: Any) -> TaskVector:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum() starts at 0

    def __mul__(self, factor: float) -> TaskVector:
        if not isinstance(factor, (int, float, np.integer, np.floating)):
            return NotImplemented
        return TaskVector({name: change * float(factor) for name, change in self.changes.items()}, self.skipped)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> TaskVector:
        return self * (1 / divisor)

    def __neg__(self) -> TaskVector:
        return self * -1

    def __repr__(self) -> str:
        count = sum(change.size for change in self.changes.values())
        return f"TaskVector({len(self.changes)} tensors, {count:,} numbers, norm {self.norm():.4g})"

    def _with(self, sign: str, other: Any, combine: Callable) -> TaskVector:
        if not isinstance(other, TaskVector):
            return NotImplemented
        self._require_alike(sign, {name: change.shape for name, change in other.changes.items()}, "the other vector")
        changes = {name: combine(change, other.changes[name]) for name, change in self.changes.items()}
        return TaskVector(changes, self.skipped | other.skipped)

    def _require_alike(self, verb: str, shapes: dict[str, tuple[int, ...]], label: str) -> None:
        problems = [f"{label} has no '{name}'{nearest(name, shapes.keys() - self.changes.keys())}"
                    for name in self.changes if name not in shapes]
        problems += [f"the vector has no '{name}'{nearest(name, self.changes.keys() - shapes.keys())}"
                     for name in shapes if name not in self.changes]
        problems += [f"'{name}' has shape {shape} in {label}, {self.changes[name].shape} in the vector"
                     for name, shape in shapes.items() if name in self.changes and self.changes[name].shape != shape]
        if problems:
            raise ValueError(f"TaskVector {verb}: " + "; ".join(problems[:10]))


def task_vector(fine_tuned: Source, base: Source, *, skip: str | Iterable[str] = ()) -> TaskVector:
    """What fine-tuning changed: fine_tuned - base, for models, state dicts or files.

    `task_vector(tuned, base).apply(base)` is the fine-tuned network again; with scaling=-1 the network unlearns the
    task, with the sum of several vectors and a scaling below 1 (0.3 to 0.5 is usual) it learns all of them.
    skip: patterns of names that do not take part, such as "head.*" where the networks have heads of their own.
    Raises ValueError that lists the names, shapes, dtypes and layers in which the two differ, and for LoRA adapters:
    merge(model) first.
    """
    patterns = [skip] if isinstance(skip, str) else list(skip)
    tuned, start = arrays_of(fine_tuned), arrays_of(base)
    names = [*dict.fromkeys([*start, *tuned])]
    skipped: set[str] = set()
    for pattern in patterns:
        found = matching(pattern, names)
        if not found:
            raise ValueError(nothing_matches(pattern, names, "task_vector: skip"))
        skipped.update(found)
    tuned, start = ({name: array for name, array in arrays.items() if name not in skipped} for arrays in (tuned, start))
    sources = ({}, {}) if skipped else (base, fine_tuned)
    require_alike("task_vector", (sources[0], start), (sources[1], tuned), "the fine-tuned network", "the base")
    return TaskVector({name: tuned[name].astype(np.float64) - start[name] for name, array in start.items()
                       if array.dtype.kind == "f"}, skipped)
