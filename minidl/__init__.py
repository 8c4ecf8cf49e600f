"""minidl: a deep-learning engine to read, to run and to carry networks from one task to another.

`import minidl as torch` gives PyTorch's names for tensors and functions; `minidl.nn`, `minidl.optim` and
`minidl.data` hold the rest. Read `minidl/tensor.py` first.
"""

from __future__ import annotations

import os as _os

_kernels = _os.path.join(_os.path.dirname(__file__), "kernels")
if not _os.path.isdir(_kernels):  # running from a checkout that is not installed: kernels/ stands beside minidl/
    __path__.append(_os.path.dirname(_os.path.dirname(_os.path.abspath(__file__))))

__version__ = "0.1.0"
