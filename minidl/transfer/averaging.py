"""Averages of weights: of the steps of one training (`ExponentialMovingAverage`), of several networks (`average`,
`greedy_soup`), and the statistics of BatchNorm that belong to the result (`update_bn`).

Networks fine-tuned from the same one can be averaged weight by weight, and the average is often better than each;
networks trained from different starts cannot. `task_vectors.py` adds and subtracts what they learnt.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from minidl.errors import nearest
from minidl.formats.tensors import load_tensors
from minidl.nn.module import Module
from minidl.tensor import Tensor, as_array, no_grad
from minidl.transfer.features import _batches
from minidl.transfer.ledger import ledger_of
from minidl.transfer.lora_layers import Adapted

Source = Module | Mapping[str, Any] | str | os.PathLike
BLOCK = 2**15  # numbers that are worked on at a time, so that they stay in the cache
SHOWN = 10  # differences in an error's message


class ExponentialMovingAverage:
    """average = d average + (1 - d) weights, after each step of the optimiser: `update()`.

    decay: d. The first update copies the weights, as in `torch.optim.swa_utils.AveragedModel`. warmup: in update t the
    decay is min(decay, (1 + t) / (10 + t)), t from 0, so that the average soon forgets the first, bad weights.
    buffers: "copy" leaves buffers, such as BatchNorm's statistics, to the model: they are its own, averages already;
    "average" averages those that are floating-point, too. `update_bn` computes them anew.

    Only what is trainable takes part: a frozen parameter has no average and keeps its bits in `applied()`; one that is
    unfrozen later joins with its value at the next update. The average of float16 is kept in float32.
    With a `Trainer`: `fit(…, callbacks=[WeightAveraging(ema)])` of `minidl.train`.
    """

    def __init__(self, model: Module, decay: float = 0.999, *, warmup: bool = False, buffers: str = "copy"):
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ValueError(f"ExponentialMovingAverage: decay must be from 0 to below 1, such as 0.999, not {decay!r}")
        if buffers not in ("copy", "average"):
            raise ValueError(f"ExponentialMovingAverage: buffers must be 'copy' or 'average', not {buffers!r}")
        self.model, self.decay, self.warmup, self.buffers = model, decay, warmup, buffers
        self.updates = 0
        self._averages: dict[str, np.ndarray] = {}
        self._originals: dict[str, np.ndarray] | None = None

    def update(self) -> None:
        """Move the average towards the weights as they are now. Raises RuntimeError inside `applied()`."""
        if self._originals is not None:
            raise RuntimeError("ExponentialMovingAverage.update: the model holds the average itself, within applied()")
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        current = self._moving()
        for name in self._averages.keys() - current.keys():
            del self._averages[name]
        for name, tensor in current.items():
            array, average = tensor.array, self._averages.get(name)
            if average is None or average.shape != array.shape:
                self._averages[name] = array.astype(np.result_type(array.dtype, np.float32), order="C")
            else:
                _move(average, array, 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[Module]:
        """Within the block, the model's weights are the average; afterwards, whatever happens, its own, bit for bit.

        What the block writes into the model's weights is lost. Raises RuntimeError before the first update, and when
        nested.
        """
        if self._originals is not None:
            raise RuntimeError("ExponentialMovingAverage.applied: the average is applied already")
        moving = self._averaged("applied")
        self._originals = {name: tensor.array for name, tensor in moving.items()}
        try:
            for name, tensor in moving.items():
                tensor.array = self._averages[name].astype(tensor.dtype)
            yield self.model
        finally:
            for name, array in self._originals.items():
                moving[name].array = array
            self._originals = None

    def copy_to_model(self) -> Module:
        """Write the average into the model's weights for good, at the end of training, and return the model."""
        if self._originals is not None:
            raise RuntimeError("ExponentialMovingAverage.copy_to_model: not within applied()")
        for name, tensor in self._averaged("copy_to_model").items():
            tensor.array[...] = self._averages[name]
        return self.model

    def state_dict(self) -> dict[str, Any]:
        """Copies of the average by name, and the count of updates: to go on later with `load_state_dict`."""
        return {"updates": self.updates, "averages": {name: array.copy() for name, array in self._averages.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave. Raises KeyError or ValueError for names and shapes the model lacks."""
        known = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        averages = {name: as_array(value) for name, value in state["averages"].items()}
        for name, array in averages.items():
            if name not in known:
                raise KeyError(f"ExponentialMovingAverage.load_state_dict: the model has no '{name}'"
                               f"{nearest(name, known)}")
            if known[name].shape != array.shape:
                raise ValueError(f"ExponentialMovingAverage.load_state_dict: '{name}' has shape {array.shape}, the "
                                 f"model's {known[name].shape}")
        self._averages = {name: array.astype(np.result_type(known[name].dtype, np.float32), order="C")
                          for name, array in averages.items()}
        self.updates = int(state["updates"])

    def _moving(self) -> dict[str, Tensor]:
        """What is averaged now, by name."""
        found: dict[str, Tensor] = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if self.buffers == "average":
            for path, module in self.model.named_modules():
                if not module.frozen:
                    found |= {f"{path}.{name}" if path else name: buffer for name, buffer in module._own(True)
                              if buffer.dtype.kind == "f"}
        return found

    def _averaged(self, verb: str) -> dict[str, Tensor]:
        """The tensors that have an average and are not frozen."""
        if not self.updates:
            raise RuntimeError(f"ExponentialMovingAverage.{verb}: there is no average yet; call update() after each "
                               "step of the optimiser")
        return {name: tensor for name, tensor in self._moving().items() if name in self._averages}


def _move(average: np.ndarray, array: np.ndarray, weight: float) -> None:
    """average += weight (array - average), in place and block by block."""
    flat, new = average.reshape(-1), array.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        part = flat[start:start + BLOCK]
        step = new[start:start + BLOCK] - part
        step *= flat.dtype.type(weight)
        part += step


def average(sources: Iterable[Source], weights: Sequence[float] | None = None) -> Any:
    """The mean of several networks' tensors, each weight by itself ("uniform soup").

    sources: models, state dicts or files, all of the same names, shapes and dtypes. weights: one a source, not
    negative; their sum counts as 1. The sum is taken in float64 and rounded once; tensors that are the same in all
    sources keep their bits. Of integers, such as BatchNorm's counters, the first source's are taken. Averaged
    statistics of BatchNorm fit the averaged weights badly: see `update_bn`.

    Returns a new model if the first source is one, else a dict of tensors for `load_state_dict` and `save_tensors`.
    Raises ValueError that lists what differs between the sources, also in their layers; and for LoRA adapters, whose
    product is not the average of the products: merge(model) first.
    Wortsman et al. 2022, "Model soups"; Izmailov et al. 2018, "Averaging weights leads to wider optima and better
    generalization".
    """
    if isinstance(sources, (Module, Mapping, str, os.PathLike)):
        raise TypeError(f"average: give a list of models, state dicts or files, not one {type(sources).__name__}")
    listed = list(sources)
    if not listed:
        raise ValueError("average: no models to average")
    if weights is None:
        factors = [1.0] * len(listed)
    else:
        factors = [float(weight) for weight in weights]
        if len(factors) != len(listed):
            raise ValueError(f"average: {len(factors)} weights for {len(listed)} models")
        if not all(0 <= factor < np.inf for factor in factors) or not sum(factors):
            raise ValueError(f"average: weights must be finite, not negative and not all 0, got {factors}; task_vector "
                             "is there for subtracting")
    arrays = [arrays_of(source) for source in listed]
    for number, (source, other) in enumerate(zip(listed[1:], arrays[1:]), 1):
        require_alike("average", (listed[0], arrays[0]), (source, other), f"number {number}", "number 0")
    result = {name: _mean([other[name] for other in arrays], factors) for name in arrays[0]}
    made = filled(listed[0], result)
    if isinstance(made, Module):
        detail = f"of {len(listed)}, weights {', '.join(f'{factor / sum(factors):.3g}' for factor in factors[:8])}"
        ledger_of(made).note_rewritten("average", detail, dict.fromkeys(result, f"mean of {len(listed)}"))
    return made


def _mean(arrays: list[np.ndarray], factors: list[float]) -> np.ndarray:
    first = arrays[0]
    if first.dtype.kind != "f" or all(array is first or array.tobytes() == first.tobytes() for array in arrays[1:]):
        return first.copy()
    total = np.zeros(first.shape)
    for array, factor in zip(arrays, factors):
        if factor:
            total += array.astype(np.float64) * factor
    return (total / sum(factors)).astype(first.dtype)


class GreedySoup(NamedTuple):
    """What `greedy_soup` made: the average, the positions of the candidates in it, its score and that of each."""

    average: Any
    chosen: list[int]
    score: float
    scores: list[float]


def greedy_soup(candidates: Iterable[Source], score: Callable[[Any], float]) -> GreedySoup:
    """Average those candidates that help: tried from the best on, each stays in that does not lower the score.

    score: called with a model, if the first candidate is one, else with a dict of tensors; larger is better. Measure
    on validation data, not on the test data. It is called once for each candidate and once for each average tried.
    Raises what `average` raises, before anything is measured, and ValueError for a score that is nan.
    Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
    increasing inference time".
    """
    listed = list(candidates)
    average(listed)
    scores = [_scored(score, filled(listed[0], arrays_of(candidate))) for candidate in listed]
    order = sorted(range(len(listed)), key=lambda number: -scores[number])
    chosen, best = order[:1], scores[order[0]]
    for number in order[1:]:
        tried = _scored(score, average([listed[i] for i in (*chosen, number)]))
        if tried >= best:
            chosen, best = [*chosen, number], tried
    return GreedySoup(average([listed[number] for number in chosen]), chosen, best, scores)


def _scored(score: Callable[[Any], float], soup: Any) -> float:
    value = float(score(soup))
    if value != value:
        raise ValueError("greedy_soup: the score of a candidate is nan")
    return value


def update_bn(model: Module, data: Any, *, batch_size: int = 256) -> Module:
    """Compute the statistics of the BatchNorm layers anew, for weights that were averaged, and return the model.

    The model runs once over `data` in training mode, without gradients; mean and variance become the plain averages
    over the batches, as with `torch.optim.swa_utils.update_bn`. Frozen layers keep theirs. Afterwards modes and
    momentum are what they were. data: as in `compute_features`; labels are not looked at.
    Raises ValueError if `data` gives no batches; the old statistics are back after any error.
    """
    layers = [module for module in model.modules() if "running_mean" in module._buffer_names and not module.frozen
              and module.running_mean is not None]
    if not layers:
        return model
    before = [(tensor.array, tensor.array.copy()) for layer in layers for _, tensor in layer._own(True)]
    modes = [(module, module._mode) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    count = 0
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the plain average
        model.train()
        with no_grad():
            batches = iter(data) if isinstance(data, list) else data  # two batches are not inputs and labels
            for inputs, _ in _batches(batches, batch_size):
                model(inputs)
                count += 1
        if not count:
            raise ValueError("update_bn: the data gave no batches; an iterator can be read only once")
    except BaseException:
        for array, values in before:
            array[...] = values
        raise
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode
    return model


def arrays_of(source: Any) -> dict[str, np.ndarray]:
    """The tensors of a model, a state dict or a file as arrays by name."""
    if isinstance(source, Module):
        return {name: tensor.array for name, tensor in source.state_dict().items()}
    if isinstance(source, Mapping):
        return {name: as_array(value) for name, value in source.items()}
    if isinstance(source, (str, os.PathLike)):
        return load_tensors(source)
    raise TypeError(f"a model, a state dict or the path of a file is needed, not a {type(source).__name__}")


def filled(source: Source, arrays: Mapping[str, np.ndarray]) -> Any:
    """The arrays as what `source` is: a copy of the model that holds them, or a dict of tensors."""
    if not isinstance(source, Module):
        return {name: Tensor(array) for name, array in arrays.items()}
    model = copy.deepcopy(source)
    model.load_state_dict(dict(arrays))
    for (_, parameter), (_, twin) in zip(source._every_name(), model._every_name()):
        twin.untrained = parameter.untrained
    return model


def require_alike(verb: str, first: tuple[Source, Mapping[str, np.ndarray]],
                  other: tuple[Source, Mapping[str, np.ndarray]], label: str, first_label: str) -> None:
    """Raise ValueError that lists what differs between two sources in layers, names, shapes and dtypes."""
    (source, arrays), (other_source, others) = first, other
    problems = [f"'{name}' is missing{nearest(name, others.keys() - arrays.keys())}" for name in arrays
                if name not in others]
    problems += [f"'{name}' is one too many{nearest(name, arrays.keys() - others.keys())}" for name in others
                 if name not in arrays]
    for name, array in arrays.items():
        if name in others and (array.shape, array.dtype) != (others[name].shape, others[name].dtype):
            problems.append(f"'{name}' is {others[name].dtype} {others[name].shape}, not {array.dtype} {array.shape}")
    if not problems and isinstance(source, Module) and isinstance(other_source, Module):
        problems = _other_layers(source, other_source)
    products = [name for name in arrays if ".lora_A." in f".{name}"]
    if isinstance(source, Module):
        products += [path for path, module in source.named_modules() if isinstance(module, Adapted)]
    if products and not problems:
        problems = [f"'{products[0]}' belongs to a LoRA adapter, whose factors cannot be averaged or added one by one: "
                    "merge(model) each first"]
    if problems:
        more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise ValueError("\n  ".join([f"{verb}: {label} differs from {first_label}:", *problems[:SHOWN], *more]))


def _other_layers(first: Module, other: Module) -> list[str]:
    """Where two models of equal tensors have layers of another class or other settings (dropout may differ)."""
    ours, theirs = dict(first.named_modules()), dict(other.named_modules())
    problems = [f"'{path}' is one too many" for path in theirs if path not in ours]
    for path, module in ours.items():
        twin = theirs.get(path)
        if type(twin) is not type(module):
            problems.append(f"'{path}' is a {type(twin).__name__}, not a {type(module).__name__}")
        elif not list(module.children()) and not hasattr(module, "p") and repr(twin) != repr(module):
            problems.append(f"'{path}' is {twin!r}, not {module!r}")
    return problems
