"""ONNX, the exchange format of networks: `load` makes a minidl Module of a file.

Read `importer.py` first. `load` needs no other package; `export` needs the extra `onnx`.
"""

from __future__ import annotations

from typing import Any

from minidl.onnx.importer import load

__all__ = ["export", "load"]


def __getattr__(name: str) -> Any:
    if name == "export":  # needs a package that is not always there
        from minidl.onnx.export import export

        return export
    raise AttributeError(f"module 'minidl.onnx' has no attribute '{name}'")
