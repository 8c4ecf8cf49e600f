"""A hostile or damaged file of PyTorch or NumPy raises FileFormatError, runs nothing and claims no memory."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pickle_parts import call, legacy, mapping, name, number, program, several, storage, tensor, text, view, zipped

from minidl import FileFormatError
from minidl.transfer import load_tensors

FILES = Path(__file__).with_name("golden") / "torch_files"
GOOD = tensor()
RUN = call("os system", text("touch pwned"))
CYCLE = b"]q\x00h\x00a"  # a list that holds itself
DOUBLED = [b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(25)]
LAUGHS = several(b"](" + GOOD + b"eq\x00", *DOUBLED)  # each list holds the one before twice
NESTED = b"N" + b"\x85" * 5_000  # a tuple in a tuple in a tuple
AGAIN = name("torch._tensor _rebuild_from_type_v2")
PICKLES = {  # the pickle of an otherwise sound file
    "a function": (RUN, "it refers to 'os system'"),
    "a function beside a tensor": (mapping(a=GOOD, b=RUN), "it refers to 'os system'"),
    "a function by protocol 4": (text("os") + text("system") + b"\x93" + several(text("touch pwned")) + b"R",
                                 "it refers to 'os system'"),
    "a function by INST": (b"(" + text("touch pwned") + b"ios\nsystem\n", "uses the step INST"),
    "a function by OBJ": (b"(" + name("os system") + text("touch pwned") + b"o", "it refers to 'os system'"),
    "a class by NEWOBJ": (name("collections OrderedDict") + b")\x81", "uses the step NEWOBJ"),
    "a builtin": (call("builtins eval", text("1")), "it refers to 'builtins eval'"),
    "a name inside of torch": (call("torch.hub load", text("a")), "it refers to 'torch.hub load'"),
    "a module inside of torch._utils": (name("torch._utils sys.modules"), "it refers to"),
    "a dotted name": (text("torch._utils") + text("_rebuild_tensor.__globals__") + b"\x93", "it refers to|it holds"),
    "an extension": (b"\x82\x01", "uses the step EXT1"),
    "calling a tensor": (GOOD + b")R", "it calls Described"),
    "calling a text": (text("a") + b")R", "it calls 'a'"),
    "calling a storage class": (name("torch FloatStorage") + b")R", "it calls 'float32'"),
    "calling a class": (name("torch Tensor") + b")R", "it calls 'class'"),
    "calling with a list": (name("collections OrderedDict") + b"]R", "no tuple"),
    "state on a function": (name("collections OrderedDict") + mapping(x=b"N") + b"b", "sets the state of a _Name"),
    "state on a tensor": (GOOD + mapping(x=b"N") + b"b", "sets the state of a Described"),
    "too few arguments": (call("torch._utils _rebuild_tensor_v2", storage()), "not enough values"),
    "no arguments": (call("torch._utils _rebuild_parameter"), "index out of range"),
    "a Parameter of a text": (call("torch._utils _rebuild_parameter", text("a")), "something that is no tensor"),
    "rebuilding through a function": (call("torch._tensor _rebuild_from_type_v2", RUN, b"N", b")"), "'os system'"),
    "rebuilding through a text": (call("torch._tensor _rebuild_from_type_v2", text("a"), b"N", b")"), "it calls"),
    "rebuilding through itself": (AGAIN + (b"(" + AGAIN + b"N") * 3_000 + b")" + b"t" * 3_000 + b"R", "it calls"),
    "a persistent id without end": (NESTED + b"Q", "recursion|no storage"),
    "calling a tuple without end": (NESTED + b")R", "recursion|it calls"),
    "a key of a megabyte": (b"}" + number(2 ** (8 * 10**6)) + GOOD + b"s", "where the name of an item belongs"),
    "a quantised tensor": (call("torch._utils _rebuild_qtensor"), "not a dense tensor"),
    "a float8 tensor": (name("torch float8_e4m3fn"), "not a dense tensor"),
    "no storage": (tensor(of=text("a")), "made of something that is no storage"),
    "a storage of no class": (tensor(of=several(text("storage"), text("a"), text("0"), text("cpu"), number(4)) + b"Q"),
                              "has no class"),
    "a persistent id of another kind": (tensor(of=several(text("module")) + b"Q"), "no storage"),
    "a persistent id that is a text": (text("storage") + b"Q", "no storage"),
    "a key that is no text": (several(text("storage"), name("torch FloatStorage"), number(0), text("cpu"), number(4)) +
                              b"Q", "where text belongs"),
    "a negative length": (tensor(of=storage(-1)), "length of a storage is -1"),
    "an endless length": (tensor((1,), of=storage(2**62)), "length of a storage is 46116"),
    "a length that is a text": (tensor(of=several(text("storage"), name("torch FloatStorage"), text("0"), text("cpu"),
                                                  text("4")) + b"Q"), "length of a storage is '4'"),
    "a storage described twice": (mapping(a=tensor(), b=tensor(of=storage(3))), "described in two ways"),
    "a view beyond its storage": (view(2, 3), "elements 2 to 5"),
    "an offset beyond": (tensor((1,), (1,), 4), "ends at element 4 of a storage of 4"),
    "a negative offset": (tensor((1,), (1,), -1), "is -1"),
    "a size beyond": (tensor((5,)), "ends at element 4 of a storage of 4"),
    "a stride beyond": (tensor((2,), (4,)), "ends at element 4 of a storage of 4"),
    "a negative stride": (tensor((4,), (-1,), 3), "is -1"),
    "a negative size": (tensor((-4,)), "is -4"),
    "a size of True": (call("torch._utils _rebuild_tensor", storage(), number(0), several(b"\x88"), several(number(1))),
                       "is True"),
    "sizes without strides": (tensor((2, 2), (1,)), "size .* and stride"),
    "sizes in a list": (call("torch._utils _rebuild_tensor_v2", storage(), number(0), b"]", several(), b"\x89", b"N"),
                        "size .* and stride"),
    "70 axes": (tensor((1,) * 70, (1,) * 70), "size .* and stride"),
    "sizes that overflow": (tensor((2**61, 2**61), (0, 0)), "a tensor of size"),
    "empty with huge sides": (tensor((0, 2**61, 2**61), (0, 0, 0)), "a tensor of size"),
    "an expanded tensor of terabytes": (mapping(a=tensor((2**40,), (0,))), "take 4,398,046,511,104 bytes"),
    "many tensors of one storage": (mapping(**{f"a{i}": tensor((2**20,), (0,)) for i in range(5)}), "are allowed"),
    "a name twice": (b"}(" + (text("a") + GOOD) * 2 + b"u", "'a' stands there twice"),
    "a name twice by nesting": (b"}(" + text("a.b") + GOOD + text("a") + mapping(b=GOOD) + b"u", "two tensors"),
    "a name that is a tensor": (b"}(" + GOOD + number(1) + b"u", "where the name of an item belongs"),
    "a name that is a list": (b"}(" + b"]" + number(1) + b"u", "where the name of an item belongs"),
    "an OrderedDict of no pairs": (call("collections OrderedDict", number(3)), "not iterable"),
    "no tensor": (mapping(a=number(1)), "no tensor in it"),
    "nothing": (b"N", "no tensor in it"),
    "an empty stack": (b"", "values to unpack"),
    "two values": (b"NN", "values to unpack"),
    "a tuple of nothing": (b"t", "pop from empty list"),
    "items for a text": (text("a") + number(1) + b"a", "adds items to a str"),
    "a memo that is not there": (b"h\x05", "5"),
    "an unknown step": (b"\xff", "opcode"),
    "a list that holds itself": (mapping(a=GOOD, b=CYCLE), "hold each other"),
    "lists that double": (LAUGHS, "hold each other|nested too deeply|two tensors"),
    "nested 100,000 deep": (b"]" * 100_000 + b"a" * 99_999, "more objects than"),
    "many dicts": (b"}" * 200_000, "more objects than"),
    "many memos": (b"N" + b"\x94" * 200_000, "more objects than"),
    "a text that claims 4 GB": (b"X" + b"\xff" * 4 + b"abc", "expected 4294967295 bytes|4,294,967,295"),
    "a text that claims exabytes": (b"\x8d" + b"\xff" * 7 + b"\x0f" + b"abc", "expected|bytes"),
    "a number of a megabyte": (mapping(a=tensor((1,), (1,), 2 ** (8 * 10**6))), "an offset|Exceeds"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in, where a pickle that runs would leave a file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(data, message, ending="pt", memory=2**21):
    """Assert that the file is refused with that message, and that at most `memory` and a few times its size is used."""
    path = Path(f"hostile.{ending}")
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=message) as caught:
            load_tensors(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value) and len(str(caught.value)) < 1000
    assert peak < memory + 40 * len(data)
    assert os.listdir() == [path.name]


@pytest.mark.parametrize("case", PICKLES)
@pytest.mark.parametrize("make", [zipped, legacy])
def test_promise_4_a_hostile_pickle_raises_file_format_error(here, case, make):
    body, message = PICKLES[case]
    refuse(make(body), message if make is zipped else f"{message}|is not that of its tensors")


def archived(*members, method=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate name") if len(dict(members)) < len(members) else io.BytesIO():
        with zipfile.ZipFile(stream, "w", method) as archive:
            for member, data in members:
                archive.writestr(member, data)
    return stream.getvalue()


def patched(data, old, new):
    assert old in data
    return data.replace(old, new)


BODY = mapping(a=GOOD)
ZIPS = {
    "no pickle": (archived(("archive/data/0", bytes(16))), "with 0 data.pkl"),
    "two pickles": (archived(("a/data.pkl", program(BODY)), ("b/data.pkl", program(BODY))), "with 2 data.pkl"),
    "an entry twice": (archived(("a/data.pkl", program(BODY)), ("a/data/0", bytes(16)), ("a/data/0", bytes(16))),
                       "two entries are called 'a/data/0'"),
    "a missing storage": (zipped(BODY, {}), "'archive/data/0' of 16 bytes is missing"),
    "a storage that is too short": (zipped(BODY, {"0": bytes(12)}), "of 16 bytes has 12"),
    "a storage that is too long": (zipped(BODY, {"0": bytes(17)}), "of 16 bytes has 17"),
    "a storage outside": (zipped(mapping(a=tensor(of=storage(key="../../etc/passwd")))), "is missing"),
    "compressed": (zipped(BODY, compression=zipfile.ZIP_DEFLATED), "is compressed, which PyTorch does not do"),
    "packed by another method": (zipped(BODY, compression=zipfile.ZIP_LZMA), "packed by method 14"),
    "a bomb": (zipped(mapping(a=tensor((2**26,), of=storage(2**26))), {"0": bytes(2**28)},
                      compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "big-endian": (zipped(BODY, byteorder=b"big"), "not said to be little-endian"),
    "an unknown byte order": (zipped(BODY, byteorder=b"x" * 1000), "not said to be little-endian"),
    "TorchScript": (zipped(BODY, **{"constants.pkl": b"\x80\x02)."}), "a TorchScript program"),
    "a changed byte": (patched(zipped(BODY, {"0": b"0123456789abcdef"}), b"0123456789abcdef", b"0123456789abcdeX"),
                       "Bad CRC-32"),
    "no zip": (b"PK\x03\x04" + bytes(100), "not a zip file"),
    "empty": (b"", "not a file of PyTorch"),
    "a text": (b"hello, world", "not a file of PyTorch"),
    "a safetensors file": (struct.pack("<Q", 2) + b"{}", "a safetensors file by its content"),
    "an npz": (archived(("a.npy", b"")), "with 0 data.pkl"),
}
LEGACY = {
    "another magic number": (legacy(BODY, magic=7), "not a file of PyTorch; pickles of other kinds"),
    "another protocol": (legacy(BODY, protocol=1002), "not a file of PyTorch; pickles of other kinds"),
    "storages that are lists": (legacy(BODY, keys=[["0"]]), "list of storages is not that"),
    "a plain pickle": (pickle.dumps({"a": [1.5, "b"]}, 2), "not a file of PyTorch|truncated|exhausted"),
    "a pickle that runs": (program(RUN), "it refers to 'os system'"),
    "big-endian": (legacy(BODY, little=False), "not said to be little-endian"),
    "another list of storages": (legacy(BODY, keys=["1"]), "list of storages is not that"),
    "a storage listed twice": (legacy(BODY, keys=["0", "0"]), "list of storages is not that"),
    "storages that are no list": (legacy(BODY, keys="0"), "list of storages is not that"),
    "another count": (legacy(BODY, counts=[5]), "a storage of 5 elements"),
    "a negative count": (legacy(BODY, counts=[-1]), "a storage of 18,446,744"),
    "a storage beyond the file": (legacy(mapping(a=tensor(of=storage(2**40))), counts=[2**40]), "ends at byte"),
    "bytes at the end": (legacy(BODY) + b"x", "1 bytes follow after the last storage"),
    "a tar archive": (b"data.tar" + bytes(600), "not a file of PyTorch"),
}


@pytest.mark.parametrize("case", ZIPS)
def test_promise_4_a_hostile_archive_raises_file_format_error(here, case):
    refuse(*ZIPS[case])


@pytest.mark.parametrize("case", LEGACY)
def test_promise_4_a_hostile_file_of_the_old_format_raises_file_format_error(here, case):
    refuse(*LEGACY[case])


def npy(header, data=b"", version=1, length=None):
    text = header.encode("latin-1")
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


def header(descr="'<f4'", fortran="False", shape="(2,)"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"


def object_array():
    stream = io.BytesIO()
    np.save(stream, np.array([{}], object), allow_pickle=True)
    return stream.getvalue()


EIGHT = bytes(8)
ARRAYS = {
    "objects": (object_array(), r"of dtype '\|O'; only numbers and booleans"),
    "a structure": (npy(header("[('a', '<f4')]"), EIGHT), "not that of an array|of dtype"),
    "texts": (npy(header("'<U2'"), EIGHT), "of dtype '<U2'"),
    "raw bytes": (npy(header("'|V8'", shape="(1,)"), EIGHT), "of dtype"),
    "times": (npy(header("'<M8[s]'", shape="(1,)"), EIGHT), "of dtype"),
    "several types": (npy(header("'f4,f4'", shape="(1,)"), EIGHT), "of dtype"),
    "an array of arrays": (npy(header("'(1000000,1000000)f8'", shape="(1,)"), EIGHT), "of dtype"),
    "a type that is not": (npy(header("'<f3'"), EIGHT), "of dtype '<f3'"),
    "a call": (npy(header("__import__('os').system('touch pwned')"), EIGHT), "not that of an array"),
    "a comprehension": (npy("[x for x in ()]", EIGHT), "not that of an array"),
    "a list": (npy("[1]", EIGHT), "not that of an array"),
    "deep parentheses": (npy("(" * 9_000, EIGHT), "not that of an array"),
    "a long header": (npy("#" * 20_000, EIGHT), "a header of 20,000 bytes"),
    "a header of gigabytes": (npy(header(), EIGHT, 2, 2**32 - 1), "a header of 4,294,967,295 bytes"),
    "a header beyond the end": (npy(header(), b"", 1, 5000), "truncated"),
    "version 9": (npy(header(), EIGHT, 9), "no array of NumPy"),
    "another magic": (b"\x94NUMPY" + npy(header(), EIGHT)[6:], "no array of NumPy"),
    "nothing": (b"", "no array of NumPy|truncated"),
    "no shape": (npy("{'descr': '<f4', 'fortran_order': False}", EIGHT), "not that of an array"),
    "a negative shape": (npy(header(shape="(-2,)"), EIGHT), "is of shape"),
    "a shape of floats": (npy(header(shape="(2.0,)"), EIGHT), "is of shape"),
    "a shape that is a number": (npy(header(shape="2"), EIGHT), "is of shape"),
    "a shape of 70 axes": (npy(header(shape=str((1,) * 70)), bytes(4)), "is of shape"),
    "a shape that overflows": (npy(header(shape="(4294967296, 4294967296, 4294967296)"), EIGHT), "is of shape"),
    "an order that is a number": (npy(header(fortran="1"), EIGHT), "is of shape"),
    "a shape of terabytes": (npy(header(shape="(10**12,)"), EIGHT), "not that of an array"),
    "a shape of a terabyte": (npy(header(shape="(250000000000,)"), EIGHT), "takes 1,000,000,000,000 bytes, but 8"),
    "too little data": (npy(header(), bytes(7)), "takes 8 bytes, but 7 follow"),
    "too much data": (npy(header(), bytes(9)), "takes 8 bytes, but 9 follow"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_promise_4_a_hostile_array_in_an_npz_raises_file_format_error(here, case):
    data, message = ARRAYS[case]
    refuse(archived(("a.npy", data), method=zipfile.ZIP_DEFLATED), message, "npz")


def claiming(data, size, method=zipfile.ZIP_DEFLATED):
    """An archive whose table says that its only entry has `size` bytes."""
    packed = bytearray(archived(("a.npy", data), method=method))
    table = packed.index(b"PK\x01\x02")
    struct.pack_into("<I", packed, table + 24, size)
    return bytes(packed)


ZEROS = npy(header(shape=f"({2**26},)"), bytes(2**28))
NPZ = {
    "a bomb": (archived(("a.npy", ZEROS), method=zipfile.ZIP_DEFLATED), "take 268,435,5.*are allowed"),
    "a false size": (claiming(npy(header(), EIGHT), 2**31), "which is not possible in a file of"),
    "a false size of a stored entry": (claiming(npy(header(), EIGHT), 2**20, zipfile.ZIP_STORED), "not possible"),
    "one of many small bombs": (archived(*((f"{i}.npy", npy(header(shape=f"({2**20},)"), bytes(2**22)))
                                           for i in range(6)), method=zipfile.ZIP_DEFLATED), "are allowed"),
    "an array twice": (archived(("a.npy", npy(header(), EIGHT)), ("a.npy", npy(header(), EIGHT))), "two entries"),
    "something else": (archived(("a.npy", npy(header(), EIGHT)), ("run.py", b"")), "'run.py' in it is no array"),
    "no zip": (b"\x93NUMPY", "not a zip file"),
    "empty": (b"", "not a zip file"),
}


@pytest.mark.parametrize("case", NPZ)
def test_promise_4_a_hostile_npz_raises_file_format_error(here, case):
    refuse(*NPZ[case], "npz")


def small(kind):
    if kind == "npz":
        stream = io.BytesIO()
        np.savez_compressed(stream, a=np.arange(3.0), b=np.ones((2, 2), np.int8))
        return stream.getvalue()
    body = mapping(a=tensor(), b=tensor((2, 2), (1, 2)))
    return zipped(body, byteorder=b"little") if kind == "pt" else legacy(body)


@pytest.mark.parametrize("kind", ["pt", "pth", "npz"])
def test_promise_4_truncation_at_every_byte_raises(here, kind):
    data = small(kind)
    path = Path(f"file.{kind}")
    path.write_bytes(data)
    assert load_tensors(path).keys() == {"a", "b"}
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(FileFormatError):
            load_tensors(path)


@pytest.mark.parametrize("kind", ["pt", "pth", "npz"])
def test_promise_4_flipped_bits_raise_file_format_error_or_change_only_values(here, kind):
    data, rng, path = small(kind), np.random.default_rng(0), Path(f"file.{kind}")
    refused = 0
    for _ in range(500):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            load_tensors(path)
        except FileFormatError:
            refused += 1
    assert refused > 150 and os.listdir() == [path.name]
