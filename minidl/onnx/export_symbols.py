"""Comparing runs of one network on inputs of several sizes, to tell what depends on the size and what is constant.

A network reads sizes as plain numbers (`x.shape[0]`), and a number in a run does not say where it comes from. So the
network runs once with the sizes given, once with each dynamic axis one longer (and each set of them), and once more as
a check. A number that is the same everywhere is a constant; one that is not is written as a polynomial in the dynamic
sizes, `2 * batch + 1` for instance. What fits no polynomial, or changes with the values of the inputs, is refused.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minidl.onnx.export_trace import Call, ExportError, Fixed, Opaque, Ref, Trace, Weight

Names = tuple[str, ...]
MOST_LISTED = 8  # numbers in an array that may be a shape


class Size(NamedTuple):
    """A number that depends on dynamic axes: the sum of coefficient * the product of the sizes named."""

    terms: tuple[tuple[Names, int], ...]

    def __str__(self) -> str:
        return " + ".join(" * ".join([*([str(factor)] if factor != 1 or not names else []), *names])
                          for names, factor in self.terms)


class Filled(NamedTuple):
    """An array of one value everywhere, whose shape depends on dynamic axes."""

    value: Any
    shape: tuple
    dtype: np.dtype


class Counting(NamedTuple):
    """The vector first, first + 1, … of a length that depends on dynamic axes."""

    first: int
    length: Size
    dtype: np.dtype


class Listed(NamedTuple):
    """A small array of integers, some of which depend on dynamic axes, such as a shape; in C order."""

    numbers: tuple
    shape: tuple[int, ...]
    dtype: np.dtype


class Unknown:
    """A length in the shape of a result that no polynomial gives, such as that of a strided convolution."""

    def __str__(self) -> str:
        return "?"


class Sizes:
    """The sizes of the dynamic axes in each run: `corners` for the polynomials, and one more as a check."""

    def __init__(self, base: Mapping[str, int]):
        self.names = tuple(base)
        self.base = dict(base)
        self.subsets = [subset for count in range(len(base) + 1) for subset in itertools.combinations(base, count)]
        self.runs = [{name: size + (name in subset) for name, size in base.items()} for subset in self.subsets]
        self.runs.append({name: size + 2 + place for place, (name, size) in enumerate(base.items())})  # the check

    def number(self, values: Sequence[int]) -> int | Size | None:
        """What gives these values in the runs: a constant, a polynomial, or None."""
        if len(set(values)) == 1:
            return values[0]
        corners = dict(zip(self.subsets, values))
        terms: dict[Names, int] = {}
        for subset in reversed(self.subsets):
            rise = sum((-1) ** (len(subset) - len(part)) * corners[part] for part in self.subsets
                       if set(part) <= set(subset))
            for larger, factor in terms.items():
                if set(larger) > set(subset):
                    rise -= factor * math.prod([self.base[name] for name in larger if name not in subset])
            terms[subset] = rise
        expected = sum(factor * math.prod([self.runs[-1][name] for name in names]) for names, factor in terms.items())
        if expected != values[-1]:
            return None
        return Size(tuple([(names, terms[names]) for names in reversed(self.subsets) if terms[names]]))


class Merged(NamedTuple):
    """What the runs have in common; shapes hold a Size or Unknown where they differ."""

    calls: list[Call]
    shapes: list[tuple]
    dtypes: list[np.dtype]
    outputs: list[tuple[str, Any]]


def merge(traces: Sequence[Trace], sizes: Sizes) -> Merged:
    """One list of calls out of those of all runs. Raises ExportError where they do not agree."""
    calls = []
    for position, same in enumerate(itertools.zip_longest(*[trace.calls for trace in traces])):
        if any(call is None or call[:2] != same[0][:2] or call.results != same[0].results for call in same):
            seen = " and ".join(sorted({str(call) if call else "nothing more" for call in same}))
            raise ExportError("what the model computes depends on the values or sizes of its inputs: operation "
                              f"{position + 1} is {seen}. An ONNX file holds one fixed computation: take the decision "
                              "out of forward(), or fix the sizes with dynamic_axes={}")
        first = same[0]
        arguments = {key: _argument(str(first), key, [call.arguments[key] for call in same], sizes)
                     for key in first.arguments}
        calls.append(first._replace(arguments=arguments))
    outputs = [(name, _argument("the model's output", name, [trace.outputs[place][1] for trace in traces], sizes))
               for place, (name, _) in enumerate(traces[0].outputs)]
    shapes = [merge_shapes(shapes, sizes) for shapes in zip(*[trace.shapes for trace in traces])]
    return Merged(calls, shapes, traces[0].dtypes, outputs)


def merge_shapes(shapes: Sequence[tuple[int, ...]], sizes: Sizes) -> tuple:
    """A shape with Sizes where it varies, Unknown where no polynomial fits."""
    if len({len(shape) for shape in shapes}) > 1:
        raise ExportError(f"the number of axes of a result depends on the sizes of the inputs: {shapes[0]} and "
                          f"{shapes[-1]}")
    found = [sizes.number(lengths) for lengths in zip(*shapes)]
    return tuple([Unknown() if length is None else length for length in found])


def _argument(where: str, key: str, values: Sequence[Any], sizes: Sizes) -> Any:
    first = values[0]
    if any(type(value) is not type(first) for value in values):
        raise _disagreement(where, key, values)
    if type(first) in (tuple, list):
        if len({len(value) for value in values}) > 1:
            raise _disagreement(where, key, values)
        return type(first)([_argument(where, key, parts, sizes) for parts in zip(*values)])
    if isinstance(first, slice):
        parts = [[getattr(value, name) for value in values] for name in ("start", "stop", "step")]
        return slice(*[_argument(where, key, part, sizes) for part in parts])
    if isinstance(first, Fixed):
        return _array(where, key, [value.array for value in values], sizes)
    if isinstance(first, int) and not isinstance(first, bool):
        number = sizes.number(values)
        if number is None:
            raise _disagreement(where, key, values)
        return number
    if isinstance(first, Opaque):
        return first.module
    if isinstance(first, (Ref, Weight)) or first is None or first is Ellipsis:
        agree = all(value == first for value in values)
    else:
        agree = all(value is first or value == first or value != value and first != first for value in values)
    if not agree:
        raise _disagreement(where, key, values)
    return first


def _array(where: str, key: str, arrays: Sequence[Any], sizes: Sizes) -> Any:
    """An array that the network made by itself: constant, or of a kind that ONNX can make for any size."""
    first = arrays[0]
    if all(array.shape == first.shape and array.dtype == first.dtype for array in arrays):
        if all(array is first or np.array_equal(array, first, equal_nan=first.dtype.kind == "f") for array in arrays):
            return Fixed(first)
        if first.dtype.kind == "i" and first.size <= MOST_LISTED:
            numbers = [sizes.number([int(n) for n in found]) for found in zip(*[array.flat for array in arrays])]
            if None not in numbers:
                return Listed(tuple(numbers), first.shape, first.dtype)
    elif len({array.ndim for array in arrays}) == 1 and first.size:
        shape = merge_shapes([array.shape for array in arrays], sizes)
        value = first.flat[0]
        if not any(isinstance(length, Unknown) for length in shape):
            if all((array == value).all() for array in arrays):
                return Filled(value, shape, first.dtype)
            if first.ndim == 1 and first.dtype.kind in "iu" and all(
                np.array_equal(array, np.arange(value, value + len(array))) for array in arrays
            ):
                return Counting(int(value), shape[0], first.dtype)
    raise ExportError(
        f"{where}: '{key}' is an array {first.shape} that the model computes anew from the values or sizes of its "
        "inputs, outside minidl's operations; it would be frozen into the file. Compute it with minidl's operations, "
        "give it to the model as an input, or fix the sizes with dynamic_axes={}")


def _disagreement(where: str, key: str, values: Sequence[Any]) -> ExportError:
    shown = " and ".join(sorted({repr(value)[:60] for value in values}))
    return ExportError(f"{where}: '{key}' depends on the values or sizes of the inputs in a way that cannot be "
                       f"exported: {shown}. Compute it with minidl's operations, or fix the sizes with "
                       "dynamic_axes={}")
