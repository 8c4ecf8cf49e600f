"""detect_anomaly: find the operation that made the first nan or infinity, on the way forward or back.

    with minidl.detect_anomaly():
        loss = loss_function(model(x), target)
        loss.backward()

Inside the block every operation of this thread is handed to the watch below (`recording.deferring` in `grad_mode.py`),
which looks at its inputs and its result, and puts a look at every gradient into the graph. Outside it costs nothing.
Infinities that are given on purpose, such as -inf in the mask of an attention, are no anomaly: an operation has made
one if none of what it was given held any.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.grad_mode import recording
from minidl.tensor import Tensor


class AnomalyError(FloatingPointError, RuntimeError):
    """An operation made nan or infinity; `module` is the path of the layer it ran in, '' outside of any."""

    module = ""


class detect_anomaly:
    """Within the block, raise AnomalyError at the first operation, forward or backward, that makes nan or inf.

    The message names the operation, the path of the module it ran in, and the shapes. A nan that comes in from outside,
    in the data or a parameter, is reported where it is first used. PyTorch's `torch.autograd.detect_anomaly`.
    check_nan: False does nothing, so that the block can be switched by a flag.
    """

    def __init__(self, check_nan: bool = True):
        self.check_nan = check_nan

    def __enter__(self) -> detect_anomaly:
        self.previous = recording.deferring
        if self.check_nan:
            recording.deferring = self
        return self

    def __exit__(self, *exception: object) -> None:
        recording.deferring = self.previous

    def changing(self, tensor: Any) -> None:
        """A tensor is about to be changed in place, which is no operation that is looked at."""

    def run(self, operation: Callable, args: tuple, options: dict) -> Any:
        """Run one operation and look at what it made; called by `differentiable`."""
        name = operation.__name__.lstrip("_")
        before = [_state(x) for x in (*args, *options.values())]
        for position, state in enumerate(before[:len(args)]):
            if state == "nan" and isinstance(args[position], Tensor):
                raise _error(f"{name} was given nan in input {position} of shape {args[position].shape}, which no "
                             "operation inside detect_anomaly() made: look at the data and the parameters", _modules())
        recording.deferring = self.previous
        try:
            with np.errstate(all="ignore"):
                result = operation(*args, **options)
        finally:
            recording.deferring = self
        made = _made(_state(result), before)
        if made:
            shapes = ", ".join(str(x.shape) for x in args if isinstance(x, Tensor))
            raise _error(f"{name} made {made} from finite inputs of shape {shapes}{_ranges(args)}" if made == "nan" or
                         "inf" not in before else f"{name} made {made} from inputs of shape {shapes}", _modules())
        if isinstance(result, Tensor) and result._node is not None:
            modules = _modules()
            node = result._node
            node.inputs = tuple([(source, _watched(vjp, name, position, modules))
                                 for position, (source, vjp) in enumerate(node.inputs)])
        return result


def _state(value: Any) -> str:
    """"nan", "inf" or "" for a tensor, an array or a number."""
    array = value.array if isinstance(value, Tensor) else value
    if isinstance(array, float):
        array = np.asarray(array)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fc" or np.isfinite(array).all():
        return ""
    return "nan" if np.isnan(array).any() else "inf"


def _made(state: str, before: list[str]) -> str:
    """What a result holds that was in nothing it was made of."""
    if state == "nan":
        return "" if "nan" in before else "nan"
    return state if state and not any(before) else ""


def _ranges(args: tuple) -> str:
    """The smallest and largest numbers of the inputs, which tell a division by zero from an overflow."""
    parts = [f"{x.array.min():.4g} to {x.array.max():.4g}" for x in args
             if isinstance(x, Tensor) and x.array.size and x.array.dtype.kind == "f"]
    return f", with values from {', '.join(parts)}" if parts else ""


def _watched(vjp: Callable, name: str, position: int, modules: list[Any]) -> Callable:
    def look(g: Any) -> Any:
        with np.errstate(all="ignore"):
            term = vjp(g)
        made = _made(_state(term), [_state(g)])
        if made:
            raise _error(f"the gradient of {name} with respect to its input {position} is {made}, while the one that "
                         f"arrives, of shape {g.shape}, is finite; the derivative does not exist or overflows there",
                         modules, located=True)
        return term

    return look


def _modules() -> list[Any]:
    """The modules whose forward is running in this thread, outermost first."""
    found: list[Any] = []
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__call__" and frame.f_globals.get("__name__") == "minidl.nn.module":
            found.append(frame.f_locals["self"])
        frame = frame.f_back
    return found[::-1]


def _path(modules: list[Any]) -> str:
    """The dotted path of the innermost module, seen from the outermost."""
    parts = []
    for outer, inner in zip(modules, modules[1:]):
        parts.append(next((name for name, module in outer.named_modules() if module is inner), type(inner).__name__))
    return ".".join(part for part in parts if part)


def _error(message: str, modules: list[Any], located: bool = False) -> AnomalyError:
    """Forward, the modules themselves put their path in front on the way out; backward, they have returned long ago."""
    path = _path(modules)
    if located and modules:
        inner = repr(modules[-1])
        inner = type(modules[-1]).__name__ if "\n" in inner else inner
        message = f"{path} ({inner}): {message}" if path else f"{inner}: {message}"
    error = AnomalyError(message)
    error.module = path
    return error
