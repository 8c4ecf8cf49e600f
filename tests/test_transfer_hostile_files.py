"""Promise 4 of the transfer module: a damaged or hostile model file can fail to load, and nothing else."""

import json
import sys

import numpy as np
import pytest
from transfer_networks import network, snapshot, trained

from minidl import FileFormatError
from minidl.transfer import (
    LoadError,
    load,
    load_metadata,
    load_tensors,
    save,
    save_tensors,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def damaged(path, **changes):
    """The file with other metadata."""
    tensors, metadata = load_tensors(path), load_metadata(path)
    for key, value in changes.items():
        if value is None:
            metadata.pop(f"minidl.{key}", None)
        else:
            metadata[f"minidl.{key}"] = value if isinstance(value, str) else json.dumps(value)
    save_tensors(tensors, path, metadata)


def linear(inputs, outputs):
    return {"class": "Linear", "config": {"in_features": inputs, "out_features": outputs}}


@pytest.mark.parametrize("changes, message", [
    ({"format": "2"}, "of format '2'; this minidl reads format 1 only"),
    ({"architecture": "{"}, "architecture is not the JSON it should be"),
    ({"architecture": "[]"}, "architecture is a list"),
    ({"architecture": "[" * 100_000}, "nested too deeply"),
    ({"architecture": '{"class":"Linear","class":"Tanh"}'}, "'class' stands there twice"),
    ({"architecture": {"class": "os.system"}}, "unknown layer 'os.system'"),
    ({"architecture": {"class": "../../etc/passwd"}}, "unknown layer '../../etc/passwd'"),
    ({"architecture": {"class": "Sequential", "children": [{"name": "a", "shared": ""}]}}, "is shared with ''"),
    ({"architecture": linear("__import__('os')", 2)}, "must be integer, not text"),
    ({"architecture": {"class": "Linear", "config": {"__init__": 1}}}, "takes no argument '__init__'"),
    ({"architecture": linear(10**9, 10**9)}, "more than fits into the memory allowed"),
    ({"architecture": linear(20_000, 20_000)}, "take more than.*pass model=build"),
    ({"architecture": " " * 5_000_000}, "a text of 5,000,000 characters"),
    ({"ties": {"head.bias": "head.weight"}}, "'head.bias' is said to be tied"),
    ({"ties": {"a.weight": "b.weight"}}, "'a.weight' is said to be tied to 'b.weight'"),
    ({"ties": {"body.9.weight": "head.weight"}}, "cannot be tied"),
    ({"ties": {"__class__": "head.weight"}}, "'__class__' cannot be tied"),
    ({"ties": {"head.forward": "head.weight"}}, "'head.forward' cannot be tied"),
    ({"ties": {"a": ["b"]}}, "must hold texts"),
    ({"classes": [1, 2]}, "must hold texts"),
    ({"classes": {"a": 1}}, "classes is a dict"),
    ({"untrained": [[]]}, "must hold texts"),
    ({"preprocessing": [1]}, "preprocessing is a list"),
    ({"licence": 5}, "licence is a int"),
    ({"provenance": "NaN"}, "NaN is no JSON number"),
])
def test_promise_4_hostile_metadata_raises_file_format_error(path, changes, message):
    save(trained(), path)
    damaged(path, **changes)
    with pytest.raises(FileFormatError, match=message):
        load(path)


def test_promise_4_an_architecture_that_does_not_fit_the_tensors_is_refused(path):
    save(trained(), path)
    damaged(path, architecture=linear(8, 3))
    with pytest.raises(LoadError, match="does not fit Linear"):
        load(path)


def test_promise_4_loading_opens_the_file_alone_and_imports_and_runs_nothing(path):
    save(trained(), path)
    load(path)
    seen = []
    watched = ("open", "import", "exec", "compile", "os.", "subprocess.", "socket.", "pickle.", "marshal.", "ctypes.")

    def watch(event, arguments):
        if watching and event.startswith(watched):
            seen.append((event, *arguments[:1]))

    watching = True
    sys.addaudithook(watch)  # it stays for the life of the process
    load(path)
    watching = False
    assert {(event, str(what)) for event, what in seen} == {("open", str(path))}


def test_promise_4_every_truncation_and_many_flipped_bits_of_a_model_file(path):
    save(trained(), path, classes=["a", "b", "c"], preprocessing={"mean": [0.1]})
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    damages = [data[:length] for length in rng.integers(0, len(data), 100)]
    for _ in range(300):
        damage = bytearray(data)
        damage[rng.integers(0, len(data) // 2)] ^= 1 << rng.integers(8)
        damages.append(bytes(damage))
    model = network()
    before = snapshot(model)
    outcomes = {"refused": 0, "loaded": 0}
    for damage in damages:
        path.write_bytes(damage)
        try:
            load(path)
        except (FileFormatError, LoadError):
            outcomes["refused"] += 1
        else:
            outcomes["loaded"] += 1
    assert outcomes["refused"] > 250 and snapshot(model) == before
