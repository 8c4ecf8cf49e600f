"""Downloads against a server on this machine: resumed, checked, bounded, and clear about what went wrong."""

import errno
import gzip
import hashlib
import re
import resource
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from test_data_vision import OFFICIAL, needs_official

from minidl.data import DownloadError, cache_folder, get, mnist, tinyshakespeare
from minidl.data.download import FILES, MIRRORS, RemoteFile, fetch
from minidl.errors import FileFormatError

CONTENT = np.random.default_rng(0).bytes(900_001)
SMALL = b"labels"


def described(name, content):
    return RemoteFile(name, len(content), hashlib.sha256(content).hexdigest())


WANTED = [described("images.gz", CONTENT), described("labels.gz", SMALL)]


class Server(ThreadingHTTPServer):
    """Serves `files`; `cuts` says after how many bytes to break the next answers off."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"images.gz": CONTENT, "labels.gz": SMALL}
        self.ranges, self.lengths, self.wrong_range = True, True, False
        self.cuts, self.asked, self.sent = [], [], 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that hangs up early is part of these tests."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name, wanted = self.path.removeprefix("/"), self.headers.get("Range")
        self.server.asked.append((name, wanted))
        if name not in self.server.files:
            return self.send_error(404)
        content, start = self.server.files[name], 0
        if wanted and self.server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
            shown = start + 5 if self.server.wrong_range else start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if self.server.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + self.server.cuts.pop(0) if self.server.cuts else len(content)
        for position in range(start, min(stop, len(content)), 1 << 20):
            self.wfile.write(content[position : min(stop, position + (1 << 20))])
            self.server.sent += 1 << 20

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture
def offline(monkeypatch):
    """An address at which nobody listens."""
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def is_complete(folder):
    left = sorted(path.name for path in folder.iterdir())
    return left == ["images.gz", "labels.gz"] and (folder / "images.gz").read_bytes() == CONTENT


def test_files_are_fetched_once(server, tmp_path):
    folder = tmp_path / "new" / "mnist"
    fetch(WANTED, folder, [server.url + "/"])
    assert is_complete(folder)
    assert server.asked == [("images.gz", None), ("labels.gz", None)]
    fetch(WANTED, folder, [server.url])
    assert len(server.asked) == 2


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    fetch(WANTED, tmp_path, [server.url])
    (tmp_path / "images.gz").write_bytes(bytes(len(CONTENT)))
    fetch(WANTED, tmp_path, [server.url])
    assert is_complete(tmp_path)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_is_resumed_or_started_anew(server, tmp_path, ranges):
    server.ranges = ranges
    (tmp_path / "images.gz.part").write_bytes(CONTENT[:1234])
    fetch(WANTED, tmp_path, [server.url])
    assert is_complete(tmp_path)
    assert server.asked == [("images.gz", "bytes=1234-"), ("labels.gz", None)]


@pytest.mark.parametrize("lengths", [True, False])
def test_a_connection_that_breaks_off_is_taken_up_again(server, tmp_path, lengths):
    server.lengths = lengths
    server.cuts = [300_000, 7, 400_000]
    fetch(WANTED, tmp_path, [server.url])
    assert is_complete(tmp_path)
    assert [wanted for _, wanted in server.asked[:4]] == [None, "bytes=300000-", "bytes=300007-", "bytes=700007-"]


def test_a_connection_that_keeps_breaking_off_leaves_a_part_for_the_next_time(server, tmp_path):
    server.cuts = [100_000] + [0] * 9
    with pytest.raises(DownloadError, match="could not fetch images.gz"):
        fetch(WANTED, tmp_path, [server.url])
    assert (tmp_path / "images.gz.part").read_bytes() == CONTENT[:100_000]
    server.cuts = []
    fetch(WANTED, tmp_path, [server.url])
    assert is_complete(tmp_path)


@pytest.mark.parametrize("beginning", [b"x" * 1000, CONTENT + b"x", bytes(len(CONTENT))])
def test_a_part_of_another_file_is_thrown_away(server, tmp_path, beginning):
    (tmp_path / "images.gz.part").write_bytes(beginning)
    fetch(WANTED, tmp_path, [server.url])
    assert is_complete(tmp_path)


def test_a_finished_part_only_needs_its_name(server, tmp_path):
    (tmp_path / "images.gz.part").write_bytes(CONTENT)
    fetch(WANTED, tmp_path, [server.url])
    assert is_complete(tmp_path)
    assert server.asked == [("labels.gz", None)]


def test_a_server_without_bytes_from_there_on(server, tmp_path):
    server.files["images.gz"] = CONTENT[:500]
    (tmp_path / "images.gz.part").write_bytes(CONTENT[:800])
    with pytest.raises(FileFormatError, match="it sends 500 bytes, the file has 900,001"):
        fetch(WANTED, tmp_path, [server.url])
    assert [wanted for _, wanted in server.asked] == ["bytes=800-", None]


def test_a_server_that_sends_another_range(server, tmp_path):
    server.wrong_range = True
    (tmp_path / "images.gz.part").write_bytes(CONTENT[:800])
    with pytest.raises(DownloadError, match="asked for bytes from 800 on, the server sent them from 805 on"):
        fetch(WANTED, tmp_path, [server.url])


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(server, tmp_path):
    server.files["images.gz"] = bytes(len(CONTENT))
    with pytest.raises(FileFormatError, match=f"SHA-256 of what it sent is [0-9a-f]+, expected {WANTED[0].sha256}"):
        fetch(WANTED, tmp_path, [server.url])
    assert list(tmp_path.iterdir()) == []


def test_a_page_in_place_of_the_file_does_not_spoil_the_part(server, tmp_path):
    server.files["images.gz"], server.ranges = b"<html>please log in</html>", False
    (tmp_path / "images.gz.part").write_bytes(CONTENT[:1234])
    with pytest.raises(FileFormatError, match="it sends 26 bytes, the file has 900,001"):
        fetch(WANTED, tmp_path, [server.url])
    assert (tmp_path / "images.gz.part").read_bytes() == CONTENT[:1234]


def test_a_server_cannot_fill_the_disk(server, tmp_path):
    server.files["labels.gz"], server.lengths = bytes(100_000_000), False
    with pytest.raises(FileFormatError, match="SHA-256"):
        fetch(WANTED[1:], tmp_path, [server.url])
    assert list(tmp_path.iterdir()) == []
    assert server.sent < 50_000_000


def test_a_full_disk_is_not_taken_for_a_network_problem(server, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))  # files can grow no further than this
    try:
        with pytest.raises(OSError) as raised:
            fetch(WANTED, tmp_path, [server.url, server.url])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno == errno.EFBIG and not (tmp_path / "images.gz").exists()
    fetch(WANTED, tmp_path, [server.url])
    assert is_complete(tmp_path)


def test_the_next_mirror_is_tried(server, tmp_path, offline):
    server.files["wrong/images.gz"] = bytes(len(CONTENT))
    fetch(WANTED, tmp_path, [offline, f"{server.url}/wrong/", server.url])
    assert is_complete(tmp_path)
    assert server.asked[:2] == [("wrong/images.gz", None), ("images.gz", None)]


def test_offline_says_what_to_fetch_and_where_to_put_it(tmp_path, offline):
    with pytest.raises(ConnectionError) as raised:
        get("mnist", root=tmp_path, mirrors=[offline, offline + "/two"])
    text = str(raised.value)
    assert isinstance(raised.value, DownloadError)
    for phrase in ("could not fetch train-images-idx3-ubyte.gz", f"{offline}/train-images", f"{offline}/two/train",
                   "refused", "Is this machine offline?", str(tmp_path / "mnist"), "t10k-labels-idx1-ubyte.gz  4,542"):
        assert phrase in text


def test_a_missing_file_is_named_with_the_servers_answer(server, tmp_path):
    del server.files["labels.gz"]
    with pytest.raises(DownloadError, match=r"labels.gz: the server answered 404 Not Found"):
        fetch(WANTED, tmp_path, [server.url])
    assert (tmp_path / "images.gz").read_bytes() == CONTENT


def test_an_unknown_name_and_a_folder_that_cannot_be():
    with pytest.raises(ValueError, match="unknown data set 'imagenet'; minidl can get mnist, fashion_mnist, cifar10"):
        get("imagenet")
    with pytest.raises(OSError, match="/dev/null"):
        get("mnist", root="/dev/null")


@needs_official
def test_get_fetches_what_the_loader_then_reads(server, monkeypatch, tmp_path, capsys):
    for path in Path(OFFICIAL, "mnist").glob("*.gz"):
        server.files[path.name] = path.read_bytes()
    monkeypatch.delenv("MINIDL_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = get("mnist", mirrors=[server.url])
    assert folder == cache_folder() / "mnist"
    printed = capsys.readouterr().out
    assert str(folder) in printed and "train-images-idx3-ubyte.gz  9,912,422 bytes" in printed
    dataset = mnist()
    assert dataset.complete and dataset.source.startswith("cache folder")


@needs_official
def test_a_text_may_have_another_name_on_the_server(server, monkeypatch, tmp_path):
    content = gzip.decompress(Path(OFFICIAL, "text", "tinyshakespeare.txt.gz").read_bytes())
    server.files["input.txt"] = content
    monkeypatch.delenv("MINIDL_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert get("tinyshakespeare", mirrors=[server.url]) == cache_folder() / "text"
    whole = tinyshakespeare("all")
    assert whole.complete and whole.source.startswith("cache folder") and whole.text.encode() == content


def test_the_known_files():
    images, texts = {"mnist", "fashion_mnist", "cifar10"}, {"rt_polarity", "sms_spam", "tinyshakespeare"}
    assert set(FILES) == set(MIRRORS) == images | texts
    for files in FILES.values():
        assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) and file.size > 0 for file in files)
    assert [file.name for file in FILES["mnist"]] == [file.name for file in FILES["fashion_mnist"]]
