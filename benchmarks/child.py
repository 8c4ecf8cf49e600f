"""What runs in the process of one thread count: `python -m benchmarks.child JSON`, started by `__main__.py`.

The JSON names verb, networks, threads, peers, quick, seconds, and the path to write rows and errors to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import ceilings, frozen, gemm, layers, ops, peers, runs, sequence, startup, suite, training
from benchmarks.shapes import NETWORKS

VERBS = {"ceilings": ceilings, "gemm": gemm, "layers": layers, "ops": ops, "training": training,
         "sequence": sequence, "startup": startup}
WHOLE = {"runs": runs, "frozen": frozen}  # these measure whole epochs and make their rows themselves
NEED_PEAK = ("gemm", "layers")
SECONDS, QUICK_SECONDS = 2.0, 0.1  # of turns for each row


def measure(options: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of options["verb"] ("all" for all verbs) on options["threads"] threads, and what went wrong."""
    loaded, missing = peers.load(options["peers"])
    for name in missing:
        print(f"{name} is not installed: skipped", file=sys.stderr)
    quick, everything = options["quick"], options["verb"] == "all"
    seconds = options["seconds"] or (QUICK_SECONDS if quick else SECONDS)
    settings = suite.Settings(options["threads"], loaded, quick, seconds,
                              sample=quick and everything)
    rows, errors = [], []
    for verb in VERBS if everything else (options["verb"],):
        peers.pin(options["threads"], loaded, blas=verb not in ("training", "sequence", *WHOLE))
        if verb in NEED_PEAK and settings.peak_gflops is None:
            settings.peak_gflops = ceilings.measured_peak(settings)
        if verb == "startup" and settings.sample and settings.threads > 1:
            continue
        if verb in WHOLE:
            rows += [row | {"verb": verb} for row in WHOLE[verb].rows(settings, errors)]
            continue
        networks = (options["networks"] or list(NETWORKS),) if verb == "layers" else ()
        found = suite.rows_of(VERBS[verb].works(settings, *networks), settings, errors)
        rows += [row | {"verb": verb} for row in found]
    return rows, errors


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    measured, wrong = measure(given)
    Path(given["path"]).write_text(json.dumps({"rows": measured, "errors": wrong}))
