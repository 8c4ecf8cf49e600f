"""Whatever ends a save, and whenever: what was there is whole or replaced, and the next save leaves nothing behind."""

import ast
import builtins
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidl import nn
from minidl.atomic import write_bytes
from minidl.transfer import ledger, load, save, save_tensors

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
CALLS = ("stat", "lstat", "readlink", "access", "listdir", "kill", "open", "chmod", "fsync", "replace", "unlink",
         "close")


class Stream:
    """A file whose calls are counted too; a failing write has written half of its bytes."""

    def __init__(self, stream, count):
        self.stream, self.count = stream, count

    def write(self, data):
        self.count(lambda: (self.stream.write(data[: len(data) // 2]), self.stream.flush()))
        return self.stream.write(data)

    def flush(self):
        self.count()
        self.stream.flush()

    def fileno(self):
        return self.stream.fileno()

    def close(self):
        try:
            self.count()
        finally:
            self.stream.close()


class Counted:
    """Counts all calls to the file system that a save makes, and calls `fail` before (or after) the nth of them."""

    def __init__(self, nth, fail, after=False):
        self.nth, self.fail, self.after, self.calls = nth, fail, after, 0
        self.real = {name: getattr(os, name) for name in CALLS}
        self.open = builtins.open

    def count(self, first=lambda: None):
        self.calls += 1
        if self.calls == self.nth:
            first()
            self.fail()

    def wrapped(self, function):
        def call(*args, **options):
            if not self.after:
                self.count()
                return function(*args, **options)
            result = function(*args, **options)
            self.count()
            return result
        return call

    def __enter__(self):
        for name, function in self.real.items():
            setattr(os, name, self.wrapped(function))
        builtins.open = lambda *args, **options: Stream(self.open(*args, **options), self.count)
        return self

    def __exit__(self, *exception):
        builtins.open = self.open
        for name, function in self.real.items():
            setattr(os, name, function)


def interrupt():
    raise KeyboardInterrupt


def full_disk():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def forbidden():
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def killed_at(nth, folder):
    """In a process of its own that dies with the nth call; whether it came that far."""
    child = os.fork()
    if not child:
        try:
            with Counted(nth, lambda: kill(os.getpid(), 9)):
                write_bytes(Path(folder, "file"), b"new" * 1000, b"end")
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == 9


kill = os.kill  # the real one: `Counted` counts the other


def kill_everywhere(folder):
    """Kill a save before each of its calls in turn; returns what was found after each."""
    found = []
    for nth in range(1, 1000):
        Path(folder, "file").write_bytes(b"old")
        if not killed_at(nth, folder):
            return found
        content = Path(folder, "file").read_bytes()
        left = len(os.listdir(folder)) - 1
        write_bytes(Path(folder, "other"), b"")
        found.append([{b"old": "old", b"new" * 1000 + b"end": "new"}.get(content, "broken"), left,
                      sorted(os.listdir(folder))])
        Path(folder, "other").unlink()
    raise AssertionError("a save makes no thousand calls")


def test_a_process_killed_before_any_call_of_a_save_leaves_a_whole_file(tmp_path):
    code = f"import json, test_atomic_kills as t; print(json.dumps(t.kill_everywhere({str(tmp_path)!r})))"
    ended = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    contents = [content for content, _, _ in found]
    assert len(found) >= 12, "the calls are not counted"
    assert contents == sorted(contents, reverse=True) and {"old", "new"} == set(contents)
    assert {left for _, left, _ in found} == {0, 1}
    assert all(after == ["file", "other"] for _, _, after in found)


SAVES = {
    "model": lambda path, value: save(_layer(value), path.with_suffix(".safetensors")),
    "tensors": lambda path, value: save_tensors({"x": np.full(9, value)}, path.with_suffix(".npz")),
    "ledger": lambda path, value: ledger(_layer(value)).save(path.with_suffix(".json")),
}


def _layer(value):
    layer = nn.Linear(3, 2)
    layer.weight.array[...] = value
    return layer


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("fail", [interrupt, full_disk, forbidden])
@pytest.mark.parametrize("kind", SAVES)
def test_ctrl_c_and_a_full_disk_at_any_call_of_a_save(tmp_path, kind, fail, after):
    SAVES[kind](tmp_path / "file", 1)
    [path] = tmp_path.iterdir()
    old, outcomes = path.read_bytes(), []
    for nth in range(1, 1000):
        path.write_bytes(old)
        raised = False
        with Counted(nth, fail, after) as counted:
            try:
                SAVES[kind](tmp_path / "file", 2)
            except (KeyboardInterrupt, OSError):
                raised = True
        changed = path.read_bytes() != old
        assert list(tmp_path.iterdir()) == [path], f"call {nth} leaves {os.listdir(tmp_path)}"
        if kind == "model":
            assert (load(path).weight.array == (2 if changed else 1)).all()
        assert raised or changed, f"call {nth} failed, nothing was written and nothing said"
        outcomes.append(changed)
        if counted.calls < nth:
            break
    assert len(outcomes) >= 12 and outcomes.count(False) >= 5 and outcomes[-1] is True


def test_every_writer_of_the_library_goes_through_it():
    allowed = {("atomic.py", "open"), ("data/download.py", "open"),  # a part that is fetched further, then checked
               ("train/callbacks.py", "open")}  # lines added to a log
    found = set()
    for file in (ROOT / "minidl").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = getattr(getattr(node.func, "value", None), "id", None)
            modes = [arg.value for arg in [*node.args[1:2], *[k.value for k in node.keywords if k.arg == "mode"]]
                     if isinstance(arg, ast.Constant)]
            variable = len(node.args) > 1 and not isinstance(node.args[1], ast.Constant)
            writes = isinstance(node.func, ast.Name) and name == "open" and (
                variable or any(set(str(mode)) & set("wax+") for mode in modes))
            writes |= name in ("write_text", "write_bytes") and isinstance(node.func, ast.Attribute) and \
                owner != "atomic"
            writes |= name in ("savez", "savez_compressed", "tofile", "dump") or name == "save" and owner == "np"
            writes |= name == "savefig" and not any(k.arg == "format" for k in node.keywords)
            if writes:
                found.add((str(file.relative_to(ROOT / "minidl")), name))
    assert found == allowed


TRAINER = """
import os, random, signal, sys, time
import minidl
from minidl import kernels
from minidl.train import Callback, Checkpoint
from minidl.train.checkpoint import latest_checkpoint, numbered
from minidl.train.training_state import SavedTraining
from pathlib import Path
from trainers import network, samples, trainer_for

folder, kills = Path(sys.argv[1]), int(sys.argv[2])


class Tell(Callback):
    place = 200  # after the checkpoint

    def __init__(self, pipe, checkpoint):
        self.pipe, self.checkpoint = pipe, checkpoint

    def on_batch_end(self, trainer, step, loss):
        os.write(self.pipe, b"%d\\n" % self.checkpoint.steps)


def train(pipe):
    trainer = trainer_for(network())
    if folder.is_dir() and numbered(folder):
        trainer.resume(folder)
    checkpoint = Checkpoint(folder, every_steps=1)
    trainer.fit(samples(), epochs=10**6, callbacks=[checkpoint, Tell(pipe, checkpoint)], progress=False)


draw = random.Random(0)
acknowledged = at_work = 0
for turn in range(kills):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            train(write)
        finally:
            os._exit(1)
    os.close(write)
    time.sleep(draw.random() * 0.15)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it ended by itself"
    told = b""
    while part := os.read(read, 1 << 16):
        told += part
    os.close(read)
    lines = told.split(b"\\n")[:-1]
    at_work += bool(lines)
    acknowledged = int(lines[-1]) if lines else acknowledged
    if acknowledged:
        steps = SavedTraining(latest_checkpoint(folder)).steps
        assert steps >= acknowledged, (turn, steps, acknowledged)
        acknowledged = steps
minidl.atomic.write_bytes(folder / "note", b"")
left = [name for name in os.listdir(folder) if name.endswith(".tmp")]
print(acknowledged, at_work, len(left), len(numbered(folder)))
"""


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_training_killed_at_random_moments_never_falls_back(tmp_path, kills):
    ended = subprocess.run([sys.executable, "-c", "import minidl.atomic\n" + TRAINER, tmp_path / "run", str(kills)],
                           env={**ENVIRONMENT, "MINIDL_BACKEND": "reference"}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    acknowledged, at_work, left, files = map(int, ended.stdout.split())
    assert acknowledged > at_work > kills / 4, "too few of the kills met a training at work"
    assert left == 0 and 1 <= files <= 3  # at most one that a kill kept from being removed
