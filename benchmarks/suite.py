"""From a description of work to a row of the table: run once, compare the outputs, measure, compute the ratio.

Each verb's file yields `Work`; nothing is measured whose outputs differ between the libraries by more than the work's
tolerance. Rows are plain dicts, so that a JSON file of them needs no reader. Read `gemm.py` next, the shortest verb.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.machine import OtherLoad
from benchmarks.peers import as_arrays
from benchmarks.timing import Contestant, Times, quartiles, take_turns

DISTURBED = 0.25  # cores that others use while a row is measured, from which on the row is marked
TOLERANCE = 1e-4  # largest difference of two outputs, in units of the peer's root mean square


class OutputsDiffer(RuntimeError):
    """Two libraries do not compute the same: there is nothing to compare the speed of."""


@dataclass
class Settings:
    """What all verbs are told: the thread count, the loaded peers, and how much time a row may take."""

    threads: int
    peers: dict[str, ModuleType]
    quick: bool = False
    seconds: float = 2.0
    sample: bool = False  # measure a few items of each long list instead of all
    peak_gflops: float | None = None  # the measured peak of these threads, if a verb needs it
    generator: np.random.Generator = field(default_factory=np.random.default_rng)

    def normal(self, *shape: int) -> np.ndarray:
        """Fresh float32 random numbers of standard normal distribution."""
        return self.generator.standard_normal(shape, np.float32)

    def unit(self, *shape: int) -> np.ndarray:
        """Fresh float32 random numbers between 0 and 1."""
        return self.generator.random(shape, np.float32)


@dataclass
class Work:
    """One row to be: what each library does ("minidl" and the peers), and what is known about it beforehand.

    facts: more columns, or a function that gives them after the measurement.
    """

    name: str
    contestants: dict[str, Contestant]
    flops: float | None = None
    moved_bytes: float | None = None
    tolerance: float = TOLERANCE
    facts: dict[str, Any] | Callable[[], dict[str, Any]] = field(default_factory=dict)


def largest_difference(ours: Any, theirs: Any) -> float:
    """The largest difference of two lists of outputs, each in units of the root mean square of theirs.

    Infinite if shapes, NaN or infinities do not agree.
    """
    ours, theirs = as_arrays(ours), as_arrays(theirs)
    if [array.shape for array in ours] != [array.shape for array in theirs]:
        return float("inf")
    worst = 0.0
    for mine, other in zip(ours, theirs):
        finite = np.isfinite(other)
        if not np.array_equal(mine[~finite], other[~finite], equal_nan=True):
            return float("inf")
        scale = float(np.sqrt(np.mean(np.square(other[finite], dtype=np.float64)))) if finite.any() else 0.0
        difference = float(np.max(np.abs(mine[finite] - other[finite]), initial=0.0))
        if np.isnan(difference):
            return float("inf")
        worst = max(worst, difference / scale if scale else difference)
    return worst


def compare(work: Work, outputs: dict[str, Any]) -> float | None:
    """The largest difference of minidl's outputs to any peer's; None without outputs. Raises OutputsDiffer."""
    worst = None
    for name, theirs in outputs.items():
        if name == "minidl" or theirs is None:
            continue
        difference = largest_difference(outputs["minidl"], theirs)
        if not difference <= work.tolerance:
            raise OutputsDiffer(f"{work.name}: minidl and {name} differ by {difference:.2g} of the outputs' root mean "
                                f"square; {work.tolerance:.2g} is allowed")
        worst = max(worst or 0.0, difference)
    return worst


def measure(work: Work, settings: Settings) -> dict[str, Any]:
    """The row of `work`. Raises OutputsDiffer."""
    first, outputs = {}, {}
    for name, contestant in work.contestants.items():
        first[name], outputs[name] = contestant.once()
    difference = compare(work, outputs)
    del outputs
    others = OtherLoad()
    times = take_turns(work.contestants, first, settings.seconds, settings.quick)
    return row_of(work, times, difference, settings, others)


def row_of(work: Work, times: dict[str, Times], difference: float | None, settings: Settings,
           others: OtherLoad) -> dict[str, Any]:
    """The row of what was measured: the times of minidl and the peers, and what else is known about the work."""
    peers = {name: theirs for name, theirs in times.items() if name != "minidl"}
    ours = times["minidl"]
    low, median, high = quartiles(ours.samples)
    row = {
        "name": work.name,
        "threads": settings.threads,
        "minidl_ms": milliseconds(median),
        "peers": {name: milliseconds(theirs.median) for name, theirs in peers.items()},
        "ratio": round(times["torch"].median / median, 3) if "torch" in times else None,
        "quartiles_ms": {name: [milliseconds(q) for q in quartiles(t.samples)[::2]]
                         for name, t in times.items()},
        "first_call_ms": milliseconds(ours.first),
        "samples": len(ours.samples),
        "other_load": others.cores(),
    }
    if difference is not None:
        row |= {"difference": float(f"{difference:.2g}"), "tolerance": work.tolerance}
    if work.flops:
        row["gflops"] = round(work.flops / median / 1e9, 1)
        if settings.peak_gflops:
            row["percent_of_peak"] = round(100 * row["gflops"] / settings.peak_gflops, 1)
    if work.moved_bytes:
        row["gbytes_per_second"] = round(work.moved_bytes / median / 1e9, 1)
    return row | (work.facts() if callable(work.facts) else work.facts)


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds, to four significant digits."""
    return float(f"{seconds * 1e3:.4g}")


def rows_of(works: Iterable[Work], settings: Settings, errors: list[str]) -> list[dict[str, Any]]:
    """Measure one work after the other and say so on standard error.

    What cannot be measured becomes an entry of errors instead of a row: outputs that differ, and exceptions, so that
    one broken kernel does not take the other rows with it.
    """
    rows = []
    for work in works:
        try:
            rows.append(measure(work, settings))
        except Exception as error:
            what = str(error) if isinstance(error, OutputsDiffer) else f"{work.name}: {type(error).__name__}: {error}"
            errors.append(f"{settings.threads} threads  {what}")
            print(f"ERROR {errors[-1]}", file=sys.stderr)
            continue
        row = rows[-1]
        ratio = f"  ratio {row['ratio']:.2f}" if row["ratio"] else ""
        busy = f"  DISTURBED: others use {row['other_load']} cores" if (row["other_load"] or 0) > DISTURBED else ""
        print(f"{row['threads']} threads  {row['name']}: {row['minidl_ms']:.4g} ms{ratio}{busy}", file=sys.stderr)
    return rows
