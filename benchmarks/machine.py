"""What a figure depends on besides the code: processor, memory, system, versions, and who else uses the cores."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter

from benchmarks.peers import cores

PACKAGES = ("numpy", "numba", "torch", "jax")


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            facts = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", "").split()
    vectors = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    numbers = "/".join(facts[key] for key in ("cpu family", "model") if key in facts)
    return f"{facts.get('model name', platform.machine())} ({numbers or platform.machine()}, {vectors})"


def _memory() -> str:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return ""
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"


def _versions() -> list[str]:
    found = [f"Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found


def describe() -> str:
    """Processor, cores this process may use, memory, system, and the versions of Python and the libraries."""
    parts = [_processor(), f"{cores()} cores", _memory(), f"{platform.system()} {platform.release()}", *_versions()]
    return ", ".join(part for part in parts if part)


class OtherLoad:
    """How many cores everybody else uses (other processes, the host of a virtual machine) between two moments."""

    def __init__(self):
        self.start = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Time, seconds of all cores in use so far, and those of this process and its finished children (Linux)."""
        try:
            with open("/proc/stat") as file:
                ticks = [int(number) for number in file.readline().split()[1:9]]
        except OSError:
            return None
        idle, waiting = ticks[3], ticks[4]
        busy = (sum(ticks) - idle - waiting) / os.sysconf("SC_CLK_TCK")
        return perf_counter(), busy, sum(os.times()[:4])

    def cores(self) -> float | None:
        """The average since the start, less what the system's count in ticks may be wrong by; None if it has none."""
        now = self._now()
        if now is None or self.start is None:
            return None
        seconds, busy, own = (after - before for after, before in zip(now, self.start))
        return round(max(busy - own - 3 / os.sysconf("SC_CLK_TCK"), 0.0) / seconds, 2)
