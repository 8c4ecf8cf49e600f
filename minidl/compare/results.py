"""What a comparison found: every run, and what they say together, with a verdict that knows how sure it can be.

A method and scratch of the same seed saw the same images in the same order, so their difference is taken seed by seed:
its mean over seeds has the standard error s / sqrt(n), and Student's t says how many of these are needed to call it a
gain or a loss. W. S. Gosset ("Student") 1908, "The probable error of a mean".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, median, stdev
from typing import Any, NamedTuple

from minidl.compare.methods import METHODS

FORMAT = 1
# two-sided 5 % points of Student's t for 1, 2, … degrees of freedom
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
           2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)
GAINS, LOSES, UNSURE = "gains", "loses", "no difference that these seeds can show"
ONE_SEED, ALONE = "one seed: no verdict", ""


class Difference(NamedTuple):
    """Mean difference to scratch, its standard error (None for one seed), and what can be said about it."""

    mean: float
    standard_error: float | None
    verdict: str


def paired(values: Sequence[float], scratch: Sequence[float]) -> Difference:
    """Compare a method's accuracies with those of scratch, seed by seed.

    "gains" and "loses" are said where the mean is further from 0 than t standard errors, t being the two-sided 5 %
    point of Student's t for n - 1 degrees of freedom.
    """
    if len(values) != len(scratch) or not len(values):
        raise ValueError(f"paired: as many figures of the method as of scratch are needed, one for each seed, at least "
                         f"one; got {len(values)} and {len(scratch)}")
    differences = [value - other for value, other in zip(values, scratch, strict=True)]
    if len(differences) == 1:
        return Difference(differences[0], None, ONE_SEED)
    average, error = mean(differences), stdev(differences) / math.sqrt(len(differences))
    freedom = len(differences) - 1
    t = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96 + 2.4 / freedom
    sure = abs(average) > t * error
    return Difference(average, error, (GAINS if average > 0 else LOSES) if sure else UNSURE)


@dataclass
class Comparison:
    """The outcome of `compare_transfer`. `print(comparison)` shows the table.

    runs: a dict for each finished run: "method", "labels" (how many), "seed", "accuracy", "seconds", "steps", "rate",
        "trained_parameters", "frozen_parameters", "verified" (what the ledger said), "frozen_bytes_changed".
    sources: a dict for each trained network that was carried: "seed" (None if it serves all), "file", and where it was
        trained here "accuracy", "seconds", "steps".
    settings, source, target: what was asked for, and what the two tasks are. planned: how many runs were meant to be.
    """

    settings: dict[str, Any]
    source: dict[str, Any]
    target: dict[str, Any]
    date: str
    machine: str
    planned: int
    sources: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every run that was planned was finished."""
        return len(self.runs) == self.planned

    def of(self, method: str, labels: int) -> dict[int, dict[str, Any]]:
        """The finished runs of a method with so many labels, by their seeds."""
        return {run["seed"]: run for run in self.runs if run["method"] == method and run["labels"] == labels}

    def labels(self) -> list[int]:
        """The numbers of labels for which there is a run, ascending."""
        return sorted({run["labels"] for run in self.runs})

    def rows(self) -> list[dict[str, Any]]:
        """One line for each number of labels and method: what its seeds found together."""
        return [self._row(method, labels) for labels in self.labels() for method in METHODS if self.of(method, labels)]

    def _row(self, method: str, labels: int) -> dict[str, Any]:
        runs, scratch = self.of(method, labels), self.of("scratch", labels)
        both = [seed for seed in runs if seed in scratch]
        found = Difference(0.0, None, ALONE)
        if method != "scratch" and both:
            found = paired([runs[seed]["accuracy"] for seed in both], [scratch[seed]["accuracy"] for seed in both])
        accuracies = [run["accuracy"] for run in runs.values()]
        first = next(iter(runs.values()))
        return {
            "labels": labels, "method": method, "seeds": len(runs), "accuracy": mean(accuracies),
            "accuracy_std": stdev(accuracies) if len(runs) > 1 else None,
            "difference": found.mean if found.verdict else None, "standard_error": found.standard_error,
            "verdict": found.verdict, "negative_transfer": found.verdict == LOSES and METHODS[method].carries,
            "seconds": median(run["seconds"] for run in runs.values()),
            **{name: first[name] for name in ("steps", "rate", "trained_parameters", "frozen_parameters", "verified")},
            "frozen_bytes_changed": sum(run["frozen_bytes_changed"] for run in runs.values()),
        }

    def negative_transfer(self) -> list[dict[str, Any]]:
        """The rows of methods that carry weights and lose to scratch."""
        return [row for row in self.rows() if row["negative_transfer"]]

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values, the contents of results.json."""
        return {"format": FORMAT, "date": self.date, "machine": self.machine, "settings": self.settings,
                "source": {**self.source, "networks": self.sources}, "target": self.target,
                "complete": self.complete, "planned_runs": self.planned, "rows": self.rows(), "runs": self.runs}

    def table(self) -> str:
        """The rows as a Markdown table."""
        lines = ["| labels | method | accuracy | against scratch, points | verdict | seconds | parameters trained "
                 "| frozen |", "| ---: | --- | ---: | ---: | --- | ---: | ---: | ---: |"]
        for row in self.rows():
            spread = "" if row["accuracy_std"] is None else f" ± {row['accuracy_std']:.2%}"
            error = "" if row["standard_error"] is None else f" ± {100 * row['standard_error']:.2f}"
            points = "" if row["difference"] is None else f"{100 * row['difference']:+.2f}{error}"
            verdict = f"**{row['verdict']}: negative transfer**" if row["negative_transfer"] else row["verdict"]
            lines.append(f"| {row['labels']:,} | {METHODS[row['method']].title} | {row['accuracy']:.2%}{spread} "
                         f"| {points} | {verdict} | {row['seconds']:.1f} | {row['trained_parameters']:,} "
                         f"| {row['frozen_parameters']:,} |")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()
