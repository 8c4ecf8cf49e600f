"""Where data sets are looked for: a folder given, `MINIDL_DATA`, the user's cache folder, the embedded subset.

In each place a data set lies in a folder of its own name: `<place>/mnist/train-images-idx3-ubyte.gz`.
`vision.py` searches these places, `download.py` fills the cache folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

VARIABLE = "MINIDL_DATA"
EMBEDDED = Path(__file__).parent / "embedded"


class Place(NamedTuple):
    """A folder of data sets and what to call it in messages."""

    folder: Path
    title: str


def cache_folder() -> Path:
    """The user's cache folder: `$XDG_CACHE_HOME/minidl`, else `~/Library/Caches/minidl` or `~/.cache/minidl`."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):
        return Path(chosen) / "minidl"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "minidl"
    return Path.home() / ".cache" / "minidl"


def places(root: str | os.PathLike | None = None) -> list[Place]:
    """The places to search in order; the embedded subset is among them only if no `root` is asked for."""
    found = [] if root is None else [Place(Path(root), "root")]
    if os.environ.get(VARIABLE):
        found.append(Place(Path(os.environ[VARIABLE]), VARIABLE))
    found.append(Place(cache_folder(), "cache folder"))
    if root is None:
        found.append(Place(EMBEDDED, "embedded subset"))
    return found
