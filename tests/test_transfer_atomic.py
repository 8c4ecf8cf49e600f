"""Promise 5 of the transfer module: a save is atomic. After any failure the old file is whole and nothing is left."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from minidl import nn
from minidl.transfer import atomic_write, load, load_tensors, save, save_tensors, write_bytes, write_text

ROOT = Path(__file__).resolve().parents[1]


def files(folder):
    return sorted(os.listdir(folder))


def fail_at(monkeypatch, name, error, nth=1):
    """Let the nth call of a function of the operating system raise."""
    real, count = getattr(os, name.split(".")[1]), [0]

    def failing(*args, **options):
        count[0] += 1
        if count[0] == nth:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(name, failing)
    return count


def test_it_writes_bytes_and_text(tmp_path):
    write_bytes(tmp_path / "a", b"one", memoryview(b"two"))
    write_text(tmp_path / "b", "drei €\n")
    with atomic_write(tmp_path / "c", "w") as stream:
        stream.write("vier")
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert (tmp_path / "b").read_text(encoding="utf-8") == "drei €\n"
    assert (tmp_path / "c").read_text() == "vier"
    assert files(tmp_path) == ["a", "b", "c"]


def test_nothing_is_visible_until_the_block_ends(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with atomic_write(tmp_path / "file") as stream:
        stream.write(b"new")
        stream.flush()
        assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")], ids=repr)
def test_promise_5_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(type(error)):
        with atomic_write(tmp_path / "file") as stream:
            stream.write(b"half")
            raise error
    assert files(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("call", ["os.open", "os.chmod", "os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()],
                         ids=["full disk", "Ctrl-C"])
def test_promise_5_a_failure_of_any_call_of_a_save_leaves_the_old_file_whole(tmp_path, monkeypatch, call, error):
    path = tmp_path / "model.safetensors"
    save(nn.Linear(3, 2), path)
    old = path.read_bytes()
    count = fail_at(monkeypatch, call, error)
    with pytest.raises(type(error)) as caught:
        save(nn.Linear(3, 2), path)
    monkeypatch.undo()
    assert count[0] >= 1
    assert files(tmp_path) == ["model.safetensors"] and path.read_bytes() == old
    if isinstance(error, OSError):
        assert f"cannot write {path}: No space left on device; what was there is unchanged" in str(caught.value)
        assert caught.value.errno == errno.ENOSPC


def test_promise_5_the_file_and_its_folder_are_synced_in_order(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(stat.S_ISDIR(os.fstat(file).st_mode)), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("replace"), replace(old, new)))
    write_bytes(tmp_path / "file", b"x")
    assert calls == [False, "replace", True]


KILLED = """
import os, sys
import minidl.atomic as module
path, name, nth = sys.argv[1], sys.argv[2], int(sys.argv[3])
real, count = getattr(os, name), [0]
def dying(*args, **options):
    count[0] += 1
    if count[0] == nth:
        os.kill(os.getpid(), 9)
    return real(*args, **options)
setattr(os, name, dying)
module.write_bytes(path, b"new" * 100_000)
"""


@pytest.mark.parametrize("name, nth, left", [("open", 1, 0), ("chmod", 1, 1), ("fsync", 1, 1), ("replace", 1, 1),
                                             ("fsync", 2, 0), ("unlink", 1, 0)])
def test_promise_5_a_killed_process_leaves_a_whole_file_and_the_next_save_clears_up(tmp_path, name, nth, left):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    ended = subprocess.run([sys.executable, "-c", KILLED, path, name, str(nth)], cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == (b"new" * 100_000 if (name, nth) in [("fsync", 2), ("unlink", 1)] else b"old")
    assert len(files(tmp_path)) == 1 + left
    write_bytes(path, b"newer")
    assert files(tmp_path) == ["file"] and path.read_bytes() == b"newer"


def test_temporary_files_of_living_processes_are_left_alone(tmp_path):
    with atomic_write(tmp_path / "one") as stream:
        stream.write(b"1")
        [temporary] = files(tmp_path)
        write_bytes(tmp_path / "two", b"2")  # another thread would do the same
        assert files(tmp_path) == [temporary, "two"]
        parent = temporary.replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
        (tmp_path / parent).write_bytes(b"")
        (tmp_path / temporary.replace("minidl", "other")).write_bytes(b"")
        write_bytes(tmp_path / "two", b"2")
        assert parent in files(tmp_path) and temporary.replace("minidl", "other") in files(tmp_path)
    assert (tmp_path / "one").read_bytes() == b"1"


@pytest.mark.parametrize("make, kind, reason", [
    (lambda folder: folder / "missing" / "file", FileNotFoundError, "No such file"),
    (lambda folder: folder, IsADirectoryError, "directory"),
    (lambda folder: folder / "plain" / "file", NotADirectoryError, "ot a directory"),
    (lambda folder: Path("/dev/null"), OSError, "a device or a pipe"),
])
def test_impossible_places_are_named_with_the_reason(tmp_path, make, kind, reason):
    (tmp_path / "plain").write_bytes(b"")
    path = make(tmp_path)
    with pytest.raises(kind) as caught:
        write_bytes(path, b"x")
    assert f"cannot write {path}" in str(caught.value) and reason in str(caught.value)
    assert files(tmp_path) == ["plain"]


AS_A_USER = """
import os, sys
from minidl.atomic import write_bytes
if os.getuid() == 0:  # who may write everywhere
    os.setuid(65534)
try:
    write_bytes(sys.argv[1], b"new")
except PermissionError as error:
    print(error)
"""


@pytest.mark.parametrize("protect", ["folder", "file"])
def test_promise_5_an_unwritable_folder_or_file_keeps_the_old_content(protect):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to other users
        path = Path(name, "file")
        path.write_bytes(b"old")
        path.chmod(0o666 if protect == "folder" else 0o444)
        path.parent.chmod(0o555 if protect == "folder" else 0o777)
        ended = subprocess.run([sys.executable, "-c", AS_A_USER, path], cwd=ROOT, capture_output=True, text=True)
        path.parent.chmod(0o755)
        reason = "Permission denied" if protect == "folder" else "the file is write-protected"
        assert f"cannot write {path}: {reason}; what was there is unchanged" in ended.stdout, ended.stderr
        assert files(path.parent) == ["file"] and path.read_bytes() == b"old"


def test_promise_5_a_really_full_disk(tmp_path):
    script = f"""
mount -t tmpfs -o size=200k none {tmp_path} && cd {ROOT} && exec {sys.executable} - <<'END'
import os, numpy as np
from minidl.transfer import load_tensors, save_tensors
path = "{tmp_path}/weights.safetensors"
save_tensors({{"w": np.arange(10_000, dtype=np.float32)}}, path)
try:
    save_tensors({{"w": np.zeros(60_000, np.float32)}}, path)
except OSError as error:
    print(error.errno, path in str(error), os.listdir("{tmp_path}"), int(load_tensors(path)["w"].sum()))
END"""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let a test mount a small disk")
    ended = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    if "mount:" in ended.stderr:
        pytest.skip("this machine does not let a test mount a small disk")
    assert ended.stdout.split() == [str(errno.ENOSPC), "True", "['weights.safetensors']", "49995000"], ended.stderr


def test_a_link_is_followed_and_permissions_are_kept(tmp_path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "file"
    target.write_bytes(b"old")
    target.chmod(0o640)
    (tmp_path / "link").symlink_to(target)
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o640
    mask = os.umask(0o022)
    try:
        write_bytes(tmp_path / "fresh", b"")
    finally:
        os.umask(mask)
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o644


def test_saving_tensors_again_replaces_them(tmp_path):
    path = tmp_path / "w.safetensors"
    save_tensors({"w": np.zeros(3)}, path)
    save_tensors({"w": np.ones(3)}, path)
    np.testing.assert_array_equal(load_tensors(path)["w"], np.ones(3))
    model = nn.Linear(3, 2)
    save(model, path)
    np.testing.assert_array_equal(load(path).weight.numpy(), model.weight.numpy())
