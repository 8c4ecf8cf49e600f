"""Which implementation of a kernel runs: chosen by `use_backend` or MINIDL_BACKEND, `cpu` if nobody chose.

A backend is a package beside this file that defines kernels under the names of the contract. One that lacks a kernel
falls back to `reference`, the plain NumPy version that specifies the result. `cpu` needs Numba and is loaded at the
first call of a kernel; where Numba is missing the reference runs, after one warning.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import update_wrapper
from importlib import import_module
from types import ModuleType
from typing import Any

BACKENDS = ("cpu", "reference")
CONTRACT: dict[str, Callable] = {}  # every kernel by its name, as declared in contract/

_loaded: dict[str, ModuleType] = {}


def _checked(name: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"unknown backend '{name}': there are {', '.join(BACKENDS)}")
    return name


_preset = _checked(os.environ.get("MINIDL_BACKEND") or "cpu")
_chosen: ContextVar[str] = ContextVar("backend", default=_preset)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run the kernels of backend `name` inside the block, in this thread."""
    token = _chosen.set(_checked(name))
    try:
        yield
    finally:
        _chosen.reset(token)


def get_backend() -> str:
    """The backend whose kernels run here."""
    return _chosen.get()


def backend_module(name: str) -> ModuleType:
    """The package that implements backend `name`, imported when first asked for; the reference if it cannot be."""
    if name not in _loaded:
        _loaded[name] = import_module(f"minidl.kernels.{_usable(_checked(name))}")
    return _loaded[name]


def _usable(name: str) -> str:
    if name == "cpu":
        try:
            import_module("numba")
        except ImportError as error:
            warnings.warn(f"kernels run in plain NumPy, many times slower: Numba cannot be imported ({error}). "
                          "Install it with: pip install numba", RuntimeWarning, stacklevel=2)
            return "reference"
    return name


def kernel(contract: Callable) -> Callable:
    """Turn a declaration (signature and docstring) into a function that calls the chosen backend's kernel."""
    name = contract.__name__
    implementations: dict[str, Callable] = {}  # by backend, filled at the first call

    def find(backend: str) -> Callable:
        found = getattr(backend_module(backend), name, None) or getattr(backend_module("reference"), name)
        return implementations.setdefault(backend, found)

    def dispatch(*arrays: Any, **options: Any) -> Any:
        try:
            implementation = implementations[_chosen.get()]
        except KeyError:
            implementation = find(_chosen.get())
        return implementation(*arrays, **options)

    CONTRACT[name] = contract
    return update_wrapper(dispatch, contract)
