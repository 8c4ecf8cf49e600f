"""Whether operations are recorded: on by default, switched off and on by thread. Used by `tensor.py`.

`recording.deferring` is None except while a network is watched (`minidl.onnx.export`, `minidl.detect_anomaly`) or run
with a frozen prefix (`minidl.transfer.FrozenPrefix`): then every operation is handed to this object,
`run(operation, args, options)`, whose result takes its place, and `changing(tensor)` announces a change in place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import update_wrapper
from typing import Any


class _Recording(threading.local):
    enabled = True
    deferring: Any = None


recording = _Recording()


def is_grad_enabled() -> bool:
    """Whether operations of this thread are being recorded."""
    return recording.enabled


class set_grad_enabled:
    """Switch recording on or off in this thread, at once or for the length of a `with` block."""

    def __init__(self, mode: bool):
        self.mode, self.previous = bool(mode), recording.enabled
        recording.enabled = self.mode

    def __enter__(self) -> set_grad_enabled:
        return self

    def __exit__(self, *exception: object) -> None:
        recording.enabled = self.previous


class no_grad:
    """Record nothing inside the block (`with no_grad():`) or inside the function (`@no_grad()`)."""

    mode = False

    def __init__(self, function: Callable | None = None):
        self.previous: list[bool] = []

    def __new__(cls, function: Callable | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __call__(self, function: Callable) -> Callable:
        def wrapped(*args: Any, **options: Any) -> Any:
            with type(self)():
                return function(*args, **options)

        return update_wrapper(wrapped, function)

    def __enter__(self) -> None:
        self.previous.append(recording.enabled)
        recording.enabled = self.mode

    def __exit__(self, *exception: object) -> None:
        recording.enabled = self.previous.pop()


class enable_grad(no_grad):
    """Record inside the block, even where `no_grad` is in force outside it."""

    mode = True
