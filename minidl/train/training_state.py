"""What a checkpoint holds: parameters, buffers, what is frozen, the optimiser's state by name, callbacks, random
streams, the place in the data, the history and the ledger; and how all of it is put back, or nothing.

`describe_training` writes it down between two steps. `SavedTraining` reads it: `restore(trainer)` gives model and
optimiser their state at once, `begin` and `go_on` do the rest when `Trainer.fit` is under way. Read `checkpoint.py`
first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from minidl.data.loader import DataLoader
from minidl.errors import FileFormatError
from minidl.nn.module import Module
from minidl.train import packing
from minidl.train.history import History
from minidl.train.meter import Meter
from minidl.train.packing import field
from minidl.train.streams import check_state, find_streams, get_states, same, set_states
from minidl.transfer.ledger import file as ledger_file
from minidl.transfer.ledger.ledger import ATTRIBUTE, Ledger, ledger_of
from minidl.transfer.matching import LoadError

KIND = "minidl checkpoint 1"
SHOWN = 10


def streams_of_run(run: Any) -> dict[str, Any]:
    """Every source of random numbers that a run draws from, by its path."""
    trainer = run.trainer
    return find_streams(train=run.loader, validation=run.validation, model=trainer.model, loss=trainer.loss,
                        metrics=trainer.metrics, callbacks=run.callbacks)


def describe_training(run: Any, steps: int, at_epoch_begin: dict[str, Any],
                      before_validation: dict[str, Any] | None) -> dict[str, Any]:
    """All of a run between two steps, as numbers, texts, lists, dicts and arrays."""
    trainer, model = run.trainer, run.trainer.model
    ledger = ledger_of(model)
    now = before_validation or get_states(streams_of_run(run))
    within = None
    if not run.epoch_done:
        within = {"step": run.step, "seconds": time.perf_counter() - run.started, "random": at_epoch_begin,
                  "draws_ahead": draws_ahead(run.loader), "samples": run.meter.samples,
                  "loss_sum": float(run.meter.loss_sum), "metrics": [_figures(m) for m in run.meter.metrics]}
    return {
        "model": {name: tensor.array for name, tensor in _tensors(model).items()},
        "modules": {path: [bool(module.frozen), bool(module._mode)] for path, module in model.named_modules()},
        "parameters": {name: [bool(p.requires_grad), bool(p.untrained)] for name, p in model.named_parameters()},
        "optimizer": _optimizer_state(run.optimizer, model),
        "settings": run_settings(run),
        "epochs_done": run.epoch if run.epoch_done else run.epoch - 1,
        "epochs": run.epochs,
        "steps": steps,
        "within": within,
        "random": now,
        "history": dict(trainer.history),
        "stop_reason": None if trainer.history.interrupted else trainer.history.stop_reason,
        "callbacks": [{"class": type(one).__name__, "needed": not one.only_watches, "state": state}
                      for one in run.callbacks if (state := one.state_dict())],
        "ledger": ledger_file.as_text(ledger.events, ledger.references, ledger.model_name, ledger.dropped),
    }


def run_settings(run: Any) -> dict[str, Any]:
    """What must be the same for a place in the data to mean the same."""
    return {"accumulate": run.accumulate, "clip_norm": run.clip_norm, "figures": ", ".join(run.trainer.columns),
            **{f"training {name}": value for name, value in _describe_loader(run.loader).items()},
            **{f"validation {name}": value for name, value in _describe_loader(run.validation).items()}}


def _describe_loader(loader: Any) -> dict[str, Any]:
    if not isinstance(loader, DataLoader):
        return {"data": None if loader is None else type(loader).__name__}
    order = loader.batch_sampler or loader.sampler
    return {"data": type(loader.dataset).__name__, "items": len(loader.dataset), "batches": len(loader),
            "batch_size": loader.batch_size, "shuffle": loader.shuffle, "drop_last": loader.drop_last,
            "sampler": None if order is None else type(order).__name__}


def draws_ahead(loader: Any) -> bool:
    """Whether generators of the data set's own may be ahead of the batches that were trained on."""
    return isinstance(loader, DataLoader) and loader.draws_ahead


def _tensors(model: Module) -> dict[str, Any]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _figures(metric: Any) -> dict[str, Any]:
    """What a metric has counted: its attributes but for functions."""
    return {name: value for name, value in vars(metric).items() if not callable(value)}


def _names_of_keys(optimizer: Any, model: Module) -> dict[Any, str]:
    """What a parameter is called in the checkpoint, by the optimiser's own key for it: its name in the model."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {key: names.get(id(parameter), f"parameter {key} of the optimiser")
            for group, keys in zip(optimizer.param_groups, optimizer._keys())
            for key, parameter in zip(keys, group["params"])}


def _optimizer_state(optimizer: Any, model: Module) -> dict[str, Any]:
    names, state = _names_of_keys(optimizer, model), optimizer.state_dict()
    return {
        "class": type(optimizer).__name__,
        "has_stepped": bool(optimizer.has_stepped),
        "groups": [{**group, "params": [names[key] for key in group["params"]]} for group in state["param_groups"]],
        "state": {names[key]: values for key, values in state["state"].items()},
    }


class SavedTraining:
    """A checkpoint that was read, and put back step by step; nothing is changed before all of it was looked at."""

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        self.content = content = packing.read(path, KIND)
        what = self.path
        kinds: dict[str, Any] = {
            "model": dict, "modules": dict, "parameters": dict, "optimizer": dict, "settings": dict, "epochs_done": int,
            "epochs": int, "steps": int, "within": (dict, type(None)), "random": dict, "history": dict,
            "stop_reason": (str, type(None)), "callbacks": list, "ledger": str}
        for name, kind in kinds.items():
            field(content, name, kind, what)
        for name, kind in {"class": str, "has_stepped": bool, "groups": list, "state": dict}.items():
            field(content["optimizer"], name, kind, f"{what}: optimizer")
        if any(not isinstance(array, np.ndarray) for array in content["model"].values()):
            raise FileFormatError(f"{what}: the model holds something that is no tensor")
        for part in ("modules", "parameters"):
            for marks in content[part].values():
                if not (isinstance(marks, list) and len(marks) == 2 and all(isinstance(mark, bool) for mark in marks)):
                    raise FileFormatError(f"{what}: {part}: two marks are expected for each")
        lengths = {len(values) if isinstance(values, list) else -1 for values in content["history"].values()}
        if len(lengths) > 1 or -1 in lengths or min(content["epochs_done"], content["steps"]) < 0:
            raise FileFormatError(f"{what}: the history is not a list of equal length for each figure")
        for entry in content["callbacks"]:
            for name, kind in {"class": str, "needed": bool, "state": dict}.items():
                field(entry, name, kind, f"{what}: callbacks")
        self.within = content["within"]
        if self.within is not None:
            for name, kind in {"step": int, "seconds": float, "random": dict, "draws_ahead": bool, "samples": int,
                               "loss_sum": float, "metrics": list}.items():
                field(self.within, name, kind, f"{what}: within")
            if self.within["step"] < 0:
                raise FileFormatError(f"{what}: within: step is {self.within['step']}")
        self.events = ledger_file.parse(content["ledger"], f"{what}: ledger")
        self.steps: int = content["steps"]

    def restore(self, trainer: Any) -> SavedTraining:
        """Give model, optimiser and ledger the state of the checkpoint, or raise and change nothing."""
        model, optimizer, content = trainer.model, trainer.optimizer, self.content
        if optimizer is None:
            raise ValueError("resume: the trainer has no optimiser; give Trainer(model, loss, optimizer)")
        own = _tensors(model)
        problems = _differences("tensor", own, content["model"])
        problems += [f"tensor '{name}' is {array.dtype} {array.shape}, the model's is {own[name].dtype} "
                     f"{own[name].shape}" for name, array in content["model"].items() if name in own
                     and (array.shape, array.dtype) != (own[name].shape, own[name].dtype)]
        modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
        problems += _differences("module", modules, content["modules"])
        problems += [] if problems else _differences("parameter", parameters, content["parameters"])
        saved = content["optimizer"]
        if saved["class"] != type(optimizer).__name__:
            problems.append(f"the optimiser was {saved['class']}, it is {type(optimizer).__name__}")
        if problems:
            self._refuse("resume", problems)
        self._restore_optimizer(optimizer, model)
        for name, array in content["model"].items():
            own[name].array[...] = array
        for name, (requires_grad, untrained) in content["parameters"].items():
            parameters[name].requires_grad, parameters[name].untrained = requires_grad, untrained
            parameters[name].grad = None
        for path, (frozen, mode) in content["modules"].items():
            modules[path].frozen, modules[path].training = frozen, mode
        vars(model)[ATTRIBUTE] = Ledger(*self.events)
        ledger_of(model).record("resume", f"from {os.path.basename(self.path)}, after {self.steps} steps")
        trainer.history = self.history()
        return self

    def _restore_optimizer(self, optimizer: Any, model: Module) -> None:
        saved = self.content["optimizer"]
        keys = {name: key for key, name in _names_of_keys(optimizer, model).items()}
        what = f"{self.path}: optimizer"
        groups = []
        for group in saved["groups"]:
            names = field(group, "params", list, what)
            groups.append({**group, "params": [keys.get(name, name) if isinstance(name, str) else name
                                               for name in names]})
        for values in saved["state"].values():
            if not isinstance(values, dict) or not all(isinstance(value, (np.ndarray, int))
                                                       for value in values.values()):
                raise FileFormatError(f"{what}: the state of a parameter must be arrays and whole numbers")
        state = {keys.get(name, name): values for name, values in saved["state"].items()}
        try:
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        except ValueError as error:
            raise LoadError(f"resume: {self.path}: {error}", [str(error)]) from error
        except (TypeError, KeyError, AttributeError, OverflowError) as error:
            raise FileFormatError(f"{what}: its options are of the wrong types: {error}") from error
        optimizer.has_stepped = saved["has_stepped"]

    def history(self) -> History:
        history = History(self.content["history"])
        history.stop_reason = self.content["stop_reason"]
        return history

    def check(self, run: Any) -> None:
        """Raise unless the arguments of `fit` are those of the checkpoint; epochs may be more, or fewer."""
        settings, own = self.content["settings"], run_settings(run)
        problems = [f"{name} was {settings.get(name)!r}, it is {value!r}" for name, value in own.items()
                    if name not in settings or settings[name] != value]
        entries = [entry for entry in self.content["callbacks"] if entry["needed"]]
        left = [type(callback).__name__ for callback in run.callbacks]
        for entry in entries:
            if entry["class"] in left:
                left.remove(entry["class"])
            else:
                problems.append(f"a callback {entry['class']} took part, and is not among the callbacks")
        streams = streams_of_run(run)
        problems += [f"random numbers came from '{path}', where no generator is now"
                     for path in self.content["random"] if path not in streams]
        if problems:
            self._refuse("fit, after resume", problems,
                         "to train on with other settings, start a new run from the weights alone: "
                         "model.load_state_dict(transfer.load_tensors(path, part='model'), strict=False)")
        states = [("random", self.content["random"])]
        states += [] if self.within is None else [("within, random", self.within["random"])]
        for name, saved in states:
            for path, state in saved.items():
                if path not in streams:
                    raise FileFormatError(f"{self.path}: {name}: there is no '{path}'")
                check_state(streams[path], state, f"{self.path}: {name}: '{path}'")

    def begin(self, run: Any) -> None:
        """Put the run where it was: callbacks and epoch, and between two epochs the random streams."""
        waiting = list(run.callbacks)
        for entry in self.content["callbacks"]:
            callback = next((one for one in waiting if type(one).__name__ == entry["class"]), None)
            if callback is None:
                continue
            waiting.remove(callback)
            try:
                callback.load_state_dict(entry["state"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise FileFormatError(f"{self.path}: the state of the callback {entry['class']} does not fit: "
                                      f"{error}") from error
        run.epoch = self.content["epochs_done"]
        if self.within is None:
            set_states(streams_of_run(run), self.content["random"])

    def go_on(self, run: Any, meter: Meter) -> Iterator[Any]:
        """In the middle of an epoch: fill the meter and return the batches that are left, as they would have come."""
        within = self.within
        counted = [figures for figures in within["metrics"] if isinstance(figures, dict)]
        if [set(figures) for figures in counted] != [set(_figures(metric)) for metric in meter.metrics]:
            raise FileFormatError(f"{self.path}: within: what the metrics counted is of other metrics")
        for metric, figures in zip(meter.metrics, counted):
            vars(metric).update(figures)
        meter.loss_sum, meter.samples = within["loss_sum"], within["samples"]
        run.step, run.started = within["step"], time.perf_counter() - within["seconds"]
        modules = dict(run.trainer.model.named_modules())
        for path, (_, mode) in self.content["modules"].items():
            modules[path].training = mode
        return self._batches(run, run.step * run.accumulate)

    def _batches(self, run: Any, done: int) -> Iterator[Any]:
        """The pass of this epoch from its begin on, its first batches left out, and every stream where it was.

        Batches are fetched again only where this is the one way to know how far a generator of the data set's own was:
        a thread that fetches ahead had drawn from it for batches that nobody had trained on yet.
        """
        loader, streams = run.loader, streams_of_run(run)
        set_states(streams, self.within["random"])
        fetched: dict[str, Any] = {}
        plain = isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__
        if plain and not self.within["draws_ahead"]:
            batches = loader.start(done)
        else:
            batches = loader.start() if plain else iter(loader)
            before = get_states(streams)
            for _ in islice(batches, done):
                pass
            after = get_states(streams)
            if plain:
                fetched = {path: state for path, state in after.items() if not same(state, before[path])}
        set_states(streams, {**self.content["random"], **fetched})
        return loader.ahead(batches) if plain else batches

    def _refuse(self, verb: str, problems: list[str], hint: str = "") -> None:
        more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        lines = [f"{verb}: {self.path} is a checkpoint of another training; nothing was changed:", *problems[:SHOWN],
                 *more]
        raise LoadError("\n  ".join(lines) + (f"\n{hint}" if hint else ""), problems)


def _differences(kind: str, own: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
    return [f"{kind} '{name}' is in the checkpoint, not in the model" for name in saved if name not in own] + \
           [f"{kind} '{name}' is in the model, not in the checkpoint" for name in own if name not in saved]
