"""Compiled kernels on disk: taken again while all sources are the same, compiled anew when a helper's file changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minidl.kernels.cpu import cache

ROOT = Path(__file__).resolve().parents[1]
HELPER = """
from minidl.kernels.cpu.runtime import compiled
FACTOR = {factor}
@compiled
def scaled(x):
    return FACTOR * x
"""
KERNEL = """
from minidl.kernels.cpu.runtime import compiled
from minidl.kernels.cpu.helper import scaled
@compiled
def kernel(x):
    return scaled(x) + 1
"""
USE = """
from minidl.kernels.cpu.user import kernel
print(kernel(10), sum(kernel.stats.cache_hits.values()))
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of the sources with two more files, and a function that runs the kernel in a new process."""
    for name in ("minidl", "kernels"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "embedded"))
    folder = tmp_path / "kernels" / "cpu"
    (folder / "__init__.py").write_text("")
    (folder / "user.py").write_text(KERNEL)

    def run(factor, before=""):
        (folder / "helper.py").write_text(HELPER.format(factor=factor))
        (folder / "user.py").write_text(before + KERNEL)
        environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
        done = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True,
                              env={**environment, "PYTHONPATH": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    run.kept = lambda: [path.name for path in (folder / "__pycache__").glob("user.kernel-*.nb?")]
    return run


def test_an_edit_of_a_helper_changes_what_runs(checkout):
    assert checkout(2) == ["21", "0"]
    assert checkout(2) == ["21", "1"]
    assert checkout(3) == ["31", "0"]
    assert checkout(3) == ["31", "1"]
    assert len(checkout.kept()) == 2


def test_a_function_that_moves_leaves_nothing_behind(checkout):
    assert checkout(2) == ["21", "0"]
    first = checkout.kept()
    assert checkout(2, before="\n\n") == ["21", "0"]
    assert len(checkout.kept()) == 2 and not set(first) & set(checkout.kept())


def test_the_digest_follows_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "HERE", tmp_path)
    sources = {"a": "from minidl.kernels.cpu.b import (\n    x,\n)", "b": "from minidl.kernels.cpu import c, nothing",
               "c": "from minidl.kernels.cpu.a import y", "d": ""}

    def digests():
        for function in (cache.digest, cache._imports, cache._hash):
            function.cache_clear()
        for name, text in sources.items():
            (tmp_path / f"{name}.py").write_text(text)
        return {name: cache.digest(tmp_path / f"{name}.py") for name in sources}

    before = digests()
    sources["c"] += "\nz = 1"
    after = digests()
    assert {name for name in sources if before[name] != after[name]} == {"a", "b", "c"}
