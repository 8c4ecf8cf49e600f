"""What a comparison leaves behind: results.json, report.md and accuracy.png, from a `Comparison`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minidl.compare.methods import METHODS
from minidl.compare.results import Comparison
from minidl.report import require_matplotlib
from minidl.transfer import atomic_write, write_text

PICTURE = "accuracy.png"


def write_json(results: Comparison, path: Path) -> None:
    """Write results.json, atomically."""
    write_text(path, json.dumps(results.as_json(), indent=2) + "\n")


def write_report(results: Comparison, folder: Path, plot: bool = True, json_path: Path | None = None) -> None:
    """Write results.json (and a copy at `json_path`), report.md and accuracy.png, each atomically.

    Raises ImportError, naming the extra, if the picture is wanted and matplotlib is not there.
    """
    if not isinstance(results, Comparison):
        raise TypeError(f"write_report: the Comparison that compare_transfer returns is needed, got "
                        f"{type(results).__name__}")
    write_json(results, folder / "results.json")
    if json_path is not None:
        write_json(results, json_path)
    if plot:
        require_matplotlib()
        draw(results, folder / PICTURE)
    write_text(folder / "report.md", markdown(results, plot))


def summary(results: Comparison) -> list[str]:
    """Sentences: the best method for each number of labels, and where carrying weights did harm."""
    sentences = []
    rows, place = results.rows(), results.target["measured_on"]
    for labels in results.labels():
        best = max((row for row in rows if row["labels"] == labels), key=lambda row: row["accuracy"])
        sentences.append(f"{labels:,} labels: {METHODS[best['method']].title} has the highest mean {place} accuracy, "
                         f"{best['accuracy']:.2%}.")
    harmful = results.negative_transfer()
    for row in harmful:
        sentences.append(f"Negative transfer: {METHODS[row['method']].title} with {row['labels']:,} labels loses "
                         f"{-100 * row['difference']:.2f} ± {100 * row['standard_error']:.2f} points to training from "
                         "scratch.")
    if not harmful and any(row["verdict"] for row in rows):
        sentences.append("No method that carries weights loses to scratch by more than chance explains.")
    judged = sum(row["standard_error"] is not None for row in rows)
    if judged:
        sentences.append(f"Each verdict is a paired t test over seeds at 5 %: of {judged} verdicts without any true "
                         f"difference, {0.05 * judged:.1f} would be expected to name one. The same {place} images "
                         "measure all seeds.")
    if any(row["method"] == "structure" for row in rows):
        sentences.append("Structure transfer carries no weights: its distance from scratch is the luck of the draw.")
    return sentences


def proofs(results: Comparison) -> list[str]:
    """What the ledgers said: in all, and in the words of one run of each method."""
    frozen = [run for run in results.runs if any("frozen, " in line for line in run["verified"])]
    if not frozen:
        return []
    changed = sum(run["frozen_bytes_changed"] for run in frozen)
    lines = [f"In all {len(frozen)} runs with frozen parts together, {changed:,} frozen bytes changed."]
    shown = set()
    for run in frozen:
        if run["method"] not in shown:
            shown.add(run["method"])
            lines.append(f"{METHODS[run['method']].title}, {run['labels']:,} labels, seed {run['seed']}: "
                         f"{next(line for line in run['verified'] if 'frozen, ' in line)}")
    return lines


def markdown(results: Comparison, plot: bool = True) -> str:
    """The text of report.md."""
    settings, source, target = results.settings, results.source, results.target
    skipped = ("source", "target", "rates", "methods", "output", "labels")
    options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items()
                        if name not in skipped and value not in (None, False))
    trained = [entry["accuracy"] for entry in results.sources if "accuracy" in entry]
    score = f"; its test accuracy there is {min(trained):.2%} to {max(trained):.2%}" if trained else ""
    once = "trained first, once for each seed" if source["trained_here"] else "the same in every seed"
    unfinished = [] if results.complete else [
        f"**Stopped early: {len(results.runs)} of {results.planned} runs were finished.**", ""]
    picture = [f"![accuracy over the number of labels, a line a method]({PICTURE})", ""] if plot else []
    return "\n".join([
        f"# {source['name']} carried to {target['name']}",
        "",
        *unfinished,
        f"Source: {source['model']}, {source['parameters']:,} parameters, {once}{score}. Target: {target['name']}, "
        f"{len(target['classes'])} classes, measured on {target['images_measured']:,} {target['measured_on']} images. "
        f"Every run takes {settings['budget']:,} optimiser steps of {settings['batch_size']} images; "
        f"{settings['seeds']} seeds, mean ± standard deviation; the difference to scratch is paired by seed, ± its "
        "standard error.",
        "",
        results.table(),
        "",
        *[f"- {sentence}" for sentence in summary(results)],
        "",
        *picture,
        "What each method does with its steps, and its highest learning rate (AdamW, up and down once):",
        "",
        *[f"- {METHODS[method].title} ({settings['rates'][method]:g}): {METHODS[method].what}"
          for method in settings["methods"]],
        "",
        *[f"- {line}" for line in proofs(results)],
        "",
        f"Images of {'x'.join(map(str, target['image_shape']))} were given as "
        f"{'x'.join(map(str, target['given_as']))} (channels, rows, columns). Settings: {options}.",
        f"Data: {target['data']}. Machine: {results.machine}. Date: {results.date}.",
        "",
    ])


def draw(results: Comparison, path: Path) -> None:
    """Accuracy over the number of labels, a line a method, mean and standard deviation; losses are ringed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    rows, counts = results.rows(), results.labels()
    methods = [method for method in METHODS if any(row["method"] == method for row in rows)]
    harmful: list[tuple[float, float]] = []
    for place, method in enumerate(methods):
        own = [row for row in rows if row["method"] == method]
        nudge = 1.03 ** (place - (len(methods) - 1) / 2)  # so that bars of different methods do not hide each other
        axes.errorbar([row["labels"] * nudge for row in own], [row["accuracy"] for row in own],
                      yerr=[row["accuracy_std"] or 0 for row in own], color=f"C{list(METHODS).index(method)}",
                      marker="o", markersize=4, capsize=2, linestyle="-" if METHODS[method].carries else "--",
                      label=METHODS[method].title)
        for row in own:
            if row["negative_transfer"]:
                harmful.append((row["labels"] * nudge, row["accuracy"]))
    if harmful:
        axes.plot(*zip(*harmful), "o", markersize=12, markerfacecolor="none", markeredgecolor="red",
                  label="negative transfer: loses to scratch")
    seeds, steps = max(row["seeds"] for row in rows), results.settings["budget"]
    axes.set(title=f"{results.source['name']} carried to {results.target['name']}, {steps:,} steps a run\n"
                   + (f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "one seed"),
             xlabel="labelled images of the target", xscale="log", xlim=(counts[0] / 1.5, counts[-1] * 1.5),
             ylabel=f"accuracy on {results.target['measured_on']} images")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", framealpha=0.6)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
