"""`ceilings`: what this machine can do at most: multiply-adds in registers, and bytes copied in memory.

The multiply-add loop keeps independent accumulators of the processor's vector width in registers and touches no
memory, so only the arithmetic units bound it. Every percentage of a peak in the tables is of this figure. Several
threads run the loop at once, each its own; a copy is cut into as many pieces. A copied byte counts twice, read and
written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.suite import Settings, Work
from benchmarks.timing import Contestant, take_turns

ACCUMULATORS = 12  # independent chains: latency of 4 cycles x 2 units, and some to spare
ROUNDS = 4_000_000
COPY_BYTES = 256 * 2**20


def works(settings: Settings) -> Iterator[Work]:
    """The multiply-add peak, and the bandwidth of a copy much larger than the caches."""
    rounds = ROUNDS // 4 if settings.quick else ROUNDS
    flops_a_round, loop = _multiply_add_loop()
    yield Work("fused multiply-add peak, registers only", {"minidl": _in_threads(lambda _: loop(rounds), settings)},
               flops=flops_a_round * rounds * settings.threads)
    yield _copy(settings)


def measured_peak(settings: Settings) -> float | None:
    """GFLOP/s of the multiply-add peak on this many threads; None without Numba."""
    try:
        flops_a_round, loop = _multiply_add_loop()
    except ImportError:
        return None
    contestant = _in_threads(lambda _: loop(ROUNDS // 4), settings)
    times = take_turns({"loop": contestant}, {"loop": contestant.once()[0]}, seconds=0.3, quick=True)["loop"]
    return round(flops_a_round * ROUNDS / 4 * settings.threads / min(times.samples) / 1e9, 1)


def _in_threads(piece: Callable[[int], Any], settings: Settings) -> Contestant:
    """A contestant that calls `piece(0)` … `piece(threads - 1)` at the same time."""
    if settings.threads == 1:
        return Contestant(lambda _: piece(0))
    pool = ThreadPoolExecutor(settings.threads)
    return Contestant(lambda _: list(pool.map(piece, range(settings.threads))))


def _copy(settings: Settings) -> Work:
    size = COPY_BYTES // 4 // (4 if settings.quick else 1)
    source, target = np.ones(size, np.float32), np.zeros(size, np.float32)
    pieces = list(zip(np.array_split(source, settings.threads), np.array_split(target, settings.threads)))
    contestant = _in_threads(lambda i: np.copyto(pieces[i][1], pieces[i][0]), settings)
    return Work(f"copy of {size * 4 // 2**20} MiB", {"minidl": contestant}, moved_bytes=8.0 * size)


def _multiply_add_loop() -> tuple[float, Callable[[int], float]]:
    """The floating-point operations of a round, and the compiled loop of so many rounds. Raises ImportError."""
    numba, extending = import_module("numba"), import_module("numba.extending")
    binding, ir = import_module("llvmlite.binding"), import_module("llvmlite.ir")
    features = binding.get_host_cpu_features()
    lanes = 16 if features.get("avx512f") else 8 if features.get("avx2") else 4
    vector, integer = ir.VectorType(ir.FloatType(), lanes), ir.IntType(64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rounds, before = arguments[0], builder.block
        fma = ir.Function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32")
        loop, after = builder.append_basic_block("round"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        counter, sums = builder.phi(integer), [builder.phi(vector) for _ in range(ACCUMULATORS)]
        factor, term = ir.Constant(vector, [0.5] * lanes), ir.Constant(vector, [1.5] * lanes)
        results = [builder.call(fma, [total, factor, term]) for total in sums]
        following = builder.add(counter, ir.Constant(integer, 1))
        builder.cbranch(builder.icmp_signed("<", following, rounds), loop, after)
        counter.add_incoming(ir.Constant(integer, 0), before)
        counter.add_incoming(following, loop)
        for number, (total, result) in enumerate(zip(sums, results)):
            total.add_incoming(ir.Constant(vector, [float(number)] * lanes), before)
            total.add_incoming(result, loop)
        builder.position_at_end(after)
        total = results[0]
        for result in results[1:]:
            total = builder.fadd(total, result)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    types = numba.types
    rounds_of = extending.intrinsic(lambda typing, rounds: (types.float32(types.int64), generate))
    return 2.0 * lanes * ACCUMULATORS, numba.njit(nogil=True)(lambda rounds: rounds_of(rounds))
