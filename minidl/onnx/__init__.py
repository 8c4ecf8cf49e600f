"""ONNX, the exchange format of networks: `load` makes a minidl Module of a file, `export` writes one.

Read `importer.py` and `exporter.py` first. `load` needs no other package, `export` needs the extra `onnx`.
"""

from __future__ import annotations

from typing import Any

from minidl.onnx.importer import load

__all__ = ["ExportError", "export", "load"]


def __getattr__(name: str) -> Any:
    if name in ("ExportError", "export"):  # which need a package that is not always there
        try:
            from minidl.onnx import exporter
        except ModuleNotFoundError as error:
            if error.name != "onnx":
                raise
            raise ModuleNotFoundError("minidl.onnx.export needs the package onnx: pip install 'minidl[onnx]'",
                                      name="onnx") from error
        return getattr(exporter, name)
    raise AttributeError(f"module 'minidl.onnx' has no attribute '{name}'")
