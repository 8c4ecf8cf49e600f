"""The ledger of a model: what each verb did to every tensor, with hashes, and a proof of what did not move.

`load`, `rehead`, `freeze`, `unfreeze` and `Trainer.fit` write into it by themselves; a training loop of one's own
stands in `with transfer.ledger(model).training(optimizer): …`. Every event hashes every tensor, a training before and
after, so that "0 bytes changed" is computed and never assumed. Rows are in `rows.py`, how they are shown in
`table.py`, files in `file.py`.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from minidl.nn.module import Module
from minidl.transfer.ledger import file as ledger_file
from minidl.transfer.ledger import table as ledger_table
from minidl.transfer.ledger.rows import FROZEN_CHANGED, Event, Reference, Row, Seen, named_tensors, observe
from minidl.transfer.ledger.verify import Verification, compare
from minidl.transfer.patterns import check_model, every_module

ATTRIBUTE = "_transfer_ledger"  # where a model keeps it
MOST_ROWS = 100_000  # in all events together; beyond, the oldest events go, the first excepted


class Ledger:
    """What happened to the tensors of one model; `transfer.ledger(model)` returns it.

    `print(ledger)` shows the events and what became of the tensors, grouped by module; `ledger.table()` has a line for
    each. `events` holds everything (`rows.py`), `dropped` counts events that were given up for memory.
    It holds hashes, not values: small, and copied along with the model.
    """

    def __init__(self, events: Collection[Event] = (), references: Mapping[str, Reference] | None = None,
                 model_name: str = "", dropped: int = 0):
        self.events = list(events)
        self.references = dict(references or {})
        self.model_name = model_name
        self.dropped = dropped
        self._model: Any = None

    @property
    def model(self) -> Module | None:
        """The model that it belongs to; None for a ledger from a file, or if the model is gone."""
        return None if self._model is None else self._model()

    def latest(self) -> dict[str, Row]:
        """The row of every tensor of the model in the last event, by name."""
        return {row.name: row for row in self.events[-1].rows if row.kind != "file"} if self.events else {}

    def history(self, name: str) -> list[tuple[Event, Row]]:
        """What happened to one tensor, event by event."""
        found = [(event, row) for event in self.events for row in event.rows if row.name == name]
        if not found:
            raise KeyError(f"ledger: no event names a tensor '{name}'")
        return found

    def verify(self, model: Module | None = None, *, strict: bool = False) -> Verification:
        """Look at the model now: compare every frozen tensor and buffer with its hash from when it was frozen.

        The result prints as a sentence such as "14,714,688 parameters frozen, 0 bytes changed", holds the numbers, and
        is true unless something changed; what did is named, with the event since which, and its size.
        model: compare this one, with a ledger that was read from a file.
        strict: raise FrozenChanged instead of returning what is not true.
        """
        model = self._require_model() if model is None else model
        result = compare(self.references, observe(model, only=self.references))
        if strict:
            result.require()
        return result

    @contextmanager
    def training(self, optimizer: Any = None, detail: str = "") -> Iterator[Ledger]:
        """Hash every tensor before and after the block, in which the model is trained.

        optimizer: whose learning rates are written down. What ends the block early is written down too.
        """
        number, before, rates = self._begin_training(optimizer, detail)
        try:
            yield self
        except BaseException as error:
            detail = f"{detail}; ended by {type(error).__name__}".lstrip("; ")
            raise
        finally:
            self._end_training(number, before, rates, optimizer, detail)

    def record(self, kind: str, detail: str = "") -> Ledger:
        """Write an event for something that the ledger does not see by itself, such as load_state_dict; returns self.

        Frozen tensors are still compared with what they were when they were frozen.
        """
        after = observe(self._require_model())
        last = self.latest()
        rows = []
        for name, seen in after.items():
            before = last[name].after if name in last else None
            changed = before is not None and before != seen.sha256
            status = "changed" if changed else "frozen" if seen.held else "kept"
            if changed and name in self.references and seen.held:
                status = FROZEN_CHANGED
            rows.append(_tied_or(seen, name, status, before=before, after=seen.sha256))
        self._write(kind, detail, rows, after)
        return self

    def diff(self, other: Ledger) -> ledger_table.LedgerDiff:
        """What differs between the last states in two ledgers: names, shapes, dtypes, status, trainable, hashes."""
        return ledger_table.diff(self, other)

    def table(self) -> str:
        """The last state as a table, one line a tensor."""
        return ledger_table.full(self)

    def __str__(self) -> str:
        return ledger_table.overview(self)

    def __repr__(self) -> str:
        return f"Ledger({self.model_name}: {len(self.events)} events, {len(self.latest())} tensors)"

    def save(self, path: str | os.PathLike) -> None:
        """Write it as JSON, atomically."""
        ledger_file.save(path, self.events, self.references, self.model_name, self.dropped)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Ledger:
        """Read what `save` wrote; FileFormatError for anything else. `verify(model)` checks a model against it."""
        return cls(*ledger_file.load(path))

    def __deepcopy__(self, memo: dict) -> Ledger:
        twin = Ledger(self.events, self.references, self.model_name, self.dropped)
        memo[id(self)] = twin
        return twin

    def __copy__(self) -> Ledger:
        return self.__deepcopy__({})

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_model": None}  # a weak reference cannot be pickled; the next verb ties it again

    def _require_model(self) -> Module:
        model = self.model
        if model is None:
            raise ValueError("ledger: it belongs to no model here, since it comes from a file or the model is gone; "
                             "for a check, pass one: ledger.verify(model)")
        return model

    def _write(self, kind: str, detail: str, rows: list[Row], after: Mapping[str, Seen],
               rewritten: Collection[str] = ()) -> int:
        """Append an event and note what is frozen since when; returns its number.

        rewritten: names of tensors whose change, though they are frozen, is what the event is for.
        """
        number = self.events[-1].number + 1 if self.events else 1
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        if not self.events:
            rows = _with_origins(self._require_model(), rows)
        detail = detail.encode("utf-8", "backslashreplace").decode()  # names of files need not be text
        self.events.append(Event(number, kind, detail, time, _shared(rows, self.events[-1:])))
        self._note_frozen(number, kind, after, rewritten)
        while len(self.events) > 2 and sum(len(event.rows) for event in self.events) > MOST_ROWS:
            del self.events[1]
            self.dropped += 1
        return number

    def _note_frozen(self, number: int, kind: str, after: Mapping[str, Seen], rewritten: Collection[str] = ()) -> None:
        for name in [name for name in self.references if name not in after or not after[name].held]:
            del self.references[name]
        for name, seen in after.items():
            if seen.held and (name not in self.references or name in rewritten):
                self.references[name] = seen.reference(number, kind)

    def _unseen(self, before: Mapping[str, Seen]) -> dict[str, str]:
        """For each tensor that changed since the last event, a remark that says so."""
        remarks = {}
        for name, row in self.latest().items():
            if name in before and row.after not in (None, before[name].sha256):
                remarks[name] = (f"changed since event {self.events[-1].number} by something the ledger did not see"
                                 + (", while frozen" if name in self.references else ""))
        return remarks

    def note_state(self, kind: str, detail: str) -> None:
        """Write the event of a verb that changes what is trainable and no values: freeze and unfreeze."""
        after = observe(self._require_model())
        remarks = self._unseen(after)
        rows = []
        for name, seen in after.items():
            status = "frozen" if seen.held else "unfrozen" if name in self.references else "kept"
            rows.append(_tied_or(seen, name, status, remarks.get(name, ""), before=seen.sha256, after=seen.sha256))
        self._write(kind, detail, rows, after)

    def note_rehead(self, detail: str, before: Mapping[str, Seen], initialisers: Mapping[str, str]) -> None:
        """Write the event of a new head. initialisers: how an attribute of the new layers ("weight") was drawn."""
        after = observe(self._require_model(), before)
        remarks = self._unseen(before)
        rows = []
        for name, seen in after.items():
            old = before.get(name)
            fresh = old is None or old.array is not seen.array
            reason = initialisers.get(name.rpartition(".")[2], "") if fresh else remarks.get(name, "")
            status = "re-initialised" if fresh else "frozen" if seen.held else "kept"
            rows.append(_tied_or(seen, name, status, reason, before=old and old.sha256, after=seen.sha256))
        self._write("rehead", detail, rows, after)

    def note_load(self, kind: str, detail: str, rows_of_file: Mapping[str, Row], before: Mapping[str, Seen]) -> None:
        """Write the event of a load. rows_of_file: status, reason and shape in the file by name, as far as it says."""
        after = observe(self._require_model())
        remarks = self._unseen(before)
        rows = []
        for name, seen in after.items():
            told = rows_of_file.get(name, Row(name, "kept", "not in files"))
            reason = "; ".join(text for text in (told.reason, remarks.get(name, "")) if text)
            old = before.get(name)
            rows.append(_tied_or(seen, name, told.status, reason, file_shape=told.file_shape,
                                 before=old and old.sha256, after=seen.sha256))
        rows += [row for name, row in rows_of_file.items() if name not in after]
        self._write(kind, detail, rows, after, [name for name in rows_of_file if rows_of_file[name].status == "loaded"])

    def note_rewritten(self, kind: str, detail: str, reasons: Mapping[str, str]) -> None:
        """Write the event of a verb that gives tensors other values, frozen ones too. reasons: what it did, by name."""
        after = observe(self._require_model())
        last = self.latest()
        rows = []
        for name, seen in after.items():
            before = last[name].after if name in last else None
            status = "frozen" if seen.held else "kept"
            if before is not None and before != seen.sha256:
                status = "changed" if name in reasons or not seen.held else FROZEN_CHANGED
            rows.append(_tied_or(seen, name, status, reasons.get(name, ""), before=before, after=seen.sha256))
        self._write(kind, detail, rows, after, reasons)

    def _begin_training(self, optimizer: Any, detail: str) -> tuple[int, dict[str, str], dict[int, float]]:
        model = self._require_model()
        before = observe(model)
        remarks = self._unseen(before)
        rows = [_tied_or(seen, name, "training", remarks.get(name, ""), before=seen.sha256)
                for name, seen in before.items()]
        number = self._write("training", detail, rows, before)
        return number, {name: seen.sha256 for name, seen in before.items()}, _learning_rates(optimizer)

    def _end_training(self, number: int, before: Mapping[str, str], rates: Mapping[int, float], optimizer: Any,
                      detail: str) -> None:
        model = self._require_model()
        after, last_rates = observe(model), _learning_rates(optimizer)
        place = next((i for i, event in enumerate(self.events) if event.number == number), None)
        began = {row.name: row for row in self.events[place].rows} if place is not None else {}
        parameters = dict(model._every_name())
        rows = []
        for name, seen in after.items():
            key = id(parameters.get(name))
            lr = (rates.get(key, last_rates[key]), last_rates[key]) if seen.trainable and key in last_rates else None
            status, reason = self._trained(name, seen, before.get(name), lr, optimizer)
            remark = began[name].reason if name in began and began[name].status != "tied" else ""
            rows.append(_tied_or(seen, name, status, "; ".join(text for text in (reason, remark) if text), lr=lr,
                                 before=before.get(name), after=seen.sha256))
        if place is not None:
            earlier = self.events[max(place - 1, 0): place]
            self.events[place] = self.events[place]._replace(detail=detail, rows=_shared(rows, earlier))
        self._note_frozen(number, "training", after)

    def _trained(self, name: str, seen: Seen, before: str | None, lr: Any, optimizer: Any) -> tuple[str, str]:
        """Status and reason of a tensor after a training."""
        reference = self.references.get(name)
        if seen.held and reference is not None and reference.sha256 != seen.sha256:
            return FROZEN_CHANGED, f"since event {reference.event}"
        if before == seen.sha256:
            if seen.held:
                return "frozen", ""
            if seen.kind == "buffer":
                return "kept", ""
            return "unchanged", "not in the optimiser" if optimizer is not None and lr is None else \
                "its learning rate is 0" if lr == (0, 0) else "no step changed it"
        return ("trained" if seen.kind == "parameter" else "updated"), ""


def ledger(model: Module) -> Ledger:
    """The ledger of `model`, made if it has none yet; then its first event, "begin", describes the model as it is.

    A copy of a model (copy.copy, copy.deepcopy, pickle) begins with what the model's own ledger holds, and goes on
    in one of its own.
    """
    check_model("ledger", model)
    found = ledger_of(model)
    return found if found.events else found.record("begin")


def ledger_of(model: Module) -> Ledger:
    """As `ledger`, without that first event: for the verbs, which write one of their own."""
    found = vars(model).get(ATTRIBUTE)
    if not isinstance(found, Ledger):
        found = Ledger()
    elif found.model is not None and found.model is not model:
        found = found.__copy__()
    if found.model is not model:
        vars(model)[ATTRIBUTE] = found
        found._model = weakref.ref(model)
        found.model_name = type(model).__name__
        if found.references:
            names = {name for name, _, _ in named_tensors(model)}
            found.references = {name: kept for name, kept in found.references.items() if name in names}
    return found


def _with_origins(model: Module, rows: list[Row]) -> list[Row]:
    """The rows of a first event, with what the ledgers of the model's parts tell, such as a body that was loaded."""
    remarks: dict[str, str] = {}
    for path, module in every_module(model):
        inner = vars(module).get(ATTRIBUTE)
        if path and isinstance(inner, Ledger):
            for name, told in ledger_table.in_words(inner).items():
                remarks.setdefault(f"{path}.{name}", f"in the ledger of '{path}': {told}")
    reasons = ("; ".join(text for text in (row.reason, remarks.get(row.name, "")) if text) for row in rows)
    return [row._replace(reason=reason) for row, reason in zip(rows, reasons)]


def _tied_or(seen: Seen, name: str, status: str, reason: str = "", **more: Any) -> Row:
    if seen.first is not None:
        status, reason = "tied", f"to {seen.first}"
    return seen.row(name, status, reason, **more)


def _shared(rows: list[Row], earlier: list[Event]) -> tuple[Row, ...]:
    """The rows, where they equal those of the event before as the same objects, so that they take memory once."""
    before = {row.name: row for event in earlier for row in event.rows}
    return tuple(before[row.name] if before.get(row.name) == row else row for row in rows)


def _learning_rates(optimizer: Any) -> dict[int, float]:
    """The learning rate of every parameter that the optimiser holds, by the parameter's id."""
    groups = [] if optimizer is None else optimizer.param_groups
    return {id(parameter): float(group["lr"]) for group in groups for parameter in group["params"]}
