"""Fetching the official files of a data set into the user's cache folder: `minidl data get mnist`.

A download goes into a `.part` file that a later run resumes, is checked against the known SHA-256, and only then
takes its name. The mirrors are tried in turn. This is the only module of minidl that uses the network.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minidl.data.places import cache_folder
from minidl.data.text import FOLDER
from minidl.errors import FileFormatError

_CHUNK = 1 << 18
_ATTEMPTS = 5  # how often a broken connection to one mirror is taken up again
_TIMEOUT = 30.0  # seconds without a byte
_NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


class DownloadError(ConnectionError):
    """No mirror could deliver a file; the message says what was tried and how to put the files there by hand."""


class RemoteFile(NamedTuple):
    """A file as published: its name here, its size in bytes, its SHA-256, and its name on the server if another."""

    name: str
    size: int
    sha256: str
    remote: str = ""


def _four_files(*facts: tuple[int, str]) -> list[RemoteFile]:
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return [RemoteFile(name, *fact) for name, fact in zip(names, facts)]


FILES = {
    "mnist": _four_files(
        (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    "fashion_mnist": _four_files(
        (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
    "cifar10": [
        RemoteFile("cifar-10-binary.tar.gz", 170052171,
                   "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
    ],
    "rt_polarity": [
        RemoteFile("rt-polarity.neg", 612506, "2d11cfbc790f1cd96d78339f41ce53ced1efa83cd22d37d6788fa3fe3d17e2fd"),
        RemoteFile("rt-polarity.pos", 626395, "4134882974a28d0c7b5151256f0e33a6169984ee7372c279e673f1114f475d58"),
    ],
    "sms_spam": [
        RemoteFile("SMSSpamCollection", 477939, "bad6dccfe777b6439b1e61c120e056a58939bd706fb7e7cca22eb367e19f5f77"),
    ],
    "tinyshakespeare": [
        RemoteFile("tinyshakespeare.txt", 1115394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                   remote="input.txt"),
    ],
}

_GITHUB = "https://raw.githubusercontent.com/"
MIRRORS = {
    "mnist": ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"],
    "fashion_mnist": ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"],
    "cifar10": ["https://www.cs.toronto.edu/~kriz/"],
    "rt_polarity": [_GITHUB + "dennybritz/cnn-text-classification-tf/a0d0e9742b3dc42194955e78858f7be93027c75e/data/"
                    "rt-polaritydata/"],  # in UTF-8; the authors' own archive is in Windows-1252
    "sms_spam": [_GITHUB + "sajalsubodh22/sms_spam_classifier_and_topic_classifier/"
                 "5f54f57b5188959c51d3299641b03ab980807b1f/smsspamcollection/"],
    "tinyshakespeare": [_GITHUB + "karpathy/char-rnn/d1d7aa34fdb3626174bce1d753e6cc6845ce7087/data/tinyshakespeare/"],
}

FOLDERS = {name: FOLDER for name in ("rt_polarity", "sms_spam", "tinyshakespeare")}  # of the others: their names


def get(name: str, root: str | os.PathLike | None = None, mirrors: Sequence[str] | None = None) -> Path:
    """Fetch what is missing of the data set `name`, print where its files are, and return their folder.

    name: one of `FILES`. root: the folder that gets a folder `name`, or `text` for the texts (default: the cache
    folder, see `places.py`). mirrors: base addresses to use instead of the known ones, tried in turn.
    Raises ValueError for an unknown name, DownloadError if no mirror can be reached, FileFormatError if what they
    deliver is not the published file, and OSError if the folder cannot be written.
    """
    if name not in FILES:
        raise ValueError(f"unknown data set {name!r}; minidl can get {', '.join(FILES)}")
    folder = (cache_folder() if root is None else Path(root)) / FOLDERS.get(name, name)
    fetch(FILES[name], folder, MIRRORS[name] if mirrors is None else mirrors)
    print(f"{name} is in {folder}:")
    for file in FILES[name]:
        print(f"  {file.name}  {file.size:,} bytes")
    return folder


def fetch(files: Sequence[RemoteFile], folder: Path, mirrors: Sequence[str]) -> None:
    """Bring each of `files` that is missing or damaged into `folder` from the first of `mirrors` that has it.

    Errors as for `get`. A broken download stays as `<name>.part` and is resumed by the next call.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = folder / file.name
        if _size(target) == file.size and _sha256(target) == file.sha256:
            continue
        part = folder / f"{file.name}.part"
        problems = []
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{file.remote or file.name}"
            problem = _fetch_from(url, file, part)
            if problem is None:
                os.replace(part, target)
                break
            problems.append((url, problem))
        else:
            _give_up(file, files, folder, problems)


class _WrongContent(str):
    """A problem of the file and not of the way to it."""


class _OtherFileError(Exception):
    """The server announces a file of another size."""


def _fetch_from(url: str, file: RemoteFile, part: Path) -> str | None:
    """Complete `part` from `url`, taking up broken connections again. Return None, or what the problem was."""
    problem = ""
    for _ in range(_ATTEMPTS):
        before = _size(part)
        problem = _attempt(url, file, part, before)
        after = _size(part)
        if after >= file.size:
            found = _sha256(part)
            if after == file.size and found == file.sha256:
                return None
            part.unlink()
            problem = _WrongContent(f"the SHA-256 of what it sent is {found}, expected {file.sha256}")
            if not before:
                return problem
        elif after == before:
            return problem
    return problem


def _attempt(url: str, file: RemoteFile, part: Path, have: int) -> str:
    """Transfer once, as far as the connection holds; return why it may have ended early."""
    try:
        if have < file.size:
            _transfer(url, file, part, have)
    except _OtherFileError as error:
        return _WrongContent(error)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # the server has no bytes from there on: this beginning is of some other file
            part.unlink()
        return f"the server answered {error.code} {error.reason}"
    except _NETWORK_ERRORS as error:
        return str(getattr(error, "reason", "") or error or type(error).__name__)
    return "the connection broke off"


def _transfer(url: str, file: RemoteFile, part: Path, have: int) -> None:
    """Append to `part` what it lacks, or start it anew where the server ignores the request for a range."""
    request = urllib.request.Request(url, headers={"User-Agent": "minidl"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        start = _start_of(response)
        if start not in (0, have):
            raise http.client.HTTPException(f"asked for bytes from {have} on, the server sent them from {start} on")
        have = start
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and have + int(length) != file.size:
            raise _OtherFileError(f"it sends {have + int(length):,} bytes, the file has {file.size:,}")
        with open(part, "ab" if have else "wb") as sink, _progress_bar(file, have) as bar:
            # One byte too many is enough to see that this is another file; a server cannot fill the disk.
            while chunk := response.read(min(_CHUNK, file.size + 1 - have)):
                sink.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
            sink.flush()
            os.fsync(sink.fileno())


def _start_of(response: Any) -> int:
    """The position in the file of the first byte that the server sends."""
    if response.status != 206:
        return 0
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _progress_bar(file: RemoteFile, have: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=file.size, initial=have, desc=file.name, unit="B", unit_scale=True, disable=None)


def _give_up(file: RemoteFile, files: Sequence[RemoteFile], folder: Path, problems: list[tuple[str, str]]) -> None:
    tried = "\n".join(f"  {url}: {problem}" for url, problem in problems)
    needed = "\n".join(f"  {each.name}  {each.size:,} bytes, SHA-256 {each.sha256}" for each in files)
    message = f"could not fetch {file.name}:\n{tried or '  no mirror was given'}\n"
    if any(isinstance(problem, _WrongContent) for _, problem in problems):
        raise FileFormatError(f"{message}A mirror sent another file than the published one; nothing was kept of it.")
    raise DownloadError(f"{message}Is this machine offline? You can fetch these files elsewhere and put them into "
                        f"{folder}:\n{needed}\nWhat was fetched so far is kept and will be resumed.")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
