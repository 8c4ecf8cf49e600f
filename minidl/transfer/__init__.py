"""Carrying a network from one task to another: save, load, freeze, re-head, features, structure, adapters, averages.

Each verb is a function on a model. Read `files.py` (save and load) first, then `freeze.py`, `head.py`,
`features.py` and `structure.py`; `lora.py`, `averaging.py` and `task_vectors.py` stand on these.
"""

from __future__ import annotations

from minidl.transfer.atomic import atomic_write, write_bytes, write_text
from minidl.transfer.averaging import ExponentialMovingAverage, GreedySoup, average, greedy_soup, update_bn
from minidl.transfer.features import compute_features, features
from minidl.transfer.files import load, load_structure, save
from minidl.transfer.formats import load_tensors, save_tensors
from minidl.transfer.freeze import freeze, frozen, trainable, unfreeze
from minidl.transfer.head import head_path, headless, rehead
from minidl.transfer.lora import adapters, forget_merged, lora, merge, remove_lora, unmerge
from minidl.transfer.lora_files import load_lora, save_lora
from minidl.transfer.matching import LoadError, rename_by_order
from minidl.transfer.preprocess import preprocess
from minidl.transfer.structure import build, register, structure
from minidl.transfer.task_vectors import TaskVector, task_vector
from minidl.transfer.tensorfile import load_metadata
from minidl.transfer.untrained import UntrainedWarning, untrained

__all__ = [
    "ExponentialMovingAverage", "GreedySoup", "LoadError", "TaskVector", "UntrainedWarning", "adapters", "atomic_write",
    "average", "build", "compute_features", "features", "forget_merged", "freeze", "frozen", "greedy_soup", "head_path",
    "headless", "load", "load_lora", "load_metadata", "load_structure", "load_tensors", "lora", "merge", "preprocess",
    "register", "rehead", "remove_lora", "rename_by_order", "save", "save_lora", "save_tensors", "structure",
    "task_vector", "trainable", "unfreeze", "unmerge", "untrained", "update_bn", "write_bytes", "write_text",
]
