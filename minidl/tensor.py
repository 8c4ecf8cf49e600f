"""The engine: a Tensor that remembers how it was made, and a backward pass that walks that memory.

This is the file to read first. An operation (see `minidl/ops/`) is a function on plain arrays that returns its
result and, for every tensor it was given, a function that turns the gradient of the result into the gradient of
that tensor (a vector-Jacobian product, "vjp"). `differentiable` wraps such a function so that it takes Tensors and
records a `Node`; `backward` walks the nodes from the loss to the leaves. Read `minidl/ops/elementwise.py` next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl.accumulation import added_to
from minidl.device import CPU, device
from minidl.grad_mode import enable_grad, is_grad_enabled, no_grad, recording, set_grad_enabled

__all__ = ["OPS", "Node", "Tensor", "as_array", "differentiable", "enable_grad", "gradients", "is_grad_enabled",
           "no_grad", "set_grad_enabled"]

OPS: dict[str, Callable] = {}  # every differentiable operation by its name: the catalogue the tests walk through


class Node:
    """One recorded operation: where its inputs came from and how to send a gradient back to each.

    `inputs` holds pairs (source, vjp), where a source is another Node or, for a leaf, the Tensor itself.
    A Node holds no result: an activation lives only as long as somebody uses it or a vjp needs it.
    """

    __slots__ = ("name", "inputs", "shape", "dtype")

    def __init__(self, name: str, inputs: Any, shape: tuple[int, ...], dtype: np.dtype):
        self.name, self.inputs, self.shape, self.dtype = name, inputs, shape, dtype

    def __repr__(self) -> str:
        return f"<{self.name}>"


def as_array(value: Any, dtype: Any = None) -> Any:
    """Return the array of a Tensor, an array as it is, and anything else (numbers, lists) as float32."""
    if isinstance(value, Tensor):
        value = value.array
    elif not hasattr(value, "dtype") and not hasattr(value, "__array__"):
        dtype = np.float32 if dtype is None else dtype
    if isinstance(value, np.ndarray) or hasattr(value, "__cuda_array_interface__"):
        return value if dtype is None else value.astype(dtype, copy=False)
    return np.asarray(value, dtype)


class Tensor:
    """An n-dimensional array that can be differentiated.

    `Tensor(data)` wraps an array without copying it and keeps its dtype; lists and numbers become float32.
    With `requires_grad=True` every operation on it is recorded, and `backward()` on a result leaves the gradient
    in `grad`. Operators and methods are put on this class by `minidl/ops/methods.py`.
    """

    __slots__ = ("array", "grad", "_requires_grad", "_node", "__weakref__")
    __array_priority__ = 1000  # so that `ndarray + Tensor` is left to Tensor.__radd__

    if TYPE_CHECKING:  # what minidl/ops/methods.py puts here, for type checkers and editors

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __neg__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def _operator(self, other: Any) -> Tensor: ...

        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = _operator
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rpow__ = __rmatmul__ = _operator
        __lt__ = __le__ = __gt__ = __ge__ = __and__ = __or__ = __xor__ = _operator
        __eq__ = __ne__ = _operator  # type: ignore[assignment]

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None):
        self.array = as_array(data, dtype)
        self.grad: Tensor | None = None
        self._node: Node | None = None
        self._requires_grad = False
        self.requires_grad = requires_grad

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and self.array.dtype.kind not in "fc":
            raise TypeError(f"only floating-point tensors can require gradients, this one is {self.array.dtype}; "
                            "use .float() first")
        if not value and self._node is not None:
            raise RuntimeError(f"requires_grad can be changed on leaves only, this tensor is the result of "
                               f"'{self._node.name}'; use .detach() instead")
        self._requires_grad = bool(value)

    def requires_grad_(self, value: bool = True) -> Tensor:
        self.requires_grad = value
        return self

    @property
    def data(self) -> Tensor:
        """The same memory as a tensor that is not recorded (PyTorch's `.data`)."""
        return Tensor(self.array)

    @data.setter
    def data(self, value: Any) -> None:
        self.array = as_array(value)

    def detach(self) -> Tensor:
        """The same memory, cut off from the graph."""
        return Tensor(self.array)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def device(self) -> device:
        return CPU

    @property
    def is_leaf(self) -> bool:
        return self._node is None

    @property
    def grad_fn(self) -> Node | None:
        return self._node

    def size(self, dim: int | None = None) -> Any:
        return self.array.shape if dim is None else self.array.shape[dim]

    def dim(self) -> int:
        return self.array.ndim

    def numel(self) -> int:
        return self.array.size

    def item(self) -> Any:
        return self.array.item()

    def tolist(self) -> Any:
        return self.array.tolist()

    def numpy(self) -> np.ndarray:
        """The array itself, sharing memory. It leaves the graph: no gradient flows through what is done to it."""
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is None:
            return np.asarray(self.array, dtype)
        return np.array(self.array, dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    def __deepcopy__(self, memo: dict) -> Tensor:
        if self._node is not None:
            raise RuntimeError(f"only leaves can be deep-copied, this tensor is the result of '{self._node.name}'; "
                               "use .detach().clone()")
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        for name in ("_requires_grad", "_node", *getattr(type(self), "extra_slots", ())):
            setattr(twin, name, getattr(self, name))
        twin.array = self.array.copy()
        twin.grad = None if self.grad is None else Tensor(self.grad.array.copy())
        return twin

    def __repr__(self) -> str:
        text = np.array2string(np.asarray(self.array), separator=", ", precision=4, threshold=1000, prefix="tensor(")
        if self.dtype not in (np.float32, np.int64, np.bool_):
            text += f", dtype={self.dtype}"
        if self._node is not None:
            text += f", grad_fn={self._node}"
        elif self._requires_grad:
            text += ", requires_grad=True"
        return f"tensor({text})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self.array)))

    def __bool__(self) -> bool:
        return bool(self.array)

    def __float__(self) -> float:
        return float(self.array.item())

    def __int__(self) -> int:
        return int(self.array.item())

    def __index__(self) -> int:
        return self.array.__index__()

    __hash__ = object.__hash__

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to the `grad` of every leaf that requires it.

        gradient: d(loss)/d(self), of this tensor's shape; may be left out for a tensor of one element.
        The graph is freed on the way unless `retain_graph`.
        Raises RuntimeError if nothing was recorded or the graph has been freed already.
        """
        for leaf, array in gradients(self, gradient, retain_graph).items():
            if leaf.grad is None:
                leaf.grad = Tensor(array)
            else:
                added_to(leaf.grad)
                leaf.grad.array += array


def _seed(root: Tensor, gradient: Any) -> Any:
    if not root._requires_grad:
        raise RuntimeError("backward(): this tensor does not depend on anything that requires a gradient "
                           "(is everything frozen, or was it computed under no_grad()?)")
    if gradient is None:
        if root.array.size != 1:
            raise RuntimeError(f"backward(): a result of shape {root.shape} needs a `gradient` of that shape; "
                               "did you mean .sum().backward() or .mean().backward()?")
        return np.ones_like(root.array)
    gradient = as_array(gradient)
    if gradient.shape != root.shape:
        raise RuntimeError(f"backward(): gradient has shape {gradient.shape}, the tensor {root.shape}")
    return gradient.astype(root.dtype, copy=False)


def _count_uses(root: Any, retain_graph: bool) -> dict:
    """How often each source below `root` is used: the walk may visit it only when all its uses are done."""
    uses = {root: 0}
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, Tensor):
            continue
        if node.inputs is None:
            raise RuntimeError(f"backward(): the graph through '{node.name}' was freed by an earlier backward(); "
                               "call that one with retain_graph=True")
        for source, _ in node.inputs:
            if source in uses:
                uses[source] += 1
            else:
                uses[source] = 1
                stack.append(source)
    return uses


def gradients(root: Tensor, gradient: Any = None, retain_graph: bool = False, wanted: Collection[Any] = ()) -> dict:
    """Walk back from `root` and return the gradient array of every leaf (and of every Node in `wanted`)."""
    start = root._node or root
    arriving: dict[Any, Any] = {start: _seed(root, gradient)}
    uses = _count_uses(start, retain_graph)
    borrowed = {start}  # sources whose gradient shares memory with another's: copied before it is handed out
    kept = {}
    ready = [start] if start is root._node else []
    while ready:
        node = ready.pop()
        g = arriving.pop(node)
        if node in wanted:
            kept[node] = g
        inputs = node.inputs
        if not retain_graph:
            node.inputs = None
        for source, vjp in inputs:
            term = undo_broadcast(vjp(g), source.shape, source.dtype)
            lent = term is g or term.base is not None and (_memory(term) is _memory(g) or not term.flags.carray)
            if source not in arriving:
                arriving[source] = term
                if lent:
                    borrowed.add(source)
            elif source not in borrowed:
                arriving[source] += term
            else:
                arriving[source] = _added(arriving[source], term, lent)
                borrowed.discard(source)
            uses[source] -= 1
            if uses[source] == 0 and isinstance(source, Node):
                ready.append(source)
    for source in arriving:
        if source in borrowed:
            arriving[source] = arriving[source].copy()
    return {**arriving, **kept}


def _memory(array: Any) -> Any:
    """What owns an array's memory: the same object for all arrays that share it.

    Below an array of another class (a lease of `kernels/memory.py`, a memmap) there may be more than it can see.
    """
    owner = array
    while type(owner) is np.ndarray and owner.base is not None:
        owner = owner.base
    return owner


def _added(borrowed: Any, term: Any, lent: bool) -> Any:
    """The sum of two gradients, the first of which must not be written to, nor the second if it is lent."""
    if lent:
        return borrowed + term
    term += borrowed
    return term


def undo_broadcast(g: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Sum `g` over the axes along which an array of `shape` was repeated, and give it that array's dtype."""
    if g.shape != shape:
        lead = g.ndim - len(shape)
        repeated = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] > 1)
        g = g.sum(axis=repeated, keepdims=True).reshape(shape)
    return g if g.dtype == dtype else g.astype(dtype)


def differentiable(function: Callable) -> Callable:
    """Turn `f(x, y, /, option=…) -> (result, (vjp_x, vjp_y))` on arrays into an operation on Tensors.

    Parameters before the `/` (or `*xs`) are the tensors; what follows are options. A vjp maps the gradient of the
    result to the gradient of that tensor: it returns a fresh array, or `g`, or a view of `g`, and never writes
    into `g`. It may be of the broadcast shape. `None` stands for an input without a gradient, such as an index.
    """
    code = function.__code__
    variadic = bool(code.co_flags & 4)
    names = code.co_varnames[: code.co_posonlyargcount]
    takes_dim = "dim" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    name = function.__name__.lstrip("_")

    def operation(*args: Any, **options: Any) -> Tensor:
        if options:
            args, options = _sort_keywords(name, names, takes_dim, args, options)
        if not variadic and len(args) > len(names):
            _refuse_gradients(name, args[len(names):])
        if recording.deferring is not None:
            return recording.deferring.run(operation, args, options)
        arrays = [x.array if isinstance(x, Tensor) else x.item() if isinstance(x, np.generic) else x for x in args]
        try:
            output, vjps = function(*arrays, **options)
        except AttributeError:
            _refuse_lists(name, arrays if variadic else arrays[: len(names)])
            raise
        result = object.__new__(Tensor)
        result.array = output if isinstance(output, np.ndarray) else as_array(output)
        result.grad = result._node = None
        result._requires_grad = False
        if recording.enabled:
            inputs = tuple([(x._node or x, vjp) for x, vjp in zip(args, vjps) if isinstance(x, Tensor)
                            and x._requires_grad])
            if inputs:
                if None in [vjp for _, vjp in inputs]:
                    raise RuntimeError(f"{name}: one of its inputs requires a gradient but has none; detach() it")
                result._node = Node(name, inputs, result.array.shape, result.array.dtype)
                result._requires_grad = True
        return result

    OPS[name] = update_wrapper(operation, function)
    return operation


def _sort_keywords(name: str, names: tuple, takes_dim: bool, args: tuple, options: dict) -> tuple[tuple, dict]:
    """Move tensors given by keyword to their position, and take NumPy's `axis` and `keepdims` for PyTorch's words."""
    if takes_dim:
        words = {"axis": "dim", "keepdims": "keepdim"}  # and numpy.sum(tensor) passes out=None
        options = {words.get(key, key): x for key, x in options.items() if key != "out" or x is not None}
    for position, key in enumerate(names):
        if key in options:
            if position < len(args):
                raise TypeError(f"{name}() got several values for argument '{key}'")
            args += (None,) * (position - len(args)) + (options.pop(key),)
    _refuse_gradients(name, options.values())
    return args, {key: x.array if isinstance(x, Tensor) else x for key, x in options.items()}


def _refuse_gradients(name: str, options: Any) -> None:
    for option in options:
        if isinstance(option, Tensor) and option._requires_grad and recording.enabled:
            raise RuntimeError(f"{name}: an option was given a tensor that requires a gradient, which would be lost; "
                               "pass it as one of the operation's tensors, or detach() it")


def _refuse_lists(name: str, arrays: list) -> None:
    for position, array in enumerate(arrays):
        if isinstance(array, (list, tuple, int, float, str)):
            raise TypeError(f"{name}: input {position} is a {type(array).__name__}; make it a tensor first: "
                            "minidl.tensor(…)") from None
