"""What a network computes inside: the outputs of the modules at given paths, without running what comes after.

`features(model, at="features")` is a network itself; `compute_features` runs it once over a data set, so that a head
can be trained on the result as often as one likes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from minidl.data.loader import DataLoader
from minidl.nn.module import Module
from minidl.tensor import Tensor, as_array, no_grad
from minidl.transfer.head import headless
from minidl.transfer.patterns import every_module

_registering = threading.Lock()


class _Enough(BaseException):
    """All outputs are there. Not an Exception, so that no `except Exception` on the way holds it up."""


class Features(Module):
    """The outputs of `model` at one path, or at several as a dict; see `features`."""

    def __init__(self, model: Module, at: str | Sequence[str]):
        paths = [at] if isinstance(at, str) else list(at)
        if not paths:
            raise ValueError("features: name at least one path of a module")
        for path in paths:
            _module_at(model, path)
        self.model, self.at = model, at

    def forward(self, *inputs: Any) -> Any:
        paths = [self.at] if isinstance(self.at, str) else list(self.at)
        outputs: dict[str, Any] = {}
        thread = threading.get_ident()
        handles = []

        def keep(path: str) -> Any:
            def hook(module: Module, inputs: Any, output: Any) -> None:
                if threading.get_ident() == thread:
                    outputs.setdefault(path, output)
                    if len(outputs) == len(set(paths)):
                        raise _Enough
            return hook

        try:
            with _registering:
                for path in paths:
                    handles.append(_module_at(self.model, path).register_forward_hook(keep(path)))
            self.model(*inputs)
        except _Enough:
            pass
        finally:
            with _registering:
                for handle in handles:
                    handle.remove()
        missing = [path for path in paths if path not in outputs]
        if missing:
            raise RuntimeError(f"features: the model ran without calling {', '.join(missing)}")
        return outputs[self.at] if isinstance(self.at, str) else {path: outputs[path] for path in paths}


def _module_at(model: Module, path: str) -> Module:
    """The module at a path, a shared one at each of its paths; KeyError with the nearest names if there is none."""
    return dict(every_module(model)).get(path) or model.get_submodule(path)


def features(model: Module, at: str | Sequence[str]) -> Features:
    """A network that returns the output of the module at path `at`, or a dict of them for several paths.

    It shares the model, runs in the mode the model is in, records gradients as usual, and stops as soon as the last
    wanted output is there. Of a module that is called several times it returns the first output.
    Raises KeyError with the nearest names for a path that does not exist.
    """
    return Features(model, at)


def compute_features(model: Module, data: Any, at: str | Sequence[str] | None = None, *, batch_size: int = 256,
                     progress: bool = False) -> tuple[Any, np.ndarray | None]:
    """Features and labels of all of `data` as arrays (count, …) and (count,), in evaluation mode, without gradients.

    data: a data set, a DataLoader, list or other iterable of batches, a pair (inputs, labels), or inputs alone (then
    labels are None). at: as in `features`, several paths give a dict of arrays; None means the input of the head.
    The model's modes are what they were afterwards. Random augmentation, if `data` does any, is drawn once.
    """
    network = headless(model) if at is None else features(model, at)
    modes = [(module, module._mode) for module in model.modules()]
    rows: list[Any] = []
    labels: list[np.ndarray] = []
    try:
        network.eval()
        with no_grad():
            for inputs, target in _show(_batches(data, batch_size), progress):
                rows.append(network(inputs))
                if target is not None:
                    labels.append(as_array(target))
    finally:
        for module, mode in modes:
            module.training = mode
    if not rows:
        raise ValueError("compute_features: the data set is empty")
    found = {path: _join([row[path] for row in rows]) for path in rows[0]} if isinstance(rows[0], dict) else _join(rows)
    return found, np.concatenate(labels) if labels else None


def _batches(data: Any, batch_size: int) -> Iterator[tuple[Tensor, Any]]:
    """Pairs of inputs (N, …) and labels (N,) or None."""
    if isinstance(data, (Tensor, np.ndarray)):
        data = (data, None)
    if isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[0], (Tensor, np.ndarray)):
        inputs, labels = as_array(data[0]), None if data[1] is None else as_array(data[1])
        if labels is not None and len(labels) != len(inputs):
            raise ValueError(f"compute_features: {len(inputs):,} inputs but {len(labels):,} labels")
        for start in range(0, len(inputs), batch_size):
            batch = slice(start, start + batch_size)
            yield Tensor(inputs[batch]), None if labels is None else labels[batch]
        return
    is_dataset = hasattr(data, "__getitem__") and not isinstance(data, (list, tuple))
    for batch in DataLoader(data, batch_size=batch_size) if is_dataset else data:
        pair = batch if isinstance(batch, (tuple, list)) else (batch, None)
        yield pair[0], pair[1]


def _show(batches: Iterable, progress: bool) -> Iterable:
    if not progress:
        return batches
    from tqdm import tqdm

    return tqdm(batches, desc="features", unit="batch", leave=False, disable=None)  # shown on a terminal only


def _join(batches: list[Tensor]) -> np.ndarray:
    return np.concatenate([batch.array for batch in batches])
