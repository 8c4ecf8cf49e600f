"""Every operation against finite differences and against PyTorch, from the one list in cases.py."""

from pathlib import Path

import numpy as np
import pytest
from cases import CASES, Case

import minidl.nn.functional  # noqa: F401  (registers every operation)
from minidl.gradcheck import check_gradients
from minidl.tensor import OPS, Tensor

GOLDEN = np.load(Path(__file__).with_name("golden") / "operations.npz")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def run(case: Case, dtype):
    """Result and input tensors of a case, after backward with the golden file's weights."""
    tensors = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in case.arrays(dtype)]
    output = OPS[case.operation](*tensors, **case.options)
    weights = np.random.default_rng(len(case.name)).standard_normal(output.shape).astype(np.float32)
    output.backward(weights.astype(dtype))
    return output, tensors


def test_every_operation_has_a_case():
    ours = {name for name, operation in OPS.items() if operation.__module__.startswith("minidl.")}
    assert ours == {case.operation for case in CASES}


@every_case
def test_gradient_agrees_with_finite_differences(case):
    check_gradients(lambda *inputs: OPS[case.operation](*inputs, **case.options), case.arrays())


@every_case
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 1e-5)], ids=["float64", "float32"])
def test_agrees_with_pytorch(case, dtype, tolerance):
    output, tensors = run(case, dtype)
    pairs = {"output": output.numpy()}
    pairs |= {f"gradient{i}": x.grad.numpy() for i, x in enumerate(tensors) if x.requires_grad}
    for key, value in pairs.items():
        expected = GOLDEN[f"{case.name}/{key}"]
        assert value.dtype == (case.options.get("dtype", dtype) if key == "output" else dtype), key
        assert value.shape == expected.shape, key
        largest = np.abs(expected).max(initial=1e-30)
        np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * largest, err_msg=key)
