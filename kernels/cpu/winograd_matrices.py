"""The three matrices of Winograd's convolution F(4, 3), and code that multiplies vectors by them.

Four neighbouring outputs of a filter w with three taps need six inputs d and, instead of twelve multiplications, six:

    y = A^T [(G w) * (B^T d)]        * number by number

Why it is true: the products of polynomials are these sums, and a product of degree 5 is known by its values at six
points (Toom and Cook). G and A evaluate at the points, B interpolates; read backwards, as a correlation, B^T comes
first. In two dimensions each side is transformed: Y = A^T [(G w G^T) * (B^T d B)] A, 36 multiplications instead of 144.

The points are 0, 2/3, -2/3, 3/2, -3/2 and infinity. Lavin and Gray ("Fast algorithms for convolutional neural
networks", 2016) take 0, 1, -1, 2, -2: fewer digits in the matrices, but four times the rounding error, for the large
powers of 2 cancel in the end. With a and 1/a none is large (Barabasz and others, "Error analysis and improving the
accuracy of Winograd convolution", 2020, compare many).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from minidl.kernels.cpu import microkernel
from minidl.kernels.cpu.microkernel import LANES

OUTPUTS, TAPS, INPUTS = 4, 3, 6  # of a tile, along one axis
PRODUCTS = INPUTS * INPUTS

a, b = 2 / 3, 3 / 2  # the points 0, a, -a, b, -b, infinity; a b = 1 has been used below
s = a**2 + b**2
f, g = 2 * a**2 * (a**2 - b**2), 2 * b**2 * (b**2 - a**2)

BT = np.array([  # row i: the polynomial that is zero at all points but the i-th
    [1, 0, -s, 0, 1, 0],
    [0, -b, -b**2, a, 1, 0],
    [0, b, -b**2, -a, 1, 0],
    [0, -a, -a**2, b, 1, 0],
    [0, a, -a**2, -b, 1, 0],
    [0, 1, 0, -s, 0, 1],
])
G = np.array([  # row i: the powers of the i-th point, over the value of that polynomial there
    [1, 0, 0],
    [1 / f, a / f, a**2 / f],
    [1 / f, -a / f, a**2 / f],
    [1 / g, b / g, b**2 / g],
    [1 / g, -b / g, b**2 / g],
    [0, 0, 1],
])
AT = np.array([  # column i: the powers of the i-th point
    [1, 1, 1, 1, 1, 0],
    [0, a, -a, b, -b, 0],
    [0, a**2, a**2, b**2, b**2, 0],
    [0, a**3, -a**3, b**3, -b**3, 1],
])


def transformed(builder, matrix, vectors):
    """Append the instructions for matrix @ vectors, vectors being values of LLVM: a list of len(matrix) of them.

    Points p and -p make neighbouring rows (or columns) that are equal but for the sign of their odd entries. So each
    such pair of inputs is replaced by its sum and its difference, and each pair of results comes as u + v and u - v.
    """
    matrix, vectors = _paired_columns(builder, np.array(matrix), list(vectors))
    results, i = [], 0
    while i < len(matrix):
        row = matrix[i]
        if i + 1 < len(matrix) and np.array_equal(np.abs(row), np.abs(matrix[i + 1])) and (row != matrix[i + 1]).any():
            same = row == matrix[i + 1]
            u = _combined(builder, np.where(same, row, 0), vectors)
            v = _combined(builder, np.where(same, 0, row), vectors)
            results += [builder.fadd(u, v), builder.fsub(u, v)]
            i += 2
        else:
            results.append(_combined(builder, row, vectors))
            i += 1
    return results


def _paired_columns(builder, matrix, vectors):
    """The same product with x + y and x - y for neighbours x, y whose columns are equal but for signs."""
    j = 0
    while j + 1 < len(vectors):
        left, right = matrix[:, j].copy(), matrix[:, j + 1].copy()
        if np.array_equal(np.abs(left), np.abs(right)) and np.count_nonzero(left) > 1:
            x, y = vectors[j], vectors[j + 1]
            vectors[j:j + 2] = builder.fadd(x, y), builder.fsub(x, y)
            matrix[:, j], matrix[:, j + 1] = np.where(left == right, left, 0), np.where(left == right, 0, left)
            j += 1
        j += 1
    return matrix, vectors


def _combined(builder, coefficients, vectors):
    """The sum of coefficient times vector; those with coefficient 1 come first, as they need no multiplication."""
    terms = [(c, v) for c, v in zip(coefficients, vectors) if c]
    terms.sort(key=lambda term: term[0] != 1)
    total = None
    for c, vector in terms:
        if total is None:
            total = vector if c == 1 else builder.fmul(_constant(c), vector)
        elif abs(c) == 1:
            total = builder.fadd(total, vector) if c == 1 else builder.fsub(total, vector)
        else:
            total = microkernel._multiply_add(builder, _constant(c), vector, total)
    return total


def _constant(number):
    return ir.Constant(ir.VectorType(ir.FloatType(), LANES), [float(np.float32(number))] * LANES)


def transformed_both(builder, matrix, rows):
    """matrix @ rows @ matrix.T for a square list of lists of vectors."""
    columns = [transformed(builder, matrix, column) for column in zip(*rows)]
    return [transformed(builder, matrix, row) for row in zip(*columns)]
