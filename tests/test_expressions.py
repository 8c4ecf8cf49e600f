"""What a PyTorch user writes gives what PyTorch gives: value, dtype, shape and gradient of tests/expressions.py."""

from pathlib import Path

import numpy as np
import pytest
from expressions import EXPRESSIONS, X, weights

import minidl

GOLDEN = np.load(Path(__file__).with_name("golden") / "expressions.npz")


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expression_agrees_with_pytorch(name):
    x = minidl.tensor(X, requires_grad=True)
    output = EXPRESSIONS[name](minidl, x)
    expected = GOLDEN[f"{name}/output"]
    assert (output.dtype, output.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(output.numpy(), expected, rtol=2e-6, atol=1e-6)
    assert output.requires_grad == (f"{name}/gradient" in GOLDEN)
    if output.requires_grad:
        output.backward(weights(output.shape, output.dtype))
        np.testing.assert_allclose(x.grad.numpy(), GOLDEN[f"{name}/gradient"], rtol=5e-6, atol=2e-6)


def test_golden_file_holds_exactly_the_expressions():
    assert {key.rsplit("/", 1)[0] for key in GOLDEN.files} == set(EXPRESSIONS)
