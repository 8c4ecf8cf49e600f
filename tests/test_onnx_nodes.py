"""ONNX's own tests of its operators, run through minidl.onnx: every case of an operator that the importer knows.

Each case runs twice: as it is, with every input given at run time, and with all inputs but the first in the file, as
weights are, so that layers and constants are made of them. What is left out stands in SKIPPED, with the reason.
"""

import fnmatch
import warnings

import numpy as np
import pytest

import minidl
from minidl.onnx.operators import OPERATORS

onnx = pytest.importorskip("onnx")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the cases compute with NaN and overflow on purpose
    from onnx.backend.test.case.node import collect_testcases

    CASES = [case for case in collect_testcases()
             if {node.op_type for node in case.model.graph.node} <= {*OPERATORS, "Constant"}]

SKIPPED = {  # pattern of names -> why
    "*float8*": "dtype float8, which NumPy lacks", "*float4*": "dtype float4, which NumPy lacks",
    "*bfloat16*": "bfloat16, which NumPy lacks: it is read as float32", "*_bf16*": "bfloat16, which NumPy lacks",
    "*int4*": "dtype of 4 bits, which NumPy lacks", "*int2*": "dtype of 2 bits, which NumPy lacks",
    "*_3d_default": "three spatial axes", "*pool_3d_*": "three spatial axes", "convtranspose_3d": "three spatial axes",
    "batchnorm_*_training_mode": "statistics that are outputs", "training_dropout*": "draws random numbers",
    "identity_sequence": "a sequence of tensors", "identity_opt": "an optional value",
    "lstm_with_peepholes": "peepholes", "maxpool_with_argmax*": "indices as an output",
    "not_?d": "a file of opset 1", "resize_tf_crop_and_resize*": "regions of interest",
    "resize_*_antialias": "antialias", "equal_string*": "texts",
}
LEAST = 1100  # cases that run: an importer that knows fewer operators, or cases that are not found, would be noticed


def reason(name):
    name = name.removeprefix("test_").lower()
    return next((why for pattern, why in SKIPPED.items() if fnmatch.fnmatch(name, pattern)), None)


def arrays(values):
    return [onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
            for value in values]


def with_weights(case):
    """The case's model with all inputs but the first as initialisers, or None if it has no other inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    names = [value.name for value in model.graph.input]
    inputs = arrays(case.data_sets[0][0])
    if len(names) < 2 or len(inputs) != len(names) or len(case.data_sets) > 1:
        return None
    for name, array in list(zip(names, inputs))[1:]:
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    del model.graph.input[1:]
    return model


def check(model, inputs, outputs, case, path):
    path.write_bytes(model.SerializeToString())
    network = minidl.onnx.load(path)
    results = network(*[minidl.Tensor(array) for array in inputs])
    results = results if isinstance(results, tuple) else (results,)
    assert len(results) == len(outputs)
    for result, expected in zip(results, outputs):
        assert result.dtype == expected.dtype and result.shape == expected.shape
        np.testing.assert_allclose(result.array, expected, rtol=case.rtol or 1e-3, atol=case.atol or 1e-7)


def test_cases_are_found_and_none_is_skipped_without_need():
    names = [case.name.removeprefix("test_").lower() for case in CASES]
    assert sum(reason(name) is None for name in names) >= LEAST
    assert [pattern for pattern in SKIPPED if not fnmatch.filter(names, pattern)] == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.removeprefix("test_"))
def test_case_of_onnx(case, tmp_path):
    why = reason(case.name)
    if why:
        pytest.skip(why)
    for inputs, outputs in case.data_sets:
        check(case.model, arrays(inputs), arrays(outputs), case, tmp_path / "given.onnx")
        model = with_weights(case)
        if model is not None:
            check(model, arrays(inputs)[:1], arrays(outputs), case, tmp_path / "weights.onnx")
