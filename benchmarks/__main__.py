"""`python -m benchmarks VERB`: measure, print a Markdown table, and write JSON and a picture if asked.

Each thread count is measured in a process of its own (`--threads 1,2` starts two), which has as many processor cores
before any library is loaded. Within it the libraries take turns; see `timing.py`. What runs there is `child.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.machine import describe
from benchmarks.peers import PEERS, confined, environment
from benchmarks.shapes import NETWORKS

VERBS = ("ceilings", "gemm", "layers", "ops", "training", "sequence", "startup", "runs", "frozen", "all", "table")
ROOT = Path(__file__).resolve().parents[1]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line. Exits with a message for a wrong one."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure minidl beside other libraries.")
    parser.add_argument("verb", choices=VERBS, help="table: README's table, from the files in benchmarks/results")
    parser.add_argument("networks", nargs="*", metavar="network",
                        help=f"for layers: {', '.join(NETWORKS)} (all of them unless named)")
    parser.add_argument("--threads", type=_numbers, default=[1, 2], metavar="1,2", help="thread counts to measure")
    parser.add_argument("--peers", type=_names, default=["torch", "numpy"], metavar=",".join(PEERS),
                        help="whom to measure beside minidl (default: torch,numpy)")
    parser.add_argument("--quick", action="store_true", help="small shapes, few repetitions, under 60 seconds")
    parser.add_argument("--seconds", type=float, default=None, metavar="S",
                        help="of turns for each row (default: 2, quick: 0.1); three turns at least")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows there")
    parser.add_argument("--picture", type=Path, metavar="PATH",
                        help="draw the ratios there (needs matplotlib); table: those of whole steps and runs")
    parser.add_argument("--write", type=Path, metavar="PATH", help="for table: put it between the marks in this file")
    options = parser.parse_args(arguments)
    wrong = [name for name in options.networks if name not in NETWORKS]
    if wrong or (options.networks and options.verb != "layers"):
        parser.error(f"networks are for layers, and are among {', '.join(NETWORKS)}; got {' '.join(options.networks)}")
    return options


def _numbers(text: str) -> list[int]:
    numbers = [int(number) for number in text.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"thread counts start at 1, got {text}")
    return numbers


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if not set(names) <= set(PEERS):
        raise argparse.ArgumentTypeError(f"peers are among {', '.join(PEERS)}, got {text}")
    return names


def measure(options: argparse.Namespace) -> tuple[list[report.Row], list[str]]:
    """The rows of all thread counts, each from a process that starts with so many threads, and what went wrong."""
    rows, errors = [], []
    for threads in options.threads:
        done = _measure_in_child(options, threads)
        rows, errors = rows + done["rows"], errors + done["errors"]
    origin = {"date": datetime.now(timezone.utc).strftime("%Y-%m-%d"), "machine": describe()}
    return [row | origin for row in rows], errors


def _measure_in_child(options: argparse.Namespace, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        orders = {"verb": options.verb, "networks": options.networks, "threads": threads, "peers": options.peers,
                  "quick": options.quick, "seconds": options.seconds, "path": str(path)}
        with confined(threads):
            done = subprocess.run([sys.executable, "-m", "benchmarks.child", json.dumps(orders)], cwd=ROOT,
                                  env=environment(threads))
        if done.returncode:
            return {"rows": [], "errors": [f"{threads} threads: the measuring process ended with {done.returncode}"]}
        return json.loads(path.read_text())


def main(arguments: list[str] | None = None) -> int:
    """Run the verb; 0, or 1 if outputs differed somewhere."""
    options = parse(arguments)
    if options.verb == "table":
        kept = report.load(sorted(report.RESULTS.glob("*.json")))
        text = report.readme_table(kept)
        if options.picture:
            report.picture([row for row in kept if row["verb"] in ("training", "sequence", "runs")], options.picture)
        if options.write:
            report.write_between_marks(text, options.write)
        print(text)
        return 0
    rows, errors = measure(options)
    print(report.table(rows), "", report.summary(rows), sep="\n")
    if options.json:
        report.save(rows, options.json)
    if options.picture:
        report.picture(rows, options.picture)
    for error in errors:
        print(f"ERROR {error}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
