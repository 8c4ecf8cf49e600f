"""Which implementation of a kernel runs: chosen by the array's type and by `use_backend`.

A backend is a package beside this file that defines kernels under the names of the contract. One that lacks a kernel
falls back to `reference`, the plain NumPy version that specifies the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import update_wrapper
from importlib import import_module
from types import ModuleType
from typing import Any

BACKENDS = ("reference",)
CONTRACT: dict[str, Callable] = {}  # every kernel by its name, as declared in contract/

_loaded: dict[str, ModuleType] = {}


def _checked(name: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"unknown backend '{name}': there are {', '.join(BACKENDS)}")
    return name


_preset = _checked(os.environ.get("MINIDL_BACKEND", "reference"))
_chosen: ContextVar[str] = ContextVar("backend", default=_preset)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run the kernels of backend `name` inside the block, in this thread."""
    token = _chosen.set(_checked(name))
    try:
        yield
    finally:
        _chosen.reset(token)


def backend_module(name: str) -> ModuleType:
    """The package that implements backend `name`, imported when first asked for."""
    if name not in _loaded:
        _loaded[name] = import_module(f"minidl.kernels.{_checked(name)}")
    return _loaded[name]


def kernel(contract: Callable) -> Callable:
    """Turn a declaration (signature and docstring) into a function that calls the chosen backend's kernel."""
    name = contract.__name__

    def dispatch(*arrays: Any, **options: Any) -> Any:
        backend = _chosen.get()
        implementation = getattr(backend_module(backend), name, None)
        if implementation is None:
            implementation = getattr(backend_module("reference"), name)
        return implementation(*arrays, **options)

    CONTRACT[name] = contract
    return update_wrapper(dispatch, contract)
