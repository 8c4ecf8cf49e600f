"""Make torch_files/: small files as PyTorch saves them in both formats, and what they hold as an .npz.

Run with PyTorch 2.13 installed: `python tests/golden/make_torch_files.py`. tests/test_torch_files.py reads them
without PyTorch.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).with_name("torch_files")
FLOATS = ("float64", "float32", "float16", "bfloat16", "complex64", "complex128")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8")
LATER = ("uint16", "uint32", "uint64")  # types without a storage class of their own, in the zip format only


def tensors(names):
    generator = torch.Generator().manual_seed(0)
    for name in names:
        dtype = getattr(torch, name)
        if dtype.is_floating_point or dtype.is_complex:
            yield name, torch.randn(2, 3, generator=generator, dtype=torch.float64).to(dtype)
        else:
            first = -3 if name.startswith("int") else 250
            yield name, torch.arange(first, first + 6).to(dtype)


def sample(later):
    """Every type, and every way in which a tensor can lie in its storage."""
    base = torch.arange(24, dtype=torch.float32)
    table = base.view(4, 6)
    marked = torch.ones(2)
    marked.note = "a tensor with an attribute is saved through _rebuild_from_type_v2"
    return OrderedDict([
        *tensors((*FLOATS, *INTEGERS, *(LATER if later else ()))), ("bool", torch.tensor([[True], [False]])),
        ("whole", table), ("flat", base), ("transposed", table.t()), ("part", table[1:3, ::2]), ("tied", table),
        ("row", base[6:12]), ("expanded", torch.tensor([1.5, 2.5]).expand(3, 2)), ("scalar", torch.tensor(3.25)),
        ("empty", torch.zeros(0, 4)), ("parameter", torch.nn.Parameter(torch.tensor([1.0, -1.0]))), ("marked", marked),
    ])


def numpy(tensor):
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).contiguous().numpy()


def save(value, name, **options):
    torch.save(value, FOLDER / name, **options)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    both = {"sample.pt": True, "sample_legacy.pth": False}
    for name, later in both.items():
        save(sample(later), name, _use_new_zipfile_serialization=later)
    save(sample(True), "sample_protocol_5.pt", pickle_protocol=5)
    save(sample(False), "sample_protocol_4_legacy.pth", pickle_protocol=4, _use_new_zipfile_serialization=False)
    np.savez_compressed(FOLDER / "sample.npz", **{name: numpy(tensor) for name, tensor in sample(True).items()})

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(),
                                torch.nn.Linear(2, 3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 1, 3, 3)).sum().backward()
    optimizer.step()
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    checkpoint = {"epoch": 3, "best": 91.73, "arch": "small", "shape": torch.Size([1, 3]),
                  "device": torch.device("cpu"), "history": [1.0, None, True], "state_dict": state,
                  "optimizer": optimizer.state_dict(), "ema": {"decay": 0.9, "model": model.state_dict()}}
    save(checkpoint, "checkpoint.pth")
    save(checkpoint, "checkpoint_legacy.pth", _use_new_zipfile_serialization=False)
    np.savez_compressed(FOLDER / "checkpoint.npz", **{name: numpy(value) for name, value in model.state_dict().items()})
    save([torch.tensor([1.0]), (torch.tensor(2), {"x": torch.tensor([3])})], "list.pt")
    save(torch.tensor([1.0, 2.0]), "bare.pt")
    save(model, "module.pt")
    save({"a": torch.eye(2).to_sparse()}, "sparse.pt")
    save({"best": np.float64(1.0), "a": torch.ones(1)}, "numpy_scalar.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), FOLDER / "script.pt")
    print(sum(path.stat().st_size for path in FOLDER.iterdir()), "bytes")
