"""The house holds its plan: arrows point one way, every file is in the wheel, kernels honour their contract."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import minidl
from minidl import kernels

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "kernels": {"kernels"},
    "errors": set(),
    "random": set(),
    "atomic": set(),
    "device": set(),
    "grad_mode": set(),
    "accumulation": set(),
    "tensor": {"accumulation", "device", "errors", "grad_mode"},
    "gradcheck": {"tensor"},
    "ops": {"kernels", "errors", "random", "device", "grad_mode", "tensor", "ops"},
    "autograd": {"anomaly", "ops", "tensor"},
    "anomaly": {"grad_mode", "tensor"},
    "generator": {"device"},
    "creation": {"kernels", "errors", "random", "device", "tensor", "ops"},
    "cuda": {"device", "errors"},
    "nn": {"kernels", "errors", "random", "device", "tensor", "ops", "nn"},
    "data": {"atomic", "errors", "kernels", "random", "tensor", "data"},
    "optim": {"accumulation", "errors", "kernels", "random", "tensor", "nn", "optim"},
    "formats": {"atomic", "errors", "data", "tensor", "formats"},
    "transfer": {"atomic", "kernels", "errors", "random", "grad_mode", "tensor", "ops", "nn", "data", "formats",
                 "transfer"},
    "models": {"formats", "errors", "random", "tensor", "ops", "nn", "data", "transfer", "models"},
    "train": {"atomic", "anomaly", "formats", "errors", "kernels", "random", "tensor", "ops", "nn", "data",
              "optim", "transfer", "train"},
    "onnx": {"atomic", "formats", "errors", "grad_mode", "kernels", "tensor", "ops", "nn", "transfer", "onnx"},
    "sklearn": {"random", "tensor", "nn", "data", "optim", "train"},
    "utils": {"data"},
    "report": {"atomic", "transfer"},
    "compare": {"atomic", "report", "errors", "random", "tensor", "nn", "data", "optim", "transfer", "models", "train",
                "compare"},
    "demo": {"atomic", "report", "errors", "random", "nn", "data", "optim", "transfer", "models", "train", "compare"},
    "warmup": {"kernels", "random", "tensor", "ops", "nn", "optim"},
    "certify": {"atomic", "errors", "random", "nn", "data", "optim", "models", "train"},
    "cli": {"certify", "errors", "data", "demo", "device", "warmup", "compare", "report"},
}
FILES = sorted([*(ROOT / "minidl").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")])


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "kernels" else parts[1]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "minidl":
            inner = node.module.split(".")[1:]
            rooms |= {inner[0]} if inner else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {a.name.split(".")[1] for a in node.names if a.name.startswith("minidl.")}
    return rooms


@pytest.mark.parametrize("path", [f for f in FILES if f != ROOT / "minidl" / "__init__.py"],
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    room = room_of(path)
    assert imported_rooms(path) <= MAY_IMPORT[room], f"{path} is in '{room}'"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_too_long_to_read(path):
    assert len(path.read_text().splitlines()) <= 420


def test_every_package_is_in_the_wheel():
    text = (ROOT / "pyproject.toml").read_text()
    for path in FILES:
        package = ".".join(path.parent.relative_to(ROOT).parts)
        package = f"minidl.{package}" if package.startswith("kernels") else package
        assert f'"{package}"' in text, f"{package} is missing in pyproject.toml's packages"


def signature(function):
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    return code.co_varnames[:count], code.co_kwonlyargcount, function.__defaults__, function.__kwdefaults__


@pytest.mark.parametrize("name", sorted(kernels.CONTRACT))
def test_every_backend_honours_the_signatures_of_the_contract(name):
    contract = kernels.CONTRACT[name]
    assert contract.__doc__
    assert hasattr(kernels.backend_module("reference"), name)
    for backend in kernels.BACKENDS:
        implementation = getattr(kernels.backend_module(backend), name, None)
        if implementation is not None:
            assert signature(implementation) == signature(contract)


def test_use_backend_refuses_unknown_names():
    with pytest.raises(ValueError, match="reference"):
        with kernels.use_backend("abacus"):
            pass


def test_import_is_light():
    heavy = {"numba", "safetensors", "tqdm", "matplotlib", "torch", "cupy", "tokenizers", "sklearn"}
    code = "import sys, minidl; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not heavy & set(loaded.split())
    assert minidl.__version__
