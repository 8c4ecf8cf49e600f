"""What the demo leaves behind: results.json, report.md and curves.png, from the results of one or more seeds."""

from __future__ import annotations

import datetime
import json
import os
import platform
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from minidl.transfer import atomic_write

MEASURED = ("test_accuracy", "seconds", "trained_parameters", "frozen_parameters")
TITLES = {
    "scratch": "from scratch",
    "parameters": "parameter transfer (all weights, new head)",
    "features": "feature transfer (frozen body, new head)",
    "structure": "structure transfer (architecture only)",
}


def describe_machine() -> str:
    """The processor, its cores, the system, Python and NumPy, in one line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return (f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
            f"Python {platform.python_version()}, NumPy {np.__version__}")


def prepare(folder: Path) -> None:
    """Make the folder and try to write in it, so that a failure shows before the training and not after it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def combine(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of each measured number over the runs, and the standard deviation of the accuracies."""
    together = {key: mean(run[key] for run in runs) for key in MEASURED if key in runs[0]}
    together |= {key: runs[0][key] for key in together if key.endswith("_parameters")}
    together["test_accuracy_std"] = stdev(run["test_accuracy"] for run in runs) if len(runs) > 1 else 0.0
    return together


def summarise_runs(runs: list[dict[str, Any]], settings: dict[str, Any], source: Any, target: Any) -> dict[str, Any]:
    """The contents of results.json for the runs (one a seed) of an experiment on two data sets."""
    methods = runs[0]["target"]
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "settings": settings,
        "source": {"dataset": source.name, "train_images": len(source.train), "test_images": len(source.test),
                   **combine([run["source"] for run in runs])},
        "target": {
            "dataset": target.name,
            "labels": len(target.train),
            "test_images": len(target.test),
            **{method: combine([run["target"][method] for run in runs]) for method in methods},
        },
        "runs": runs,
    }


def table(results: dict[str, Any]) -> str:
    """The four ways side by side, as a Markdown table."""
    several = len(results["runs"]) > 1
    lines = ["| method | test accuracy | seconds | parameters trained | parameters frozen |",
             "| --- | ---: | ---: | ---: | ---: |"]
    for method, title in TITLES.items():
        row = results["target"][method]
        accuracy = f"{row['test_accuracy']:.2%}" + (f" ± {row['test_accuracy_std']:.2%}" if several else "")
        lines.append(f"| {title} | {accuracy} | {row['seconds']:.1f} | {row['trained_parameters']:,} "
                     f"| {row['frozen_parameters']:,} |")
    return "\n".join(lines)


def verdicts(results: dict[str, Any]) -> list[str]:
    """A sentence for each transfer: did it win or lose against training from scratch, and by how much?"""
    scratch, runs = results["target"]["scratch"], results["runs"]
    sentences = []
    for method in list(TITLES)[1:]:
        row = results["target"][method]
        points = 100 * (row["test_accuracy"] - scratch["test_accuracy"])
        verdict = "wins" if points > 0 else "loses" if points < 0 else "ties"
        sentence = f"{TITLES[method].split(' (')[0].capitalize()} {verdict}: {points:+.2f} points against scratch"
        if len(runs) > 1:
            better = sum(r["target"][method]["test_accuracy"] > r["target"]["scratch"]["test_accuracy"] for r in runs)
            sentence += f", better in {better} of {len(runs)} seeds"
        if method == "structure":
            sentence += "; it carries no weights, so any difference from scratch is the luck of the draw"
        sentences.append(f"{sentence}; it took {row['seconds']:.1f} s against {scratch['seconds']:.1f} s.")
    rate, count = scratch["test_accuracy"], results["target"]["test_images"] * len(runs)
    noise = 100 * (2 * rate * (1 - rate) / count) ** 0.5
    sentences.append(f"One standard error of such a difference, from {count:,} test answers, is {noise:.2f} points: "
                     "less than twice that says little.")
    return sentences


def markdown(results: dict[str, Any]) -> str:
    """The text of report.md."""
    settings, source, target = results["settings"], results["source"], results["target"]
    options = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items() if key != "output")
    return "\n".join([
        f"# {source['dataset']} carried to {target['dataset']} with {target['labels']:,} labels",
        "",
        f"Source: {source['test_accuracy']:.2%} test accuracy on {source['dataset']} after {source['seconds']:.1f} s "
        f"of training ({source['trained_parameters']:,} parameters).",
        "",
        table(results),
        "",
        *[f"- {sentence}" for sentence in verdicts(results)],
        "",
        "![accuracy on held-out images of the target after each epoch](curves.png)",
        "",
        f"{source['dataset']}: {source['train_images']:,} training and {source['test_images']:,} test images; "
        f"{target['dataset']}: {target['labels']:,} training and {target['test_images']:,} test images. "
        f"Settings: {options}.",
        f"Machine: {results['machine']}. Date: {results['date']}.",
        "",
    ])


def require_matplotlib() -> None:
    """Raise ImportError, naming the extra, if pictures cannot be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("curves.png needs matplotlib: pip install 'minidl[plot]' (or give --no-plot)") from error


def draw_curves(results: dict[str, Any], path: Path) -> None:
    """Accuracy on held-out target images after each epoch, a line a method, all seeds' mean and range."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    several = len(results["runs"]) > 1
    for method, title in TITLES.items():
        curves = np.array([run["target"][method]["curve"] for run in results["runs"]])  # seeds, epochs
        epochs = np.arange(1, curves.shape[1] + 1)
        (line,) = axes.plot(epochs, curves.mean(axis=0), marker="o", markersize=3, label=title)
        if several:
            axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=line.get_color(), alpha=0.15)
    axes.set(title=f"{results['source']['dataset']} carried to {results['target']['dataset']}, "
                   f"{results['target']['labels']:,} labels"
                   + (f" (mean and range of {len(results['runs'])} seeds)" if several else ""),
             xlabel="epoch on the target", ylabel="accuracy on held-out target images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def write_report(results: dict[str, Any], folder: Path, plot: bool = True, json_path: Path | None = None) -> None:
    """Write results.json (and a copy at `json_path`), report.md and curves.png, each atomically."""
    if plot:
        draw_curves(results, folder / "curves.png")
    text = markdown(results)
    documents = {folder / "report.md": text if plot else text.replace("![", "No picture was drawn: ![", 1),
                 folder / "results.json": json.dumps(results, indent=2) + "\n"}
    if json_path is not None:
        documents[json_path] = documents[folder / "results.json"]
    for path, content in documents.items():
        with atomic_write(path) as file:
            file.write(content.encode())
