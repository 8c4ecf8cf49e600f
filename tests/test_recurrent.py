"""Recurrent layers and cells: against PyTorch, padded against alone, and what they say about wrong input."""

from pathlib import Path

import numpy as np
import pytest
from recurrent_cases import VARIANTS, compute

import minidl

GOLDEN = np.load(Path(__file__).with_name("golden") / "recurrent.npz")
LAYERS = ("RNN", "LSTM", "GRU")
every_layer = pytest.mark.parametrize("kind", LAYERS)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 1e-5)], ids=["float64", "float32"])
def test_agrees_with_pytorch(name, dtype, tolerance):
    values = compute(minidl, name, dtype)
    assert list(values) == [key for key in GOLDEN.files if key.split("/")[0] == name]
    for key, value in values.items():
        expected = GOLDEN[key]
        assert value.dtype == dtype and value.shape == expected.shape, key
        np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * np.abs(expected).max(), err_msg=key)
