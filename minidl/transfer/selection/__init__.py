"""Which network to start from, and where to cut it: scores from one forward pass. Read `which_model.py` first."""

from __future__ import annotations

from minidl.transfer.selection.advice import Advice, advise
from minidl.transfer.selection.linear_probe import Probe, linear_probe, logistic_regression
from minidl.transfer.selection.scores import h_score, leep, logme, nce
from minidl.transfer.selection.which_model import Cut, Selection, which_model

__all__ = [
    "Advice", "Cut", "Probe", "Selection", "advise", "h_score", "leep", "linear_probe", "logistic_regression", "logme",
    "nce", "which_model",
]
