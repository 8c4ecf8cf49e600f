"""Networks as ONNX files, the format that other frameworks and runtimes read; needs the package onnx.

`export` writes one: see `export.py`, which says how.
"""

from __future__ import annotations

from minidl.onnx.export import export
from minidl.onnx.export_trace import ExportError

__all__ = ["ExportError", "export"]
