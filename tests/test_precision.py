"""minidl.set_precision: for the process, for a block, from the environment."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

import minidl


@pytest.fixture(autouse=True)
def as_before():
    before = minidl.get_precision()
    yield
    minidl.set_precision(before)


def test_fast_unless_told_otherwise():
    assert minidl.get_precision() == "fast"


def test_set_for_all_threads_and_used_in_one():
    seen = []
    minidl.set_precision("strict")
    with minidl.use_precision("fast"):
        thread = threading.Thread(target=lambda: seen.append(minidl.get_precision()))
        thread.start()
        thread.join()
        assert minidl.get_precision() == "fast" and seen == ["strict"]
    assert minidl.get_precision() == "strict"


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown precision 'exact': there are fast, strict"):
        minidl.set_precision("exact")
    with pytest.raises(ValueError, match="unknown precision"), minidl.use_precision("exact"):
        pass
    assert minidl.get_precision() == "fast"


def test_from_the_environment(monkeypatch):
    monkeypatch.setenv("MINIDL_PRECISION", "strict")
    command = [sys.executable, "-c", "import minidl; print(minidl.get_precision())"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "strict\n"
