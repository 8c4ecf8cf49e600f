"""Copies of parts of vector registers: at the edges of images, and where every second number is taken or written.

Lanes that do not belong are neither read nor written (a *mask* says which do), so that nothing needs room beyond the
end of an array. Where processors have no masks, LLVM makes a branch of every lane: whole registers go another way.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minidl.kernels.cpu import microkernel
from minidl.kernels.cpu.microkernel import LANES
from minidl.kernels.cpu.vectors import in_every_lane, load_masked, store_masked

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDEX = ir.IntType(32)
_INDICES = ir.VectorType(_INDEX, LANES)
_POINTER = types.CPointer(types.float32)


@intrinsic
def pick_part(typing_context, target, source, begin, end):
    """target[j] = source[2 * j] where begin <= 2 * j < end, else 0, for j < LANES; nothing else is read."""

    def generate(context, builder, signature, arguments):
        target, source, begin, end = arguments
        parts = [load_part(builder, source, begin, end, start) for start in (0, LANES)]
        even = ir.Constant(ir.VectorType(_INDEX, LANES), list(range(0, 2 * LANES, 2)))
        place = builder.bitcast(target, _VECTOR.as_pointer())
        builder.store(builder.shuffle_vector(*parts, even), place, align=4)
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER, types.intp, types.intp), generate


@intrinsic
def deal_part(typing_context, even, odd, source, begin, end, count):
    """even[j], odd[j] = source[2 * j], source[2 * j + 1], or 0 where that is not within begin..end, for j < LANES.

    Nothing else is read. Of `even`, only the first `count` are written.
    """

    def generate(context, builder, signature, arguments):
        even, odd, source, begin, end, count = arguments
        parts = [load_part(builder, source, begin, end, start) for start in (0, LANES)]
        first, second = [
            builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(_INDEX, LANES), list(range(start, 2 * LANES, 2))))
            for start in (0, 1)
        ]
        _store_part(builder, first, even, [(lane, True) for lane in range(LANES)], count)
        builder.store(second, builder.bitcast(odd, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER, _POINTER, types.intp, types.intp, types.intp), generate


@intrinsic
def copy_part(typing_context, target, source, begin, end):
    """target[j] = source[j] where begin <= j < end, else 0, for j < LANES; nothing else is read."""

    def generate(context, builder, signature, arguments):
        target, source, begin, end = arguments
        place = builder.bitcast(target, _VECTOR.as_pointer())
        builder.store(load_part(builder, source, begin, end, 0), place, align=4)
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER, types.intp, types.intp), generate


@intrinsic
def copy_first(typing_context, target, source, count):
    """target[j] = source[j] for j < count and j < LANES; LANES numbers are read."""

    def generate(context, builder, signature, arguments):
        target, source, count = arguments
        value = microkernel._load(builder, source, microkernel._number(0))
        _store_part(builder, value, target, [(lane, True) for lane in range(LANES)], count)
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER, types.intp), generate


@intrinsic
def spread_first(typing_context, target, source, count):
    """target[2 * j] = source[j] for j < count and j < LANES; LANES numbers are read."""

    def generate(context, builder, signature, arguments):
        target, source, count = arguments
        value = microkernel._load(builder, source, microkernel._number(0))
        for start in (0, LANES):
            lanes = [(start + lane) // 2 for lane in range(LANES)]
            spread = builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(_INDEX, LANES), lanes))
            place = builder.gep(target, [microkernel._number(start)])
            _store_part(builder, spread, place, [(j, lane % 2 == 0) for lane, j in enumerate(lanes)], count)
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER, types.intp), generate


@intrinsic
def interleave_first(typing_context, target, even, odd, count):
    """target[2 * j] = even[j] and target[2 * j + 1] = odd[j], of the first `count` and 2 LANES numbers."""

    def generate(context, builder, signature, arguments):
        target, even, odd, count = arguments
        parts = [microkernel._load(builder, pointer, microkernel._number(0)) for pointer in (even, odd)]
        for start in (0, LANES):
            lanes = [(start + lane) // 2 + lane % 2 * LANES for lane in range(LANES)]
            mixed = builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(_INDEX, LANES), lanes))
            place = builder.gep(target, [microkernel._number(start)])
            _store_part(builder, mixed, place, [(start + lane, True) for lane in range(LANES)], count)
        return context.get_dummy_value()

    return types.void(_POINTER, _POINTER, _POINTER, types.intp), generate


def load_part(builder, source, begin, end, start):
    """Append the load of the numbers source[start + lane] where begin <= start + lane < end, else 0."""
    lanes = ir.Constant(_INDICES, [start + lane for lane in range(LANES)])
    mask = builder.and_(builder.icmp_signed(">=", lanes, in_every_lane(builder, begin, LANES)),
                        builder.icmp_signed("<", lanes, in_every_lane(builder, end, LANES)))
    place = builder.gep(source, [microkernel._number(start)])
    return load_masked(builder, place, mask, ir.Constant(_VECTOR, [0.0] * LANES))


def _store_part(builder, value, target, lanes, count):
    """Store the lanes of a vector whose number is below `count`; lanes: a number for each, and whether it counts."""
    numbers = ir.Constant(_INDICES, [number if counts else 2**31 - 1 for number, counts in lanes])
    mask = builder.icmp_signed("<", numbers, in_every_lane(builder, count, LANES))
    store_masked(builder, value, target, mask)
