"""How a figure arises: the contestants take turns in one process, and the median of their times counts.

A turn is: wait for quiet, one call that is not counted (unless calls are long), then counted calls. Thread pools go on
spinning after their work (OpenMP for some 4 ms, OpenBLAS for 100) and would take a core away from the next contestant:
so a turn begins when no other thread of the process runs any more. The uncounted call fills the caches.
Read `suite.py` next, which makes rows of the table from these times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import get_native_id
from time import perf_counter, sleep
from typing import Any

import numpy as np

TURN, QUICK_TURN = 0.02, 0.01  # seconds of counted calls in a turn, at least one
LONG = 0.3  # seconds of a call that needs no uncounted one before it
TURNS = 25  # at most, for everybody
PATIENCE = 0.5  # seconds to wait for quiet, at most
TASKS = Path("/proc/self/task")  # the threads of this process, on Linux


@dataclass
class Contestant:
    """What one library does in a row: `prepare()` is not timed, `run(prepared)` is and returns the outputs."""

    run: Callable[[Any], Any]
    prepare: Callable[[], Any] | None = None

    def once(self) -> tuple[float, Any]:
        """Run once: seconds, and the outputs."""
        prepared = self.prepare() if self.prepare else None
        start = perf_counter()
        outputs = self.run(prepared)
        return perf_counter() - start, outputs


@dataclass
class Times:
    """Seconds of the counted calls of one contestant, and of its first call, which may have compiled something."""

    first: float
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return quartiles(self.samples)[1]


def quartiles(samples: list[float]) -> tuple[float, float, float]:
    """The values below which a quarter, a half and three quarters of the samples lie. Raises ValueError for none."""
    if not samples:
        raise ValueError("quartiles: nothing was measured")
    low, middle, high = np.percentile(samples, (25, 50, 75))
    return float(low), float(middle), float(high)


def geometric_mean(ratios: list[float]) -> float:
    """(r1 r2 … rn)^(1/n). Raises ValueError for no ratios and for one that is not positive."""
    if not ratios or min(ratios) <= 0:
        raise ValueError(f"geometric_mean: needs positive ratios, got {ratios}")
    return float(np.exp(np.mean(np.log(ratios))))


def take_turns(contestants: dict[str, Contestant], first: dict[str, float], seconds: float,
               quick: bool = False) -> dict[str, Times]:
    """Measure the contestants in turn for about `seconds` together; at least three turns each.

    Fewer where three turns would take much longer than that: 30 times, if quick 10 times.

    first: the seconds that each one's first call took, made before; the work is warm when this begins.
    """
    times = {name: Times(first[name]) for name in contestants}
    start = perf_counter()
    for turn in range(1, TURNS + 1):
        for name, contestant in contestants.items():
            wait_for_quiet()
            times[name].samples += _turn(contestant, QUICK_TURN if quick else TURN)
        used = perf_counter() - start
        if used > seconds and turn >= 3 or used > (10 if quick else 30) * seconds:
            break
    return times


def wait_for_quiet() -> None:
    """Sleep until no other thread of this process runs, or patience ends; where that cannot be seen, for a while."""
    if not TASKS.exists():
        sleep(0.15)
        return
    end = perf_counter() + PATIENCE
    while perf_counter() < end:
        sleep(0.002)
        if not others_running():
            return


def others_running() -> int:
    """How many threads of this process are running or ready to, besides the one that asks (Linux)."""
    running, own = 0, str(get_native_id())
    for task in TASKS.iterdir():
        try:
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        running += task.name != own and state == "R"
    return running


def _turn(contestant: Contestant, turn: float) -> list[float]:
    """The counted times of one turn."""
    seconds, outputs = contestant.once()
    if seconds > LONG:
        return [seconds]
    samples: list[float] = []
    while sum(samples) < turn and len(samples) < 100:
        seconds, outputs = contestant.once()
        samples.append(seconds)
    del outputs
    return samples
