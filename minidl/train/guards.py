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


class StopRequested(KeyboardInterrupt):
    """A request to stop, raised between two steps, where everything belongs together; its text names the signal."""


class InterruptAtSafePoints:
    """Within the block, Ctrl-C waits for the next `check()`, so that it never cuts an optimiser's step in two.

    A second Ctrl-C interrupts at once. Only in the main thread, and only where Ctrl-C has Python's usual meaning.
    terminate: let SIGTERM, by which a system ends a process, count as Ctrl-C where nothing else listens to it.
    """

    def __init__(self, terminate: bool = False):
        self.terminate = terminate

    def __enter__(self) -> InterruptAtSafePoints:
        self.pressed = ""  # the name of a signal that came and was not yet acted upon
        self.asked = False
        self.before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            usual: list[tuple[int, Any]] = [(signal.SIGINT, signal.default_int_handler)]
            usual += [(signal.SIGTERM, signal.SIG_DFL)] if self.terminate else []
            self.before = {number: handler for number, handler in usual if signal.getsignal(number) is handler}
            for number in self.before:
                signal.signal(number, self._note)
        self.active = bool(self.before)
        return self

    def _note(self, number: int, frame: Any) -> None:
        again, self.asked = self.asked, True
        if again:
            self.pressed = ""
            raise KeyboardInterrupt
        self.pressed = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name

    def check(self) -> None:
        """Raise StopRequested if Ctrl-C was pressed since the last check."""
        if self.pressed:
            name, self.pressed = self.pressed, ""
            raise StopRequested(name)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if exception[0] is None:
            self.check()
