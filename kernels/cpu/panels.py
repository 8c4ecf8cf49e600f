"""Copies parts of a matrix into panels, the order in which the micro-kernel reads. Read microkernel.py first.

A panel holds `width` neighbouring rows (or columns) of a matrix so that their numbers of one k lie side by side.
If they do so in the matrix already, packing copies; if not, it transposes blocks of LANES x LANES in registers, so
that both a matrix and its transpose are packed at about the speed of memory.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu.microkernel import COLUMNS, LANES, ROWS, address
from minidl.kernels.cpu.runtime import compiled

_FLOAT, _INT = ir.FloatType(), ir.IntType(64)
_POINTER = types.CPointer(types.float32)


@intrinsic
def copy_step(typing_context, source, target, wide):
    """target[i] = source[i] for the COLUMNS numbers of a wide panel's step, or the ROWS numbers of another's."""

    def generate(context, builder, signature, arguments):
        source, target, wide = arguments
        with builder.if_else(wide) as (then, otherwise):
            for branch, width in ((then, COLUMNS), (otherwise, ROWS)):
                with branch:
                    _store(builder, _load(builder, source, _number(0), width), target, _number(0))
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER, types.boolean), generate


@intrinsic
def transpose_steps(typing_context, source, stride, target, wide):
    """target[k * width + i] = source[i * stride + k] for k < LANES and i < width, COLUMNS if wide, else ROWS."""

    def generate(context, builder, signature, arguments):
        source, stride, target, wide = arguments
        with builder.if_else(wide) as (then, otherwise):
            for branch, width in ((then, COLUMNS), (otherwise, ROWS)):
                with branch:
                    for first in range(0, width, LANES):
                        _transpose(builder, source, stride, target, width, first)
        return context.get_dummy_value()

    return types.void(_POINTER, types.intp, _POINTER, types.boolean), generate


def _transpose(builder, source, stride, target, width, first):
    """One block of up to LANES rows, from `first` on.

    Merging the lower half of the rows with the upper half, number by number, rotates the bits of (row, column) by one
    place; after log2(LANES) times row and column have changed places.
    """
    count = min(LANES, width - first)
    rows = [_load(builder, source, builder.mul(stride, _number(first + i)), LANES) for i in range(count)]
    rows += [ir.Constant(rows[0].type, ir.Undefined)] * (LANES - count)
    half = LANES // 2
    low, high = _merged(0), _merged(half)
    for _ in range(LANES.bit_length() - 1):
        pairs = list(zip(rows[:half], rows[half:]))
        rows = [builder.shuffle_vector(x, y, mask) for x, y in pairs for mask in (low, high)]
    for k, row in enumerate(rows):
        kept = _mask(range(count))
        if count < LANES:
            row = builder.shuffle_vector(row, row, kept)
        _store(builder, row, target, _number(k * width + first))


def _merged(start):
    """Numbers start, start + 1, … of two vectors in turn."""
    return _mask([lane + side for lane in range(start, start + LANES // 2) for side in (0, LANES)])


def _mask(lanes):
    lanes = list(lanes)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)


def _load(builder, pointer, offset, width):
    vector = ir.VectorType(_FLOAT, width)
    return builder.load(builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer()), align=4)


def _store(builder, value, pointer, offset):
    builder.store(value, builder.bitcast(builder.gep(pointer, [offset]), value.type.as_pointer()), align=4)


def _number(value):
    return ir.Constant(_INT, value)


@compiled
def pack(source, start, step, depth_step, width, depth, wide, panels, at):
    """panels[at + k * W + i] = source[start + i * step + k * depth_step] for k < depth and i < width.

    W is COLUMNS if wide, else ROWS. Places of a panel beyond `width` keep what they held: the micro-kernel computes
    with them, but only rows and columns of the tile that lie outside the result.
    """
    full = COLUMNS if wide else ROWS
    k = 0
    if width == full and step == 1:
        while k < depth:
            copy_step(address(source, start + k * depth_step), address(panels, at + k * full), wide)
            k += 1
    if width == full and depth_step == 1:
        while k + LANES <= depth:
            transpose_steps(address(source, start + k), step, address(panels, at + k * full), wide)
            k += LANES
    while k < depth:
        into, origin = at + k * full, start + k * depth_step
        if step == 1:
            for i in range(width):
                panels[into + i] = source[origin + i]
        else:
            for i in range(width):
                panels[into + i] = source[origin + i * step]
        k += 1
