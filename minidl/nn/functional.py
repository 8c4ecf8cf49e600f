"""PyTorch's `torch.nn.functional`: the operations of `minidl.ops` under the names that scripts use."""

from __future__ import annotations

from minidl.ops import linear  # noqa: F401
