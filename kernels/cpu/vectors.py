"""What LLVM offers beyond loads, stores and arithmetic: masks, and asking for memory ahead. For whoever writes in its
instructions, as `microkernel.py` does.

A mask says for each lane of a vector whether it takes part: the memory of the others is neither read nor written, so
that a vector may reach beyond the end of an array. AVX-512 and AVX have such loads and stores; elsewhere LLVM makes a
branch of every lane.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

INDEX = ir.IntType(32)  # what numbers lanes
KEPT, DATA = 3, 1  # of a prefetch: keep it near, and it is no code


def declared(builder: Any, name: str, kind: ir.FunctionType) -> ir.Function:
    """LLVM's function `name` in the module that is being written."""
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def load_masked(builder: Any, pointer: Any, mask: Any, otherwise: Any) -> Any:
    """The vector of floats at `pointer`, of which the lanes without a mask come from the vector `otherwise`."""
    pointer = builder.bitcast(pointer, otherwise.type.as_pointer())
    kind = ir.FunctionType(otherwise.type, [pointer.type, INDEX, mask.type, otherwise.type])
    load = declared(builder, f"llvm.masked.load.v{otherwise.type.count}f32.p0", kind)
    return builder.call(load, [pointer, ir.Constant(INDEX, 4), mask, otherwise])


def store_masked(builder: Any, vector: Any, pointer: Any, mask: Any) -> None:
    """Write the lanes of `vector` that have a mask to `pointer`."""
    pointer = builder.bitcast(pointer, vector.type.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [vector.type, pointer.type, INDEX, mask.type])
    store = declared(builder, f"llvm.masked.store.v{vector.type.count}f32.p0", kind)
    builder.call(store, [vector, pointer, ir.Constant(INDEX, 4), mask])


def fetch(builder: Any, pointer: Any, to_write: bool = False) -> None:
    """Ask for the cache line at `pointer`, which may lie anywhere: it will be read, or written to, soon."""
    pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, INDEX, INDEX, INDEX])
    options = [ir.Constant(INDEX, number) for number in (int(to_write), KEPT, DATA)]
    builder.call(declared(builder, "llvm.prefetch.p0", kind), [pointer, *options])


def in_every_lane(builder: Any, number: Any, lanes: int) -> Any:
    """A vector that holds the lower half of a 64-bit number in each of its lanes."""
    kind = ir.VectorType(INDEX, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, builder.trunc(number, INDEX), ir.Constant(INDEX, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(kind, [0] * lanes))
