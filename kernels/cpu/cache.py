"""Compiled kernels kept on disk, and compiled anew when a file they depend on has changed.

Numba keeps what it compiles beside the source (or, where that cannot be written to, in the user's own folder), with a
stamp of the file that the function is in. But compiled code also holds the helpers and constants that this file
imports. So the stamp here is a digest of that file and of all kernel files it imports, directly or through others.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from llvmlite.binding import parse_bitcode
from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

IMPORTED = re.compile(r"^from minidl\.kernels\.cpu\.(\w+) import|^from minidl\.kernels\.cpu import (.+)$", re.MULTILINE)
HERE = Path(__file__).resolve().parent


class KernelCache(FunctionCache):
    """The cache of one function, stamped with all the files that its compiled code depends on."""

    def __init__(self, function: Callable):
        super().__init__(function)
        stamp = digest(Path(function.__code__.co_filename))
        self._cache_file = IndexDataCacheFile(self.cache_path, self._impl.filename_base, stamp)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """A compiled version from the disk, without its bitcode, which as a module takes ten times as much memory.

        It is for functions that are compiled later and call this one: it is read again for them.
        """
        result = super().load_overload(signature, target)
        if result is not None:
            result.library._shared_module = None
            result.library._get_module_for_linking = lambda: self._bitcode(signature, target)
        return result

    def _bitcode(self, signature: Any, target: Any) -> Any:
        data = self._cache_file.load(self._index_key(signature, target.codegen()))
        if data is None:
            raise RuntimeError(f"{self._impl.filename_base}: its file, or one that it imports, has changed since it "
                               "was loaded, so that nothing that calls it can be compiled; start Python anew")
        (_, _, (_, bitcode)), *_ = data
        return parse_bitcode(bitcode)

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled version, and remove what the same function left when it stood at another line."""
        super().save_overload(signature, result)
        base = self._impl.filename_base
        name, _, version = base.rpartition("-")
        _, _, version = version.partition(".")
        for path in Path(self.cache_path).glob(f"{name}-*.{version}.*"):
            if not path.name.startswith(f"{base}."):
                path.unlink(missing_ok=True)


@cache
def digest(path: Path) -> str:
    """SHA-256 of a file and of the kernel files that it imports, directly or through others."""
    return sha256("".join(sorted(map(_hash, _with_imports(path)))).encode()).hexdigest()


def _with_imports(path: Path) -> set[Path]:
    found, waiting = {path}, [path]
    while waiting:
        new = _imports(waiting.pop()) - found
        found |= new
        waiting += new
    return found


@cache
def _imports(path: Path) -> frozenset[Path]:
    """The kernel files that a file imports."""
    names = [name for one, several in IMPORTED.findall(path.read_text("utf-8"))
             for name in ([one] if one else re.findall(r"\w+", several))]
    return frozenset(file for file in (HERE / f"{name}.py" for name in names) if file.exists())


@cache
def _hash(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def kept_on_disk(function: Callable, **options: Any) -> Any:
    """`numba.njit` with the options, such that what is compiled is kept for the next process."""
    loop = njit(**options)(function)
    if (kept := or_warn(lambda: KernelCache(function))) is not None:
        loop._cache = kept
    return loop


def or_warn(keep: Callable) -> Any:
    """What `keep` returns; None, after a warning, if Numba finds no folder to write to."""
    try:
        return keep()
    except RuntimeError:
        warnings.warn("compiled kernels are not kept on disk, so each process compiles them anew: no folder can be "
                      "written to. The environment variable NUMBA_CACHE_DIR may name one", RuntimeWarning, stacklevel=2)
        return None
