"""Optimizer: what all optimisers share: parameter groups, state made when first needed, saving and loading it.

At every step an optimiser asks anew which parameters are trainable. One that is frozen (`requires_grad` False) or has
no gradient is left alone: no decay, no momentum, no change of its state. So freezing and unfreezing take effect at
the next step and need no new group. Read `sgd.py` next, the shortest optimiser.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from minidl.accumulation import is_doubled, used
from minidl.errors import ShapeError, did_you_mean
from minidl.nn.hints import check_arguments
from minidl.nn.module import Module, Parameter
from minidl.tensor import Tensor, as_array, enable_grad

SCHEDULE_OPTIONS = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum")  # kept in groups by schedules


class Optimizer:
    """Base class. A subclass names its state arrays and defines `_update(group, ready)`, one step for many parameters.

    params: parameters, dicts (one a group: `{"params": …, "lr": …}`), or pairs (name, parameter) as
        `named_parameters()` gives them, which key the saved state by name instead of by position.
    defaults: the options of groups that do not say otherwise.

    Raises ValueError for no parameters, the same one twice and options out of range, TypeError for what is no
    parameter.
    """

    required_state: tuple[str, ...] = ()  # what a parameter has after its first step
    optional_state: tuple[str, ...] = ()  # what it has under some options

    def __new__(cls, *args: Any, **options: Any) -> Any:
        check_arguments(cls, args, options)
        return super().__new__(cls)

    def __init__(self, params: Any, defaults: dict[str, Any]):
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.has_stepped = False
        self._warned = False
        for group in self._as_groups(params):
            self.add_param_group(group)
        if not any(group["params"] for group in self.param_groups):
            raise ValueError(f"{self._name}: none of the {len(self.param_groups)} groups has any parameters")

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _as_groups(self, params: Any) -> list[dict[str, Any]]:
        if isinstance(params, Module):
            raise TypeError(f"{self._name}: got the module itself; give its parameters: model.named_parameters()")
        if isinstance(params, (Tensor, dict)) or not isinstance(params, Iterable):
            raise TypeError(f"{self._name}: params must be a list or other iterable of parameters, of dicts, or of "
                            f"(name, parameter) pairs, not a single {type(params).__name__}")
        entries = self._listed(params)
        if not entries:
            raise ValueError(f"{self._name}: got an empty list of parameters")
        return entries if isinstance(entries[0], dict) else [{"params": entries}]

    def _listed(self, params: Iterable) -> list[Any]:
        if isinstance(params, (set, frozenset)):
            raise TypeError(f"{self._name}: a set of parameters has no order to save and load by; use a list")
        entries = list(params)
        if not entries and isinstance(params, Iterator):
            raise ValueError(f"{self._name}: the parameters are a generator that gives nothing. A generator such as "
                             "model.parameters() can be read only once: was it used before? Is the model empty?")
        return entries

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add parameters with options of their own; nothing is added if any of it is wrong.

        Options that are no option of this optimiser are kept for the caller's own use, near-misses raise.
        """
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f"{self._name}: a parameter group is a dict with 'params', got {type(group).__name__}"
                            + (f" with {list(group)}" if isinstance(group, dict) else ""))
        params = group["params"]
        entries = [params] if isinstance(params, Tensor) else self._listed(params)
        named = [isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str) for entry in entries]
        parameters = [entry[1] if pair else entry for entry, pair in zip(entries, named)]
        names = [entry[0] for entry, pair in zip(entries, named) if pair]
        self._check_parameters(parameters, names)
        for option in group:
            if option not in ("params", "name", *self.defaults, *SCHEDULE_OPTIONS):
                if hint := did_you_mean(option, self.defaults):
                    raise ValueError(f"{self._name}: unknown option '{option}'{hint}")
        options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        added = {"params": parameters, **self.defaults, **options}
        self._check_options(added)
        if names:
            added["param_names"] = names
        self.param_groups.append(added)

    def _check_parameters(self, parameters: list[Any], names: list[str]) -> None:
        for index, parameter in enumerate(parameters):
            label = f"'{names[index]}'" if len(names) == len(parameters) else f"number {index}"
            if not isinstance(parameter, Tensor):
                raise TypeError(f"{self._name}: parameter {label} is a {type(parameter).__name__}, not a Parameter; "
                                "give model.parameters() or model.named_parameters()")
            if not parameter.is_leaf:
                raise ValueError(f"{self._name}: parameter {label} is the result of {parameter.grad_fn}; only leaves "
                                 "can be trained, such as nn.Parameter or a tensor made with requires_grad=True")
        known = [parameter for group in self.param_groups for parameter in group["params"]]
        if len({id(parameter) for parameter in (*known, *parameters)}) < len(known) + len(parameters):
            raise ValueError(f"{self._name}: the same parameter appears twice, it would be stepped twice; "
                             "give each parameter once, in one group")
        known_names = [name for group in self.param_groups for name in group.get("param_names", ())]
        if names and len(names) < len(parameters) or known and parameters and bool(known_names) != bool(names):
            raise ValueError(f"{self._name}: either all parameters have names or none, here only some have")
        if len({*known_names, *names}) < len(known_names) + len(names):
            twice = next(name for name in names if [*known_names, *names].count(name) > 1)
            raise ValueError(f"{self._name}: two parameters are called '{twice}'")

    def _check_options(self, group: dict[str, Any]) -> None:
        """Raise ValueError for options out of range; subclasses extend it."""
        self._check_number(group, "lr")
        self._check_number(group, "weight_decay")

    def _check_number(self, group: dict[str, Any], option: str) -> None:
        value = group[option]
        if not hasattr(value, "__float__") or not 0 <= float(value) < float("inf"):
            raise ValueError(f"{self._name}: {option} must be a finite number that is not negative, got {value!r}")

    def _check_betas(self, group: dict[str, Any]) -> None:
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2 or not all(0 <= float(b) < 1 for b in betas):
            raise ValueError(f"{self._name}: betas must be two numbers from 0 to below 1, such as (0.9, 0.999), "
                             f"got {betas!r}")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.array[...] = 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every trainable parameter that has a gradient, in place; return what `closure` returned.

        closure: computes the loss anew and calls backward(); optional.
        Raises ShapeError, before anything changes, for a gradient that is not of its parameter's shape.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        work = [(group, self._ready(group)) for group in self.param_groups]
        self._notice_uncleared([parameter for _, ready in work for parameter, _ in ready])
        for group, ready in work:
            if ready:
                self._update(group, ready)
                if float(group["lr"]) > 0:
                    _mark_trained(ready)
        self.has_stepped = True
        return loss

    def _notice_uncleared(self, stepped: list[Tensor]) -> None:
        """Warn, once, if this step uses gradients that hold those of the step before too: `zero_grad()` is missing."""
        if self._warned or not stepped:
            return
        smallest = min(stepped, key=_size)
        if is_doubled(smallest.grad):
            self._warned = True
            warnings.warn(f"{self._name}.step: the gradients were not cleared since the last step, so that backward() "
                          "added to the old ones and this step repeats the last; call optimizer.zero_grad() before "
                          "backward() (this is said once)", stacklevel=3)
        else:
            used(smallest.grad)

    def _ready(self, group: dict[str, Any]) -> list[tuple[Tensor, Any]]:
        """The group's trainable parameters that have a gradient, with the gradient's array."""
        ready = [(p, p.grad.array) for p in group["params"] if p.requires_grad and p.grad is not None]
        for parameter, gradient in ready:
            if gradient.shape != parameter.array.shape:
                raise ShapeError(f"{self._name}.step: a parameter of shape {parameter.shape} has a gradient of shape "
                                 f"{gradient.shape}; was it replaced after backward()?")
        return ready

    def _update(self, group: dict[str, Any], ready: list[tuple[Tensor, Any]]) -> None:
        raise NotImplementedError(f"{self._name} must define _update()")

    def _state_of(self, parameter: Tensor, *names: str) -> dict[str, Any]:
        """The parameter's state; arrays among `names` that are not there yet start at zero."""
        state = self.state.setdefault(parameter, {})
        for name in names:
            if name not in state:
                state[name] = np.zeros_like(parameter.array)
        return state

    def _keys(self) -> list[list[Any]]:
        """For each group, what its parameters are called in the saved state: names, else running numbers."""
        numbers = iter(range(sum(len(group["params"]) for group in self.param_groups)))
        return [list(group.get("param_names") or (next(numbers) for _ in group["params"]))
                for group in self.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Copies of the state, `{"state": {key: {name: array}}, "param_groups": [{option: value}]}`.

        A key is the parameter's name if the optimiser was given names, else its number. In `param_groups`, "params"
        lists the keys. Parameters that were never stepped have no entry under "state".
        """
        groups, state = [], {}
        for group, keys in zip(self.param_groups, self._keys()):
            groups.append({k: v for k, v in group.items() if k not in ("params", "param_names")} | {"params": keys})
            for key, parameter in zip(keys, group["params"]):
                if parameter in self.state:
                    state[key] = {name: value.copy() if hasattr(value, "copy") else value
                                  for name, value in self.state[parameter].items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over options and state saved by `state_dict`, copying the arrays.

        Groups correspond by position, parameters by key. Raises ValueError that lists every difference in groups,
        keys, options, state names, shapes and dtypes; the optimiser is then unchanged.
        """
        if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= set(state_dict):
            raise ValueError(f"{self._name}.load_state_dict: expected a dict with 'state' and 'param_groups'")
        options, problems = self._read_groups(state_dict["param_groups"])
        state, more = ({}, []) if problems else self._read_state(state_dict["state"])
        if problems or more:
            raise ValueError(f"{self._name}.load_state_dict: " + "; ".join([*problems, *more]))
        for group, new in zip(self.param_groups, options):
            group.update(new)
        self.state = state

    def _read_groups(self, saved: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
        if len(saved) != len(self.param_groups):
            return [], [f"{len(saved)} parameter groups were saved, this optimiser has {len(self.param_groups)}"]
        options: list[dict[str, Any]] = []
        problems: list[str] = []
        for index, (group, own, keys) in enumerate(zip(saved, self.param_groups, self._keys())):
            where = f"in group {index}, "
            if not (isinstance(group, dict) and isinstance(group.get("params"), (list, tuple))):
                problems.append(f"{where}no list of parameters was saved")
                continue
            problems += _differences(where, "parameter", keys, group["params"])
            new = {key: tuple(value) if isinstance(own.get(key), tuple) else value for key, value in group.items()
                   if key != "params"}
            allowed = {*new} & {*own, *SCHEDULE_OPTIONS}
            before = len(problems)
            problems += _differences(where, "option", {*self.defaults} | allowed, new)
            if len(problems) == before:
                self._check_options(new)
            options.append(new)
        return options, problems

    def _read_state(self, saved: dict[Any, dict[str, Any]]) -> tuple[dict[Tensor, dict[str, Any]], list[str]]:
        parameters = {key: parameter for group, keys in zip(self.param_groups, self._keys())
                      for key, parameter in zip(keys, group["params"])}
        problems = [f"there is state for '{key}', which is no parameter" for key in saved if key not in parameters]
        state: dict[Tensor, dict[str, Any]] = {}
        for key, parameter in parameters.items():
            if key not in saved:
                continue
            names = {*self.required_state} | ({*self.optional_state} & {*saved[key]})
            problems += _differences(f"for '{key}', ", "state", names, saved[key])
            state[parameter] = {}
            for name, value in saved[key].items():
                if name == "step":
                    state[parameter][name] = int(value)
                    continue
                array = as_array(value)
                if array.shape != parameter.shape or array.dtype != parameter.dtype:
                    problems.append(f"'{name}' of '{key}' is {array.dtype} {array.shape}, the parameter is "
                                    f"{parameter.dtype} {parameter.shape}")
                state[parameter][name] = array.copy()
        return state, problems

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


def _size(tensor: Tensor) -> int:
    return tensor.array.size


def _mark_trained(ready: list[tuple[Tensor, Any]]) -> None:
    for parameter, _ in ready:
        if isinstance(parameter, Parameter):
            parameter.untrained = False


def _differences(where: str, kind: str, own: Iterable, saved: Iterable) -> list[str]:
    """Phrases for what only one side has, with the nearest names of the other."""
    own, saved = list(own), list(saved)
    missing = [key for key in own if key not in saved]
    unexpected = [key for key in saved if key not in own]
    return ([f"{where}no {kind} '{key}' was saved{did_you_mean(str(key), unexpected)}" for key in missing]
            + [f"{where}the saved {kind} '{key}' is unknown here{did_you_mean(str(key), missing)}"
               for key in unexpected])
