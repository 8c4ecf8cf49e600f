"""PyTorch's `torch.nn.utils`: clipping gradients (`clip.py`), and sequences of different length (`rnn.py`)."""

from __future__ import annotations

from minidl.nn.utils import rnn  # noqa: F401
from minidl.nn.utils.clip import clip_grad_norm_, clip_grad_value_  # noqa: F401
