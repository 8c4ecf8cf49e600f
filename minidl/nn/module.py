"""Module: a network, or a part of one, that owns parameters, buffers and other modules.

A module's parameters are the `Parameter`s among its attributes, its children the `Module`s among them: there is no
other register, so attribute access is plain and what you see in `vars(module)` is what is trained and saved.
Read `linear.py` for the shortest layer.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minidl.device import require_cpu
from minidl.errors import ShapeError, did_you_mean
from minidl.nn.hints import check_arguments, missing_attribute, warn_of_trainable
from minidl.nn.summary import summarise
from minidl.tensor import Tensor, as_array

NOT_STRUCTURE = ("device", "dtype", "generator")  # arguments of constructors that `config()` leaves out


class _Allowance(threading.local):
    """How many bytes of parameters and buffers this thread may still make: limited while a file says what to build."""

    left = math.inf

    def spend(self, size: int) -> None:
        self.left -= size + 64  # an empty parameter is not free either
        if self.left < 0:
            raise MemoryError("the tensors of this architecture need more memory than was allowed for it")


allowance = _Allowance()


class Parameter(Tensor):
    """A tensor that a module trains. `untrained` marks a re-initialised head until it is trained or loaded."""

    __slots__ = ("untrained",)
    extra_slots = ("untrained",)

    def __init__(self, data: Any, requires_grad: bool = True):
        super().__init__(data, requires_grad)
        self.untrained = False
        allowance.spend(self.array.nbytes)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class LoadResult(NamedTuple):
    """What `load_state_dict(strict=False)` left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class RemovableHandle:
    """Returned by `register_forward_hook`; `remove()` takes the hook away again."""

    def __init__(self, hooks: dict, key: object):
        self.hooks, self.key = hooks, key

    def remove(self) -> None:
        self.hooks.pop(self.key, None)


class Module:
    """Base class of all layers and networks: define `__init__` with the parts and `forward` with the computation."""

    _mode = True  # what train() or eval() asked for last
    takes_integers = False  # whether the input is indices instead of numbers
    frozen = False  # set by minidl.transfer.freeze: keeps this module in evaluation mode whatever train() says
    _buffer_names: dict[str, bool] = {}  # name -> whether state_dict() holds it
    _forward_hooks: dict[object, Callable] = {}

    def __new__(cls, *args: Any, **options: Any) -> Any:
        if args or options:
            check_arguments(cls, args, options)
        return super().__new__(cls)

    @property
    def training(self) -> bool:
        """Whether this module is in training mode; a frozen one never is, and is again once it is unfrozen."""
        return self._mode and not self.frozen

    @training.setter
    def training(self, mode: bool) -> None:
        object.__setattr__(self, "_mode", bool(mode))

    def forward(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define forward()")

    def __call__(self, *args: Any, **options: Any) -> Any:
        try:
            result = self.forward(*args, **options)
        except (ValueError, TypeError, IndexError, RuntimeError) as error:
            self._locate(error, args)
            raise
        for hook in tuple(self._forward_hooks.values()):
            changed = hook(self, args, result)
            result = result if changed is None else changed
        return result

    def _locate(self, error: Exception, inputs: tuple = ()) -> None:
        """Put the path of the innermost failing module in front of the error's message, level by level."""
        if len(error.args) != 1 or not isinstance(error.args[0], str):
            return
        if not hasattr(error, "location"):
            error.args = (error.args[0] + self._advice(error, inputs),)
        path, child, layer, message = getattr(error, "location", ("", None, repr(self), error.args[0]))
        if child is not None:
            name = next((name for name, module in self.named_modules() if module is child), type(child).__name__)
            path = f"{name}.{path}" if path else name
        elif "\n" in layer:  # a container with its parts: its class says enough
            layer = type(self).__name__
        error.location = (path, self, layer, message)  # type: ignore[attr-defined]
        error.args = (f"{path} ({layer}): {message}" if path else f"{layer}: {message}",)

    def _advice(self, error: Exception, inputs: tuple) -> str:
        """What this layer can add to the message of an error in its forward."""
        return ""

    def __setattr__(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name)
        if isinstance(old, Parameter) and not (value is None or isinstance(value, Parameter)):
            raise TypeError(f"cannot assign {type(value).__name__} to parameter '{name}': wrap it in nn.Parameter, or "
                            f"write into it with `{name}.data.copy_(…)`")
        if name in self._buffer_names and not isinstance(value, Tensor) and value is not None:
            raise TypeError(f"cannot assign {type(value).__name__} to buffer '{name}': a Tensor is needed")
        if isinstance(value, (list, tuple)) and any(isinstance(item, Module) for item in value):
            raise TypeError(f"'{name}' is a {type(value).__name__} of modules, whose parameters would not be found: "
                            "use nn.ModuleList or nn.Sequential")
        if name == "trainable" and type(self).__module__.startswith("minidl."):
            warn_of_trainable(self, value)
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        raise missing_attribute(self, name)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Keep a tensor that is saved and moved with the module but not trained (running statistics, for instance)."""
        self.__dict__["_buffer_names"] = {**self._buffer_names, name: persistent}
        setattr(self, name, tensor)
        if tensor is not None:
            allowance.spend(tensor.array.nbytes)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        setattr(self, name, parameter)

    def add_module(self, name: str, module: Module) -> None:
        setattr(self, name, module)

    def register_forward_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(module, inputs, output)` after each forward; what it returns, unless None, replaces the output."""
        if "_forward_hooks" not in self.__dict__:
            self.__dict__["_forward_hooks"] = {}
        handle = RemovableHandle(self._forward_hooks, object())
        self._forward_hooks[handle.key] = hook
        return handle

    def named_children(self) -> Iterator[tuple[str, Module]]:
        for name, value in self.__dict__.items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "", seen: set | None = None) -> Iterator[tuple[str, Module]]:
        """Every module below and including this one with its dotted path; a shared one appears once."""
        seen = set() if seen is None else seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def get_submodule(self, path: str) -> Module:
        """The module at a dotted path; KeyError with the nearest names if there is none."""
        if not isinstance(path, str):
            raise TypeError(f"{type(self).__name__}.get_submodule takes a dotted path such as 'features.0', got "
                            f"{path!r}; a Sequential is indexed: model[{path!r}]")
        modules = dict(self.named_modules())
        if path not in modules:
            raise KeyError(f"{type(self).__name__} has no module '{path}'{did_you_mean(path, modules)}")
        return modules[path]

    def _own(self, buffers: bool) -> Iterator[tuple[str, Any]]:
        for name, value in self.__dict__.items():
            if (name in self._buffer_names and value is not None) if buffers else isinstance(value, Parameter):
                yield name, value

    def _named(self, buffers: bool, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen = set()
        for path, module in self.named_modules() if recurse else [("", self)]:
            for name, value in module._own(buffers):
                if id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self, recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its dotted name; a shared one appears once, under its first name."""
        return self._named(False, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters(recurse))

    def named_buffers(self, recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        return self._named(True, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers(recurse))

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Parameters and persistent buffers by dotted name, sharing memory; tied ones under each of their names."""
        state = {prefix + name: value.detach() for name, value in self._own(False)}
        state |= {prefix + name: value.detach() for name, value in self._own(True) if self._buffer_names[name]}
        for name, child in self.named_children():
            state |= child.state_dict(f"{prefix}{name}.")
        return state

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> LoadResult:
        """Copy arrays or tensors into the parameters and buffers of the same names, all or nothing.

        Raises KeyError for missing or unexpected names (unless `strict=False`), ShapeError and TypeError for a
        shape or dtype that differs: nothing is broadcast or cast. The module is unchanged after an error.
        """
        own = self.state_dict()
        missing = [name for name in own if name not in state]
        unexpected = [name for name in state if name not in own]
        problems = [f"missing '{name}'{did_you_mean(name, unexpected)}" for name in missing] if strict else []
        if strict:
            problems += [f"unexpected '{name}'{did_you_mean(name, missing)}" for name in unexpected]
        if problems:
            raise KeyError(f"{type(self).__name__}.load_state_dict: " + "; ".join(problems))
        if own and len(missing) == len(own):
            raise KeyError(f"{type(self).__name__}.load_state_dict: none of the {len(state)} names fits; the first is "
                           f"'{next(iter(state), None)}', the module's first is '{next(iter(own))}'")
        arrays = {name: as_array(value) for name, value in state.items() if name in own}
        for name, array in arrays.items():
            if array.shape != own[name].shape:
                head = array.shape[1:] == own[name].shape[1:]
                raise ShapeError(f"{type(self).__name__}.load_state_dict: '{name}' has shape {array.shape}, "
                                 f"the module's is {own[name].shape}"
                                 + ("; a head for another number of classes? Load into a model that has the old one, "
                                    "then minidl.rehead(model, classes)" if head and array.ndim else ""))
            if array.dtype != own[name].dtype:
                raise TypeError(f"{type(self).__name__}.load_state_dict: '{name}' is {array.dtype}, the module's is "
                                f"{own[name].dtype}; convert one of them first, for instance with module.to(dtype)")
        for name, array in arrays.items():
            own[name].array[...] = array
        for name, parameter in self._every_name():
            if name in arrays:
                parameter.untrained = False
        return LoadResult(missing, unexpected)

    def _every_name(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """As `named_parameters`, but a tied parameter appears under each of its names."""
        for name, value in self._own(False):
            yield prefix + name, value
        for name, child in self.named_children():
            yield from child._every_name(f"{prefix}{name}.")

    def train(self, mode: bool = True) -> Module:
        """Training mode for this module and all below it, frozen ones excepted."""
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Module:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.array[...] = 0

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Call `function` on every module, children first."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def to(self, *targets: Any, dtype: Any = None, device: Any = None) -> Module:
        """Move to a device and/or convert floating parameters and buffers to a dtype, in place."""
        for target in targets:
            if isinstance(target, (str, type(None))) or hasattr(target, "type") and not hasattr(target, "kind"):
                device = target
            else:
                dtype = target
        if device is not None:
            require_cpu(device)
        if dtype is not None:
            for tensor in (*self.parameters(), *self.buffers()):
                if tensor.dtype.kind == "f":
                    tensor.array = tensor.array.astype(dtype, copy=False)
                    tensor.grad = None if tensor.grad is None else Tensor(tensor.grad.array.astype(dtype, copy=False))
        return self

    def float(self) -> Module:
        return self.to(np.float32)

    def double(self) -> Module:
        return self.to(np.float64)

    def cpu(self) -> Module:
        return self

    def cuda(self) -> Module:
        return self.to("cuda")

    def config(self) -> dict[str, Any]:
        """The arguments that build this module again, as JSON values (weights apart).

        A layer keeps each constructor argument as an attribute of its name; `bias` stands for whether there is one.
        """
        code = getattr(type(self).__init__, "__code__", None)  # object.__init__, which takes nothing, has none
        names = code.co_varnames[1: code.co_argcount + code.co_kwonlyargcount] if code else ()
        values = {name: getattr(self, name) for name in names if name not in NOT_STRUCTURE}
        return {name: value is not None if name == "bias" else value for name, value in values.items()}

    def extra_repr(self) -> str:
        """What stands between the parentheses of a layer's repr."""
        return ""

    def __repr__(self) -> str:
        parts = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        inside = "\n" + "\n".join(parts) + "\n" if parts else self.extra_repr()
        return f"{type(self).__name__}({inside})"

    def summary(self, input_shape: tuple[int, ...] | None = None) -> str:
        """A table of layers, output shapes, parameters and memory; see `minidl.nn.summary.summarise`."""
        return summarise(self, input_shape)
