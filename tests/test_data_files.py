"""Data files that are damaged, truncated, hostile or of another kind end in FileFormatError, and in nothing else."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_builders import cifar_binary, cifar_python, cifar_shard, idx, some_images, tar_gz
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl.data.cifar import read_archive, read_binary, read_python, read_shard
from minidl.data.files import IDX_IMAGES, read_idx
from minidl.data.pickles import read_pickle
from minidl.errors import FileFormatError

COUNT = 20
IMAGES, LABELS = some_images(COUNT, 3, 32)
GREY = some_images(COUNT, 1, 28)[0][:, 0]


def read_idx_images(path):
    return read_idx(path, IDX_IMAGES, (60000, 28, 28)), LABELS


def read_binary_archive(path):
    return read_archive(path, ["test_batch.bin"], COUNT)[0]


def read_python_archive(path):
    return read_archive(path, ["test_batch"], COUNT)[0]


PYTHON_3 = pickle.dumps({"data": IMAGES.reshape(COUNT, -1), "labels": LABELS.tolist()}, protocol=2)
ARCHIVED = {"cifar-10/readme": b"x" * 700, "cifar-10/test_batch.bin": cifar_binary(IMAGES, LABELS)}
KINDS = {
    "idx": ("images", idx(GREY), read_idx_images, GREY),
    "idx.gz": ("images.gz", gzip.compress(idx(GREY)), read_idx_images, GREY),
    "binary": ("test_batch.bin", cifar_binary(IMAGES, LABELS), lambda path: read_binary(path, COUNT), IMAGES),
    "python": ("test_batch", cifar_python(IMAGES, LABELS), lambda path: read_python(path, COUNT), IMAGES),
    "python 3": ("test_batch", PYTHON_3, lambda path: read_python(path, COUNT), IMAGES),
    "binary.tar.gz": ("binary.tar.gz", tar_gz(ARCHIVED), read_binary_archive, IMAGES),
    "python.tar.gz": ("p.tar.gz", tar_gz({"c/test_batch": cifar_python(IMAGES, LABELS)}), read_python_archive, IMAGES),
    "npz": ("test.npz", cifar_shard(IMAGES, LABELS), read_shard, IMAGES),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_exactly(kind, folder):
    name, content, read, expected = KINDS[kind]
    images, labels = read(written(folder, name, content))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(labels, LABELS)


def test_the_python_batch_is_what_pythons_own_reader_takes_it_for():
    content = pickle.loads(cifar_python(IMAGES, LABELS), encoding="bytes")
    np.testing.assert_array_equal(content[b"data"], IMAGES.reshape(COUNT, -1))
    assert content[b"labels"] == LABELS.tolist()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_truncated_file_is_refused(kind, folder, data):
    name, content, read, _ = KINDS[kind]
    # The last two blocks of a tar hold nothing, so an archive may lack those; the batch itself must be whole.
    longest = len(content) - (200 if name.endswith(".tar.gz") else 1)
    path = written(folder, name, content[: data.draw(st.integers(0, longest))])
    with pytest.raises(FileFormatError, match=name):
        read(path)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flipped_bytes_never_end_in_another_error(kind, folder, data):
    name, content, read, _ = KINDS[kind]
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers and tables lie at either end of a file: aim there half of the time.
        near = data.draw(st.sampled_from([0, len(content) - 200, None]))
        low, high = (0, len(content) - 1) if near is None else (max(near, 0), min(near + 199, len(content) - 1))
        damaged[data.draw(st.integers(low, high))] = data.draw(st.integers(0, 255))
    try:
        images, labels = read(written(folder, name, bytes(damaged)))
    except FileFormatError:
        return
    assert images.dtype == np.uint8 and len(images) <= 60000 and labels.max() <= 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(GREY, magic=2049), "expected magic number 2051, found 2049"),
        (struct.pack(">IIII", 2051, 60001, 28, 28), r"declares shape \(60001, 28, 28\).*at most 60,000"),
        (struct.pack(">IIII", 2051, 2**32 - 1, 28, 28), "declares shape"),
        (struct.pack(">IIII", 2051, 20, 28, 29), r"declares shape \(20, 28, 29\)"),
        (struct.pack(">IIII", 2051, 0, 28, 28), r"declares shape \(0, 28, 28\)"),
        (idx(GREY)[:-1], "truncated: expected 15,680 bytes .* found 15,679"),
        (idx(GREY) + b"\0", "more bytes than expected"),
        (b"", "truncated: expected 16 bytes of idx header, found 0"),
        (b"<html>moved</html>", "magic number"),
    ],
)
def test_idx_errors_say_what_was_expected_and_found(folder, content, message):
    with pytest.raises(FileFormatError, match=message):
        read_idx_images(written(folder, "images", content))


def test_a_file_that_is_not_gzip(folder):
    with pytest.raises(FileFormatError, match="images.gz.*gzip"):
        read_idx_images(written(folder, "images.gz", idx(GREY)))


def test_labels_must_be_classes(folder):
    wrong = LABELS.copy()
    wrong[7] = 10
    with pytest.raises(FileFormatError, match=r"label 10 of item 7 is outside 0\.\.9"):
        read_binary(written(folder, "test_batch.bin", cifar_binary(IMAGES, wrong)), COUNT)
    with pytest.raises(FileFormatError, match="label 10 of item 7"):
        read_shard(written(folder, "test.npz", cifar_shard(IMAGES, wrong)))
    with pytest.raises(FileFormatError, match="'labels' must be a list of integers from 0 to 9"):
        read_python(written(folder, "test_batch", cifar_python(IMAGES, wrong)), COUNT)
    with pytest.raises(FileFormatError, match="19 labels for 20 images"):
        read_python(written(folder, "test_batch", cifar_python(IMAGES, LABELS).replace(b"](K\x00", b"](", 1)), COUNT)


def test_an_archive_without_the_batch_names_it(folder):
    path = written(folder, "other.tar.gz", tar_gz({"a/readme": b"hello"}))
    with pytest.raises(FileFormatError, match="the archive has no test_batch.bin"):
        read_binary_archive(path)


def test_a_link_in_an_archive_is_not_followed(folder):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("c/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(FileFormatError, match="the archive has no test_batch.bin"):
        read_binary_archive(written(folder, "link.tar.gz", buffer.getvalue()))


@pytest.fixture
def little_memory():
    """The test fails if Python and NumPy ever hold more than 100 MiB at once in it."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20


def bomb(path, start, megabytes):
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(start)
        for _ in range(megabytes):
            stream.write(bytes(2**20))
    return path


def test_decompression_stops_where_the_header_says(folder, little_memory):
    path = bomb(folder / "images.gz", idx(GREY), 300)
    with pytest.raises(FileFormatError, match="more bytes than expected"):
        read_idx_images(path)


def test_an_archive_that_unpacks_without_end_is_refused(folder, little_memory):
    member = tarfile.TarInfo("c/huge")
    member.size = 2**33
    path = bomb(folder / "bomb.tar.gz", member.tobuf(), 300)
    with pytest.raises(FileFormatError, match="unpacks to more than 268,435,456 bytes"):
        read_binary_archive(path)


def shard_with(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(header, values=b""):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + values


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("labels", "residual"),
    [
        (saved(LABELS), saved(np.zeros((3, 20, 32, 31), np.uint8))),
        (saved(LABELS), saved(np.zeros((3, 20, 32, 32), np.float32))),
        (saved(LABELS), saved(np.asfortranarray(np.zeros((3, 20, 32, 32), np.uint8)))),
        (saved(LABELS), npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 99999, 32, 32), }")),
        (saved(LABELS), npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 20, 32, 32), }")),
        (saved(LABELS), npy("{'descr': '|u1', 'fortran_order': False, 'shape': (" + "(" * 5000)),
        (saved(LABELS), b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
        (saved(np.array([os.getcwd, 1], object)), saved(np.zeros((3, 2, 32, 32), np.uint8))),
        (saved(LABELS[:5]), saved(np.zeros((3, 20, 32, 32), np.uint8))),
    ],
)
def test_a_shard_with_another_array_is_refused(folder, labels, residual, little_memory):
    with pytest.raises(FileFormatError, match="test.npz"):
        read_shard(written(folder, "test.npz", shard_with(labels=labels, residual=residual)))
    with pytest.raises(FileFormatError, match="no array 'residual'"):
        read_shard(written(folder, "test.npz", shard_with(labels=saved(LABELS))))


class Runs:
    """Pickles into a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("function", [os.mkdir, eval, pickle.loads, np.lib.format.open_memmap])
def test_nothing_in_a_pickle_is_called(folder, protocol, function):
    witness = folder / "witness"
    argument = {eval: f"__import__('os').mkdir({str(witness)!r})", pickle.loads: b"cos\ngetcwd\n."}
    raw = pickle.dumps({"data": 1, "labels": Runs(function, argument.get(function, str(witness)))}, protocol)
    with pytest.raises(FileFormatError, match="nothing in it was run"):
        read_pickle(raw, Path("data_batch_1"))
    assert not witness.exists()


@pytest.mark.parametrize(
    "raw",
    [
        pickle.dumps({"data": np.array([[1, "a"]], object), "labels": []}, 2),
        pickle.dumps({"data": IMAGES.reshape(COUNT, -1).astype(np.float32), "labels": LABELS.tolist()}, 2),
        pickle.dumps({"data": IMAGES.reshape(COUNT, -1).astype(np.int8), "labels": LABELS.tolist()}, 2),
        pickle.dumps({"data": IMAGES.tobytes(), "labels": LABELS.tolist()}, 2),
        pickle.dumps({"labels": []}, 2),
        pickle.dumps([1, 2], 2),
        b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b".",  # a bytearray of 2**50 bytes
        b"\x80\x02r\xff\xff\xff\xff.",  # a memo of 2**32 places
        b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b".",
        b"\x80\x02}" + b"(" * 100000 + b".",
        b"\x80\x02}(U\x04data" + b"K\x01\x85" + b"2\x86" * 60 + b"U\x06labels]u.",  # nested 2**60 times
        b"\x80\x02}(U\x04data" + b"K\x01\x85" + b"q\x00h\x00\x86" * 60 + b"U\x06labels]u.",
        b"\x80\x02}(K\x01\x85" + b"q\x00h\x00\x86" * 60 + b"U\x04datau.",
        b".",
        b"",
    ],
)
def test_other_pickles_are_refused(folder, raw, little_memory):
    with pytest.raises(FileFormatError, match="test_batch"):
        read_python(written(folder, "test_batch", raw), COUNT)


def test_what_a_pickled_array_says_of_its_size_is_checked(folder):
    for shape in (b"M\xff\xffM\x00\x0c", b"K\x14J\xff\xff\xff\xff", b"NN", b"K\x01K\x01"):
        raw = cifar_python(IMAGES, LABELS).replace(b"K\x14M\x00\x0c", shape, 1)
        with pytest.raises(FileFormatError, match="'data' is an array"):
            read_python(written(folder, "test_batch", raw), COUNT)
