"""The picture of a `Selection`: scores along the cuts of each candidate."""

from __future__ import annotations

import os
from typing import Any

from minidl.transfer.atomic import atomic_write


def draw_selection(selection: Any, path: str | os.PathLike) -> None:
    """Accuracy of the probe (left) and LogME (right) from the first cut of each candidate to its head's input."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    except ImportError as error:
        raise ImportError("Selection.draw needs matplotlib: pip install 'minidl[plot]'") from error
    figure = Figure(figsize=(11, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name in selection.candidates():
        cuts = selection.along(name)
        places = [index / max(1, len(cuts) - 1) for index in range(len(cuts))]
        left.errorbar(places, [cut.probe.accuracy for cut in cuts], [cut.probe.std for cut in cuts], marker="o",
                      markersize=3, capsize=2, label=name)
        right.plot(places, [cut.logme for cut in cuts], marker="o", markersize=3, label=name)
    for level, label in ((selection.chance, "chance"),
                         (selection.pixels and selection.pixels.accuracy, "the input itself")):
        if level is not None:
            left.axhline(level, color="grey", linestyle=":" if label == "chance" else "--", linewidth=1)
            left.annotate(label, (0, level), fontsize=8, color="grey", va="bottom")
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.set(title="linear probe, held-out accuracy", xlabel="cut, from the first to the head's input")
    right.set(title="LogME", xlabel="cut, from the first to the head's input")
    for axes in (left, right):
        axes.set_xticks([])
        axes.grid(alpha=0.3)
    right.legend(fontsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
