"""Writing a file so that it is never half there: whoever looks sees the old content or the new, whole.

The bytes go to a temporary file in the same folder, reach the disk (fsync), and take the target's name in one step
(replace); then the folder is synced as well. A process that is killed meanwhile leaves its temporary file behind,
which the next save in that folder removes. Models, checkpoints, ledgers, vocabularies, reports and results are all
written through here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]  # process numbers mean nothing elsewhere
_TEMPORARY = re.compile(rf"\.minidl-{_HOST}-(\d{{1,9}})-[0-9a-f]{{16}}\.tmp")
_writing: set[str] = set()  # temporary files of this process that are in use


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open `path` for writing ("wb", or "w" for UTF-8 text); it takes effect when the block ends without an error.

    After any error, Ctrl-C included, the old file is as it was and no temporary file is left. A link is followed;
    the permissions of a file that is there are kept. Raises OSError (PermissionError, FileNotFoundError…) that
    names the path and the reason.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"atomic_write: mode must be 'wb' or 'w', not {mode!r}")
    target = os.path.realpath(os.fspath(path))
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".minidl-{_HOST}-{os.getpid()}-{secrets.token_hex(8)}.tmp")
    replaced = False
    _writing.add(temporary)
    try:
        permissions = _permissions(target)
        _remove_stale(folder)
        stream = _create(temporary, mode, permissions)
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        finally:
            _close(stream)
        os.replace(temporary, target)
        replaced = True
        _sync(folder)
    except OSError as error:
        if error.errno is None or error.filename not in (None, temporary, target, folder):
            raise
        state = "it was written, but may not survive a power failure" if replaced else "what was there is unchanged"
        raise OSError(error.errno, f"cannot write {os.fspath(path)}: {error.strerror}; {state}", target) from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)
        _writing.discard(temporary)


def write_bytes(path: str | os.PathLike, *parts: bytes | memoryview) -> None:
    """Write `parts` one after the other to `path`, atomically."""
    with atomic_write(path) as stream:
        for part in parts:
            stream.write(part)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    write_bytes(path, text.encode())


def _permissions(target: str) -> int | None:
    """The permissions of the file that will be replaced, None if there is none."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe, which cannot be replaced by a file", target)
    if not os.access(target, os.W_OK):  # replace would not ask
        raise PermissionError(errno.EACCES, "the file is write-protected", target)
    return stat.S_IMODE(mode)


def _create(temporary: str, mode: str, permissions: int | None) -> IO[Any]:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    if permissions is not None:
        os.chmod(temporary, permissions)
    return open(descriptor, mode, encoding=None if "b" in mode else "utf-8")


def _close(stream: IO[Any]) -> None:
    """Close without hiding the error that is on its way; one of the data itself has shown in flush or fsync."""
    with suppress(OSError):
        stream.close()


def _sync(folder: str) -> None:
    """Make the new name itself safe on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that know no sync of folders
            raise
    finally:
        os.close(descriptor)


def _remove_stale(folder: str) -> None:
    """Remove the temporary files of processes that are gone; one that cannot be removed does no harm."""
    with suppress(OSError):
        for name in os.listdir(folder):
            match = _TEMPORARY.fullmatch(name)
            path = os.path.join(folder, name)
            if match and path not in _writing and not _is_other_living_process(int(match[1])):
                with suppress(OSError):
                    os.unlink(path)


def _is_other_living_process(number: int) -> bool:
    if number == os.getpid():
        return False  # a file of ours that is not in _writing: left by an earlier process with our number
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
