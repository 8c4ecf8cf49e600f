"""The exceptions that minidl raises on purpose, beyond Python's own ValueError, TypeError and IndexError.

Each is a subclass of the built-in error that describes it, so that code which catches the built-in one works.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from itertools import islice


class ShapeError(ValueError):
    """Shapes that do not fit together; the message names the operation, the shapes and the likely fix."""


class FileFormatError(ValueError):
    """A file that is damaged, truncated, hostile, or of another format than its name says."""


class DataNotFoundError(FileNotFoundError):
    """A data set that is neither in `MINIDL_DATA` nor in the user's cache folder, and not embedded either."""


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called into minidl, so that Python shows it once for each such line."""
    frame, level = sys._getframe(1), 2  # the function that called this one
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "minidl":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def did_you_mean(name: str, known: Iterable, count: int = 3) -> str:
    """A phrase such as "; did you mean 'conv1.weight'?" with the names in `known` nearest to `name`, or ''."""
    from difflib import get_close_matches  # needed for error messages only, and slow to import

    close = get_close_matches(name, [str(k) for k in known], n=count, cutoff=0.5)
    return "; did you mean " + " or ".join(f"'{k}'" for k in close) + "?" if close else ""


def nearest(name: str, names: Iterable[str]) -> str:
    """`did_you_mean` in bounded time, whatever a file says its tensors are called."""
    return did_you_mean(name[:100], islice((other for other in names if len(other) <= 100), 2000))
