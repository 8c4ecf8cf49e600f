"""The frozen prefix: what a network's frozen beginning makes of a sample is computed once and kept.

While the first layers are frozen their output depends on the sample alone, so later epochs can start behind them.
`FrozenPrefix(model)` is called instead of the model and returns the same, bit for bit; `Trainer` does so by itself.
Nothing has to be said about where the prefix ends: `prefix_forward.py` follows the operations as they are done, and
`prefix_store.py` keeps the rows. Here stands what makes it safe:

- A sample is known by the SHA-256 of its bytes (128 bits of it), a weight by a checksum taken anew for every batch.
- Kernels may choose another algorithm for another size of batch, and an operation may mix the samples of a batch. So
  rows are put together to a batch that was not seen before only after such a batch was computed and compared, bit for
  bit; where that fails, earlier values are kept instead, or those of this size apart. A few later ones are checked.
- An input that is augmented never comes again: noticed in the second epoch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import count
from typing import Any
from zlib import crc32

import numpy as np

from minidl import kernels
from minidl.grad_mode import recording
from minidl.nn.module import Module
from minidl.tensor import Tensor
from minidl.transfer.prefix_forward import Forward, Recipe, own_tensors
from minidl.transfer.prefix_store import Budget, Kept, digests, in_threads

CHECKED = 64  # the 64th batch served is computed as well and compared, then the 256th, the 1024th, …
FRUITLESS = 3  # epochs in a row, of one run or several, in which hardly a sample was known, after which it is given up
FEW = 0.1  # share of known samples in a later epoch below which the input counts as augmented
MOST_KEYS = 100_000  # operations told apart, from which on all is forgotten: a network that never does the same
EARLY = 8  # batches of an epoch after which that may be said


class _Weight:
    """A frozen parameter or buffer: what it was when last seen."""

    def __init__(self, tensor: Any, serial: int):
        self.tensor, self.serial, self.version = tensor, serial, 0
        self.array: Any = None
        self.checksum = 0

    def token(self) -> tuple:
        return "weight", self.serial, self.version


class _Count:
    """What happened since the epoch began, in training or in evaluation."""

    def __init__(self) -> None:
        self.batches = self.served = self.samples = self.known = 0


class FrozenPrefix:
    """Call it instead of `model`: the same output, bit for bit, without computing again what frozen layers make of a
    sample seen before.

    cache: "auto" keeps up to a quarter of the free memory and then up to half of the free disk, in a temporary file
        without a name; a number of bytes keeps so much in memory and nothing on disk; a folder keeps all in a file
        there, which is gone when the program is, however it ends.
    What is kept follows from the content of samples and weights: unfreezing and changing weights is noticed at the next
    batch, and drops what depended on them. An own loop should call `end_epoch()` after each pass through the data, so
    that augmented inputs are noticed. `why_not` says why nothing is kept any more, if so. `close()`, or leaving a
    `with` block, drops all.

        prefix = FrozenPrefix(model)
        for images, labels in loader:
            loss = cross_entropy(prefix(images), labels)

    Raises TypeError or ValueError for a `cache` that is none of these.
    """

    def __init__(self, model: Module, cache: Any = "auto"):
        self.model, self.budget = model, Budget.of(cache)
        self.why_not = ""
        self._start_counting()
        self.trained_from = ""  # the path of the first module that is trained
        self._news: list[str] = []
        self._told = ""
        self._resting = False  # training, whose input is augmented; evaluation may go on
        self.served = 0  # batches whose frozen part was not computed
        self._next_check = CHECKED
        self._serials = count()
        self._fruitless = 0
        self._setting: Any = None
        self._forget()

    def _forget(self) -> None:
        self.keys: dict[Any, int] = {}
        self.facts: dict[tuple[int, int], Any] = {}
        self.impure: set[int] = set()
        self.kept: dict[int, Kept] = {}
        self._plans: dict[frozenset[int], None] = {}  # sets of kept values that a pass through the network needed
        self._needed: set[int] = set()  # what the last pass needed; more may be added after it
        self._mixing: set[int] = set()
        self._places: dict[tuple, bytes | None] = {}
        self._weights: dict[int, _Weight] = {}
        self._own: dict[int, Tensor] = {}
        self._idle: set[int] | None = None  # with these tensors frozen, there was nothing to keep in a whole epoch
        self._fresh: set[int] = set()
        self.budget.clear()

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """`model(*inputs, **options)`."""
        given, constants = _sorted_out(inputs, options)
        training = self.model.training
        if self.why_not or given is None or (training and self._resting):
            return self.model(*inputs, **options)
        self._look_round()
        if all(parameter.requires_grad for parameter in self.model.parameters()):
            return self.model(*inputs, **options)
        if self._needed:
            self._plans.setdefault(frozenset(self._needed))
        if self._own.keys() == self._idle:
            return self.model(*inputs, **options)
        rows = _rows(given)
        serving, known = self._decide(rows, training)
        forward = Forward(self, given, rows, serving, constants)
        before, recording.deferring = recording.deferring, forward
        try:
            output = self.model(*inputs, **options)
        finally:
            recording.deferring = before
            forward.open = False
        self._needed = forward.used
        if forward.trained is not None and not self.trained_from:
            names = {id(p): name for name, p in self.model.named_parameters()}
            self.trained_from = names.get(id(forward.trained), "").rpartition(".")[0]
        self._count(training, len(rows), known, serving)
        return output

    def __enter__(self) -> FrozenPrefix:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop all that is kept. Calls go on as before, and begin to keep anew."""
        self._forget()

    @property
    def nbytes(self) -> int:
        """Bytes of the rows kept, in memory and on disk."""
        return sum(kept.nbytes for kept in self.kept.values())

    @property
    def samples(self) -> int:
        """For how many samples rows are kept."""
        return max((len(kept.index) for kept in self.kept.values()), default=0)

    def rest(self, reason: str, training_only: bool = False) -> None:
        """Keep nothing any more, and say why."""
        self.close()
        self._news.append(f"frozen prefix: not kept any more, {reason}")
        if training_only:
            self._resting = True
        else:
            self.why_not = reason

    def end_epoch(self) -> list[str]:
        """To be called after each pass through the data: the lines that are worth telling, mostly none."""
        count = self._counts[True]
        if count.batches and self.epoch > 1 and not self._resting and not self.why_not:
            self._judge(count, last=True)
        if count.batches and self.kept:
            self._fruitless = self._fruitless + 1 if count.known < FEW * count.samples else 0
            if self._fruitless >= FRUITLESS and not self._resting:
                self._give_up()
        if count.batches and not self.kept and not self._mixing:
            self._idle = set(self._own)
        self._start_counting(self.epoch + 1)
        if self.kept and (line := str(self)) != self._told and (not self._told or self._news):
            self._told = line
            self._news.append(line)
        news, self._news = self._news, []
        return news

    def begin(self) -> None:
        """To be called before a run over other data: what is kept stays, but its samples need not come again."""
        self._resting = self._fruitless >= FRUITLESS
        self._start_counting()

    def _start_counting(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self._counts = {True: _Count(), False: _Count()}

    def __str__(self) -> str:
        if not self.kept:
            return f"frozen prefix: nothing kept{', ' if self.why_not else ''}{self.why_not}"
        parts = [f"{' x '.join(map(str, kept.shape)) or 1} {kept.dtype} after {kept.name}" for kept in
                 self.kept.values()]
        where = "in memory" if not self.budget.used_disk else "in memory and a temporary file" \
            if self.budget.used_memory else "in a temporary file"
        full = " (no room for more)" if any(kept.full for kept in self.kept.values()) else ""
        start = f"; trained from {self.trained_from} on" if self.trained_from else ""
        return (f"frozen prefix: {', '.join(parts)}, kept for {self.samples:,} samples, {self.nbytes / 1e6:,.1f} MB "
                f"{where}{full}{start}")

    def key(self, token: Any) -> int:
        """A number for a token: the same for the same."""
        return self.keys.setdefault(token, len(self.keys))

    def leaf(self, tensor: Any) -> Any:
        """The token of a frozen parameter or buffer as it is now; None for anything else."""
        if tensor is None or self._own.get(id(tensor)) is not tensor:
            return None
        weight = self._weights.get(id(tensor))
        if weight is None:
            weight = self._weights[id(tensor)] = _Weight(tensor, next(self._serials))
        if id(tensor) not in self._fresh:
            self._refresh([weight])
        return weight.token()

    def varies(self, place: tuple, digest: bytes) -> bool:
        """Whether an array that the network makes at this place differs from batch to batch."""
        last = self._places.setdefault(place, digest)
        if last is not None and last != digest:
            self._places[place] = last = None
        return last is None

    def put(self, forward: Forward, recipe: Recipe, value: np.ndarray) -> None:
        """Keep what was computed, unless it turns out that it mixes samples."""
        kept = self.kept[recipe.key]
        rows = forward.rows if recipe.rows is None else recipe.rows
        proved = (len(forward.rows), len(forward.rows)) in kept.same
        if not kept.put(rows, forward.rows, value):
            if proved:
                warnings.warn(f"frozen prefix: the output of {kept.name} was computed again and has other bits than "
                              "those kept; earlier steps used them. It is not kept any more", RuntimeWarning,
                              stacklevel=2)
            self._step_back(forward, recipe)

    def looked_at(self, forward: Forward, recipe: Recipe, value: np.ndarray) -> None:
        """Somebody outside the prefix needs this value: keep it, or the nearest before it that can be kept by rows."""
        targets, stack, seen = [], [recipe], set()
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            fact = self.facts.get((node.key, forward.samples))
            if node.rows is None or fact is None or not node.work:
                continue  # a constant, the input itself, or next to it
            if node.key not in self._mixing and fact.shape[:1] == (forward.samples,):
                targets.append(node)
            else:
                stack += node.parents()
        for node in targets:
            if node.key not in self.kept:
                array = value if node is recipe else forward.value_of(node)
                fact = self.facts[node.key, forward.samples]
                self.kept[node.key] = Kept(node.function.__name__.lstrip("_"), fact, self.budget)
                self.put(forward, node, array)
            if node.key in self.kept:
                forward.used.add(node.key)

    def _step_back(self, forward: Forward, recipe: Recipe) -> None:
        """Samples mix in this value, or their place in the batch counts: keep earlier ones instead."""
        self._drop({recipe.key})
        self._mixing |= forward.mixing(recipe)
        forward.used.discard(recipe.key)
        self._start_counting()

    def _drop(self, keys: Iterable[int]) -> None:
        for key in keys:
            kept = self.kept.pop(key, None)
            if kept is not None:
                self.budget.give_back(kept)
                self._plans = {plan: None for plan in self._plans if key not in plan}
                self._needed = set()

    def _decide(self, rows: list[bytes], training: bool) -> tuple[bool, int]:
        """Whether this batch can be served, and how many of its samples are known."""
        best = False
        for plan in self._plans:
            if all(self.kept[key].find(rows) is not None for key in plan):
                best = True
                break
        known = max((sum(row in kept.index for row in rows) for kept in self.kept.values()), default=0)
        if best and self.served == self._next_check:
            self._next_check *= 4
            best = False
        return best, known

    def _count(self, training: bool, samples: int, known: int, serving: bool) -> None:
        count = self._counts[training]
        count.batches += 1
        count.served += serving
        self.served += serving
        count.samples += samples
        count.known += known
        if training and self.epoch > 1 and count.batches == EARLY:
            self._judge(count)

    def _judge(self, count: _Count, last: bool = False) -> None:
        """After the first epoch: whether it pays to go on."""
        if count.known < FEW * count.samples:
            if self._mixing and not self.kept:
                self.rest("the samples of a batch are not independent of each other in the frozen layers")
            else:
                self._give_up()
        elif last and self.epoch > 2 and not count.served:
            full = any(kept.full for kept in self.kept.values())
            self.rest("there is too little room for it" if full else "no batch could be made of what was kept",
                      training_only=True)

    def _give_up(self) -> None:
        full = any(kept.full for kept in self.kept.values())
        self.rest("there is too little room for it" if full else "the inputs do not come again (are they augmented?)",
                  training_only=True)

    def _look_round(self) -> None:
        """Notice what changed since the last batch: backend, precision, what is frozen, weights."""
        setting = kernels.get_backend(), kernels.get_precision()
        if setting != self._setting or len(self.keys) > MOST_KEYS:
            self._forget()
            self._setting = setting
        self._own = {key: tensor for key, tensor in own_tensors(self.model).items() if not tensor.requires_grad}
        gone = [weight for key, weight in self._weights.items() if self._own.get(key) is not weight.tensor]
        for weight in gone:
            del self._weights[id(weight.tensor)]
        self._fresh = set()
        changed = [weight.token() for weight in gone]
        changed += self._refresh([weight for weight in self._weights.values()])
        if changed:
            self._drop_dependent(changed)

    def _refresh(self, weights: list[_Weight]) -> list[tuple]:
        """Take the checksums of weights; returns the tokens of those that have changed."""
        checksums = in_threads(_checksum, [weight.tensor.array for weight in weights])
        changed = []
        for weight, checksum in zip(weights, checksums):
            if weight.array is not weight.tensor.array or weight.checksum != checksum:
                if weight.array is not None:
                    changed.append(weight.token())
                    weight.version += 1
                weight.array, weight.checksum = weight.tensor.array, checksum
            self._fresh.add(id(weight.tensor))
        return changed

    def _drop_dependent(self, tokens: list[tuple]) -> None:
        """Drop what was made with weights that are no longer what they were."""
        stale = {self.keys[token] for token in tokens if token in self.keys}
        marks = set(tokens)
        for token, key in self.keys.items():  # in the order in which they came: what is used stands before what uses it
            if isinstance(token[0], str) and len(token) == 3 and isinstance(token[1], tuple) and any(
                    part in marks or part[:1] == ("value",) and part[1] in stale for part in token[1]
                    if isinstance(part, tuple)):
                stale.add(key)
        if dropped := [key for key in self.kept if key in stale]:
            self._drop(dropped)
            self.trained_from = ""
            self._start_counting()
            self._news.append("frozen prefix: dropped, because frozen weights changed or were unfrozen")
            self._told = ""


def frozen_prefix(model: Module, cache: Any = "auto") -> FrozenPrefix:
    """A `FrozenPrefix` of the model, for `with frozen_prefix(model) as network:`; all is dropped at the end."""
    return FrozenPrefix(model, cache)


def _checksum(array: np.ndarray) -> int:
    return crc32(np.ascontiguousarray(array).data)


def _sorted_out(inputs: tuple, options: dict) -> tuple[list[Tensor] | None, tuple]:
    """The tensors among the inputs, None if they are no batch, and all else that is given."""
    given: list[Tensor] = []
    constants: list[tuple] = []
    for name, value in (*enumerate(inputs), *sorted(options.items())):
        if isinstance(value, Tensor):
            given.append(value)
            constants.append((name, "tensor"))
        elif value is None or isinstance(value, (bool, int, float, str)):
            constants.append((name, type(value), value))
        else:
            return None, ()
    batch = given and given[0].ndim and len(given[0])
    if not batch or any(tensor.shape[:1] != (batch,) or tensor.requires_grad or tensor.dtype.kind == "O"
                        for tensor in given):
        return None, ()
    return given, tuple(constants)


def _rows(given: list[Tensor]) -> list[bytes]:
    """What identifies each sample."""
    found = [digests(list(tensor.array)) for tensor in given]
    return found[0] if len(found) == 1 else [b"".join(parts) for parts in zip(*found)]
