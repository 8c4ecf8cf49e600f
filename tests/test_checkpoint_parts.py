"""What a checkpoint is made of: values in a file, and the random streams of a training."""

import math

import numpy as np
import pytest

from minidl import nn
from minidl.data import DataLoader, TensorDataset
from minidl.train import packing
from minidl.train.streams import find_streams


def test_values_survive_packing(tmp_path):
    values = {"none": None, "yes": True, "big": 2**127 + 1, "minus": -2**70, "nan": math.nan,
              "inf": [math.inf, -math.inf], "float": 0.1,
              "tuple": (1, (2.5, "é")), "!": 3, "keys": {1: "a", (2, 3): [4]}, "empty": [{}, (), []],
              "array": np.arange(6, dtype=np.int16).reshape(2, 3).T, "number": np.float32(1 / 3),
              "many": tuple(range(200)), "a": {"b": np.ones(2)}, "a.b": np.zeros(1)}
    packing.write(tmp_path / "file", "a test", values)
    found = packing.read(tmp_path / "file", "a test")
    assert math.isnan(found.pop("nan")) and math.isnan(values.pop("nan"))
    for name in ("array", "a.b"):
        np.testing.assert_array_equal(found.pop(name), values.pop(name))
    np.testing.assert_array_equal(found.pop("a")["b"], values.pop("a")["b"])
    assert found.pop("number").tobytes() == values.pop("number").tobytes()
    assert found == values
    with pytest.raises(TypeError, match="'x.1' is a object"):
        packing.write(tmp_path / "file", "a test", {"x": [1, object()]})
    assert packing.read(tmp_path / "file", "a test")["big"] == 2**127 + 1


def test_generators_are_found_wherever_they_hang():
    one, two, three = (np.random.default_rng(n) for n in range(3))

    def collate(items):
        return one.random(), items

    model = nn.Sequential(nn.Dropout(0.1, generator=two))
    found = find_streams(train=DataLoader(TensorDataset(np.ones(3)), collate_fn=collate, generator=three), model=model)
    assert {name: stream for name, stream in found.items() if stream in (one, two, three)} == {
        "train.collate_fn.one": one, "model.0.generator": two, "train.generator": three}
    assert len(find_streams(x=[one, one, {"again": one}])) == 4
