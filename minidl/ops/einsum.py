"""Einstein summation: products of tensors along named dims, summed over the names that the result does not carry.

The gradient of one operand is again an einsum: of `g` and the other operands, with that operand's names as result.
"""

from __future__ import annotations

import string
from collections import Counter
from typing import Any

import numpy as np

from minidl.errors import ShapeError
from minidl.ops.elementwise import common_dtype
from minidl.tensor import Tensor, differentiable, undo_broadcast


def einsum(equation: str, *operands: Any) -> Tensor:
    """The sum of products that `equation` names, such as "bik,kj->bij" for a batched matrix product.

    One letter a dim, a comma between operands. A letter that is not in the result is summed over; one that stands
    twice in an operand takes its diagonal; "..." stands for any leading dims, which broadcast. Without "->" the
    result has the letters that occur once, in alphabetical order. Raises ValueError for a malformed equation and
    ShapeError where a letter stands for different lengths.
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    return _einsum(*operands, equation=equation)


@differentiable
def _einsum(*xs, equation):
    shapes = [x.shape for x in xs]
    names, result = parse(equation, shapes)
    dtype = common_dtype(xs)
    xs = [x.astype(dtype, copy=False) for x in xs]

    def grad_of(i):
        return lambda g: _gradient(g, result, names, xs, i)

    return _contract(xs, names, result), [grad_of(i) for i in range(len(xs))]


def _contract(arrays: list, names: list[str], result: str) -> Any:
    return np.einsum(f"{','.join(names)}->{result}", *arrays, optimize=len(arrays) > 1)


def _gradient(g: Any, result: str, names: list[str], xs: list, i: int) -> Any:
    """The gradient of operand i: summed where it appears elsewhere, repeated where only it has the letter."""
    own = "".join(dict.fromkeys(names[i]))  # each letter once: a repeated one stands for a diagonal
    length = dict(zip(names[i], xs[i].shape))
    other_names, others = names[:i] + names[i + 1:], xs[:i] + xs[i + 1:]
    reached = "".join([letter for letter in own if letter in result + "".join(other_names)])
    grad = _contract([g, *others], [result, *other_names], reached)
    alone = tuple([place for place, letter in enumerate(own) if letter not in reached])
    grad = np.expand_dims(grad, alone)
    grad = np.broadcast_to(grad, [n if letter in reached else length[letter] for letter, n in zip(own, grad.shape)])
    if own == names[i]:
        return grad
    onto = np.zeros(xs[i].shape, grad.dtype)
    diagonal = np.einsum(f"{names[i]}->{own}", onto)  # a writable view
    diagonal[...] = undo_broadcast(grad, diagonal.shape, grad.dtype)
    return onto


def parse(equation: str, shapes: list[tuple[int, ...]]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, with "..." written out in letters that are not used otherwise."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    names = left.split(",")
    if len(names) != len(shapes):
        raise ValueError(f"einsum: '{equation}' names {len(names)} operands, {len(shapes)} were given")
    for name in (*names, right):
        letters = name.replace("...", "", 1)
        if not (letters.isascii() and (letters.isalpha() or not letters)):
            raise ValueError(f"einsum: '{name}' in '{equation}' must consist of letters and at most one '...'")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    hidden = [len(shape) - len(name.replace("...", "")) for name, shape in zip(names, shapes)]
    dots = "".join(free[: max([n for n, name in zip(hidden, names) if "..." in name], default=0)])
    for name, shape, n in zip(names, shapes, hidden):
        if n < 0 or n > 0 and "..." not in name:
            raise ShapeError(f"einsum: '{name}' in '{equation}' names {len(name.replace('...', ''))} dims, the operand "
                             f"has shape {shape}")
    names = [name.replace("...", dots[len(dots) - n:]) for name, n in zip(names, hidden)]
    if arrow:
        result = right.replace("...", dots)
    else:
        counts = Counter("".join(names))
        result = dots + "".join(sorted([c for c in counts if counts[c] == 1 and c not in dots]))
    if len(set(result)) != len(result) or not set(result) <= set("".join(names)):
        raise ValueError(f"einsum: every letter of the result '{right}' in '{equation}' must stand there once and in "
                         "some operand")
    _check_lengths(equation, names, shapes, dots)
    return names, result


def _check_lengths(equation: str, names: list[str], shapes: list[tuple[int, ...]], dots: str) -> None:
    lengths: dict[str, int] = {}
    for name, shape in zip(names, shapes):
        own: dict[str, int] = {}
        for letter, n in zip(name, shape):
            if own.setdefault(letter, n) != n:
                raise ShapeError(f"einsum: '{name}' in '{equation}' needs a diagonal, but '{letter}' stands for "
                                 f"{own[letter]} and for {n} in shape {shape}")
            if lengths.setdefault(letter, n) != n and 1 not in (n, lengths[letter]):
                label = "..." if letter in dots else letter
                raise ShapeError(f"einsum: '{label}' in '{equation}' stands for {lengths[letter]} and for {n}; "
                                 f"the shapes are {shapes}")
            lengths[letter] = max(n, lengths[letter])
