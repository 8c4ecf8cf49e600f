"""Reading `dim` and size arguments: negative dims, several dims, sizes given one by one or as a tuple.

Used by the operations that work along dims (`reduce.py`, `shape.py`, `index.py`); read those next.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import numpy as np


def one_dim(name: str, dim: Any, shape: tuple[int, ...], extra: int = 0) -> int:
    """`dim` as a number from 0 on, for an operation called `name` on a tensor of `shape`.

    extra: 1 where the operation inserts a dim, so that one more place is allowed.
    A tensor without dims accepts 0 and -1, as in PyTorch. Raises IndexError if there is no such dim.
    """
    count = max(len(shape) + extra, 1)
    try:
        place = dim.__index__()
    except AttributeError:
        raise TypeError(f"{name}: dim must be an integer, not {type(dim).__name__}") from None
    if not -count <= place < count:
        raise IndexError(f"{name}: dim {place} does not exist for shape {shape}; expected {-count} to {count - 1}")
    return place % count


def all_dims(name: str, dim: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The dims to work on, ascending: every one for None or an empty tuple, else those that `dim` names."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(len(shape)))
    dims = [one_dim(name, d, shape) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    if len(set(dims)) != len(dims):
        raise ValueError(f"{name}: dim {dim} names one of the dims of shape {shape} twice")
    return tuple(sorted(dims)) if shape else ()


def as_sizes(sizes: tuple) -> tuple[int, ...]:
    """(2, 3) from the arguments of both `x.view(2, 3)` and `x.view((2, 3))`."""
    if len(sizes) == 1 and not isinstance(sizes[0], (int, np.integer)) and hasattr(sizes[0], "__iter__"):
        sizes = tuple(sizes[0])
    return tuple([size.__index__() for size in sizes])


def takes_axis(function: Callable) -> Callable:
    """Let a plain function take NumPy's `axis` and `keepdims` for `dim` and `keepdim`, as every operation does.

    `numpy.max(tensor)` and the like pass `out=None`, which is dropped.
    """

    words = {"axis": "dim", "keepdims": "keepdim"}

    def renamed(*args: Any, **options: Any) -> Any:
        options = {words.get(key, key): x for key, x in options.items() if key != "out" or x is not None}
        return function(*args, **options)

    return update_wrapper(renamed, function)
