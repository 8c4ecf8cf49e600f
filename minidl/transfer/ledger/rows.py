"""What the ledger writes down: a row a tensor, an event a verb, and the hashes that both rest on.

`observe` looks at a model and hashes every parameter and buffer once (SHA-256 of the bytes of its elements in C order).
A hash is used a second time only within one verb, for an array that this verb has neither replaced nor written to;
across verbs nothing is taken for granted, since anybody can write into an array. Read `ledger.py` next.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from minidl.nn.module import Module, Parameter
from minidl.tensor import Tensor
from minidl.transfer.patterns import every_module

FROZEN_CHANGED = "changed while frozen"


class Row(NamedTuple):
    """One tensor in one event: what it was called and looked like, what happened to it, and its hashes.

    kind: "parameter", "buffer", or "file" for a tensor that only the file has.
    status: "loaded", "re-initialised", "skipped", "tied", "frozen", "unfrozen", "trained", "updated" (a buffer that
        training changed), "unchanged" (trainable, but no step changed it), "kept", "changed", "training" while it is
        under way, or "changed while frozen"; `reason` says more.
    batchnorm: the mode of the BatchNorm layer that the tensor belongs to, "train" or "eval", else "".
    lr: its learning rate at the beginning and at the end of a training.
    before, after: SHA-256; before is None for a tensor that was not there, after while a training is under way.
    """

    name: str
    status: str
    reason: str = ""
    file_shape: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    kind: str = "parameter"
    trainable: bool = False
    batchnorm: str = ""
    lr: tuple[float, float] | None = None
    before: str | None = None
    after: str | None = None


class Event(NamedTuple):
    """One verb: its number in the ledger, its kind ("load", "freeze", …), details, UTC time, and a row a tensor."""

    number: int
    kind: str
    detail: str
    time: str
    rows: tuple[Row, ...]


class Reference(NamedTuple):
    """A frozen tensor as it was when it was frozen: what `verify` compares with."""

    event: int
    event_kind: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.numbers * np.dtype(self.dtype).itemsize


class Seen(NamedTuple):
    """A tensor as `observe` found it. `held`: nothing may change it, a frozen parameter or a buffer of a frozen module.

    `first` is the name under which the same memory appeared before, for a tied tensor.
    """

    array: Any
    kind: str
    trainable: bool
    held: bool
    batchnorm: str
    first: str | None
    sha256: str

    def row(self, name: str, status: str, reason: str = "", **more: Any) -> Row:
        return Row(name, status, reason, shape=self.array.shape, dtype=self.array.dtype.name, kind=self.kind,
                   trainable=self.trainable, batchnorm=self.batchnorm, **more)

    def reference(self, number: int, kind: str) -> Reference:
        return Reference(number, kind, self.kind, self.array.shape, self.array.dtype.name, self.sha256)


def sha256(array: Any) -> str:
    """The SHA-256 of the bytes of an array's elements in C order, as 64 hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).hexdigest()


def named_tensors(model: Module) -> Iterable[tuple[str, Module, Tensor]]:
    """Every parameter and buffer with its dotted name and the module that owns it; a tied one under each name."""
    for path, module in every_module(model):
        for name, value in (*module._own(False), *module._own(True)):
            yield f"{path}.{name}" if path else name, module, value


def observe(model: Module, known: Mapping[str, Seen] | None = None,
            only: Collection[str] | None = None) -> dict[str, Seen]:
    """Every tensor of the model by its name, hashed; arrays that are among `known` keep the hash they have there.

    only: hash the tensors of these names alone, the others get ''.
    """
    hashes = {id(seen.array): seen.sha256 for seen in (known or {}).values()}
    first: dict[int, str] = {}
    found = {}
    for name, module, tensor in named_tensors(model):
        array = tensor.array
        if id(array) not in hashes and (only is None or name in only):
            hashes[id(array)] = sha256(array)
        is_parameter = isinstance(tensor, Parameter)
        held = not tensor.requires_grad if is_parameter else module.frozen
        mode = ("train" if module.training else "eval") if "running_mean" in module._buffer_names else ""
        earlier = first.setdefault(id(array), name)
        found[name] = Seen(array, "parameter" if is_parameter else "buffer", is_parameter and tensor.requires_grad,
                           held, mode, None if earlier == name else earlier, hashes.get(id(array), ""))
    return found
