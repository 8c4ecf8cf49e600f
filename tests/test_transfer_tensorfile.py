"""Promise 4 of the transfer module, the file format: a hostile or damaged file raises FileFormatError, nothing else."""

import json
import os
import struct
import tracemalloc

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from minidl import FileFormatError
from minidl.tensor import Tensor
from minidl.transfer import load_metadata, load_tensors, save_tensors


def packed(header, data=b""):
    """A file with this header, given as JSON text, bytes or a dict."""
    text = json.dumps(header) if isinstance(header, dict) else header
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text + data


def entry(shape=(2,), begin=0, end=8, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


EIGHT = bytes(8)
HOSTILE = {
    "empty file": (b"", "0 bytes are too few"),
    "seven bytes": (b"1234567", "7 bytes are too few"),
    "no header": (struct.pack("<Q", 0), "JSON"),
    "header length beyond the file": (struct.pack("<Q", 1000) + b"{}", "declares a header of 1,000"),
    "header length of 2**63": (struct.pack("<Q", 2**63) + b"{}", "declares a header of 9,223"),
    "header length -1": (b"\xff" * 8 + b"{}", "declares a header of 18,446"),
    "header length cuts the JSON": (struct.pack("<Q", 5) + b'{"a":{}}', "JSON"),
    "not UTF-8": (packed(b'{"\xff\xfe":1}'), "JSON"),
    "UTF-16": (packed('{"a":1}'.encode("utf-16")), "JSON"),
    "a byte order mark": (packed(b"\xef\xbb\xbf{}"), "JSON"),
    "half a surrogate pair": (packed(b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT), "JSON"),
    "not JSON": (packed("{'a': 1}"), "JSON"),
    "a list": (packed("[]"), "must be a JSON object, not list"),
    "a number": (packed("12"), "must be a JSON object, not int"),
    "nested 100,000 deep": (packed(b"[" * 100_000), "nested too deeply"),
    "objects nested 100,000 deep": (packed(b'{"a":' * 100_000), "nested too deeply"),
    "a number of 10,000 digits": (packed('{"a":' + "9" * 10_000 + "}"), "too long"),
    "NaN": (packed('{"a":NaN}'), "NaN is no JSON number"),
    "duplicate tensor": (packed('{"a":%s,"a":%s}' % ((json.dumps(entry()),) * 2), EIGHT), "'a' stands there twice"),
    "duplicate metadata": (packed('{"__metadata__":{"k":"1","k":"2"}}'), "'k' stands there twice"),
    "metadata twice": (packed('{"__metadata__":{},"__metadata__":{}}'), "'__metadata__' stands there twice"),
    "duplicate field": (packed('{"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}', EIGHT), "twice"),
    "metadata is a list": (packed({"__metadata__": []}), "must map text to text"),
    "metadata holds a number": (packed({"__metadata__": {"a": 1}}), "must map text to text"),
    "tensor is text": (packed({"a": "b"}), "expected an object"),
    "no dtype": (packed({"a": {"shape": [2], "data_offsets": [0, 8]}}, EIGHT), "expected an object"),
    "unknown dtype": (packed({"a": entry(dtype="F33")}, EIGHT), "dtype 'F33' is not one"),
    "dtype without NumPy's": (packed({"a": entry((8,), dtype="F8_E4M3")}, EIGHT), "dtype 'F8_E4M3' is not one"),
    "bfloat16 of a wrong length": (packed({"a": entry((2,), dtype="BF16")}, EIGHT), "takes 4 bytes, but its"),
    "dtype is a list": (packed({"a": entry(dtype=["F32"])}, EIGHT), "is not one that NumPy has"),
    "negative shape": (packed({"a": entry((-2,))}, EIGHT), r"shape \[-2\] is not a list"),
    "shape of booleans": (packed({"a": entry((True, 2))}, EIGHT), "is not a list of at most 32 sizes"),
    "shape of floats": (packed({"a": entry((2.0,))}, EIGHT), "is not a list of at most 32 sizes"),
    "shape is text": (packed({"a": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}}, EIGHT), "is not a list"),
    "shape of 70 axes": (packed({"a": entry((1,) * 69 + (2,))}, EIGHT), "is not a list of at most 32 sizes"),
    "shape overflows 64 bits": (packed({"a": entry((2**61, 2**3))}, EIGHT), "takes 73,786,976,294,838,206,464 bytes"),
    "shape wraps round to 8 bytes": (packed({"a": entry((2**32 + 1, 2**32, 2))}, EIGHT), "takes"),
    "empty with huge sides": (packed({"a": entry((0, 2**61, 2**61), 0, 0)}), "refuses"),
    "shape does not fit the offsets": (packed({"a": entry((3,))}, EIGHT), "takes 12 bytes, but its.* 0 to 8"),
    "offsets reversed": (packed({"a": entry((2,), 8, 0)}, EIGHT), "hold -8"),
    "offsets negative": (packed({"a": entry((2,), -8, 0)}, EIGHT), "are not two positions"),
    "offsets of floats": (packed({"a": entry((2,), 0.0, 8.0)}, EIGHT), "are not two positions"),
    "three offsets": (packed({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}}, EIGHT), "two positions"),
    "offsets out of range": (packed({"a": entry((4,), 0, 16)}, EIGHT), "truncated: the header describes 16 bytes"),
    "overlap": (packed({"a": entry(), "b": entry((2,), 4, 12)}, bytes(12)), "'b' begins at byte 4.*overlaps"),
    "two on one place": (packed({"a": entry(), "b": entry()}, EIGHT), "'b' begins at byte 0.*overlaps"),
    "hole": (packed({"a": entry(), "b": entry((2,), 12, 20)}, bytes(20)), "'b' begins at byte 12.*hole"),
    "hole at the front": (packed({"a": entry((2,), 4, 12)}, bytes(12)), "'a' begins at byte 4.*hole"),
    "trailing bytes": (packed({"a": entry()}, bytes(9)), "too long: the header describes 8 bytes"),
    "truncated data": (packed({"a": entry()}, bytes(7)), "truncated: the header describes 8 bytes"),
    "a zip file": (b"PK\x03\x04" + bytes(100), "declares a header"),
    "a pickle": (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "declares a header"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_promise_4_every_hostile_file_raises_file_format_error_that_says_what_is_wrong(tmp_path, name):
    data, message = HOSTILE[name]
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=message) as caught:
        load_tensors(path)
    assert str(path) in str(caught.value)


def test_promise_4_half_a_surrogate_pair_in_the_metadata_is_refused(tmp_path):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(packed(b'{"__metadata__":{"a":"\\ud800"}}'))
    with pytest.raises(FileFormatError, match="JSON"):
        load_metadata(path)


def sample():
    rng = np.random.default_rng(0)
    return {"layer.weight": rng.standard_normal((3, 4)).astype(np.float32), "layer.bias": rng.standard_normal(3),
            "steps": np.array(7), "empty": np.zeros((0, 5), np.float32), "mask": np.array([True, False])}


def test_promise_4_truncation_at_every_byte_raises(tmp_path):
    path = tmp_path / "file.safetensors"
    save_tensors(sample(), path, {"note": "x"})
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(FileFormatError):
            load_tensors(path)


def test_promise_4_flipped_bits_raise_file_format_error_or_change_only_values(tmp_path):
    path = tmp_path / "file.safetensors"
    save_tensors(sample(), path, {"note": "x"})
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            loaded = load_tensors(path)
        except FileFormatError:
            refused += 1
        else:
            assert sum(array.nbytes for array in loaded.values()) <= len(data)
    assert refused > 300


def test_promise_4_no_memory_is_asked_for_that_the_file_does_not_fill(tmp_path):
    path = tmp_path / "file.safetensors"
    claims = [struct.pack("<Q", 99 * 2**20) + b"{}", packed({"a": entry((2**32,), 0, 2**34)}, EIGHT)]
    tracemalloc.start()
    try:
        for data in claims:
            path.write_bytes(data)
            with pytest.raises(FileFormatError):
                load_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_promise_4_pipes_and_folders_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FileFormatError, match="not a file but a folder, a device or a pipe"):
            load_tensors(path)
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "missing")


def test_tensors_come_back_with_their_bits_dtypes_and_shapes(tmp_path):
    path = tmp_path / "file.safetensors"
    tensors = {str(dtype): np.arange(6).reshape(2, 3).astype(dtype)
               for dtype in ("bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")}
    tensors |= {"scalar": np.array(1.5), "empty": np.zeros((3, 0)), "transposed": np.arange(6.0).reshape(2, 3).T,
                "reversed": np.arange(4.0)[::-1], "big-endian": np.arange(3, dtype=">f4")}
    save_tensors({**tensors, "tensor": Tensor(np.ones(2))}, path)
    loaded = load_tensors(path)
    assert loaded.keys() == {*tensors, "tensor"}
    for name, array in tensors.items():
        assert loaded[name].shape == array.shape and loaded[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(loaded[name], array)
        loaded[name][...] = 0  # the arrays are the caller's


def test_the_safetensors_library_reads_what_is_written_and_the_other_way_round(tmp_path):
    path = tmp_path / "file.safetensors"
    save_tensors(sample(), path, {"author": "Zoë", "licence": "MIT"})
    for name, array in safetensors.numpy.load_file(path).items():
        np.testing.assert_array_equal(array, sample()[name])
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == {"author": "Zoë", "licence": "MIT"} == load_metadata(path)
    safetensors.numpy.save_file(sample(), path, {"a": "b"})
    assert load_metadata(path) == {"a": "b"}
    assert load_tensors(path).keys() == sample().keys()


def test_equal_content_gives_equal_bytes(tmp_path):
    metadata = {f"key{i}": str(i) for i in range(20)}
    written = set()
    for shift in range(5):
        keys = [*list(metadata)[shift:], *list(metadata)[:shift]]
        save_tensors(sample(), tmp_path / "file", {key: metadata[key] for key in keys})
        written.add((tmp_path / "file").read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("tensors, message", [
    ({"a": np.array(["text"])}, "'a' is <U4, which the format cannot hold"),
    ({"a": np.zeros(2, complex)}, "'a' is complex128"),
    ({"a": np.array([None])}, "'a' is object"),
    ({"__metadata__": np.zeros(2)}, "cannot be the name of a tensor"),
    ({1: np.zeros(2)}, "1 cannot be the name"),
])
def test_what_cannot_be_stored_raises_before_anything_is_written(tmp_path, tensors, message):
    with pytest.raises(TypeError, match=message):
        save_tensors(tensors, tmp_path / "file")
    with pytest.raises(TypeError, match="metadata must be text"):
        save_tensors({}, tmp_path / "file", {"a": 1})
    assert not os.listdir(tmp_path)


def test_bfloat16_becomes_float32_of_the_same_values(tmp_path):
    bits = np.array([[0x3F80, 0xC020], [0x0001, 0x7F80]], np.uint16)  # 1, -2.5, the smallest number, infinity
    data = {"a": entry((2, 2), 0, 8, "BF16"), "b": entry((2,), 8, 16)}
    (tmp_path / "file").write_bytes(packed(data, bits.tobytes() + np.array([1, 2], np.float32).tobytes()))
    found = load_tensors(tmp_path / "file")
    assert found["a"].dtype == np.float32 and found["a"].tolist() == [[1, -2.5], [2.0**-133, np.inf]]
    assert found["b"].tolist() == [1, 2] and all(value.flags.writeable for value in found.values())
