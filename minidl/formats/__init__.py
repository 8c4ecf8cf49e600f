"""Files of tensors, others' and our own, read without trusting them and written atomically.

`load_tensors` and `save_tensors` in `tensors.py` are the door. Behind it: `tensorfile.py` (safetensors), `archive.py`
(zip and NumPy's .npz), `torchfile.py` and `torchpickle.py` (PyTorch), `hdf5.py` and `kerasfile.py` (Keras);
`minidl/atomic.py` writes. Whatever is wrong with a file ends in `FileFormatError`. What a file means for a model is the
business of `minidl.transfer`.
"""

from __future__ import annotations

from minidl.atomic import atomic_write, write_bytes, write_text
from minidl.formats.tensorfile import load_metadata
from minidl.formats.tensors import load_tensors, save_tensors

__all__ = ["atomic_write", "load_metadata", "load_tensors", "save_tensors", "write_bytes", "write_text"]
