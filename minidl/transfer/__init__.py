"""Carrying a network from one task to another: save, load, freeze, re-head, features, structure, adapters, averages.

Each verb is a function on a model. Read `files.py` (save and load) first, then `freeze.py`, `head.py`,
`features.py`, `structure.py` and `depth.py`. `fine_tune`, `train_head` and `lr_find` train, so they live in
`minidl.train`, which stands on this package; they are offered here too.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from minidl.errors import did_you_mean
from minidl.atomic import atomic_write, write_bytes, write_text
from minidl.formats.tensorfile import load_metadata
from minidl.formats.tensors import load_tensors, save_tensors
from minidl.transfer.averaging import ExponentialMovingAverage, GreedySoup, average, greedy_soup, update_bn
from minidl.transfer.depth import layer_groups, layerwise_parameters, unfreeze_next, unfreeze_top
from minidl.transfer.features import compute_features, features
from minidl.transfer.files import load, load_structure, save
from minidl.transfer.freeze import freeze, frozen, trainable, unfreeze
from minidl.transfer.head import head_path, headless, rehead
from minidl.transfer.kerasload import load_keras, rename_keras_by_order
from minidl.transfer.ledger import Ledger, ledger
from minidl.transfer.ledger.verify import FrozenChanged, Verification
from minidl.transfer.lora import adapters, forget_merged, lora, merge, remove_lora, unmerge
from minidl.transfer.lora_files import load_lora, save_lora
from minidl.transfer.matching import LoadError, rename_by_order
from minidl.transfer.prefix import FrozenPrefix, frozen_prefix
from minidl.transfer.preprocess import preprocess
from minidl.transfer.selection.advice import Advice, advise
from minidl.transfer.selection.linear_probe import Probe, linear_probe, logistic_regression
from minidl.transfer.selection.scores import h_score, leep, logme, nce
from minidl.transfer.selection.which_model import Cut, Selection, which_model
from minidl.transfer.structure import build, register, structure
from minidl.transfer.task_vectors import TaskVector, task_vector
from minidl.transfer.untrained import UntrainedWarning, untrained

__all__ = [
    "Advice", "Cut", "ExponentialMovingAverage", "FrozenChanged", "FrozenPrefix", "GreedySoup", "Ledger", "LoadError",
    "Probe", "Selection", "TaskVector", "UntrainedWarning", "Verification", "adapters", "advise", "atomic_write",
    "average", "build", "compute_features", "features", "fine_tune", "forget_merged", "freeze", "frozen",
    "frozen_prefix", "greedy_soup", "h_score", "head_path", "headless", "layer_groups", "layerwise_parameters",
    "ledger", "leep", "linear_probe", "load", "load_keras", "load_lora", "load_metadata", "load_structure",
    "load_tensors", "logistic_regression", "logme", "lora", "lr_find", "merge", "nce", "preprocess", "register",
    "rehead", "remove_lora", "rename_by_order", "rename_keras_by_order", "save", "save_lora", "save_tensors",
    "structure", "task_vector", "train_head", "trainable", "unfreeze", "unfreeze_next", "unfreeze_top", "unmerge",
    "untrained", "update_bn", "which_model", "write_bytes", "write_text",
]
TRAINING = ("fine_tune", "lr_find", "train_head")


def __getattr__(name: str) -> Any:
    """What needs `minidl.train`, when it is first asked for: imported above, the two packages would need each other."""
    if name in TRAINING:
        return getattr(import_module("minidl.train"), name)
    raise AttributeError(f"module 'minidl.transfer' has no attribute '{name}'{did_you_mean(name, __all__)}")
