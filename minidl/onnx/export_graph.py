"""Building the nodes of an ONNX graph: values, weights, constants, and shapes that may depend on dynamic axes.

An emitter (see `export_table.py`) writes one operation of minidl as nodes through this class. It sees a `Value` for
every array, with shape and dtype as they were in the run, and plain numbers otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from minidl.onnx.export_symbols import Size, Unknown
from minidl.onnx.export_trace import ExportError

LARGEST = 2**31 - 2**22  # bytes of weights: a file of protocol buffers may have 2 GiB, some are for the nodes


@dataclass
class Value:
    """An array in the graph; `array` is what it holds if that is known, which weights and constants are."""

    name: str
    shape: tuple = ()
    dtype: np.dtype = np.dtype(np.float32)
    array: Any = None

    @property
    def ndim(self) -> int:
        return len(self.shape)


def element_type(dtype: Any) -> int:
    """ONNX's number for a NumPy dtype."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


class Graph:
    """The nodes and initialisers so far. `path` is that of the module at work, `where` what messages begin with.

    result_shape and result_dtype: those of the (first) result of the operation that is being written.
    """

    def __init__(self, opset: int, sources: Mapping[str, tuple[str, int]]):
        self.opset, self.sources = opset, sources  # where each dynamic size is found: name of an input and its axis
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.path = self.where = ""
        self.result_shape: tuple = ()
        self.result_dtype: np.dtype = np.dtype(np.float32)
        self.names: set[str] = set()
        self.padded: dict[str, tuple[Value, list]] = {}  # result of a Pad with zeros -> its input, and widths by axis
        self.size = 0  # bytes of initialisers
        self._added: dict[Any, str] = {}  # what is in the graph already, and its name
        self._kept: list[Any] = []  # arrays whose id is a key of `_added`

    def unique(self, name: str) -> str:
        """`name`, or with a number behind it if it is taken."""
        number, wanted = 1, name
        while name in self.names:
            number += 1
            name = f"{wanted}_{number}"
        self.names.add(name)
        return name

    def refuse(self, reason: str) -> ExportError:
        return ExportError(f"{self.where} cannot be exported: {reason}")

    def fixed(self, sizes: Sequence, meaning: str) -> list[int]:
        """Sizes as numbers; ExportError if one depends on a dynamic axis."""
        if not all(isinstance(size, (int, np.integer)) for size in sizes):
            raise self.refuse(f"{meaning} must not depend on a dynamic axis, it is {tuple(map(str, sizes))}")
        return [int(size) for size in sizes]

    def node(self, kind: str, inputs: Sequence[Any], outputs: int = 1, shape: tuple = (), dtype: Any = None,
             **attributes: Any) -> Any:
        """Add a node and return its result, or a list of several. Inputs are Values, arrays, or None for one left out.

        shape and dtype are needed where an emitter reads them afterwards.
        """
        names = ["" if x is None else self.use(x) for x in inputs]
        while names and not names[-1]:
            names.pop()
        name = self.unique(f"{self.path}/{kind}" if self.path else kind)
        results = [name] + [self.unique(f"{name}:{place}") for place in range(1, outputs)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(kind, names, results, name, **given))
        if dtype is None:
            dtype = next((x.dtype for x in inputs if isinstance(x, (Value, np.ndarray))), np.dtype(np.float32))
        values = [Value(result, shape, np.dtype(dtype)) for result in results]
        return values[0] if outputs == 1 else values

    def use(self, value: Any) -> str:
        """The name of a value; arrays become initialisers, once each."""
        if isinstance(value, Value) and value.array is None:
            return value.name
        array = value.array if isinstance(value, Value) else np.asarray(value)
        key: Any = id(array) if isinstance(value, Value) or array.size > 64 else \
            (array.dtype.str, array.shape, array.tobytes())
        if key not in self._added:
            self.size += array.nbytes
            if self.size > LARGEST:
                raise ExportError("export: the model takes more than 2 GB, which one ONNX file cannot hold; convert it "
                                  "to float16, or export it in parts")
            name = value.name if isinstance(value, Value) else f"{self.path}.constant" if self.path else "constant"
            self._added[key] = self.unique(name)
            self._kept.append(array)
            self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), self._added[key]))
        return self._added[key]

    def constant(self, array: Any, name: str = "") -> Value:
        array = np.asarray(array)
        return Value(name or (f"{self.path}.constant" if self.path else "constant"), array.shape, array.dtype, array)

    def scalar(self, number: Any, dtype: Any) -> Value:
        return self.constant(np.array(number, dtype))

    def operand(self, value: Any, dtype: Any) -> Value:
        """A Value, number or Size in this dtype."""
        if isinstance(value, Size):
            value = self.squeeze(self.length(value), (0,))
        return self.cast(value, dtype) if isinstance(value, Value) else self.scalar(value, dtype)

    def cast(self, x: Value, dtype: Any) -> Value:
        dtype = np.dtype(dtype)
        if x.dtype == dtype:
            return x
        if x.array is not None:
            return self.constant(x.array.astype(dtype), f"{x.name}.{dtype}")
        return self.node("Cast", [x], shape=x.shape, dtype=dtype, to=element_type(dtype))

    def length(self, size: Any) -> Value:
        """A size as a vector (1,) of int64."""
        if isinstance(size, Unknown):
            raise self.refuse("a size depends on the dynamic axes in a way that cannot be written down; fix the sizes "
                              "with dynamic_axes={}")
        if not isinstance(size, Size):
            return self.constant(np.array([size], np.int64))
        if size in self._added:
            return Value(self._added[size], (1,), np.dtype(np.int64))
        total: Value | None = None
        for names, factor in size.terms:
            term: Value | None = None
            for name in names:
                source, axis = self.sources[name]
                shape = self.node("Shape", [Value(source)], dtype=np.int64)
                one = self.node("Gather", [shape, np.array([axis])], shape=(1,), dtype=np.int64)
                term = one if term is None else self.node("Mul", [term, one], shape=(1,))
            if term is None:
                term = self.constant(np.array([factor], np.int64))
            elif factor != 1:
                term = self.node("Mul", [term, np.array([factor], np.int64)], shape=(1,))
            total = term if total is None else self.node("Add", [total, term], shape=(1,))
        assert total is not None
        self._added[size] = total.name
        return total

    def lengths(self, sizes: Sequence) -> Value:
        """Several sizes as a vector of int64."""
        if all(isinstance(size, (int, np.integer)) for size in sizes):
            return self.constant(np.array(sizes, np.int64).reshape(-1))
        return self.node("Concat", [self.length(size) for size in sizes], dtype=np.int64, axis=0)

    def reshape(self, x: Value, shape: Sequence) -> Value:
        """x with another shape, with 0 (as it was) and -1 (what is left) for sizes that are not constant."""
        if tuple(shape) == tuple(x.shape):
            return x
        moving = [place for place, size in enumerate(shape) if not isinstance(size, (int, np.integer))]
        kept = [place for place in moving if tuple(shape[:place + 1]) == tuple(x.shape[:place + 1])]
        left = [place for place in moving if place not in kept]
        if len(left) <= 1 and 0 not in shape:
            sizes: Any = [0 if place in kept else -1 if place in left else size for place, size in enumerate(shape)]
        else:
            sizes = shape
        return self.node("Reshape", [x, self.lengths(sizes)], shape=tuple(shape), dtype=x.dtype)

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        if list(order) == list(range(len(order))):
            return x
        return self.node("Transpose", [x], shape=tuple([x.shape[d] for d in order]), dtype=x.dtype, perm=list(order))

    def unsqueeze(self, x: Value, axes: Sequence[int]) -> Value:
        """x with new axes of length 1 at these places of the result."""
        if not axes:
            return x
        sizes = iter(x.shape)
        shape = tuple([1 if place in axes else next(sizes) for place in range(x.ndim + len(axes))])
        return self.node("Unsqueeze", [x, np.array(axes, np.int64)], shape=shape, dtype=x.dtype)

    def squeeze(self, x: Value, axes: Sequence[int]) -> Value:
        if not axes:
            return x
        shape = tuple([size for place, size in enumerate(x.shape) if place not in axes])
        return self.node("Squeeze", [x, np.array(axes, np.int64)], shape=shape, dtype=x.dtype)

    def reduce(self, kind: str, x: Value, axes: Sequence[int], keepdims: bool) -> Value:
        """ReduceSum, ReduceMean and the like; where the axes stand depends on the version."""
        shape = tuple([1 if place in axes else size for place, size in enumerate(x.shape)
                       if keepdims or place not in axes])
        options = {"shape": shape, "dtype": x.dtype, "keepdims": int(keepdims)}
        if kind == "ReduceSum" or self.opset >= 18:
            return self.node(kind, [x, np.array(axes, np.int64)], **options)
        return self.node(kind, [x], axes=list(axes), **options)

    def slice(self, x: Value, axis: int, start: Any, stop: Any, step: int = 1) -> Value:
        """x[start:stop:step] along one axis; the result's length there is not known to the graph."""
        vectors = [self.lengths([start]), self.lengths([stop]), np.array([axis]), np.array([step])]
        length: Any = Unknown()
        if isinstance(start, int) and isinstance(stop, int) and isinstance(x.shape[axis], int):
            length = len(range(x.shape[axis])[start:stop:step])
        return self.node("Slice", [x, *vectors], shape=x.shape[:axis] + (length,) + x.shape[axis + 1:], dtype=x.dtype)

    def expand(self, x: Value, shape: Sequence) -> Value:
        if tuple(shape) == tuple(x.shape):
            return x
        return self.node("Expand", [x, self.lengths(shape)], shape=tuple(shape), dtype=x.dtype)
