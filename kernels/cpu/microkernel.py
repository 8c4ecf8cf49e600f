"""The innermost loop of every matrix product: one tile of the result, kept in registers. Read next: gemm.py.

A product of n x n matrices reads 2 n^2 numbers and multiplies n^3 times. It is fast when each number, once loaded,
is used many times before it is dropped; here that place is the CPU's vector registers. A register holds LANES floats,
and one instruction (a fused multiply-add, FMA) computes `a * b + c` on all of its lanes. The tile is ROWS x COLUMNS
numbers of the result, held in ROWS * COLUMNS / LANES registers, the accumulators. For every k, the step is

    load COLUMNS numbers of B           COLUMNS / LANES loads
    for each of ROWS numbers of A:      ROWS loads, each copied to all lanes of a register
        accumulators of that row += that number * the numbers of B

              b0 ........... b31        one row of the panel of B
        a0  [ c0,0 ....... c0,31 ]
        a1  [ c1,0 ....... c1,31 ]      outer product of a column of A and a row of B, added to the tile:
        ..  [  ..                ]      14 + 2 loads feed 28 FMAs (AVX-512), none of them waits for another,
        a13 [ c13,0 ..... c13,31 ]      and C is touched only before the first k and after the last

An FMA takes four cycles and one or two may start in each, so eight or more must be under way at any time: hence many
accumulators; as many as there are registers, less the few that hold A and B. Compilers do not find this from loops
over arrays (they keep the tile in memory), so the step is written here in LLVM's own instructions, with Numba's
`@intrinsic`: a function that Numba calls while it compiles, to append instructions to the loop that calls it.

The operands are *panels*: A's rows are copied in groups of ROWS, so that the ROWS numbers of one k lie side by side
(a[k * ROWS + i]), B's columns likewise in groups of COLUMNS (b[k * COLUMNS + j]). The micro-kernel then reads both
from the first byte to the last, and never a byte for nothing. Whoever fills the panels may take the numbers from
anywhere: gemm.py reads a matrix or its transpose, a convolution reads patches of an image.
The idea and its blocking: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
"""

from __future__ import annotations

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from minidl.kernels.cpu.vectors import declared, fetch


def tile_of(features: dict[str, bool]) -> tuple[int, int, int, bool]:
    """LANES, ROWS, COLUMNS and whether FMA is there, for a CPU's features by LLVM's names.

    The accumulators take most of the registers: 28 of AVX-512's 32, 12 of AVX2's 16, 16 of NEON's 32, 12 of SSE's 16.
    """
    if features.get("avx512f"):
        return 16, 14, 32, True
    if features.get("avx2") and features.get("fma"):
        return 8, 6, 16, True
    if features.get("neon"):
        return 4, 8, 8, True
    return 4, 6, 8, False


LANES, ROWS, COLUMNS, FUSED = tile_of(binding.get_host_cpu_features())

LINE = 16  # floats of a cache line

_FLOAT, _INT = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_POINTER = types.CPointer(types.float32)


@intrinsic
def address(typing_context, array, offset):
    """The address of element `offset` of a C-contiguous float32 array, counted as if it were flat."""

    def generate(context, builder, signature, arguments):
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return _POINTER(array, types.intp), generate


@intrinsic
def multiply_tile(typing_context, rows, a, a_row, a_step, b, b_step, c, stride, depth, accumulate):
    """c[i * stride + j] = (itself if accumulate else 0) + the sum of a[i * a_row + k * a_step] * b[k * b_step + j].

    For all i < rows, j < COLUMNS and k < depth, where 1 <= rows <= ROWS and depth is at least 1. a, b and c are
    addresses of float32 numbers. One loop for each number of rows; an address outside the tile is never read.
    """

    def generate(context, builder, signature, arguments):
        _choose_rows(builder, *arguments)
        return context.get_dummy_value()

    counts = [types.intp] * 2
    return types.void(types.intp, _POINTER, *counts, _POINTER, types.intp, _POINTER, *counts, types.intp), generate


@intrinsic
def multiply_rows(typing_context, rows, a, b, c, depth, stride, accumulate):
    """`multiply_tile` for panels: c[i * stride + j] = … + the sum over k of a[k * rows + i] * b[k * COLUMNS + j]."""

    def generate(context, builder, signature, arguments):
        rows, a, b, c, depth, stride, accumulate = arguments
        _choose_rows(builder, rows, a, _number(1), None, b, _number(COLUMNS), c, stride, depth, accumulate)
        return context.get_dummy_value()

    return types.void(types.intp, _POINTER, _POINTER, _POINTER, types.intp, types.intp, types.intp), generate


def balanced_rows(m: int) -> int:
    """The height, at most ROWS, of the fewest panels of one height that hold m rows."""
    panels = -(-m // ROWS)
    return -(-m // panels)


def _choose_rows(builder, rows, a, a_row, a_step, b, b_step, c, stride, depth, accumulate):
    """Append a switch over all numbers of rows; a_step is that number itself if None."""
    after = builder.append_basic_block("multiplied")
    choice = builder.switch(rows, after)
    for height in range(1, ROWS + 1):
        block = builder.append_basic_block(f"rows{height}")
        choice.add_case(_number(height), block)
        builder.position_at_end(block)
        _prefetch_tile(builder, height, c, stride)
        step = _number(height) if a_step is None else a_step
        tile = _sum_over_depth(builder, height, a, a_row, step, b, b_step, depth)
        flag = builder.icmp_signed("!=", accumulate, ir.Constant(accumulate.type, 0))
        with builder.if_else(flag) as (then, otherwise):
            with then:
                _store(builder, tile, c, stride, add=True)
            with otherwise:
                _store(builder, tile, c, stride, add=False)
        builder.branch(after)
    builder.position_at_end(after)


def _sum_over_depth(builder, rows, a, a_row, a_step, b, b_step, depth):
    """Append the loop over k; the result is the tile, a list of rows of vectors."""
    before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("sum")
    # x86 can add one or two distances to an address as it loads: a pointer for every third row is enough.
    starts = [builder.gep(a, [builder.mul(a_row, _number(i))]) for i in range(0, rows, 3)]
    builder.branch(loop)
    builder.position_at_end(loop)
    k, b_now, a_now = builder.phi(_INT), builder.phi(b.type), [builder.phi(a.type) for _ in starts]
    sums = [[builder.phi(_VECTOR) for _ in range(0, COLUMNS, LANES)] for _ in range(rows)]

    across = [_load(builder, b_now, _number(j)) for j in range(0, COLUMNS, LANES)]
    tile = []
    for i in range(rows):
        number = builder.load(builder.gep(a_now[i // 3], [builder.mul(a_row, _number(i % 3))]))
        down = _broadcast(builder, number)
        tile.append([_multiply_add(builder, down, b_part, c_part) for b_part, c_part in zip(across, sums[i])])

    following = builder.add(k, _number(1))
    loop_variables = [(k, _number(0), following), (b_now, b, builder.gep(b_now, [b_step]))]
    loop_variables += [(now, start, builder.gep(now, [a_step])) for now, start in zip(a_now, starts)]
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    for row_sums, row_tile in zip(sums, tile):
        loop_variables += [(variable, zero, value) for variable, value in zip(row_sums, row_tile)]
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    for variable, first, later in loop_variables:
        variable.add_incoming(first, before)
        variable.add_incoming(later, loop)
    builder.position_at_end(after)
    return tile


def _prefetch_tile(builder, rows, c, stride):
    """Ask for the lines of C before the loop, so that they have come from a far cache when it ends."""
    for i in range(rows):
        for j in [*range(0, COLUMNS, LINE), COLUMNS - 1]:
            place = builder.gep(c, [builder.add(builder.mul(stride, _number(i)), _number(j))])
            fetch(builder, place, to_write=True)


def _store(builder, tile, c, stride, add):
    for i, row in enumerate(tile):
        start = builder.mul(stride, _number(i))
        for j, value in enumerate(row):
            offset = builder.add(start, _number(j * LANES))
            if add:
                value = builder.fadd(_load(builder, c, offset), value)
            builder.store(value, _vector_at(builder, c, offset), align=4)


def _multiply_add(builder, x, y, z):
    if not FUSED:
        return builder.fadd(builder.fmul(x, y), z)
    function = declared(builder, f"llvm.fma.v{LANES}f32", ir.FunctionType(_VECTOR, [_VECTOR] * 3))
    return builder.call(function, [x, y, z])


def _broadcast(builder, number):
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _load(builder, pointer, offset):
    # Rows of C start at any float, not at a multiple of the vector's size: 4-byte alignment is all that is promised.
    return builder.load(_vector_at(builder, pointer, offset), align=4)


def _vector_at(builder, pointer, offset):
    return builder.bitcast(builder.gep(pointer, [offset]), _VECTOR.as_pointer())


def _number(value):
    return ir.Constant(_INT, value)
