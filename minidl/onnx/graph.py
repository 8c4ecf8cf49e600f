"""Graph: a network whose modules are called in the order, and on the values, that a list of steps says.

`minidl.onnx.load` makes one from a file. Its modules are layers of `minidl.nn` where there are such, `Operation` for
everything else, and `Constants` for tensors that belong to no layer; so it can be frozen, given a new head, trained,
saved and loaded as every other network. A step names a module and the numbers of its inputs, all of which come
before, so that nothing goes in circles.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from minidl.errors import FileFormatError
from minidl.nn.fusion import run_chain
from minidl.nn.module import Module, Parameter
from minidl.onnx import operators_layers, operators_reduce, operators_shape, recurrent  # noqa: F401
from minidl.onnx.operators import OPERATORS, check
from minidl.tensor import Tensor, as_array
from minidl.transfer.structure import register

MOST_STEPS, LONGEST_PATH, MOST_INPUTS = 200_000, 400, 10_000
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
          "float64")
_NAME = re.compile(r"[^\W_]\w{0,99}")


@register
class Operation(Module):
    """One of ONNX's operators with its attributes; see `operators.py`.

    attributes: pairs of a name and a number, text or list of them.
    """

    def __init__(self, operator: str, attributes: list | tuple = ()):
        if operator not in OPERATORS:
            raise ValueError(f"Operation: there is no operator {operator[:100]!r}")
        if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str)
                   for pair in attributes):
            raise ValueError("Operation: attributes are pairs of a name and a value")
        self.operator, self.attributes = operator, attributes
        self._options = {name: tuple(value) if isinstance(value, list) else value for name, value in attributes}
        check(operator, self._options, OPERATORS[operator].least)

    def forward(self, *inputs: Any) -> Any:
        return OPERATORS[self.operator].function(*inputs, **self._options)

    def extra_repr(self) -> str:
        return ", ".join([repr(self.operator), *[f"{name}={value!r}" for name, value in self._options.items()]])


@register
class Constants(Module):
    """Tensors that belong to no layer, such as a table of positions: parameters if `trained`, else buffers."""

    def __init__(self, names: list | tuple, shapes: list | tuple, element_type: str = "float32", trained: bool = False):
        if element_type not in DTYPES or trained and not element_type.startswith("float"):
            raise ValueError(f"Constants: element_type is one of {', '.join(DTYPES)}, and a floating one for what is "
                             f"trained, not {element_type[:50]!r}")
        if len(names) != len(shapes) or len(set(names)) != len(names):
            raise ValueError("Constants: as many shapes as different names are needed")
        self.names, self.shapes, self.element_type, self.trained = names, shapes, element_type, trained
        for name, shape in zip(names, shapes):
            if not fits(name, self):
                raise ValueError(f"Constants: a tensor cannot be called {str(name)[:100]!r}")
            if not isinstance(shape, (tuple, list)) or not all(type(n) is int and n >= 0 for n in shape):
                raise ValueError(f"Constants: {name!r} cannot be of shape {str(shape)[:100]}")
            array = np.zeros(shape, element_type)
            if trained:
                setattr(self, name, Parameter(array))
            else:
                self.register_buffer(name, Tensor(array))

    def forward(self) -> tuple[Tensor, ...]:
        return tuple([vars(self)[name] for name in self.names])

    def extra_repr(self) -> str:
        return ", ".join(f"{name} {tuple(shape)}" for name, shape in zip(self.names, self.shapes))


def fits(name: Any, module: Module) -> bool:
    """Whether a tensor of a module may have this name."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name)) and not hasattr(type(module), name) \
        and name not in vars(module)


@register
class Graph(Module):
    """A network of modules and the steps that call them: forward(*inputs) returns the outputs, a tensor or a tuple.

    inputs, outputs: names, for people. steps: (path of a module, numbers of its inputs, how many outputs it has);
    values are numbered from the inputs on through all steps' outputs; -1 stands for an input left out.
    results: the numbers of the outputs.
    """

    def __init__(self, inputs: list | tuple, steps: list | tuple, results: list | tuple, outputs: list | tuple):
        self.inputs, self.steps, self.results, self.outputs = inputs, steps, results, outputs
        self._plan = _plan(len(inputs), steps, results)

    @classmethod
    def check_config(cls, config: Any, what: str) -> dict[str, Any]:
        """The arguments out of a file, if they are what they should be; raises FileFormatError otherwise."""
        names = ("inputs", "steps", "results", "outputs")
        if not isinstance(config, dict) or set(config) != set(names) or \
                not all(isinstance(config[name], list) and len(config[name]) <= MOST_STEPS for name in names):
            raise FileFormatError(f"{what}: a Graph is given lists of {', '.join(names)}")
        for name in (*config["inputs"], *config["outputs"]):
            if not isinstance(name, str) or len(name) > LONGEST_PATH:
                raise FileFormatError(f"{what}: {str(name)[:100]!r} is no name of an input or output")
        known = len(config["inputs"])
        for index, step in enumerate(config["steps"]):
            fine = isinstance(step, list) and len(step) == 3 and isinstance(step[0], str) and \
                len(step[0]) <= LONGEST_PATH and _are_numbers(step[1], known) and type(step[2]) is int and \
                0 < step[2] <= MOST_INPUTS
            if not fine:
                raise FileFormatError(f"{what}: step {index} is {str(step)[:100]}: expected a path, numbers from -1 to "
                                      f"{known - 1}, and how many outputs it has")
            known += step[2]
        if not _are_numbers(config["results"], known) or len(config["results"]) != len(config["outputs"]) or \
                -1 in config["results"] or not config["results"]:
            raise FileFormatError(f"{what}: results are {str(config['results'])[:100]}: the number of a value for each "
                                  "output is needed")
        return {"inputs": tuple(config["inputs"]), "results": tuple(config["results"]),
                "outputs": tuple(config["outputs"]),
                "steps": tuple((path, tuple(numbers), count) for path, numbers, count in config["steps"])}

    def forward(self, *inputs: Any) -> Any:
        if len(inputs) != len(self.inputs):
            raise TypeError(f"the network takes {len(self.inputs)} inputs ({', '.join(self.inputs)[:200]}), "
                            f"{len(inputs)} were given")
        values: dict[int, Any] = {-1: None}
        for number, value in enumerate(inputs):
            values[number] = value if isinstance(value, Tensor) else Tensor(as_array(value))
        for paths, numbers, first, count, done in self._plan:
            modules = [self._module(path) for path in paths]
            if len(numbers) == 1:
                result = run_chain(modules, values[numbers[0]])
            else:
                result = modules[0](*[values[number] for number in numbers])
            if isinstance(result, tuple):
                values.update(zip(range(first, first + count), result))
            else:
                values[first] = result
            for number in done:
                values.pop(number, None)
        results = tuple([values[number] for number in self.results])
        return results[0] if len(results) == 1 else results

    def _module(self, path: str) -> Module:
        """The module at a path, which a file may have named: only modules are looked at."""
        module: Any = self
        for name in path.split("."):
            module = vars(module).get(name) if isinstance(module, Module) else None
        if not isinstance(module, Module):
            raise RuntimeError(f"there is no module at '{path[:200]}', which a step of the network calls")
        return module

    def extra_repr(self) -> str:
        return f"{len(self.steps)} steps"


def _are_numbers(values: Any, known: int) -> bool:
    return isinstance(values, list) and len(values) <= MOST_INPUTS and \
        all(type(n) is int and -1 <= n < known for n in values)


def _plan(inputs: int, steps: Any, results: Any) -> list[tuple]:
    """The steps as they are run: (paths, input numbers, first output's number, outputs, numbers not needed any more).

    Steps one after the other, of which each takes nothing but the one before, become one, see `nn/fusion.py`.
    """
    uses: dict[int, int] = {}
    for number in [*results, *(number for _, numbers, _ in steps for number in numbers)]:
        uses[number] = uses.get(number, 0) + 1
    plan: list[tuple] = []
    number = inputs
    for path, numbers, count in steps:
        before = plan[-1] if plan else None
        if before and len(before[1]) == 1 and before[3] == count == 1 and list(numbers) == [before[2]] \
                and uses.get(before[2]) == 1:
            plan[-1] = (before[0] + (path,), before[1], number, 1, ())
        else:
            plan.append(((path,), tuple(numbers), number, count, ()))
        number += count
    seen = {-1, *results}
    for place in reversed(range(len(plan))):
        paths, numbers, first, count, _ = plan[place]
        done = tuple(n for n in dict.fromkeys((*numbers, *range(first, first + count))) if n not in seen)
        seen.update(numbers)
        plan[place] = (paths, numbers, first, count, done)
    return plan
