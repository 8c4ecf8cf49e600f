"""Carrying a network from one task to another: save, load, freeze, re-head, features, structure.

Each verb is a function on a model. Read `files.py` (save and load) first, then `freeze.py`, `head.py`,
`features.py`, `structure.py` and `prefix.py`.
"""

from __future__ import annotations

from minidl.transfer.atomic import atomic_write, write_bytes, write_text
from minidl.transfer.features import compute_features, features
from minidl.transfer.files import load, load_structure, save
from minidl.transfer.formats import load_tensors, save_tensors
from minidl.transfer.freeze import freeze, frozen, trainable, unfreeze
from minidl.transfer.head import head_path, headless, rehead
from minidl.transfer.matching import LoadError, rename_by_order
from minidl.transfer.prefix import FrozenPrefix, frozen_prefix
from minidl.transfer.preprocess import preprocess
from minidl.transfer.structure import build, register, structure
from minidl.transfer.tensorfile import load_metadata
from minidl.transfer.untrained import UntrainedWarning, untrained

__all__ = [
    "FrozenPrefix", "LoadError", "UntrainedWarning", "atomic_write", "build", "compute_features", "features",
    "freeze", "frozen", "frozen_prefix", "head_path", "headless", "load", "load_metadata", "load_structure",
    "load_tensors", "preprocess", "register", "rehead", "rename_by_order", "save", "save_tensors", "structure",
    "trainable", "unfreeze", "untrained", "write_bytes", "write_text",
]
