"""How many dims a value has, as far as nodes tell: BatchNorm2d or 1d, for instance, hangs on it."""

from __future__ import annotations

from typing import Any

from minidl.onnx.operators import OPERATORS

SAME = """BatchNormalization Cast Clip CumSum Dropout GroupNormalization InstanceNormalization LRN LayerNormalization
          Pad PRelu Resize Slice Concat Split AveragePool MaxPool GlobalAveragePool GlobalMaxPool
          Trilu pad_same pad_spatial Conv ConvTranspose""".split()
BROADCAST = "Add Sub Mul Div Pow Max Min Sum Mean Where MatMul".split()


def result_dims(node: Any, dims: list[int | None], known: list, place: int) -> int | None:
    """The dims of a node's output at `place`, from those of its inputs; None if it cannot be told."""
    kind, first = node.op_type, dims[0] if dims else None
    if kind in ("Flatten", "Gemm"):
        return 2
    if kind == "Reshape":
        return known[1].size if known[1] is not None else None
    if kind == "Unsqueeze":
        return None if first is None or known[1] is None else first + known[1].size
    if kind == "Squeeze":
        return None if first is None or len(known) < 2 or known[1] is None else first - known[1].size
    if kind == "Transpose":
        return len(node.attributes["perm"]) if "perm" in node.attributes else first
    if kind == "Gather":
        return None if first is None or dims[1] is None else first + dims[1] - 1
    if kind == "Expand":
        return None if known[1] is None or first is None else max(first, known[1].size)
    if kind.startswith("Reduce"):
        return first if node.attributes.get("keepdims", 1) else None
    if kind in ("LSTM", "GRU", "RNN"):
        return 4 if place == 0 else 3
    if kind in BROADCAST:
        if None in dims or kind == "MatMul" and 1 in dims:
            return None
        return max(dim for dim in dims if dim is not None)
    if kind in ("Conv", "ConvTranspose") and known[1] is not None:
        return known[1].ndim
    if kind in SAME or kind in OPERATORS and OPERATORS[kind].most == 1 and kind not in ("Shape", "Size", "NonZero"):
        return first
    return None
