"""The threads that share a parallel loop: they wait awake for a moment, then asleep, and cost microseconds a loop.

Numba hands the chunks of a `prange` loop to a function called `numba_parallel_for`, which its threading layers
provide. `workqueue`, the one that survives a fork, sleeps at once and takes 100 us to wake; `omp` takes 2 us but ends
a forked child. This file provides another one, for minidl's loops only; others go to Numba's layer as ever.
Shares of a loop are taken one by one by whoever is free, the calling thread among them. So a loop never waits for a
thread that is asleep, and no thread is needed at all: in a forked child, the caller takes every share until
`runtime.py` has started new ones. The shares are Numba's and do not depend on who takes them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import binding, ir
from numba import cfunc, get_num_threads, types
from numba.extending import intrinsic

from minidl.kernels.cpu.cache import kept_on_disk, or_warn

# Where what stands in the shared memory, in words of eight bytes; what different threads write is far apart.
BUSY, CALLED, TICKET, DONE, JOB, AREAS = 0, 8, 16, 24, 32, 64
KERNEL, ARGUMENTS, DIMENSIONS, STEPS, DATA, INNER, COUNT, ORIGINAL = range(JOB, JOB + 8)
SHARES, AREA = 256, 256  # at most so many shares of a loop; words for the arguments of one
# A ticket: the loop's number (32 bits), its shares (16 bits) and the next of them that nobody has taken (16 bits).
FIELD = 0xFFFF
WORD = ir.IntType(64)

_memory = np.zeros(AREAS + SHARES * AREA, np.int64)


def _pointer(builder, address):
    return builder.inttoptr(address, WORD.as_pointer())


def native(function: Callable) -> Callable:
    return kept_on_disk(function, nogil=True)


@intrinsic
def memory(typing_context):
    """The address of the shared memory: asked from a function, because the cache keeps no address of this process."""
    def generate(context, builder, signature, arguments):
        name = "minidl_team_memory"
        function = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(WORD, []), name)
        return builder.call(function, [])
    return types.int64(), generate


@intrinsic
def read(typing_context, address):
    """The word at an address, as other threads have left it."""
    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_pointer(builder, arguments[0]), "acquire", 8)
    return types.int64(types.int64), generate


@intrinsic
def write(typing_context, address, value):
    """Put a word at an address; who reads it sees all that was written before."""
    def generate(context, builder, signature, arguments):
        builder.store_atomic(arguments[1], _pointer(builder, arguments[0]), "release", 8)
        return context.get_dummy_value()
    return types.void(types.int64, types.int64), generate


@intrinsic
def add(typing_context, address, value):
    """Add to the word at an address, as one step for all threads; the word before."""
    def generate(context, builder, signature, arguments):
        return builder.atomic_rmw("add", _pointer(builder, arguments[0]), arguments[1], "acq_rel")
    return types.int64(types.int64, types.int64), generate


@intrinsic
def exchange(typing_context, address, old, new):
    """Write `new` if the word is still `old`, as one step for all threads; whether it was."""
    def generate(context, builder, signature, arguments):
        place, old, new = arguments
        pair = builder.cmpxchg(_pointer(builder, place), old, new, "acq_rel", "acquire")
        return builder.extract_value(pair, 1)
    return types.boolean(types.int64, types.int64, types.int64), generate


@intrinsic
def run(typing_context, kernel, arguments, dimensions, steps, data):
    """Call a piece of compiled loop: the function at `kernel`, with Numba's four pointers."""
    def generate(context, builder, signature, words):
        kind = ir.FunctionType(ir.VoidType(), [WORD] * 4)
        builder.call(builder.inttoptr(words[0], kind.as_pointer()), words[1:])
        return context.get_dummy_value()
    return types.void(*[types.int64] * 5), generate


@intrinsic
def run_original(typing_context, function, kernel, arguments, dimensions, steps, data, inner, count, threads):
    """Call the `parallel_for` of Numba's own layer."""
    def generate(context, builder, signature, words):
        kind = ir.FunctionType(ir.VoidType(), [WORD] * 8)
        builder.call(builder.inttoptr(words[0], kind.as_pointer()), words[1:])
        return context.get_dummy_value()
    return types.void(*[types.int64] * 9), generate


@intrinsic
def pause(typing_context):
    """Tell the processor that this thread waits in a loop, where there is an instruction for it."""
    def generate(context, builder, signature, arguments):
        if PROCESSOR == "x86_64":
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), [])
        return context.get_dummy_value()
    return types.void(), generate


PROCESSOR = binding.get_process_triple().split("-")[0]

@native
def take_share(base):
    """Take one share of the present loop and run it; False when all are taken."""
    while True:
        ticket = read(base + 8 * TICKET)
        share, shares = ticket & FIELD, ticket >> 16 & FIELD
        if share >= shares:
            return False
        if exchange(base + 8 * TICKET, ticket, ticket + 1):  # the loop cannot end now before this share is done
            break
    inner, count = read(base + 8 * INNER), read(base + 8 * COUNT)
    arguments, dimensions = read(base + 8 * ARGUMENTS), read(base + 8 * DIMENSIONS)
    steps = read(base + 8 * STEPS)
    total = read(dimensions)
    first, last = total * share // shares, total * (share + 1) // shares
    own_dimensions = base + 8 * (AREAS + share * AREA)
    own_arguments = own_dimensions + 8 * (inner + 1)
    write(own_dimensions, last - first)
    for i in range(1, inner + 1):
        write(own_dimensions + 8 * i, read(dimensions + 8 * i))
    for i in range(count):
        write(own_arguments + 8 * i, read(arguments + 8 * i) + read(steps + 8 * i) * first)
    run(read(base + 8 * KERNEL), own_arguments, own_dimensions, steps, read(base + 8 * DATA))
    add(base + 8 * DONE, 1)
    return True


@native
def serve(patience):
    """Run shares of the loops that come, until none has come for `patience` looks."""
    base = memory()
    idle = 0
    while idle < patience:
        if take_share(base):
            idle = 0
        else:
            idle += 1
            pause()


@native
def share_out(kernel, arguments, dimensions, steps, data, inner, count, threads):
    """Run a loop together with the threads that serve, and return when all of it is done."""
    base = memory()
    total = read(dimensions)
    limit = read(base + 8 * CALLED)
    if limit == 0:
        run_original(read(base + 8 * ORIGINAL), kernel, arguments, dimensions, steps, data, inner, count, threads)
        return
    shares = min(threads, total, limit, SHARES)
    if shares < 2 or inner + 1 + count > AREA or not exchange(base + 8 * BUSY, 0, 1):
        run(kernel, arguments, dimensions, steps, data)
        return
    write(base + 8 * KERNEL, kernel)
    write(base + 8 * ARGUMENTS, arguments)
    write(base + 8 * DIMENSIONS, dimensions)
    write(base + 8 * STEPS, steps)
    write(base + 8 * DATA, data)
    write(base + 8 * INNER, inner)
    write(base + 8 * COUNT, count)
    write(base + 8 * DONE, 0)
    number = (read(base + 8 * TICKET) >> 32) + 1 & 0x7FFFFFFF
    write(base + 8 * TICKET, number << 32 | shares << 16)
    while take_share(base):
        pass
    while read(base + 8 * DONE) < shares:
        pause()
    write(base + 8 * BUSY, 0)


_kept: list = []  # what compiled code refers to by address


def _function_returning(address: int, name: str) -> None:
    """Give LLVM a function `name` that returns `address`."""
    module = ir.Module()
    module.triple = binding.get_process_triple()
    function = ir.Function(module, ir.FunctionType(WORD, []), name)
    ir.IRBuilder(function.append_basic_block()).ret(ir.Constant(WORD, address))
    machine = binding.Target.from_default_triple().create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine)
    engine.finalize_object()
    _kept.append(engine)
    binding.add_symbol(name, engine.get_function_address(name))


def _entry(kernel, arguments, dimensions, steps, data, inner, count, threads):
    share_out(kernel, arguments, dimensions, steps, data, inner, count, threads)


def enlist() -> None:
    """From now on, loops that are loaded share their work here while `call_for` says so."""
    get_num_threads()  # Numba starts its own layer, whichever the user chose
    _function_returning(_memory.ctypes.data, "minidl_team_memory")
    _memory[ORIGINAL] = binding.address_of_symbol("numba_parallel_for")
    declared = types.void(*[types.int64] * 8)
    entry = or_warn(lambda: cfunc(declared, cache=True)(_entry)) or cfunc(declared)(_entry)
    _kept.append(entry)
    binding.add_symbol("numba_parallel_for", entry.address)


def call_for(threads: int) -> None:
    """Say how many threads may share the loops entered from now on; 0 sends them to Numba's layer."""
    _memory[CALLED] = threads


def forget() -> None:
    """In a forked child: no loop is under way, whatever the parent's other threads were doing."""
    _memory[BUSY] = 0
