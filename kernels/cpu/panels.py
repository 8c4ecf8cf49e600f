"""Copies parts of a matrix into panels, the order in which the micro-kernel reads. Read microkernel.py first.

A panel holds `width` neighbouring rows (or columns) of a matrix so that their numbers of one k lie side by side.
If they do so in the matrix already, packing copies; if not, it transposes blocks of LANES x LANES in registers.
Both write whole vectors, each of which covers what its predecessor wrote too much: so any width is packed alike.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu.microkernel import COLUMNS, LANES, LINE, ROWS, address
from minidl.kernels.cpu.runtime import compiled
from minidl.kernels.cpu.vectors import fetch

_FLOAT, _INT = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_POINTER = types.CPointer(types.float32)
AHEAD = 8  # lines of a matrix to ask for early: on each begins another page, where the processor does not guess
ROOM = -(-ROWS // LANES) * LANES  # numbers written for a step of ROWS


@intrinsic
def copy_step(typing_context, source, target, wide):
    """target[i] = source[i] for i < COLUMNS if wide, else for ROWS, rounded up to whole vectors."""

    def generate(context, builder, signature, arguments):
        source, target, wide = arguments
        with builder.if_else(wide) as (then, otherwise):
            for branch, width in ((then, COLUMNS), (otherwise, ROOM)):
                with branch:
                    for first in range(0, width, LANES):
                        _store(builder, _load(builder, source, _number(first)), target, _number(first))
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER, types.boolean), generate


@intrinsic
def fetch_ahead(typing_context, place):
    """Ask for the cache line at an address, which need not be one of the array."""

    def generate(context, builder, signature, arguments):
        fetch(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(_POINTER), generate


@intrinsic
def transpose_steps(typing_context, source, stride, rows, target, step, wide):
    """target[k * step + i] = source[i * stride + k] for i < rows and k < LANES, written in the order of k.

    Behind the rows of a step stand others: those up to COLUMNS if wide, else up to ROWS, rounded up to whole vectors.
    """

    def generate(context, builder, signature, arguments):
        source, stride, rows, target, step, wide = arguments
        with builder.if_else(wide) as (then, otherwise):
            with then:  # the blocks do not overlap: one after the other, for want of registers
                for first in range(0, COLUMNS, LANES):
                    put({first: _transposed(builder, source, stride, rows, first)}, builder, target, step)
            with otherwise:
                blocks = {first: _transposed(builder, source, stride, rows, first) for first in range(0, ROOM, LANES)}
                put(blocks, builder, target, step)
        return context.get_dummy_value()

    def put(blocks, builder, target, step):
        for k in range(LANES):
            start = builder.mul(step, _number(k))
            for first, block in blocks.items():
                _store(builder, block[k], target, builder.add(start, _number(first)))

    counts = [types.intp] * 2
    return types.void(_POINTER, *counts, _POINTER, types.intp, types.boolean), generate


def _transposed(builder, source, stride, rows, first):
    """The columns of a block of LANES rows from `first` on; beyond the last row, that one is read again.

    Merging the lower half of the rows with the upper half, number by number, rotates the bits of (row, column) by one
    place; after log2(LANES) times row and column have changed places.
    """
    block = []
    last = builder.sub(rows, _number(1))
    for row in range(first, first + LANES):
        row = builder.select(builder.icmp_signed("<", last, _number(row)), last, _number(row))
        block.append(_load(builder, source, builder.mul(stride, row)))
    half = LANES // 2
    low, high = _merged(0), _merged(half)
    for _ in range(LANES.bit_length() - 1):
        pairs = list(zip(block[:half], block[half:]))
        block = [builder.shuffle_vector(x, y, mask) for x, y in pairs for mask in (low, high)]
    return block


def _merged(start):
    """Numbers start, start + 1, … of two vectors in turn."""
    return _mask([lane + side for lane in range(start, start + LANES // 2) for side in (0, LANES)])


def _mask(lanes):
    lanes = list(lanes)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)


def _load(builder, pointer, offset):
    return builder.load(builder.bitcast(builder.gep(pointer, [offset]), _VECTOR.as_pointer()), align=4)


def _store(builder, value, pointer, offset):
    builder.store(value, builder.bitcast(builder.gep(pointer, [offset]), value.type.as_pointer()), align=4)


def _number(value):
    return ir.Constant(_INT, value)


@compiled
def pack_rows(source, start, step, depth_step, rows, depth, panels):
    """Panels of `rows` rows by `depth` steps, ROWS or fewer to a panel; see `panel_of` for where each begins.

    panels[at + k * height + i] = source[start + (first + i) * step + k * depth_step].
    """
    for piece in range(-(-rows // ROWS)):
        first, height, at = panel_of(rows, depth, piece)
        origin = start + first * step
        k = 0
        while step == 1 and k < depth and origin + k * depth_step + ROOM <= source.size:
            copy_step(address(source, origin + k * depth_step), address(panels, at + k * height), False)
            k += 1
        if k < depth:
            _transpose(source, origin + k * depth_step, step, depth_step, height, depth - k, False,
                       panels, at + k * height)


@compiled
def panel_of(rows, depth, piece):
    """First row, height and place of panel `piece` of `rows` rows. Heights differ by one at the most.

    Packing writes whole vectors, so that up to ROOM numbers behind each panel are free.
    """
    pieces = -(-rows // ROWS)
    low, high = rows // pieces, rows % pieces
    first = piece * low + min(piece, high)
    return first, low + (piece < high), first * depth + piece * ROOM


@compiled
def pack_columns(source, start, step, depth_step, columns, depth, panels):
    """Panels of COLUMNS columns by `depth` steps, one behind the other; what is missing in the last is anything.

    panels[first * depth + k * COLUMNS + j] = source[start + (first + j) * step + k * depth_step].
    """
    if step == 1:
        for k in range(depth):  # a line of the matrix at a time: its page is looked up once
            line = start + k * depth_step
            for ahead in range(0, columns, LINE):
                fetch_ahead(address(source, line + AHEAD * depth_step + ahead))
            for first in range(0, columns, COLUMNS):
                into = first * depth + k * COLUMNS
                if line + first + COLUMNS <= source.size:
                    copy_step(address(source, line + first), address(panels, into), True)
                else:
                    for j in range(columns - first):
                        panels[into + j] = source[line + first + j]
    else:
        for first in range(0, columns, COLUMNS):
            width = min(COLUMNS, columns - first)
            _transpose(source, start + first * step, step, depth_step, width, depth, True, panels, first * depth)


@compiled
def _transpose(source, start, step, depth_step, width, depth, wide, panels, at):
    """One panel of numbers that lie side by side along k, or apart in both directions."""
    full = COLUMNS if wide else width
    k = 0
    if depth_step == 1 and depth >= LANES:
        aligned = LANES - (source.ctypes.data // 4 + start) % LANES  # from there on, no load crosses a cache line
        while k < depth:
            k = min(k, depth - LANES)  # some steps are written twice
            transpose_steps(address(source, start + k), step, width, address(panels, at + k * full), full, wide)
            k += aligned if k == 0 and depth > LANES else LANES
    while k < depth:
        for i in range(width):
            panels[at + k * full + i] = source[start + i * step + k * depth_step]
        k += 1
