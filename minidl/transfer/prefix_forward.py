"""One pass of a batch through a network with a frozen beginning: which operations belong to it, and where numbers
come from.

An operation belongs to the frozen prefix if all it is given comes from the network's input, frozen weights and
constants. Its result is a `Deferred` tensor: it has a shape, and a `Recipe` of how to compute it. If the batch's
samples were all seen before, nothing is computed until somebody outside of the prefix looks at numbers; these come
from the rows that `prefix.py` keeps. So there is nothing that a network could do differently from one time to the
next, and nothing to go back to: what is not kept is computed when it is asked for.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np

from minidl import random
from minidl.grad_mode import recording
from minidl.nn.module import Module
from minidl.tensor import Tensor, as_array
from minidl.transfer.prefix_store import DIGEST, Fact, digests, fingerprint

LOOKUPS = ("embedding",)  # looking up is as quick as what it would be replaced by
SIZED = ("reshape", "broadcast_to")  # operations told a shape, whose first size may be that of the batch


class Outside(Exception):
    """The operation does not belong to the prefix."""


class Recipe:
    """How a value of the prefix is computed: a function, its arguments (recipes among them) and options.

    key: the same number whenever the same operation is done on what has the same keys. rows: for each sample the
    digest of all that its part of the value depends on; None if it does not depend on the samples. array: of what is
    given and not computed. result: the tensor made of it, a weak reference. work: whether frozen weights did more on
    the way than being looked up, so that it is worth keeping.
    """

    __slots__ = ("key", "rows", "array", "function", "args", "options", "result", "work")

    def __init__(self, key: int, rows: list[bytes] | None, array: Any = None, function: Any = None, args: tuple = (),
                 options: Any = None):
        self.key, self.rows, self.array = key, rows, array
        self.function, self.args, self.options = function, args, options
        self.result: Any = _nothing
        self.work = False

    def parents(self) -> list[Recipe]:
        return [arg for arg in self.args if isinstance(arg, Recipe)]


def _nothing() -> None:
    return None


class Deferred(Tensor):
    """A value of the prefix. It becomes numbers when `array` is asked for."""

    __slots__ = ("value", "recipe", "fact", "forward")
    value: Any
    recipe: Any  # None once the tensor was given other numbers
    fact: Any
    forward: Forward

    @property
    def array(self) -> Any:  # type: ignore[override]
        if self.recipe is not None:
            self.forward.look(self)
        return self.value

    @array.setter
    def array(self, value: Any) -> None:
        self.value, self.recipe, self.fact = value, None, None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape if self.recipe is None else self.fact.shape

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype if self.recipe is None else self.fact.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def detach(self) -> Tensor:
        return self if self.recipe is not None else Tensor(self.value)

    data = property(detach, lambda self, value: setattr(self, "array", as_array(value)))  # type: ignore[assignment]


class Forward:
    """One call of the network. `cache` is the FrozenPrefix, `serving` says that nothing need be computed."""

    def __init__(self, cache: Any, given: list[Tensor], rows: list[bytes], serving: bool, constants: tuple):
        self.cache, self.rows, self.serving = cache, rows, serving
        self.samples = len(rows)
        self.given: dict[int, tuple[Any, Recipe]] = {}  # the network's inputs and their arrays, by id
        self.outside: dict[int, Any] = {}  # results of operations outside, by id, as weak references
        self.made: list[Any] = []  # weak references to all deferred tensors
        self.used: set[int] = set()  # keys of the kept values that were looked at
        self.looked: set[int] = set()
        self.count = 0
        self.open = True  # operations are deferred
        self.keeping = True  # what is looked at is kept, also after the network has returned it
        self.trained: Any = None  # the first trainable parameter that met a value of the prefix
        for number, tensor in enumerate(given):
            token = ("input", number, *_looks(tensor.array), constants)
            recipe = Recipe(cache.key(token), rows, tensor.array)
            self.given[id(tensor)] = tensor, recipe
            self.given[id(tensor.array)] = tensor.array, recipe

    def run(self, operation: Callable, args: tuple, options: dict) -> Tensor:
        """The result of an operation: deferred if it belongs to the prefix."""
        if self.open:
            try:
                return self._defer(operation, args, options)
            except Outside:
                if self.trained is None:
                    self.trained = next((arg for arg in args if isinstance(arg, Tensor) and arg._requires_grad
                                         and arg._node is None), None)
        recording.deferring = None
        try:
            result = operation(*args, **options)
        finally:
            recording.deferring = self
        self._mark(result)
        return result

    def _mark(self, result: Tensor) -> None:
        self.outside[id(result)] = weakref.ref(result)

    def _is_outside(self, tensor: Tensor) -> bool:
        marked = self.outside.get(id(tensor))
        return marked is not None and marked() is tensor

    def _defer(self, operation: Any, args: tuple, options: dict) -> Tensor:
        function = operation.__wrapped__
        if _trains(function, args, options):
            raise Outside
        self.count += 1
        parts, tokens, rows, work = [], [], None, False
        for place, arg in enumerate(args):
            token, recipe = self._argument(arg, (self.count, place), function.__name__)
            tokens.append(token)
            parts.append(arg if recipe is None else recipe)
            if recipe is not None:
                rows = _merged(rows, recipe.rows)
                work = work or recipe.work or (token[0] == "weight" and function.__name__ not in LOOKUPS)
        told = tuple([(name, self._token(value, function.__name__)) for name, value in sorted(options.items())])
        key = self.cache.key((function.__name__, tuple(tokens), told))
        if key in self.cache.impure:
            raise Outside
        recipe = Recipe(key, rows, None, function, tuple(parts), options)
        recipe.work = work
        fact = self.cache.facts.get((key, self.samples))
        if fact is not None and self.serving:
            return self._deferred(recipe, fact)
        value = self._computed(recipe, fact is None)
        if key in self.cache.impure:
            result = Tensor(value)
            self._mark(result)
            return result
        self.cache.facts[key, self.samples] = fact = _fact(value)
        result = self._deferred(recipe, fact)
        result.value = value
        if key in self.cache.kept:
            self.cache.put(self, recipe, value)
        return result

    def _deferred(self, recipe: Recipe, fact: Fact) -> Deferred:
        result = object.__new__(Deferred)
        result.grad = result._node = None
        result._requires_grad = False
        result.value, result.recipe, result.fact, result.forward = None, recipe, fact, self
        recipe.result = weakref.ref(result)
        self.made.append(recipe.result)
        return result

    def _computed(self, recipe: Recipe, first: bool) -> Any:
        """Do the operation; the first time see whether it draws random numbers."""
        arrays = [self.value_of(arg) if isinstance(arg, Recipe) else _plain(arg) for arg in recipe.args]
        before = _random_state() if first else None
        value = _output(recipe.function, arrays, recipe.options)
        if first and _random_state() != before:
            self.cache.impure.add(recipe.key)
        return value

    def _argument(self, arg: Any, place: tuple, name: str) -> tuple[Any, Recipe | None]:
        """What stands for an argument in keys, and its recipe if it is a tensor or array. Raises Outside."""
        if isinstance(arg, Deferred) and arg.recipe is not None and arg.forward is self and not arg._requires_grad:
            return ("value", arg.recipe.key), arg.recipe
        if isinstance(arg, Tensor):
            if arg._requires_grad or self._is_outside(arg):
                raise Outside
        elif not isinstance(arg, np.ndarray):
            return self._token(arg, name), None
        given = self.given.get(id(arg))
        if given is not None and given[0] is arg:
            return ("value", given[1].key), given[1]
        array = arg.array if isinstance(arg, Tensor) else arg
        leaf = self.cache.leaf(arg)
        if leaf is None:
            return self._constant(array, place)
        return leaf, Recipe(self.cache.key(leaf), None, array)

    def _constant(self, array: Any, place: tuple) -> tuple[Any, Recipe]:
        """An array made by the network itself: a constant, or where it changes from batch to batch, rows of samples."""
        if array.dtype.kind == "O":
            raise Outside
        looks = _looks(array)
        digest = fingerprint(array)
        if array.shape[:1] == (self.samples,) and self.cache.varies(place, digest):
            token = ("rows", *looks)
            return token, Recipe(self.cache.key(token), digests(list(array)), array)
        token = ("constant", array.shape, digest, *looks)
        return token, Recipe(self.cache.key(token), None, array)

    def _token(self, value: Any, name: str) -> Any:
        """What stands for an option in keys: equal only for what is equal in type and value. Raises Outside."""
        if value is None or isinstance(value, (bool, float, complex, str, bytes, np.dtype, type(...))):
            return type(value), value if value == value else repr(value)
        if isinstance(value, (int, np.integer)):
            sized = name in SIZED and value == self.samples > 1
            return (int, "samples") if sized else (type(value), int(value))
        if isinstance(value, (tuple, list)):
            return type(value), *[self._token(item, name) for item in value]
        if isinstance(value, slice):
            return slice, *[self._token(item, name) for item in (value.start, value.stop, value.step)]
        if isinstance(value, type):
            return value
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind != "O":
            return np.ndarray, value.shape, value.dtype, np.asarray(value).tobytes()
        raise Outside

    def look(self, tensor: Deferred) -> None:
        """Fill in the numbers of a deferred tensor that somebody outside of the prefix asks for."""
        if tensor.value is None:
            tensor.value = self.value_of(tensor.recipe)
        recipe = tensor.recipe
        if self.keeping and recipe.rows is not None and recipe.key not in self.looked:
            self.looked.add(recipe.key)
            self.cache.looked_at(self, recipe, tensor.value)

    def mixing(self, recipe: Recipe) -> set[int]:
        """The keys of the values on the way to this one whose rows differ when the batch is put together otherwise.

        All is computed twice: for the batch as it is, and for its samples in reverse order, the last one left out.
        """
        order = [*range(self.samples)][::-1]
        order[0] = order[-1]
        found, pairs = {recipe.key}, {}
        nodes, uses = self._needed(recipe, pairs, from_the_start=True)
        for node in (*pairs, *nodes):
            if node in pairs:
                changed = node.array if node.rows is None else _fact(node.array).filled(node.array[order])
                pairs[node] = node.array, changed
                continue
            one, other = (_output(node.function, [pairs[arg][side] if isinstance(arg, Recipe) else _plain(arg)
                                                  for arg in node.args], node.options) for side in (0, 1))
            pairs[node] = one, other
            if node.rows is not None and (one.shape[:1] != (self.samples,) or one[order].tobytes() != other.tobytes()):
                found.add(node.key)
            for parent in node.parents():
                uses[parent] -= 1
                if not uses[parent]:
                    del pairs[parent]
        return found

    def value_of(self, recipe: Recipe) -> Any:
        """The numbers: at hand, kept, or computed from those that are, each dropped after its last use."""
        found = self._at_hand(recipe)
        if found is not None:
            return found
        values: dict[Recipe, Any] = {}
        order, uses = self._needed(recipe, values)
        for node in order:
            arrays = [values[arg] if isinstance(arg, Recipe) else _plain(arg) for arg in node.args]
            values[node] = _output(node.function, arrays, node.options)
            del arrays
            for parent in node.parents():
                uses[parent] -= 1
                if not uses[parent]:
                    del values[parent]
            if node.key in self.cache.kept:
                self.cache.put(self, node, values[node])
        return values[recipe]

    def _needed(self, recipe: Recipe, values: dict[Recipe, Any],
                from_the_start: bool = False) -> tuple[list[Recipe], Counter]:
        """The recipes to be followed, in an order in which that is possible; what is at hand goes into `values`.

        from_the_start: only what is given counts as at hand.
        """
        order: list[Recipe] = []
        uses: Counter = Counter()
        stack: list[tuple[Recipe, bool]] = [(recipe, False)]
        seen = set()
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
                continue
            if node in seen:
                continue
            seen.add(node)
            found = node.array if from_the_start else self._at_hand(node)
            if found is not None:
                values[node] = found
                continue
            stack.append((node, True))
            parents = node.parents()
            uses.update(parents)
            stack += [(parent, False) for parent in parents]
        return order, uses

    def _at_hand(self, recipe: Recipe) -> Any:
        if recipe.array is not None:
            return recipe.array
        tensor = recipe.result()
        if tensor is not None and tensor.value is not None:
            return tensor.value
        kept = self.cache.kept.get(recipe.key)
        if kept is None or recipe.rows is None:
            return None
        slots = kept.find(recipe.rows)
        fact = self.cache.facts.get((recipe.key, self.samples))
        return None if slots is None or fact is None else kept.gather(slots, fact)

    def changing(self, tensor: Any) -> None:
        """A tensor is about to be changed in place: if it is the prefix's, compute all before, and defer no more."""
        mine = isinstance(tensor, Deferred) or id(tensor) in self.given or self.cache.leaf(tensor) is not None
        if mine:
            for reference in self.made:
                made = reference()
                if made is not None and made.recipe is not None and made.value is None:
                    made.value = self.value_of(made.recipe)
            self.open = self.keeping = False
            self.cache.rest("the network changes a tensor in place")


def _fact(array: np.ndarray) -> Fact:
    return Fact(array.shape, array.dtype, array.strides)


def _looks(array: np.ndarray) -> tuple:
    """What of an array, besides its numbers and the count of samples, kernels may choose their way by."""
    layout = "C" if array.flags.c_contiguous else array.strides
    return array.shape[1:], array.dtype, layout


def _plain(arg: Any) -> Any:
    return arg.item() if isinstance(arg, np.generic) else arg


def _output(function: Callable, arrays: list, options: dict) -> Any:
    output, _ = function(*arrays, **options)
    return output if isinstance(output, np.ndarray) else as_array(output)


def _merged(rows: list[bytes] | None, more: list[bytes] | None) -> list[bytes] | None:
    if rows is None or more is None or rows is more:
        return rows if more is None else more
    return [sha256(a + b).digest()[:DIGEST] for a, b in zip(rows, more)]


def _trains(function: Callable, args: tuple, options: dict) -> bool:
    """Whether an operation that behaves differently in training is told that it is training."""
    code: Any = function.__code__
    names = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
    if "training" not in names:
        return False
    place = names.index("training")
    if "training" in options:
        return bool(options["training"])
    if place < len(args):
        return bool(args[place])
    defaults = dict(zip(names[code.co_argcount - len(function.__defaults__ or ()):code.co_argcount],
                        function.__defaults__ or ()))
    return bool((defaults | (function.__kwdefaults__ or {})).get("training", True))


def _random_state() -> str:
    return repr(random.generator().bit_generator.state)


def own_tensors(model: Module) -> dict[int, Tensor]:
    """The parameters and buffers of a model, by id."""
    return {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
