"""Nodes whose inputs are all known are computed when the file is read, within a limit of memory.

Only operators are computed here whose result's size can be told before: a file of a few bytes can ask for a tensor of
terabytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.errors import FileFormatError
from minidl.onnx.operators import OPERATORS
from minidl.onnx.reader import Node
from minidl.tensor import Tensor, no_grad

Arrays = list[Any]


def _broadcast(arrays: Arrays, _: dict) -> int:
    return math.prod(np.broadcast_shapes(*[array.shape for array in arrays]))


def _together(arrays: Arrays, _: dict) -> int:
    return sum(array.size for array in arrays)


def _first(arrays: Arrays, _: dict) -> int:
    return max(arrays[0].size, 64)


def _gathered(arrays: Arrays, attributes: dict) -> int:
    data, indices = arrays
    axis = attributes.get("axis", 0)
    return indices.size * data.size // max(data.shape[axis], 1)


def _sizes(array: Any) -> list[int]:
    return [abs(int(n)) for n in array.reshape(-1).tolist()]


def _range(arrays: Arrays, _: dict) -> int:
    start, limit, delta = (array.item() for array in arrays)
    return max(math.ceil((limit - start) / delta), 0)


BOUNDS: dict[str, Callable[[Arrays, dict], int]] = {  # operator -> how many elements its results have at most
    **dict.fromkeys("""Add Sub Mul Div Pow Mod Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Where Max Min
                       Sum Mean""".split(), _broadcast),
    **dict.fromkeys("""Abs Cast Ceil Clip Exp Flatten Floor Identity Log Neg Not Reciprocal ReduceMax ReduceMin
                       ReduceProd ReduceSum Reshape Round Shape Sign Sin Cos Size Slice Split Sqrt Squeeze Transpose
                       Unsqueeze Tanh Trilu CumSum""".split(), _first),
    "Concat": _together, "Gather": _gathered, "Range": _range,
    "ConstantOfShape": lambda arrays, _: math.prod(_sizes(arrays[0])),
    "Expand": lambda arrays, _: arrays[0].size * math.prod(_sizes(arrays[1])),
    "Tile": lambda arrays, _: arrays[0].size * math.prod(_sizes(arrays[1])),
}


class Folder:
    """Computes nodes of constants; `left` is how many bytes the results may take together."""

    def __init__(self, limit: int, path: Any):
        self.limit = self.left = limit
        self.path = path

    def fold(self, node: Node, arrays: Arrays) -> tuple | None:
        """The results of a node whose inputs these are (None for missing ones), None if it must wait for run time."""
        if node.op_type not in BOUNDS:
            return None
        what = f"{self.path}: {node.op_type} {node.name[:100]!r} of constants"
        given = [array for array in arrays if array is not None]
        try:
            count = BOUNDS[node.op_type](given, node.attributes)
            wide = max([array.dtype.itemsize for array in given], default=8)
            if count * max(wide, 8) > self.left:
                raise FileFormatError(f"{what} would make {count:,} elements; constants computed from others may take "
                                      f"{self.limit:,} bytes in all")
            self.left -= count * max(wide, 8)
            inputs = [None if array is None else Tensor(array) for array in arrays]
            with no_grad(), np.errstate(all="ignore"):
                result = OPERATORS[node.op_type].function(*inputs, **node.attributes)
        except FileFormatError:
            raise
        except Exception as error:  # values from a file can make an operator fail in any way
            raise FileFormatError(f"{what} cannot be computed: {str(error)[:300]}") from error
        return tuple(t.array for t in (result if isinstance(result, tuple) else (result,)))
