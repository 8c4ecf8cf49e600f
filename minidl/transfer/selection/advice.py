"""The rule that says how to carry a network over: parameters, features, structure, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from minidl.transfer.selection.linear_probe import Probe

FEW = 50  # labels a class below which training a whole network on them gains little over a head on its features
MANY = 100  # labels a class from which a fresh network of the same structure can be trained
GOOD = 0.97  # accuracy of the probe that leaves little for fine-tuning to gain
LEAST_GAIN = 0.01


@dataclass(frozen=True)
class Advice:
    """How to carry the candidate over.

    method: "parameters" (all weights, a new head, everything trained on), "features" (cut at `at`, frozen, a new head),
    "structure" (the same architecture with fresh weights) or "scratch" (a small network of your own).
    at: where to cut, None for the input of the head. gain: of the probe over the better of chance and the input
    itself, in accuracy. reason: a sentence.
    """

    method: str
    candidate: str
    at: str | None
    gain: float
    reason: str

    def __str__(self) -> str:
        return f"Recommended: {self.method} of '{self.candidate}'. {self.reason}"


def advise(candidate: str, probes: Mapping[str | None, Probe], at: str | None, chance: float, pixels: Probe | None,
           labels_per_class: float) -> Advice:
    """The method for a candidate whose best cut is `at`, from the probes of all its cuts (None: the head's input).

    1. The features are worth something if their probe beats the larger of chance and the probe of the input itself by
       more than a hundredth and twice the standard error of the difference, fold by fold. If not, nothing of the
       weights is worth carrying: "structure" with at least 100 labels a class, "scratch" with fewer.
       (A linear probe does not see all that fine-tuning can make of weights, so the reason says: compare.)
    2. If they are: "features" with fewer than 50 labels a class, or where the probe is right in 97 % already.
    3. Else "parameters".
    A cut that beats the head's input in the same way is named: the layers behind it have learnt too much of the old
    task, and are better left out, or trained with the larger learning rate.
    """
    best = probes[at]
    base, told = chance, f"chance ({chance:.1%})"
    against: np.ndarray | float = chance
    if pixels is not None and pixels.accuracy > chance:
        base, told, against = pixels.accuracy, f"the pixels themselves ({pixels.accuracy:.1%})", np.array(pixels.folds)
    gain = best.accuracy - base
    place = "the head's input" if at is None else f"'{at}'"
    said = f"a linear probe at {place} gets {best.accuracy:.1%}"
    few = f"{labels_per_class:,.0f} labels a class"
    if not _beats(best, against):
        method = "structure" if labels_per_class >= MANY else "scratch"
        rest = ("enough to train the same architecture from fresh weights" if method == "structure" else
                "too few for its architecture without its weights: train a small network of your own")
        reason = (f"Its features are worth no more than {told}: {said}; {few} are {rest}. Compare with fine-tuning, of "
                  "which a linear probe does not see all.")
        return Advice(method, candidate, at, gain, reason)
    head = probes.get(None)
    behind = ""
    if at is not None and head is not None and _beats(best, np.array(head.folds)):
        behind = (f" What comes behind '{at}' belongs to the old task (the head's input gives {head.accuracy:.1%}): "
                  "leave it out, or train it faster than the rest.")
    if labels_per_class < FEW or best.accuracy >= GOOD:
        why = "too few to train the whole network on" if best.accuracy < GOOD else "and little is left to gain"
        return Advice("features", candidate, at, gain, f"{_upper(said)}, against {told}, with {few}, {why}: freeze it "
                      f"up to there and train a head.{behind}")
    return Advice("parameters", candidate, at, gain, f"{_upper(said)}, against {told}, and {few} suffice to train all "
                  f"of it on from its weights.{behind}")


def _beats(probe: Probe, other: np.ndarray | float) -> bool:
    """Whether the probe is better than another (its folds) or a number, by more than the folds' noise."""
    differences = np.array(probe.folds) - other
    error = differences.std(ddof=1) / len(differences) ** 0.5
    return bool(differences.mean() > max(LEAST_GAIN, 2 * error))


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
