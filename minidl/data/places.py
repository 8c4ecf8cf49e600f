"""Where data sets are looked for: a folder given, `MINIDL_DATA`, the user's cache folder, the embedded subset.

In each place an image set lies in a folder of its own name, `<place>/mnist/train-images-idx3-ubyte.gz`, and the texts
lie together in `<place>/text/`.
`vision.py` and `text.py` search these places, `download.py` fills the cache folder.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minidl.errors import DataNotFoundError

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


def search(name: str, folder: str, find: Callable[[Path], Callable[[], Any] | None], what: str = "files",
           root: str | os.PathLike | None = None) -> tuple[Callable[[], Any], str]:
    """The first place that has the data set `name`: how to read it there, and the place's title.

    folder: the folder in each place that `find` looks into; it returns what reads the data, or None if nothing is
    there. what: what is looked for, in messages.
    Warns if the embedded subset stands in although `MINIDL_DATA` is set; raises DataNotFoundError naming all places.
    """
    searched = places(root)
    for place, title in searched:
        read = find(place / folder)
        if read is not None:
            if place == EMBEDDED and root is None and os.environ.get(VARIABLE):
                warnings.warn(f"{VARIABLE}={os.environ[VARIABLE]} has no folder '{folder}' with the {what}; using the "
                              "embedded subset, a tenth of the data set", stacklevel=4)
            return read, title
    listed = "\n".join(f"  {place / folder}  ({title})" for place, title in searched)
    raise DataNotFoundError(f"{name}: no {what} found in\n{listed}\nFetch them with `minidl data get {name}`, or set "
                            f"{VARIABLE} to the folder that holds '{folder}'")
