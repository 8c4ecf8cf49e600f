"""Rows as a Markdown table, as a picture, and README's table of the kept results.

A file of results is a JSON list of rows, a line each. Groups are what stands before the first colon or comma of a
row's name, or the verb; see `summary`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.timing import geometric_mean
from minidl.atomic import write_text

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
COLUMNS = (  # heading, and the entry of a row
    ("GFLOP/s", "gflops"), ("% of peak", "percent_of_peak"), ("GB/s", "gbytes_per_second"),
    ("largest difference", "difference"), ("algorithm", "algorithm"), ("peak memory, MiB", "peak_memory_mb"),
    ("test accuracy, %", "accuracy"),
)


def save(rows: list[Row], path: Path) -> None:
    """Write rows as a JSON list with a line for each, so that versions of it can be compared by eye."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def load(paths: Iterable[Path]) -> list[Row]:
    """The rows of several files; a later row replaces an earlier one of the same name and thread count."""
    rows = {(row["name"], row["threads"]): row for path in paths for row in json.loads(path.read_text())}
    return list(rows.values())


def table(rows: list[Row]) -> str:
    """A Markdown table of rows, with a column for each peer and for each fact that any of the rows has."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row["peers"]))
    facts = [(heading, key) for heading, key in COLUMNS if any(key in row for row in rows)]
    headings = ["work", "threads", "minidl ms", *(f"{peer} ms" for peer in peers), "ratio",
                *(heading for heading, _ in facts)]
    lines = [[row["name"], row["threads"], _time(row, "minidl"), *(_time(row, peer) for peer in peers),
              _text(row["ratio"]), *(_text(row.get(key)) for _, key in facts)] for row in rows]
    return markdown(headings, lines)


def markdown(headings: list[str], lines: list[list[Any]]) -> str:
    """A Markdown table."""
    everything = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in everything)


def _time(row: Row, side: str) -> str:
    """Median (lower quartile - upper quartile) in milliseconds."""
    median = row["minidl_ms"] if side == "minidl" else row["peers"].get(side)
    if median is None:
        return ""
    spread = row.get("quartiles_ms", {}).get(side)
    return f"{median:.4g}" + (f" ({spread[0]:.3g}-{spread[1]:.3g})" if spread else "")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:g}" for name, number in value.items())
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "" if value is None else str(value)


def group_of(row: Row) -> str:
    """What a row is summed up under: the verb, for layers with network, for operations with the operation."""
    if row["verb"] == "layers":
        return f"conv layers of {row['name'].split()[0]}"
    if row["verb"] == "ops":
        return row["name"].split(" of ")[0].split(",")[0]
    if row["verb"] == "gemm":
        return "matrix products"
    return row["name"]


def summary(rows: list[Row]) -> str:
    """A Markdown table with one line for each group: PyTorch's time over minidl's, geometric mean and smallest."""
    groups: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if row["ratio"]:
            groups.setdefault(group_of(row), {}).setdefault(row["threads"], []).append(row["ratio"])
    if not groups:
        return "No row has a ratio: PyTorch was not measured."
    threads = sorted({count for group in groups.values() for count in group})
    headings = ["PyTorch's time / minidl's", *(f"{n} thread{'s' if n > 1 else ''}" for n in threads), "rows"]
    lines = [[name, *(_mean_and_smallest(group.get(n)) for n in threads), max(map(len, group.values()))]
             for name, group in groups.items()]
    return markdown(headings, lines)


def _mean_and_smallest(ratios: list[float] | None) -> str:
    if not ratios:
        return ""
    mean = f"{geometric_mean(ratios):.2f}"
    return mean if len(ratios) == 1 else f"{mean} (smallest {min(ratios):.2f})"


def readme_table(rows: list[Row]) -> str:
    """The summary of kept results, with the machines and dates they come from."""
    origins = dict.fromkeys(f"{row['date']}: {row['machine']}" for row in rows)
    return "\n".join([summary(rows), "", "Median times of turns in one process; where a line has several rows, their "
                      "geometric mean. Measured by `python -m benchmarks`:", "",
                      *(f"- {origin}" for origin in origins)])


def write_between_marks(text: str, path: Path) -> None:
    """Replace what stands between the two marks in a Markdown file. Raises ValueError if they are not there."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no place for the table; put these two lines where it belongs:\n{BEGIN}\n{END}")
    write_text(path, f"{before}{BEGIN}\n{text}\n{END}{after}")


def picture(rows: list[Row], path: Path) -> None:
    """Draw the ratio of every row that has one, a colour for each thread count; right of the line minidl is faster."""
    rows = [row for row in rows if row["ratio"]]
    if not rows:
        raise ValueError("picture: no row has a ratio to draw; is PyTorch installed?")
    import_module("matplotlib").use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    names = list(dict.fromkeys(row["name"] for row in rows))[::-1]
    figure, axes = pyplot.subplots(figsize=(10, 1.2 + 0.22 * len(names)), layout="constrained")
    for threads in sorted({row["threads"] for row in rows}):
        drawn = [row for row in rows if row["threads"] == threads]
        axes.plot([row["ratio"] for row in drawn], [names.index(row["name"]) for row in drawn], "o", markersize=5,
                  alpha=0.8, label=f"{threads} thread{'s' if threads > 1 else ''}")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlabel("PyTorch's time / minidl's")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
