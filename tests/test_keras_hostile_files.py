"""A hostile or damaged file of Keras raises FileFormatError, opens no other file, runs nothing and claims no memory."""

import io
import os
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from minidl import FileFormatError, nn
from minidl.transfer import LoadError, load, load_keras, load_tensors

GOLDEN = np.load(Path(__file__).with_name("golden") / "keras_files.npz")
GOOD = GOLDEN["hostile/good"].tobytes()
FILES = {  # what an HDF5 file does that none of Keras does
    "external link": "'kernel' is a link to another file; only hard ones are read",
    "soft link": "'kernel' is a soft link; only hard ones are read",
    "external storage": "has its data in another file, which is not opened",
    "virtual": "a virtual dataset, made of other files",
    "texts": "holds texts; only numbers are read",
    "fixed texts": "holds text; only numbers are read",
    "a structure": "holds a structure; only numbers",
    "a boolean": "holds an enumeration; only numbers",
    "complex": "holds a structure; only numbers",
    "a reference": "holds a reference; only numbers",
    "a sequence": "holds a sequence; only numbers",
    "never written": "has no data: it was declared and never written",
    "huge and never written": "take 4,398,046,511,104 bytes",
    "huge chunks never written": "take 4,398,046,511,104 bytes",
    "a bomb": "take 33,554,432 bytes.*16,777,216 are allowed",
    "one chunk of many": "has less data than that|of its 1,?000 chunks",
    "another filter": "packed by the filter 32000",
    "a circle": "is linked under two names, or holds itself",
    "two names": "is linked under two names",
    "deep": "nested more than 64 deep",
    "many members of the new form": 'a form that only newer libraries read.*libver="earliest"',
    "no group": "layer_names lists 'other', for which there is no group",
    "no array": "lists 'dense/bias', which is no array",
    "a path upwards": "lists '../dense/dense/kernel', which is no array",
    "listed twice": "which is listed twice",
    "names that are numbers": "not texts",
    "names that are no text": "is no text in UTF-8",
    "no configuration": "is not the JSON it should be",
    "a nested configuration": "is nested too deeply",
    "networks in networks": "nested more than 32 deep",
    "one text many times": "hold more text than the file has bytes",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in, where code that runs would leave a file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(data, message, name="hostile.h5"):
    """Assert that the file is refused with that message, and that little more memory than it has is used."""
    path = Path(name)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=message) as caught:
            load_tensors(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert name in str(caught.value) and len(str(caught.value)) < 1000
    assert peak < 2**20 + 10 * len(data)
    assert os.listdir() == [name]


def test_every_hostile_file_is_tried():
    assert {f"hostile/{name}" for name in FILES} | {"hostile/good", "hostile/code"} == \
        {name for name in GOLDEN if name.startswith("hostile/")}


@pytest.mark.parametrize("case", FILES)
def test_promise_4_hostile_hdf5_raises_file_format_error(here, case):
    refuse(GOLDEN[f"hostile/{case}"].tobytes(), FILES[case])


def test_code_in_a_configuration_is_never_run(here):
    GOLDEN["hostile/code"].tofile("code.h5")
    assert load_tensors("code.h5").keys() == {"dense/kernel"}
    with pytest.raises(LoadError, match="'dense' takes 2 values; .*'l' is a Lambda|'l' .Lambda. changes the shape"):
        load("code.h5", nn.Sequential({"dense": nn.Linear(2, 3, bias=False)}))
    model = nn.Sequential({"dense": nn.Linear(2, 3, bias=False)})
    load_keras("code.h5", model, flatten={"dense": None})
    np.testing.assert_array_equal(model[0].weight.numpy(), np.arange(6).reshape(2, 3).T)
    assert os.listdir() == ["code.h5"]


def archived(config=b"{}", weights=GOOD, method=zipfile.ZIP_STORED, **more):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in {"metadata.json": b"{}", "config.json": config, "model.weights.h5": weights, **more}.items():
            if data is not None:
                archive.writestr(name, data)
    return stream.getvalue()


ARCHIVES = {
    "no configuration": (archived(None), "without model.weights.h5 and config.json"),
    "no weights": (archived(weights=None), "without model.weights.h5 and config.json"),
    "weights that are no HDF5": (archived(weights=b"x" * 100), "model.weights.h5 in it is not HDF5"),
    "damaged weights": (archived(weights=GOOD[:3000]), "truncated"),
    "a configuration that is no text": (archived(b"\xff\xfe"), "is no text in UTF-8"),
    "a configuration that is no JSON": (archived(b"import os"), "not the JSON it should be"),
    "a configuration that is nested": (archived(b"[" * 100_000), "nested too deeply"),
    "a configuration with a layer twice": (archived(
        b'{"class_name": "Sequential", "config": {"layers": [{"class_name": "A", "config": {"name": "a"}},'
        b'{"class_name": "A", "config": {"name": "a"}}]}}'), "two layers are called 'a'"),
    "layers that are no list": (archived(b'{"class_name": "Model", "config": {"layers": 3}}'), "without a list of"),
    "layers that are numbers": (archived(b'{"class_name": "Model", "config": {"layers": [3]}}'), "without a list of"),
    "layers without classes": (archived(b'{"class_name": "Model", "config": {"layers": [{}]}}'), "without a class"),
    "a bomb": (archived(b" " * 2**25, method=zipfile.ZIP_DEFLATED), "are allowed"),
    "bombs of weights": (archived(weights=GOOD + bytes(2**25), method=zipfile.ZIP_DEFLATED), "are allowed"),
    "packed by another method": (archived(method=zipfile.ZIP_LZMA), "packed by method 14"),
    "no zip": (b"PK\x03\x04" + bytes(100), "not a zip file"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_promise_4_a_hostile_archive_raises_file_format_error(here, case):
    refuse(*ARCHIVES[case], "hostile.keras")


def test_other_entries_of_an_archive_are_left_alone(here):
    Path("x.keras").write_bytes(archived(**{"../outside": b"x", "/tmp/absolute": b"x", "run.pkl": b"cos\nsystem\n"}))
    assert load_tensors("x.keras").keys() == {"dense/kernel"}
    assert os.listdir() == ["x.keras"] and not os.path.exists("../outside")


def other(data, place, new):
    return data[:place] + new + data[place + len(new):]


@pytest.mark.parametrize("data, message", [
    (b"", "not a file of Keras"), (b"hello, world", "not a file of Keras"), (GOOD[:8], "damaged"),
    (other(GOOD, 8, b"\x09"), "a superblock of version 9"), (other(GOOD, 13, b"\x04\x04"), "addresses and lengths of"),
    (other(GOOD, 24, b"\x08"), "begins at byte 8"), (other(GOOD, 48, b"\x00" * 8), "spread over several files"),
    (other(GOOD, 64, b"\xff" * 8), "ends behind the file's"), (GOOD[:-1], "truncated: it says it has 8,216 bytes"),
])
def test_promise_4_the_front_of_the_file(here, data, message):
    refuse(data, message)


@pytest.mark.parametrize("name, step", [("hostile/good", 41), ("pieces_latest.h5", 7), ("nested.keras", 331)])
def test_promise_4_truncation_raises(here, name, step):
    data, path = GOLDEN[name].tobytes(), Path("file.keras" if "keras" in name else "file.h5")
    path.write_bytes(data)
    assert load_tensors(path)
    for length in range(0, len(data), step):
        path.write_bytes(data[:length])
        with pytest.raises(FileFormatError):
            load_tensors(path)


@pytest.mark.parametrize("name", ["hostile/good", "pieces_earliest.h5", "pieces_latest.h5", "nested.h5", "text.keras"])
def test_promise_4_flipped_bits_raise_or_change_only_values(here, name):
    data, rng, path = GOLDEN[name].tobytes(), np.random.default_rng(0), Path("file.h5")
    used = np.flatnonzero(np.frombuffer(data, np.uint8))  # most of such a file is empty
    model, refused = nn.Sequential(nn.Linear(2, 3)), 0
    before = model[0].weight.numpy().copy()
    for _ in range(100):
        damaged = bytearray(data)
        for place in rng.choice(used, rng.integers(1, 4)):
            damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            load_tensors(path)
        except FileFormatError:
            refused += 1
        with pytest.raises((FileFormatError, LoadError)):
            load(path, model)
    assert refused > 5 and os.listdir() == [path.name]
    np.testing.assert_array_equal(model[0].weight.numpy(), before)


def test_a_file_that_is_not_there_is_an_os_error():
    with pytest.raises(FileNotFoundError):
        load_tensors("nowhere.h5")
    with pytest.raises(FileNotFoundError):
        load("nowhere.keras", nn.Linear(1, 1))


@pytest.mark.parametrize("name", ["hostile/external storage", "hostile/external link", "hostile/virtual", "nested.h5",
                                  "hostile/code", "text.keras"])
def test_promise_4_reading_opens_the_file_alone_and_imports_and_runs_nothing(here, name):
    path = Path("file.h5")
    path.write_bytes(GOLDEN[name].tobytes())
    seen = []
    watched = ("open", "import", "exec", "os.", "subprocess.", "socket.", "pickle.", "marshal.", "ctypes.")

    def watch(event, arguments):
        if watching and event.startswith(watched):
            seen.append((event, str(arguments[0])))

    def read():
        try:
            load_tensors(path)
        except FileFormatError:
            pass

    watching = False
    read()
    sys.addaudithook(watch)  # it stays for the life of the process
    watching = True
    read()
    watching = False
    assert seen == [("open", str(path))]
