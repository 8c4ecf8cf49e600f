"""Older forms of operators, brought to the newest: attributes that became inputs, and operators that changed.

`modern` is given a node and the opset of its file; constants that it makes are entered under names no file can have.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.errors import FileFormatError
from minidl.onnx.reader import Node

REDUCTIONS = ("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
              "ReduceSumSquare").split()
MOVED: dict[str, tuple[int, tuple[tuple[str, int, Any], ...]]] = {  # until which opset; attribute, input, dtype
    **{name: (18, (("axes", 1, np.int64),)) for name in REDUCTIONS},
    **{name: (13, (("axes", 1, np.int64),)) for name in ("ReduceSum", "Squeeze", "Unsqueeze")},
    "Split": (13, (("split", 1, np.int64),)),
    "Dropout": (12, (("ratio", 1, np.float32),)),
    "Clip": (11, (("min", 1, np.float32), ("max", 2, np.float32))),
    "Pad": (11, (("pads", 1, np.int64), ("value", 2, np.float32))),
    "TopK": (10, (("k", 1, np.int64),)),
    "Slice": (10, (("starts", 1, np.int64), ("ends", 2, np.int64), ("axes", 3, np.int64))),
    "Upsample": (9, (("scales", 1, np.float32),)),
    "ConstantOfShape": (1000, (("value", 1, None),)),
}
FLATTENED = {"Softmax": "softmax_flat", "LogSoftmax": "log_softmax_flat", "Hardmax": "hardmax_flat"}
LITERALS = {"value": None, "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64,
            "value_ints": np.int64}


def modern(node: Node, opset: int, index: int, constants: dict[str, np.ndarray]) -> Node:
    """The node in its newest form; what becomes an input is entered in `constants`."""
    inputs, attributes, op_type = list(node.inputs), dict(node.attributes), node.op_type
    until, moved = MOVED.get(op_type, (0, ()))
    if opset < until:
        for attribute, place, dtype in moved:
            if attribute in attributes:
                inputs += [""] * (place + 1 - len(inputs))
                inputs[place] = f"{attribute}\0{index}"
                constants[inputs[place]] = _literal(attributes.pop(attribute), dtype)
    if op_type in FLATTENED and opset < 13:
        op_type = FLATTENED[op_type]
    if op_type == "Upsample" or op_type == "Resize" and opset < 11:
        op_type, inputs = "Resize", [inputs[0], "", *inputs[1:]]
        attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if op_type == "Split" and len(inputs) == 1 and "num_outputs" not in attributes:
        attributes["outputs"] = len(node.outputs)
    return node._replace(op_type=op_type, inputs=tuple(inputs), attributes=attributes)


def _literal(value: Any, dtype: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.asarray(value, dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise FileFormatError(f"an attribute {str(value)[:100]!r} is not of the kind it should be") from error


def literal(node: Node, path: Any) -> np.ndarray:
    """The value of a Constant node."""
    found = [name for name in node.attributes]
    what = f"{path}: Constant {node.name[:100]!r}"
    if len(found) != 1 or found[0] not in LITERALS or node.inputs:
        raise FileFormatError(f"{what} must hold one tensor or number, it has {', '.join(found)[:200] or 'nothing'}")
    value, dtype = node.attributes[found[0]], LITERALS[found[0]]
    if (dtype is None) != isinstance(value, np.ndarray):
        raise FileFormatError(f"{what}: the attribute {found[0]} is not of the kind it should be")
    return _literal(value, dtype)
