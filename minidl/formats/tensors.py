"""Tensors by name in a file, whichever of the kinds it is: `.safetensors`, NumPy's `.npz`, PyTorch's, Keras' or ONNX.

`load_tensors` reads all of them, needs none of the frameworks, and trusts nothing in a file: whatever is wrong with
it ends in `FileFormatError`. How each kind is read stands in `tensorfile.py`, `archive.py`, `torchfile.py` and
`kerasfile.py`, and for ONNX in `minidl/onnx/reader.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minidl.errors import FileFormatError
from minidl.formats import archive, kerasfile, tensorfile, torchfile

TORCH = (".pt", ".pth", ".th", ".bin", ".ckpt", ".tar")
KERAS = (".h5", ".hdf5", ".keras")


def load_tensors(path: str | os.PathLike, part: str | None = None, *,
                 limit: float | None = None) -> dict[str, np.ndarray]:
    """Every tensor of a file by its name, as arrays that share no memory; tied ones are one array.

    Files: `.safetensors`; `.npz` without objects; `.pt`, `.pth` and `.th` of PyTorch, the zip format and the one
    before 1.6, with tensors, Parameters, numbers, texts, lists, tuples and dicts in them; `.h5`, `.weights.h5` and
    `.keras` of Keras, with Keras' names ("conv2d/kernel") and layouts, which `load` and `load_keras` translate; the
    weights (initialisers) of an `.onnx`. A file with another ending is recognised by its content.

    Dicts and lists inside of each other become dotted names; what is no tensor is left out. Of a checkpoint, such as
    {"state_dict": …, "optimizer": …}, the model's part is taken: the only dict called "state_dict", "model_state_dict",
    "model" or the like that holds tensors. part: take this one instead, such as "optimizer" or "ema.model".
    Names are as in the file; `load(…, rename={"module": ""})` cuts a prefix off. bfloat16, which NumPy lacks, becomes
    float32, which holds the same values; no other type is converted.

    limit: the most bytes that the arrays may take, since a compressed file or an expanded tensor can claim more than
    the file has: 8 times its size, and at least 16 MiB.
    Raises FileFormatError for a damaged or hostile file, KeyError for a part that is not there.
    """
    return read(path, part, limit)[0]


def read(path: str | os.PathLike, part: str | None = None,
         limit: float | None = None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors, and the metadata of a `.safetensors` file, from one reading."""
    with tensorfile.opened(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        kind = _kind(stream, path)
        allowed = archive.default_limit(size) if limit is None else limit
        if kind == "torch":
            return torchfile.read(stream, size, path, part, allowed), {}
        if kind == "keras":
            tensors, metadata = kerasfile.read(stream, size, path, allowed).tensors(), {}
            return (tensors if part is None else torchfile.below(tensors, part, path, "/")), metadata
        if kind == "onnx":  # which stands on this package, and is loaded for such files only
            tensors, metadata = import_module("minidl.onnx.reader").read_tensors(path), {}
        elif kind == "npz":
            tensors, metadata = archive.read_npz(stream, size, path, allowed), {}
        else:
            tensors, metadata = tensorfile.read(stream, path)
    return (tensors if part is None else torchfile.below(tensors, part, path)), metadata


def is_keras(path: str | os.PathLike) -> bool:
    """Whether a file is one of Keras', by its ending and its content."""
    with tensorfile.opened(path) as stream:
        return _kind(stream, path) == "keras"


def _kind(stream: BinaryIO, path: Any) -> str:
    """Which kind of file it is, by its ending if that is known, else by its content."""
    start = stream.read(10)
    stream.seek(0)
    ending = Path(path).suffix.lower()
    if ending in (".safetensors", ".npz", ".onnx"):
        return ending[1:]
    if ending in KERAS or kerasfile.is_keras(start):
        return "keras"
    if ending in TORCH:
        if start[8:9] == b"{":
            raise FileFormatError(f"{path}: a safetensors file by its content; give it the ending .safetensors")
        return "torch"
    if start[:2] == b"PK":
        with archive.unpacking(stream, path) as found:
            names = set(found.namelist())
        stream.seek(0)
        if kerasfile.is_keras(start, names):
            return "keras"
        return "torch" if any(name.endswith("/data.pkl") for name in names) else "npz"
    return "torch" if start[:1] == b"\x80" and start[8:9] != b"{" else "safetensors"


def save_tensors(tensors: Mapping[str, Any], path: str | os.PathLike,
                 metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays or Tensors under their names to a `.safetensors` or `.npz` file, atomically.

    Equal content gives equal bytes. A file with another ending becomes a `.safetensors` file; PyTorch reads it with
    `safetensors.torch.load_file`. metadata: text for a `.safetensors` file.
    Raises TypeError for a dtype that the format or NumPy lacks, ValueError for one of PyTorch's endings, OSError
    naming the path where it cannot be written.
    """
    if not isinstance(tensors, Mapping):
        raise TypeError(f"save_tensors: the tensors by name, a dict, are needed first, got {type(tensors).__name__}; "
                        "of a model: model.state_dict()")
    ending = Path(path).suffix.lower()
    if ending in TORCH:
        raise ValueError(f"save_tensors: {os.fspath(path)}: PyTorch's pickles are not written; end the file's name in "
                         ".safetensors, which PyTorch reads with safetensors.torch.load_file")
    if ending in KERAS:
        raise ValueError(f"save_tensors: {os.fspath(path)}: files of Keras are read, not written; end the file's name "
                         "in .safetensors")
    if ending != ".npz":
        return tensorfile.write(tensors, path, metadata)
    if metadata:
        raise ValueError("save_tensors: an .npz file holds no metadata; write a .safetensors file")
    more = (np.dtype(np.complex64), np.dtype(np.complex128))
    archive.write_npz({name: tensorfile.plain(name, value, more) for name, value in tensors.items()}, path)
