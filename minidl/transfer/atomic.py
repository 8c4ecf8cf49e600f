"""`minidl/atomic.py`, which every writer of files uses, under the name by which this package calls it."""

from __future__ import annotations

from minidl.atomic import atomic_write, write_bytes, write_text

__all__ = ["atomic_write", "write_bytes", "write_text"]
