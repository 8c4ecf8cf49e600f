"""What did not move, in numbers: the frozen tensors of a model now against their hashes from when they were frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from minidl.transfer.ledger.rows import Reference, Seen

SHOWN = 10  # changed tensors in the text; all are in `changed`


class FrozenChanged(RuntimeError):
    """A tensor that was frozen is not what it was; `verification` holds the numbers."""

    def __init__(self, verification: Verification):
        super().__init__(f"ledger.verify: {verification}")
        self.verification = verification


class Change(NamedTuple):
    """A tensor that was frozen and is not what it was then: what is the matter, its bytes, since which event."""

    name: str
    what: str
    nbytes: int
    event: int
    event_kind: str
    before: str
    now: str | None

    def __str__(self) -> str:
        return f"{self.name}: {self.what} ({self.nbytes:,} bytes) since event {self.event} ({self.event_kind})"


class Verification(NamedTuple):
    """The outcome of `ledger.verify()`: prints as a sentence, is true unless something frozen has changed.

    parameters, buffers: numbers (elements) in frozen tensors; tensors: how many tensors these are; nbytes: their bytes,
    all of which were hashed. trainable: numbers in parameters that are trainable now. changed: what is not as it was;
    a hash tells that a tensor differs, not in how many places, so its whole size counts.
    """

    parameters: int
    buffers: int
    tensors: int
    nbytes: int
    trainable: int
    changed: tuple[Change, ...]
    events: tuple[int, ...]

    @property
    def bytes_changed(self) -> int:
        return sum(change.nbytes for change in self.changed)

    @property
    def ok(self) -> bool:
        return not self.changed

    def __bool__(self) -> bool:
        return self.ok

    def require(self) -> Verification:
        """Raise FrozenChanged unless nothing changed; returns itself."""
        if self.changed:
            raise FrozenChanged(self)
        return self

    def __str__(self) -> str:
        if not self.tensors:
            return f"nothing is frozen; {self.trainable:,} parameters trainable"
        what = f"{self.parameters:,} parameters" + (f" and {self.buffers:,} numbers in buffers" if self.buffers else "")
        events = ", ".join(map(str, self.events[:5])) + (", …" if len(self.events) > 5 else "")
        how = (f"{self.tensors:,} tensors of {self.nbytes:,} bytes compared by SHA-256 with event"
               f"{'s'[:len(self.events) > 1]} {events}; {self.trainable:,} parameters trainable")
        if not self.changed:
            return f"{what} frozen, 0 bytes changed ({how})"
        lines = [f"{what} frozen, {len(self.changed):,} of {self.tensors:,} tensors changed, {self.bytes_changed:,} "
                 f"bytes ({how})", *(f"  {change}" for change in self.changed[:SHOWN])]
        if len(self.changed) > SHOWN:
            lines.append(f"  … and {len(self.changed) - SHOWN:,} more")
        return "\n".join(lines)


def compare(references: Mapping[str, Reference], now: Mapping[str, Seen]) -> Verification:
    """What became of the tensors that are frozen, counting tied ones once."""
    parameters = buffers = tensors = nbytes = 0
    changed: list[Change] = []
    counted: set[int] = set()
    for name, reference in references.items():
        seen = now.get(name)
        if seen is not None:
            if id(seen.array) in counted:
                continue
            counted.add(id(seen.array))
        tensors += 1
        nbytes += reference.nbytes
        parameters += reference.numbers if reference.kind == "parameter" else 0
        buffers += reference.numbers if reference.kind == "buffer" else 0
        difference = _difference(reference, seen)
        if difference:
            changed.append(Change(name, difference, reference.nbytes, reference.event, reference.event_kind,
                                  reference.sha256, seen and seen.sha256))
    trainable = sum(seen.array.size for seen in now.values() if seen.trainable and seen.first is None)
    events = tuple(sorted({reference.event for reference in references.values()}))
    return Verification(parameters, buffers, tensors, nbytes, trainable, tuple(changed), events)


def _difference(reference: Reference, seen: Seen | None) -> str:
    """What is not as it was, '' if nothing: the bytes, but also shape and dtype, without which they say little."""
    if seen is None:
        return "no longer in the model"
    for what, before, now in (("shape", reference.shape, seen.array.shape),
                              ("dtype", reference.dtype, seen.array.dtype.name)):
        if before != now:
            return f"its {what} was {before}, is {now}"
    if reference.sha256 == seen.sha256:
        return ""
    return "changed" if seen.held else "changed, and no longer frozen, though no unfreeze was written down,"
