"""What keeps a training loop in order: where an error happened, Ctrl-C at a safe moment, and modes put back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minidl.nn.module import Module


@contextmanager
def locating(where: Callable[[], str]) -> Iterator[None]:
    """Put `where()`, such as "epoch 2, step 17", in front of the message of an error raised in the block."""
    try:
        yield
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (f"{where()}: {error.args[0]}",)
        raise


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards every module is in the mode it was in."""
    modes = [(module, module._mode) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class InterruptAtSafePoints:
    """Within the block, Ctrl-C waits for the next `check()`, so that it never cuts an optimiser's step in two.

    A second Ctrl-C interrupts at once. Only in the main thread, and only where Ctrl-C has Python's usual meaning.
    """

    def __enter__(self) -> InterruptAtSafePoints:
        self.pressed = False
        main = threading.current_thread() is threading.main_thread()
        self.active = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self.active:
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.pressed = not self.pressed
        if not self.pressed:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed since the last check."""
        if self.pressed:
            self.pressed = False
            raise KeyboardInterrupt

    def __exit__(self, *exception: object) -> None:
        if self.active:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if exception[0] is None:
            self.check()
