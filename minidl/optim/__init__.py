"""Optimisers and learning-rate schedules under PyTorch's names; read `optimizer.py` first, then `sgd.py`."""

from __future__ import annotations

from typing import Any

from minidl.nn.hints import missing_layer
from minidl.nn.utils import clip_grad_norm_, clip_grad_value_
from minidl.optim import lr_scheduler
from minidl.optim.adam import Adam, AdamW
from minidl.optim.optimizer import Optimizer
from minidl.optim.rmsprop import RMSprop
from minidl.optim.sgd import SGD

__all__ = ["Adam", "AdamW", "Optimizer", "RMSprop", "SGD", "clip_grad_norm_", "clip_grad_value_", "lr_scheduler"]


def __getattr__(name: str) -> Any:
    raise missing_layer(__name__, name, __all__)
