"""Pictures of scores: along the cuts of each candidate of a `Selection`, and against the accuracy then reached."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from minidl.atomic import atomic_write
from minidl.transfer.selection.ranks import spearman

ACROSS = 4  # panels in a row


def draw_selection(selection: Any, path: str | os.PathLike) -> None:
    """Accuracy of the probe (left) and LogME (right) from the first cut of each candidate to its head's input."""
    figure, percent = _figure((11, 4.5))
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
    left.yaxis.set_major_formatter(percent)
    left.set(title="linear probe, held-out accuracy", xlabel="cut, from the first to the head's input")
    right.set(title="LogME", xlabel="cut, from the first to the head's input")
    for axes in (left, right):
        axes.set_xticks([])
        axes.grid(alpha=0.3)
    right.legend(fontsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def draw_scores(scores: Mapping[str, Sequence[float]], accuracies: Sequence[float], path: str | os.PathLike) -> None:
    """A scatter plot for each score, against the accuracy that each candidate reached, with Spearman's correlation."""
    columns = min(ACROSS, len(scores))
    rows = -(-len(scores) // columns)
    figure, percent = _figure((3 * columns, 3.2 * rows))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(scores):]:
        axes.set_axis_off()
    for axes, (name, values) in zip(grid.flat, scores.items()):
        axes.scatter(values, accuracies, s=18)
        axes.set(title=f"Spearman {spearman(values, accuracies):+.2f}", xlabel=name)
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set(ylabel="accuracy after fine-tuning")
        axes.yaxis.set_major_formatter(percent)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _figure(size: tuple[float, float]) -> tuple[Any, Any]:
    """An empty figure that needs no display, and a formatter for axes in per cent."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    except ImportError as error:
        raise ImportError("this picture needs matplotlib: pip install 'minidl[plot]'") from error
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, PercentFormatter(1.0)
