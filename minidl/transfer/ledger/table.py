"""How a ledger is shown: the events, the tensors grouped by module, one line each, and what differs between two."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from minidl.transfer.ledger.rows import Event, Row

LONGEST_STORY = 5  # of the statuses of a tensor, the last that are shown


def overview(ledger: Any) -> str:
    """The events, a line each, then the tensors: one line for every module in which all fared alike."""
    if not ledger.events:
        return f"Ledger of {ledger.model_name or 'no model'}: no events"
    rows = [row for row in ledger.events[-1].rows if row.kind != "file"]
    stories = _stories(ledger.events)
    lines = [f"Ledger of {ledger.model_name}: {len(rows):,} tensors, {_events(len(ledger.events))}"]
    lines += _table([("", "event", "what happened", "details"), *map(_event_line, _with_gap(ledger))], left=3)
    lines.append("")
    cells: list[tuple[str, ...]] = [("module", "tensors", "numbers", "what became of them", "trainable", "BatchNorm",
                                     "bytes")]
    cells += [_group_line(path, group, stories) for path, group in _groups(rows)]
    return "\n".join(lines + _table(cells))


def full(ledger: Any) -> str:
    """The last state, a line a tensor."""
    if not ledger.events:
        return overview(ledger)
    stories = _stories(ledger.events)
    cells: list[tuple[str, ...]] = [("tensor", "shape", "dtype", "what became of it", "trainable", "BatchNorm", "lr",
                                     "sha256", "remark")]
    for row in ledger.events[-1].rows:
        shape = str(row.shape if row.shape is not None else row.file_shape)
        cells.append((row.name, shape, row.dtype, _story(stories[row.name]), "yes" if row.trainable else "no",
                      row.batchnorm, _rate(row.lr), (row.after or row.before or "")[:12], row.reason))
    return "\n".join(_table(cells, left=9))


@dataclass
class LedgerDiff:
    """What differs between the last states in two ledgers; false if nothing does, and prints as a table.

    only_first, only_second: names of tensors; changed: {name: {what: (in the first, in the second)}} with what among
    shape, dtype, status, trainable and sha256; same: tensors alike in all of these.
    """

    only_first: list[str] = field(default_factory=list)
    only_second: list[str] = field(default_factory=list)
    changed: dict[str, dict[str, tuple[Any, Any]]] = field(default_factory=dict)
    same: int = 0
    same_bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.only_first or self.only_second or self.changed)

    def __str__(self) -> str:
        common = self.same + len(self.changed)
        lines = [f"{self.same:,} of {common:,} tensors alike, {self.same_bytes:,} with the same bytes"]
        lines += [f"only in the first: {name}" for name in self.only_first]
        lines += [f"only in the second: {name}" for name in self.only_second]
        cells: list[tuple[str, ...]] = [("tensor", "what", "first", "second")]
        for name, differences in self.changed.items():
            for what, (first, second) in differences.items():
                short = [str(value)[:12] if what == "sha256" else str(value) for value in (first, second)]
                cells.append((name, what, *short))
        return "\n".join(lines + (_table(cells, left=4) if len(cells) > 1 else []))


def diff(first: Any, second: Any) -> LedgerDiff:
    """Compare two ledgers by the names of tensors."""
    rows, others = first.latest(), second.latest()
    stories, other_stories = _stories(first.events), _stories(second.events)
    found = LedgerDiff([name for name in rows if name not in others], [name for name in others if name not in rows])
    for name in rows:
        if name not in others:
            continue
        pairs = {"status": (_story(stories[name]), _story(other_stories[name])),
                 "sha256": (rows[name].after or rows[name].before, others[name].after or others[name].before)}
        pairs |= {what: (getattr(rows[name], what), getattr(others[name], what))
                  for what in ("shape", "dtype", "trainable")}
        differences = {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}
        found.same_bytes += not differences.keys() & {"sha256", "shape", "dtype"}
        if differences:
            found.changed[name] = differences
        else:
            found.same += 1
    return found


def in_words(ledger: Any) -> dict[str, str]:
    """What became of each tensor, in a few words."""
    return {name: _story(statuses) for name, statuses in _stories(ledger.events).items()}


def _stories(events: Iterable[Event]) -> dict[str, list[str]]:
    """What became of each tensor, in order: its statuses, without those that say that nothing happened."""
    stories: dict[str, list[str]] = {}
    for event in events:
        for row in event.rows:
            story = stories.setdefault(row.name, [])
            if row.status == "re-initialised":
                story.clear()  # what was there before is gone
            if row.status != "kept" and row.status not in story[-1:]:
                story.append(row.status)
    return stories


def _story(statuses: Sequence[str]) -> str:
    shown = statuses[-LONGEST_STORY:]
    return ("… " if len(shown) < len(statuses) else "") + ", ".join(shown) if shown else "kept"


def _event_line(event: Event) -> tuple[str, ...]:
    counts = Counter(row.status for row in event.rows)
    what = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return (str(event.number), event.kind, what, event.detail)


def _with_gap(ledger: Any) -> list[Event]:
    if not ledger.dropped:
        return ledger.events
    return [ledger.events[0], Event(0, "…", f"{_events(ledger.dropped)} no longer kept", "", ()), *ledger.events[1:]]


def _groups(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """The rows by the highest module in which all fared alike, except that the model itself is always opened."""
    below: dict[str, list[Row]] = {}
    for row in rows:
        parts = row.name.split(".")
        for length in range(1, len(parts) + 1):
            below.setdefault(".".join(parts[:length]), []).append(row)
    found: dict[str, list[Row]] = {}
    for row in rows:
        parts = row.name.split(".")
        fronts = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
        path = next(front for front in fronts if _fared_alike(below[front]))
        found.setdefault(path, below[path])
    return list(found.items())


def _fared_alike(rows: list[Row]) -> bool:
    """Whether rows can be one line: the last event did the same to all, and all or no parameters are trainable."""
    fates = {("trained" if row.status == "updated" else row.status, row.before == row.after) for row in rows}
    return len(fates) == 1 and len({row.trainable for row in rows if row.kind == "parameter"}) <= 1


def _group_line(path: str, rows: list[Row], stories: dict[str, list[str]]) -> tuple[str, ...]:
    own = [row for row in rows if row.status != "tied"]
    numbers = sum(math.prod(row.shape) for row in own if row.shape is not None)
    changed = "" if rows[0].after is None else "the same" if rows[0].before == rows[0].after else \
        "changed" if rows[0].before else "new"
    modes = "/".join(sorted({row.batchnorm for row in rows if row.batchnorm}))
    told = Counter(_story(stories[row.name]) for row in rows).most_common()
    story = "; ".join([told[0][0], *(f"{count} of them {other}" for other, count in told[1:])])
    trainable = "yes" if any(row.trainable for row in rows) else "no"
    return (path, str(len(rows)), f"{numbers:,}", story, trainable, modes, changed)


def _events(count: int) -> str:
    return f"{count:,} event{'s'[:count != 1]}"


def _rate(lr: tuple[float, float] | None) -> str:
    return "" if lr is None else f"{lr[0]:g}" if lr[0] == lr[1] else f"{lr[0]:g} to {lr[1]:g}"


def _table(cells: list[tuple[str, ...]], left: int = 0) -> list[str]:
    """Columns padded to the same width; numbers stand to the right from column 1 on unless `left` says otherwise."""
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    right = set() if left else {1, 2}
    lines = ["  ".join(cell.rjust(width) if column in right else cell.ljust(width)
                       for column, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines
