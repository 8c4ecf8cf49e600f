"""Certificate: a training written down as a chain of hashes, so that two runs can be compared in one line.

In the chain are the initial weights, then for each step of the optimiser the batch, the loss to its last bit and from
time to time the weights, and at the end the final weights. Two runs of one seed give the same chain, on any number of
threads; where they do not, `first_difference` says which step was the first, and in what. `minidl/certify.py` makes
certificates of runs that a file describes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import minidl
from minidl.atomic import write_text
from minidl.errors import FileFormatError
from minidl.formats.tensorfile import opened, parse_json
from minidl.kernels import get_num_threads
from minidl.nn.module import Module
from minidl.tensor import Tensor
from minidl.train.callbacks import Callback
from minidl.transfer.ledger.rows import observe

FORMAT = "minidl certificate 1"
LARGEST = 256 * 2**20  # bytes of a file that is read
SHOWN = 4
_STEP = re.compile(r"epoch (\d{1,9}) step (\d{1,9}) data ([0-9a-f]{16}) loss (-?0x[01]\.[0-9a-f]{1,13}p[+-]\d{1,4})"
                   r"(?: weights ([0-9a-f]{16}))?")
_HASH = re.compile("[0-9a-f]{64}")


class RunsDiffer(RuntimeError):
    """A training is not the one that a certificate was made of; `difference` says where."""

    def __init__(self, difference: Difference):
        super().__init__(str(difference))
        self.difference = difference


class Difference(NamedTuple):
    """Where two runs part. step: counted from 1 over all epochs, 0 before the first. what: "initial weights", "data",
    "loss", "weights", "final weights" or "length"; text says it in a sentence."""

    step: int
    what: str
    text: str

    def __str__(self) -> str:
        return self.text


class Certificate(Callback):
    """Writes the certificate of a run to a JSON file when it ends, or compares it step by step with one.

    path: the file; None writes none. `content` holds what is in it.
    against: the path of an earlier certificate: at the first difference RunsDiffer is raised.
    weights_every: in every so many steps the weights are hashed too; 1 finds the exact step, at the price of a hash of
        all weights in each.
    """

    place, only_watches = 50, True

    def __init__(self, path: str | os.PathLike | None = None, *, against: Any = None, weights_every: int = 10):
        if isinstance(weights_every, bool) or not isinstance(weights_every, int) or weights_every < 1:
            raise ValueError(f"Certificate: weights_every must be a whole number from 1, got {weights_every!r}")
        self.path, self.weights_every = path, weights_every
        self.against = against if against is None or isinstance(against, Mapping) else read_certificate(against)
        self.content: dict[str, Any] = {}

    def on_fit_begin(self, trainer: Any) -> None:
        self.epoch = 0
        self.content = {"format": FORMAT, "machine": _machine(), "threads": get_num_threads(),
                        "initial": _weights(trainer.model), "steps": []}
        if trainer.run.saved is None:
            self._compare()

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        self.epoch = epoch

    def on_batch_end(self, trainer: Any, step: int, loss: float) -> None:
        digest = hashlib.sha256()
        for batch in trainer.run.group:
            _hash_into(digest, batch)
        steps = self.content["steps"]
        line = f"epoch {self.epoch} step {step} data {digest.hexdigest()[:16]} loss {float(loss).hex()}"
        if (len(steps) + 1) % self.weights_every == 0:
            line += f" weights {_weights(trainer.model)['all'][:16]}"
        steps.append(line)
        self._compare()

    def on_fit_end(self, trainer: Any) -> None:
        self.content["final"] = _weights(trainer.model)
        self.content["chain"] = chain(self.content)
        if self.against is not None and (difference := first_difference(self.against, self.content)):
            raise RunsDiffer(difference)
        if self.path is not None:
            write_text(self.path, json.dumps({"certificate": self.content}, indent=1) + "\n")

    def _compare(self) -> None:
        if self.against is not None and (difference := _difference_so_far(self.against, self.content)):
            raise RunsDiffer(difference)

    def state_dict(self) -> dict[str, Any]:
        return {"initial": self.content["initial"], "steps": list(self.content["steps"])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.content |= {"initial": dict(state["initial"]), "steps": list(state["steps"])}


def _machine() -> str:
    """System, Python, NumPy and minidl: what may explain a difference."""
    return (f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, "
            f"minidl {minidl.__version__}")


def chain(content: Mapping[str, Any]) -> str:
    """The last hash of the chain: SHA-256 of the one before and the next line, from the initial weights on."""
    last = hashlib.sha256(f"{FORMAT}\n{content['initial']['all']}".encode()).hexdigest()
    for line in (*content["steps"], content["final"]["all"]):
        last = hashlib.sha256(f"{last}\n{line}".encode()).hexdigest()
    return last


def read_certificate(path: str | os.PathLike) -> dict[str, Any]:
    """The certificate in a JSON file; FileFormatError if there is none, or one that somebody edited."""
    what = os.fspath(path)
    content = read_json(path).get("certificate")
    if content is None:
        raise FileFormatError(f"{what}: there is no certificate in it: minidl certify {what} writes one")
    return checked(content, what)


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """The object in a JSON file that anybody may have written."""
    with opened(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST:
            raise FileFormatError(f"{os.fspath(path)}: {size:,} bytes, at most {LARGEST:,} are read")
        content = parse_json(stream.read(size), os.fspath(path))
    if not isinstance(content, dict):
        raise FileFormatError(f"{os.fspath(path)}: expected a JSON object, got {type(content).__name__}")
    return content


def checked(content: Any, what: str) -> dict[str, Any]:
    """`content` if it is a certificate whose chain is right; FileFormatError otherwise."""
    kinds = {"format": str, "machine": str, "threads": int, "initial": dict, "steps": list, "final": dict, "chain": str}
    if not isinstance(content, dict) or content.keys() != kinds.keys() or content["format"] != FORMAT or \
            not all(isinstance(content[name], kind) for name, kind in kinds.items()):
        raise FileFormatError(f"{what}: not a certificate of this version: {', '.join(kinds)} with format {FORMAT!r}")
    for name in ("initial", "final"):
        if not all(isinstance(value, str) and _HASH.fullmatch(value) for value in content[name].values()) or \
                _together(content[name]) != content[name].get("all"):
            raise FileFormatError(f"{what}: {name}: a SHA-256 is expected for each tensor and for all together")
    for number, line in enumerate(content["steps"], 1):
        if not (isinstance(line, str) and _STEP.fullmatch(line)):
            raise FileFormatError(f"{what}: step {number} is no line of a certificate: {str(line)[:100]!r}")
    if chain(content) != content["chain"]:
        raise FileFormatError(f"{what}: the certificate was changed after it was written: its chain does not end in "
                              f"{content['chain'][:16]}…")
    return content


def first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> Difference | None:
    """Where the second of two certificates parts from the first; None if the runs were equal, bit for bit."""
    for content in (one, other):
        if not (isinstance(content, Mapping) and {"initial", "steps", "final"} <= set(content)):
            raise ValueError("first_difference: two certificates as read_certificate(path) gives them are needed, with "
                             f"initial, steps and final; got {str(content)[:100]!r}")
    found = _difference_so_far(one, other)
    if found is not None:
        return found
    steps = len(one["steps"]), len(other["steps"])
    if steps[0] != steps[1]:
        return Difference(min(steps) + 1, "length", f"the runs have {steps[0]:,} and {steps[1]:,} steps, equal up to "
                          f"step {min(steps):,}")
    names = _other_names(one["final"], other["final"])
    if names:
        return Difference(steps[0], "final weights", f"the final weights differ in {names}, though all {steps[0]:,} "
                          "steps are equal: something changed them after the last step that was looked at")
    return None


def _difference_so_far(one: Mapping[str, Any], other: Mapping[str, Any]) -> Difference | None:
    """The first difference in what `other`, which may be under way, has by now."""
    if not other["steps"] or one["initial"] != other["initial"]:
        names = _other_names(one["initial"], other["initial"])
        if names:
            return Difference(0, "initial weights", f"the initial weights differ in {names}: another seed, another "
                              "model, or other weights loaded")
    start = 0 if "final" in other else max(len(other["steps"]) - 1, 0)  # a run under way was compared up to its last
    for number, (first, second) in enumerate(zip(one["steps"][start:], other["steps"][start:]), start + 1):
        if first != second:
            found = _in_step(number, first, second)
            if found is not None:
                return found
    if len(other["steps"]) > len(one["steps"]):
        return Difference(len(one["steps"]) + 1, "length", f"the certificate ends after {len(one['steps']):,} steps, "
                          "this run goes on")
    return None


def _in_step(number: int, first: str, second: str) -> Difference | None:
    one, other = _STEP.fullmatch(first), _STEP.fullmatch(second)
    if one is None or other is None:  # a loss that is nan is no number of a certificate
        raise ValueError(f"certificate: step {number} cannot be compared: {first!r}, {second!r}")
    where = f"step {number:,} (epoch {other[1]}, step {other[2]})"
    if one.groups()[:2] != other.groups()[:2]:
        return Difference(number, "length", f"{where} was epoch {one[1]}, step {one[2]}: epochs of another length")
    if one[3] != other[3]:
        return Difference(number, "data", f"{where}: the data differ: another order, other samples or another "
                          "augmentation")
    if one[4] != other[4]:
        return Difference(number, "loss", f"{where}: the loss differs: {one[4]} ({float.fromhex(one[4]):.9g}) in the "
                          f"certificate, {other[4]} ({float.fromhex(other[4]):.9g}) here, on the same data")
    if one[5] and other[5] and one[5] != other[5]:
        return Difference(number, "weights", f"{where}: the weights after it differ, on the same data and with equal "
                          "losses up to it")
    return None


def _other_names(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The first tensors that two states do not share, as text; '' if they are equal."""
    names = [name for name in {**one, **other} if one.get(name) != other.get(name) and name != "all"]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _weights(model: Module) -> dict[str, str]:
    """The SHA-256 of each parameter and buffer with its name, dtype and shape, and under "all" that of these."""
    found = {name: hashlib.sha256(f"{name} {seen.array.dtype} {seen.array.shape} {seen.sha256}".encode()).hexdigest()
             for name, seen in observe(model).items()}
    return {**found, "all": _together(found)}


def _together(hashes: Mapping[str, str]) -> str:
    """The SHA-256 of the names and hashes of all tensors."""
    lines = "\n".join(f"{name} {value}" for name, value in hashes.items() if name != "all")
    return hashlib.sha256(lines.encode()).hexdigest()


def _hash_into(digest: Any, value: Any) -> None:
    """Feed a batch to a hash: arrays with dtype and shape, lists and dicts with their length and order."""
    if isinstance(value, (tuple, list)):
        digest.update(f"list {len(value)}\n".encode())
        for item in value:
            _hash_into(digest, item)
    elif isinstance(value, dict):
        _hash_into(digest, [part for pair in value.items() for part in pair])
    elif isinstance(value, (Tensor, np.ndarray)):
        array = np.ascontiguousarray(value.array if isinstance(value, Tensor) else value)
        digest.update(f"array {array.dtype} {array.shape}\n".encode())
        digest.update(memoryview(array.reshape(-1).view(np.uint8)))
    else:
        digest.update(f"{type(value).__name__} {value!r}\n".encode())
