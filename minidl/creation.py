"""Making tensors: from data, filled with numbers, counting, random. PyTorch's names and defaults.

Sizes are given one by one or as a tuple. Floating results are float32 unless `dtype` says otherwise; whole numbers
become int64. Everything random takes a `generator` (see `minidl/random.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl import random
from minidl.device import require_cpu
from minidl.errors import ShapeError
from minidl.ops.dims import as_sizes
from minidl.tensor import Tensor, as_array


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data`: numbers, nested lists, arrays or tensors.

    Python's floats become float32, its ints int64; arrays and tensors keep their dtype.
    Raises ShapeError for a list whose rows differ in length.
    """
    return _new(np.array(_read(data, dtype)), device, requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """As `tensor`, but a tensor or array that fits already is not copied."""
    if isinstance(data, Tensor) and (dtype is None or data.dtype == dtype):
        return data
    return _new(_read(data, dtype), device, False)


def _read(data: Any, dtype: Any) -> np.ndarray:
    if isinstance(data, (Tensor, np.ndarray, np.generic)):
        return np.asarray(as_array(data), dtype)
    if isinstance(data, (list, tuple)):
        data = _without_tensors(data)
    try:
        array = np.array(data, dtype)
    except ValueError as error:
        raise ShapeError(f"tensor: the rows must all have the same length ({error})") from None
    if array.dtype.kind not in "fiubc":
        raise TypeError(f"tensor: numbers are needed, not {type(data).__name__} of {array.dtype}")
    return array.astype(np.float32) if dtype is None and array.dtype == np.float64 else array


def _without_tensors(data: Any) -> Any:
    if isinstance(data, (list, tuple)):
        return [_without_tensors(item) for item in data]
    return data.array if isinstance(data, Tensor) else data


def _sizes(name: str, size: tuple) -> tuple[int, ...]:
    """The sizes of a new tensor, given one by one or as a tuple."""
    try:
        sizes = as_sizes(size)
    except AttributeError as error:
        raise TypeError(f"{name}: sizes are whole numbers, one by one or as a tuple, got "
                        f"{size[0] if len(size) == 1 else size!r}") from error
    if any(number < 0 for number in sizes):
        raise ValueError(f"{name}: a size cannot be negative, got {sizes}; only reshape and view take -1")
    return sizes


def _new(array: Any, device: Any, requires_grad: bool) -> Tensor:
    if device is not None:
        require_cpu(device)
    return Tensor(array, requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares memory with a NumPy array."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: a NumPy array is needed, not {type(array).__name__}; use minidl.tensor(…)")
    return Tensor(array)


def from_dlpack(array: Any) -> Tensor:
    """A tensor that shares memory with an array of another library that speaks DLPack, on the CPU."""
    if not hasattr(array, "__dlpack__"):
        raise TypeError(f"from_dlpack: an array that speaks DLPack is needed, got {type(array).__name__}; "
                        "use minidl.tensor(…)")
    return Tensor(np.from_dlpack(array))


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """0 everywhere."""
    return _new(np.zeros(_sizes("zeros", size), dtype or np.float32), device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """1 everywhere."""
    return _new(np.ones(_sizes("ones", size), dtype or np.float32), device, requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Memory that is not set to anything."""
    return _new(np.empty(_sizes("empty", size), dtype or np.float32), device, requires_grad)


def full(size: Any, fill_value: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`fill_value` everywhere; a Python float gives float32, an int int64, a bool bool."""
    value = _read(fill_value, dtype)
    return _new(np.full(_sizes("full", (size,)), value, value.dtype), device, requires_grad)


def zeros_like(x: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """0 everywhere, in the shape and dtype of x."""
    return _new(np.zeros_like(as_array(x), dtype), device, requires_grad)


def ones_like(x: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """1 everywhere, in the shape and dtype of x."""
    return _new(np.ones_like(as_array(x), dtype), device, requires_grad)


def empty_like(x: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Memory that is not set to anything, in the shape and dtype of x."""
    return _new(np.empty_like(as_array(x), dtype), device, requires_grad)


def full_like(x: Any, fill_value: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`fill_value` everywhere, in the shape and dtype of x."""
    return _new(np.full_like(as_array(x), as_array(fill_value), dtype), device, requires_grad)


def eye(n: int, m: int | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The identity matrix (n, m)."""
    n, m = _sizes("eye", (n, n if m is None else m))
    return _new(np.eye(n, m, dtype=dtype or np.float32), device, requires_grad)


def arange(start: Any, end: Any = None, step: Any = 1, dtype: Any = None, device: Any = None,
           requires_grad: bool = False) -> Tensor:
    """start, start + step, … up to but without `end`; from 0 if one number is given. int64 if all of them are whole."""
    start, end = (0, start) if end is None else (start, end)
    start, end, step = [x.item() if isinstance(x, Tensor) else x for x in (start, end, step)]
    if not all(isinstance(x, (int, float, np.number)) for x in (start, end, step)):
        raise TypeError(f"arange: start, end and step must be numbers, got {start!r}, {end!r}, {step!r}")
    if step == 0 or (end - start) * step < 0:
        raise ValueError(f"arange: cannot count from {start} to {end} in steps of {step}")
    counted = np.arange(start, end, step)
    return _new(counted.astype(dtype or (np.float32 if counted.dtype.kind == "f" else np.int64)), device, requires_grad)


def linspace(start: float, end: float, steps: int, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """`steps` numbers at equal distances from `start` to `end`, both included."""
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0:
        raise ValueError(f"linspace: steps must be a whole number from 0, how many numbers there are, got {steps!r}")
    return _new(np.linspace(start, end, steps).astype(dtype or np.float32), device, requires_grad)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """For vectors of length A, B, … as many tensors (A, B, …), each varying along its own dim."""
    vectors = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    if indexing not in ("ij", "xy"):
        raise ValueError(f"meshgrid: indexing is 'ij' (rows first) or 'xy', not {indexing!r}")
    grids = np.meshgrid(*[as_array(vector) for vector in vectors], indexing="ij" if indexing == "ij" else "xy")
    return tuple([Tensor(grid) for grid in grids])


def rand(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False,
         generator: Any = None) -> Tensor:
    """Uniform in [0, 1)."""
    return _new(_draw("random", _sizes("rand", size), dtype, generator), device, requires_grad)


def randn(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False,
          generator: Any = None) -> Tensor:
    """Normal with mean 0 and variance 1."""
    return _new(_draw("standard_normal", _sizes("randn", size), dtype, generator), device, requires_grad)


def _draw(distribution: str, size: tuple[int, ...], dtype: Any, generator: Any) -> np.ndarray:
    dtype = np.dtype(dtype or np.float32)
    drawn = dtype if dtype == np.float64 else np.float32  # NumPy draws in these two
    return np.asarray(getattr(random.generator(generator), distribution)(size, dtype=drawn)).astype(dtype, copy=False)


def _check_floating(name: str, x: Any, dtype: Any) -> None:
    if not isinstance(x, (Tensor, np.ndarray)):
        raise TypeError(f"{name}: a tensor is needed, got {type(x).__name__}; use minidl.tensor(…)")
    if np.dtype(dtype or x.dtype).kind != "f":
        raise TypeError(f"{name}: what is drawn has floating-point numbers, x is {x.dtype}; give dtype=minidl.float32")


def rand_like(x: Any, dtype: Any = None, generator: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform in [0, 1), in the shape and dtype of x."""
    _check_floating("rand_like", x, dtype)
    return rand(as_array(x).shape, dtype=dtype or x.dtype, generator=generator, requires_grad=requires_grad)


def randn_like(x: Any, dtype: Any = None, generator: Any = None, requires_grad: bool = False) -> Tensor:
    """Normal with mean 0 and variance 1, in the shape and dtype of x."""
    _check_floating("randn_like", x, dtype)
    return randn(as_array(x).shape, dtype=dtype or x.dtype, generator=generator, requires_grad=requires_grad)


def randint(low: int, high: Any = None, size: Any = None, dtype: Any = None, device: Any = None,
            requires_grad: bool = False, generator: Any = None) -> Tensor:
    """Whole numbers from `low` (0 if only one is given) to below `high`: `randint(10, (3,))`, `randint(0, 10, (3,))`.
    """
    if size is None:
        low, high, size = 0, low, high
    if not low < high:
        raise ValueError(f"randint: low must be below high, which itself is never drawn; got low={low}, high={high}")
    drawn = np.asarray(random.generator(generator).integers(low, high, _sizes("randint", (size,))))
    return _new(drawn.astype(dtype or np.int64, copy=False), device, requires_grad)


def randperm(n: int, dtype: Any = None, device: Any = None, generator: Any = None) -> Tensor:
    """The numbers 0 to n - 1 in random order."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise ValueError(f"randperm: n must be a whole number from 0, got {n!r}; of a data set: len(dataset)")
    return _new(random.generator(generator).permutation(n).astype(dtype or np.int64, copy=False), device, False)


def normal(mean: Any = 0.0, std: Any = 1.0, size: Sequence[int] | None = None, generator: Any = None) -> Tensor:
    """Normal with the given means and standard deviations: numbers (with a `size`) or tensors."""
    means, deviations = as_array(mean), as_array(std)
    if (deviations < 0).any():
        raise ValueError(f"normal: std must not be negative, got {deviations.min()}; of its logarithm take "
                         "log_std.exp()")
    shape = np.broadcast_shapes(means.shape, deviations.shape) if size is None else as_sizes((size,))
    return Tensor(means + deviations * _draw("standard_normal", shape, np.result_type(means, deviations), generator))


def bernoulli(x: Any, generator: Any = None) -> Tensor:
    """1 with the probability that stands in x, else 0, in the shape and dtype of x."""
    probabilities = as_array(x)
    if ((probabilities < 0) | (probabilities > 1)).any():
        raise ValueError(f"bernoulli: x holds probabilities, from 0 to 1, but reaches from {probabilities.min()} to "
                         f"{probabilities.max()}; of logits take x.sigmoid() first")
    return Tensor((random.generator(generator).random(probabilities.shape) < probabilities).astype(probabilities.dtype))


def multinomial(x: Any, num_samples: int, replacement: bool = False, generator: Any = None) -> Tensor:
    """Draw `num_samples` indices (int64) for each row of x (N, C) or for the vector x (C,), weighed by x.

    Raises ValueError for weights that are negative, not finite, all 0, or too few to draw without replacement.
    """
    weights = as_array(x).astype(np.float64)
    if weights.ndim not in (1, 2) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"multinomial: weights (N, C) or (C,) must be finite and not negative, shape {weights.shape}")
    enough = 1 if replacement else num_samples
    if num_samples < 1 or any(row.astype(bool).sum() < enough for row in np.atleast_2d(weights)):
        raise ValueError(f"multinomial: a row has fewer than {num_samples} weights that are not 0; draw fewer, or with "
                         "replacement=True")
    source = random.generator(generator)
    rows = [source.choice(row.size, num_samples, replacement, row / math.fsum(row)) for row in np.atleast_2d(weights)]
    return Tensor(np.array(rows, np.int64).reshape(weights.shape[:-1] + (num_samples,)))
