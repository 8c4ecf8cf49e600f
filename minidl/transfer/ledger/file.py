"""A ledger as a JSON file: written atomically, and read as something that anybody may have written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minidl import atomic
from minidl.errors import FileFormatError
from minidl.formats.tensorfile import opened, parse_json
from minidl.transfer.ledger.rows import Event, Reference, Row

FORMAT = "minidl.ledger 1"
LARGEST = 256 * 2**20  # bytes of a file that is read
SHA256 = re.compile("[0-9a-f]{64}")
KINDS = ("parameter", "buffer", "file")


def save(path: str | os.PathLike, events: Sequence[Event], references: Mapping[str, Reference], model: str,
         dropped: int) -> None:
    atomic.write_text(path, as_text(events, references, model, dropped) + "\n")


def as_text(events: Sequence[Event], references: Mapping[str, Reference], model: str, dropped: int) -> str:
    content = {
        "format": FORMAT, "model": model, "dropped": dropped,
        "events": [{**event._asdict(), "rows": [row._asdict() for row in event.rows]} for event in events],
        "frozen": {name: reference._asdict() for name, reference in references.items()},
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def load(path: str | os.PathLike) -> tuple[list[Event], dict[str, Reference], str, int]:
    """What `save` wrote, every value checked; no more memory is taken than the text itself asks for."""
    what = f"Ledger.load: {os.fspath(path)}"
    with opened(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST:
            raise FileFormatError(f"{what}: {size:,} bytes are no ledger, at most {LARGEST:,} are read")
        return parse(stream.read(size), what)


def parse(text: str | bytes, what: str) -> tuple[list[Event], dict[str, Reference], str, int]:
    """What `as_text` wrote."""
    content = parse_json(text, what)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileFormatError(f"{what}: not a ledger of this version: its format is not {FORMAT!r}")
    _check_fields(content, {"format": str, "model": str, "dropped": int, "events": list, "frozen": dict}, what)
    if content["dropped"] < 0:
        raise FileFormatError(f"{what}: it says that {content['dropped']} events were given up")
    events = [_event(entry, f"{what}: event {place}") for place, entry in enumerate(content["events"], 1)]
    numbers = [event.number for event in events]
    if numbers != sorted(set(numbers)) or (numbers and numbers[0] < 1):
        raise FileFormatError(f"{what}: its events are not numbered in order")
    frozen = {name: _reference(entry, f"{what}: frozen {name[:100]!r}") for name, entry in content["frozen"].items()}
    return events, frozen, content["model"], content["dropped"]


def _event(entry: Any, what: str) -> Event:
    _check_fields(entry, {"number": int, "kind": str, "detail": str, "time": str, "rows": list}, what)
    rows = [_row(row, f"{what}, row {place}") for place, row in enumerate(entry["rows"], 1)]
    if len({(row.name, row.kind == "file") for row in rows}) != len(rows):
        raise FileFormatError(f"{what}: a tensor stands there twice")
    return Event(entry["number"], entry["kind"], entry["detail"], entry["time"], tuple(rows))


def _row(entry: Any, what: str) -> Row:
    _check_fields(entry, {"name": str, "status": str, "reason": str, "file_shape": (list, type(None)),
                          "shape": (list, type(None)), "dtype": str, "kind": str, "trainable": bool, "batchnorm": str,
                          "lr": (list, type(None)), "before": (str, type(None)), "after": (str, type(None))}, what)
    if entry["kind"] not in KINDS or entry["batchnorm"] not in ("", "train", "eval"):
        raise FileFormatError(f"{what}: of kind {entry['kind'][:50]!r}, BatchNorm {entry['batchnorm'][:50]!r}")
    for name in ("before", "after"):
        _check_hash(entry[name], f"{what}: {name}", optional=True)
    lr = entry["lr"]
    if lr is not None and (len(lr) != 2 or not all(type(rate) in (int, float) and abs(rate) < 1e30 for rate in lr)):
        raise FileFormatError(f"{what}: lr must be two numbers")
    return Row(**{**entry, "file_shape": _shape(entry["file_shape"], what), "shape": _shape(entry["shape"], what),
                  "lr": None if lr is None else (float(lr[0]), float(lr[1]))})


def _reference(entry: Any, what: str) -> Reference:
    _check_fields(entry, {"event": int, "event_kind": str, "kind": str, "shape": list, "dtype": str, "sha256": str},
                  what)
    _check_hash(entry["sha256"], what)
    if entry["kind"] not in KINDS[:2] or not re.fullmatch("bool|(u?int|float|complex)[0-9]{1,3}", entry["dtype"]):
        raise FileFormatError(f"{what}: of kind {entry['kind'][:50]!r}, dtype {entry['dtype'][:50]!r}")
    try:
        np.dtype(entry["dtype"])
    except TypeError as error:
        raise FileFormatError(f"{what}: dtype {entry['dtype']!r} is none of NumPy's") from error
    return Reference(**{**entry, "shape": _shape(entry["shape"], what)})


def _check_fields(entry: Any, kinds: Mapping[str, Any], what: str) -> None:
    """Raise unless `entry` is an object with exactly these names, and values of these types."""
    if not isinstance(entry, dict) or entry.keys() != kinds.keys():
        raise FileFormatError(f"{what}: expected an object with {', '.join(kinds)}")
    for name, kind in kinds.items():
        if not isinstance(entry[name], kind) or kind is int and type(entry[name]) is not int:
            raise FileFormatError(f"{what}: {name} is of the wrong type, {type(entry[name]).__name__}")


def _check_hash(value: Any, what: str, optional: bool = False) -> None:
    if not (optional and value is None) and not SHA256.fullmatch(value):
        raise FileFormatError(f"{what}: {value[:70]!r} is no SHA-256")


def _shape(values: Any, what: str) -> tuple[int, ...] | None:
    if values is None:
        return None
    if len(values) > 64 or not all(type(size) is int and 0 <= size < 2**62 for size in values):
        raise FileFormatError(f"{what}: {str(values)[:100]} is no shape")
    return tuple(values)
