"""What the tests of ONNX export share: a file is checked by onnx, run by ONNX Runtime, and compared with minidl."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime

import minidl
from minidl import nn
from minidl.onnx import export
from minidl.tensor import Tensor

TOLERANCE = 1e-5  # of the largest element of each output


def session(path: Any) -> Any:
    onnx.checker.check_model(onnx.load(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def tensors(result: Any) -> list[np.ndarray]:
    """The arrays in what a model returns, in order."""
    if isinstance(result, Tensor):
        return [result.numpy()]
    parts = result.values() if isinstance(result, dict) else () if result is None else result
    return [array for part in parts for array in tensors(part)]


def assert_same(runtime: Any, model: nn.Module, inputs: tuple) -> None:
    """ONNX Runtime gives for these inputs what the model gives in evaluation mode."""
    arrays = [np.asarray(x) for x in inputs if isinstance(x, (Tensor, np.ndarray))]
    found = runtime.run(None, dict(zip([one.name for one in runtime.get_inputs()], arrays)))
    model.eval()
    with minidl.no_grad():
        expected = tensors(model(*[Tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]))
    assert len(found) == len(expected)
    for ours, theirs in zip(expected, found):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
        largest = np.abs(ours[np.isfinite(ours)]).max(initial=1e-30)
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=TOLERANCE * largest)


def assert_exports(path: Any, model: nn.Module, inputs: Any, *others: Any, **options: Any) -> Any:
    """The exported file agrees with the model on the example and on the other inputs, of other sizes; its session."""
    path = str(path / "model.onnx")
    export(model, inputs, path, **options)
    runtime = session(path)
    for arrays in (inputs, *others):
        assert_same(runtime, model, arrays if isinstance(arrays, tuple) else (arrays,))
    return runtime
