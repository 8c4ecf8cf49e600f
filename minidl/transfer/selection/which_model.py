"""Which network, cut where, carried how? Scores of several networks at several cut layers, and a recommendation.

`which_model({"a": model, …}, (images, labels))` runs each candidate once over the labelled data of the new task and
scores its features at the ends of its stages (`cuts.py`) with what `scores.py` and `linear_probe.py` have.
`advice.py` holds the rule behind the recommended method.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from minidl.atomic import atomic_write
from minidl.data.images import ImageDataset
from minidl.errors import ShapeError, did_you_mean
from minidl.nn.module import Module
from minidl.tensor import Tensor, as_array
from minidl.transfer.features import compute_features, features
from minidl.transfer.preprocess import preprocess
from minidl.transfer.selection.advice import Advice, advise
from minidl.transfer.selection.cuts import Trace, cells, find_cuts, pooled, run_once
from minidl.transfer.selection.linear_probe import Probe, linear_probe
from minidl.transfer.selection.scores import class_numbers, h_score, leep, logme, nce
from minidl.transfer.untrained import untrained

BY = ("probe", "logme", "h_score")
PIXELS, HEAD_INPUT, SCORES = "pixels", "head input", "scores"  # keys beside the paths of the cuts
MOST_PIXELS = 4096  # numbers an image has in the probe of the raw input; larger images are averaged down


@dataclass(frozen=True)
class Cut:
    """The scores of a candidate cut behind the module `at`; at=None is the input of its head, as for `headless`.

    leep and nce judge the old head's predictions and stand with the head's input, where there is a trained head.
    cells: how many cells a side its maps were averaged in. depth: which cut of the candidate it is, in the order of
    its layers. seconds: what scoring took; those of the pass over the data are in `Selection.seconds`.
    """

    candidate: str
    at: str | None
    title: str
    cells: int
    depth: int
    features: int
    logme: float
    h_score: float
    probe: Probe
    leep: float | None
    nce: float | None
    seconds: float


@dataclass(frozen=True)
class Selection:
    """What `which_model` found: `cuts`, best first; `print` shows a table. `advice` has method, at and reason.

    labels, classes: of the new task. chance: the share of its largest class. pixels: the probe of the input itself,
    None for inputs that are not numbers. seconds: of each candidate's pass over the data.
    """

    cuts: tuple[Cut, ...]
    by: str
    labels: int
    classes: int
    chance: float
    pixels: Probe | None
    seconds: Mapping[str, float]
    advice: Advice

    @property
    def best(self) -> Cut:
        """The cut with the largest score."""
        return self.cuts[0]

    def candidates(self) -> list[str]:
        """The candidates in the order of their best cuts."""
        return list(dict.fromkeys(cut.candidate for cut in self.cuts))

    def along(self, candidate: str) -> list[Cut]:
        """The cuts of a candidate in the order of its layers, the head's input last."""
        return sorted((cut for cut in self.cuts if cut.candidate == candidate), key=lambda cut: cut.depth)

    def __str__(self) -> str:
        lines = ["| candidate | cut | features | probe | LogME | H-score | LEEP | NCE | seconds |",
                 "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
        for cut in self.cuts:
            old = " | ".join("" if value is None else f"{value:.3f}" for value in (cut.leep, cut.nce))
            lines.append(f"| {cut.candidate} | {cut.title} | {cut.features:,} | {_percent(cut.probe)} "
                         f"| {cut.logme:.4f} | {cut.h_score:.3f} | {old} | {cut.seconds:.2f} |")
        if self.pixels is not None:
            lines.append(f"| (the input itself) | | | {_percent(self.pixels)} | | | | | |")
        passes = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.seconds.items())
        return "\n".join([*lines, "", f"{self.labels:,} labels of {self.classes} classes, chance {self.chance:.1%}; "
                          f"best first by {self.by}. One pass over the data: {passes}.", f"{self.advice}"])

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {**asdict(self), "seconds": dict(self.seconds)}

    def save(self, path: str | os.PathLike) -> None:
        """Write `to_json()` to a file, atomically."""
        text = json.dumps(self.to_json(), indent=2, default=list) + "\n"
        with atomic_write(path) as file:
            file.write(text.encode())

    def draw(self, path: str | os.PathLike) -> None:
        """Draw the probe's accuracy and LogME along each candidate's cuts as PNG; needs matplotlib (`minidl[plot]`)."""
        from minidl.transfer.selection.picture import draw_selection

        draw_selection(self, path)


def which_model(candidates: Mapping[str, Module | Callable[[], Module]], data: Any,
                cuts: Sequence[str] | Mapping[str, Sequence[str]] | None = None, *, by: str = "probe",
                prepare: Callable | Mapping[str, Callable] | None = None, grid: int = 4, pool: str = "mean",
                l2: float = 1e-2, folds: int = 5, batch_size: int = 128, progress: bool = False) -> Selection:
    """Score every candidate at every cut on the labelled data of a new task, from one pass over it, without training.

    candidates: networks by name, or functions that make them, such as
        `lambda: create_model("resnet20", pretrained="resnet20-cifar10")`, which are called one at a time and let go.
    data: as for `compute_features`, with integer labels; read once for each candidate, so no iterator that runs dry.
        Bytes (uint8), and those of an `ImageDataset` without a transform, go through each candidate's own
        `model.preprocess`, or to 0..1 if it has none; floats too, and have to be in its range already (a warning says
        if they cannot be). Integers of other kinds are tokens and go in as they are.
    cuts: paths of modules, for all candidates or by name; the ends of the stages unless given. The head's input is
        always there as well.
    grid: maps (N, C, H, W) are averaged in 4 x 4 cells, as `nn.AdaptiveAvgPool2d(4)` does, so that it still counts
        where in the image something is; in 2 x 2 or 1 where that would make more than 2,048 features. 1: over all
        pixels. pool: sequences (N, T, F) are averaged over the steps, or the first step taken with "first".
    prepare: done to each batch of inputs before that, for all or by name: other sizes or channels.
    by: "probe" (accuracy), "logme" or "h_score": what the cuts are ordered by.
    l2, folds: those of `linear_probe`. Only pooled features are kept: N times the features of all cuts in float32.

    The models are neither changed nor trained. The advice is that of `advise`, for the candidate that comes out best.
    Raises ValueError for no candidates, one class only and NaN features; KeyError for a path that does not exist;
    TypeError for labels that are not integers (`logme` alone takes regression targets).
    """
    if by not in BY:
        raise ValueError(f"which_model: by is one of {', '.join(BY)}, not {by!r}")
    if not candidates:
        raise ValueError("which_model: no candidates; give a dict of networks by name")
    if isinstance(data, Iterator):
        raise ValueError("which_model: the data is an iterator, which only the first candidate could read; give a data "
                         "set, a DataLoader, a list of batches or a pair of arrays")
    for what, options in (("cuts", cuts), ("prepare", prepare)):
        for name in options if isinstance(options, Mapping) else ():
            if name not in candidates:
                raise ValueError(f"which_model: {what} for '{name}', which is no candidate"
                                 f"{did_you_mean(name, candidates)}")
    rows: list[Cut] = []
    seconds: dict[str, float] = {}
    pixels: Probe | None = None
    labels = np.empty(0)
    for name, candidate in candidates.items():
        model = candidate if isinstance(candidate, Module) else candidate()
        network = _Pooled(model, name, _for(cuts, name), _for(prepare, name), pool, grid, with_input=not rows)
        started = time.perf_counter()
        try:
            found, given = compute_features(network, _as_bytes(data), at="", batch_size=batch_size,
                                            progress=progress)
        except ShapeError as error:
            raise ShapeError(f"which_model: candidate '{name}': {error}; prepare= can bring the inputs to the shape "
                             "that it was made for") from error
        seconds[name] = time.perf_counter() - started
        if given is None:
            raise ValueError("which_model: the data has no labels; the scores need those of the new task")
        labels = given
        if PIXELS in found:
            pixels = linear_probe(found.pop(PIXELS), labels, l2=l2, folds=folds)
        rows += _score(network, found, labels, l2, folds)
    rows.sort(key=lambda cut: cut.probe.accuracy if by == "probe" else getattr(cut, by), reverse=True)
    sizes = np.bincount(class_numbers("which_model", labels, len(labels)))
    chance = float(sizes.max() / sizes.sum())
    best = rows[0]
    probes = {cut.at: cut.probe for cut in rows if cut.candidate == best.candidate}
    advice = advise(best.candidate, probes, best.at, chance, pixels, len(labels) / len(sizes))
    return Selection(tuple(rows), by, len(labels), len(sizes), chance, pixels, seconds, advice)


class _Pooled(Module):
    """Inputs to a dict of pooled features at the cuts, of the old head's scores and, if wanted, of the input itself."""

    def __init__(self, model: Module, name: str, cuts: Sequence[str] | None, prepare: Callable | None, pool: str,
                 grid: int, with_input: bool):
        if pool not in ("mean", "first"):
            raise ValueError(f"which_model: pool is 'mean' or 'first', not {pool!r}")
        if isinstance(grid, bool) or not isinstance(grid, int) or grid < 1:
            raise ValueError(f"which_model: grid is the number of cells a side, 1 or more, not {grid!r}")
        for path in cuts or ():
            model.get_submodule(path)
        self.model, self.name, self.prepare, self.with_input = model, name, prepare, with_input
        self.pool, self.grid = pool, grid
        self.sides: dict[str, int] = {}  # cells a side at each cut whose output is a map
        self.cuts = None if cuts is None else list(dict.fromkeys(cuts))
        self.head: str | None = None
        self.traced = False

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        raw = as_array(inputs)
        inputs = self._prepared(raw if self.prepare is None else self.prepare(raw))
        weight = next(self.model.parameters(), None)
        if weight is not None and inputs.dtype.kind == "f":
            inputs = Tensor(inputs.array.astype(weight.dtype, copy=False))
        if not self.traced:
            self._find(run_once(self.model, inputs[:2]))
        assert self.cuts is not None
        kept: dict[str, np.ndarray] = {}

        def keep_input(module: Module, given: Any, output: Any) -> None:
            kept.setdefault(HEAD_INPUT, given[0].array)

        if self.head is None:
            outputs = features(self.model, self.cuts)(inputs)
        else:
            handle = self.model.get_submodule(self.head).register_forward_hook(keep_input)
            try:
                outputs = features(self.model, [*self.cuts, self.head])(inputs)
            finally:
                handle.remove()
            kept[SCORES] = outputs[self.head].array
        for path in self.cuts:
            output = outputs[path]  # of a recurrent layer (output, state)
            kept[path] = as_array(output[0] if isinstance(output, (tuple, list)) else output)
        self.sides.update((key, cells(array.shape, self.grid)) for key, array in kept.items() if array.ndim == 4)
        result = {key: Tensor(pooled(array, self.pool, 1 if key == SCORES else self.grid))
                  for key, array in kept.items()}
        if self.with_input and inputs.dtype.kind == "f":
            result[PIXELS] = Tensor(_small(inputs.array))
        return result

    def _find(self, trace: Trace) -> None:
        self.head = trace.head
        if self.cuts is None:
            self.cuts = find_cuts(trace, grid=self.grid)
        if not self.cuts and self.head is None:
            raise ValueError(f"which_model: candidate '{self.name}' has no head and no layers where cuts can be found; "
                             "name some with cuts=")
        self.traced = True

    def _prepared(self, array: Any) -> Tensor:
        array = as_array(array)
        own = getattr(self.model, "preprocess", None)
        if array.dtype.kind in "iu" and array.dtype != np.uint8:
            return Tensor(array)
        if own is None:
            return preprocess(array, {}) if array.dtype == np.uint8 else Tensor(array)
        high = (getattr(self.model, "preprocessing", None) or {}).get("range", [0, 1])[1]
        if array.dtype != np.uint8 and not self.traced and high > 2 and 0 <= array.min() <= array.max() <= 1:
            warnings.warn(f"which_model: the inputs have values from 0 to 1, candidate '{self.name}' was trained on up "
                          f"to {high:g}; give bytes (uint8), which are brought to each candidate's range", stacklevel=2)
        return own(array)


def _score(network: _Pooled, found: dict[str, np.ndarray], labels: np.ndarray, l2: float, folds: int) -> list[Cut]:
    """A row for each cut of a candidate, in the order of the network."""
    old = found.pop(SCORES, None)
    head = network.head
    trained = head is not None and not any(name.startswith(f"{head}.") for name in untrained(network.model))
    rows = []
    for depth, key in enumerate([*(network.cuts or []), *([HEAD_INPUT] if head is not None else [])]):
        started = time.perf_counter()
        values: dict[str, Any] = {"leep": None, "nce": None}
        if key == HEAD_INPUT and trained and old is not None:
            p = _probabilities(old)
            values = {"leep": leep(p, labels), "nce": nce(p.argmax(1), labels)}
        try:
            values |= {"logme": logme(found[key], labels), "h_score": h_score(found[key], labels),
                       "probe": linear_probe(found[key], labels, l2=l2, folds=folds)}
        except ValueError as error:
            raise type(error)(f"which_model: candidate '{network.name}' at '{key}': {error}") from error
        side = network.sides.get(key, 1)
        title = (f"input of {head}" if key == HEAD_INPUT else key) + (f", {side} x {side}" if side > 1 else "")
        rows.append(Cut(network.name, None if key == HEAD_INPUT else key, title, side, depth, found[key].shape[1],
                        **values, seconds=time.perf_counter() - started))
    return rows


def _probabilities(scores: np.ndarray) -> np.ndarray:
    """The softmax of the old head's scores (N, Z); of a single score, the two probabilities of its sigmoid."""
    scores = scores.astype(np.float64)
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], 1)
    p = np.exp(scores - scores.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def _small(inputs: np.ndarray) -> np.ndarray:
    """Inputs as rows (N, F); images of too many numbers are averaged over squares of pixels first."""
    if inputs.ndim == 4:
        channels, height, width = inputs.shape[1:]
        size = 1
        while channels * (height // size) * (width // size) > MOST_PIXELS and size < min(height, width):
            size += 1
        rows, columns = height // size, width // size
        inputs = inputs[:, :, :rows * size, :columns * size]
        inputs = inputs.reshape(len(inputs), channels, rows, size, columns, size).mean((3, 5))
    return inputs.reshape(len(inputs), -1)


def _as_bytes(data: Any) -> Any:
    return (data.images, data.labels) if isinstance(data, ImageDataset) and data.transform is None else data


def _for(option: Any, name: str) -> Any:
    return option.get(name) if isinstance(option, Mapping) else option


def _percent(probe: Probe) -> str:
    return f"{probe.accuracy:.2%} ± {probe.std:.2%}"
