"""NumPy's BLAS is given one thread: its waiting threads spin, and would take the cores from minidl's own.

minidl asks it for small matrix products only. Measured on 2 cores, a training step of mnist_cnn at batch 64: 37 ms
beside two BLAS threads, 15 ms beside one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

from minidl.kernels.cpu.microkernel import LANES

# What OpenBLAS calls its kernels for AVX-512. Those for small matrices read them as they lie, and use one thread.
AVX512 = ("SkylakeX", "Cooperlake", "SapphireRapids", "Zen5")


def one_thread() -> None:
    """Limit the BLAS libraries loaded in this process to one thread, from now on."""
    threadpool_limits(limits=1, user_api="blas")


@contextmanager
def openmp_as_it_was() -> Iterator[None]:
    """Within the block, somebody may set the number of threads of OpenMP libraries that others use: it is set back.

    Numba's own layer does when it starts, and would give a PyTorch in the same process all cores.
    """
    libraries = ThreadpoolController().select(user_api="openmp").lib_controllers
    before = [library.num_threads for library in libraries]
    yield
    for library, threads in zip(libraries, before):
        library.set_num_threads(threads)


@cache
def small_products() -> int:
    """Up to how many multiplications NumPy's BLAS is to compute a product, because packing would cost more.

    BLAS may have been built, or told (OPENBLAS_CORETYPE), to use narrower vectors than this processor has.
    """
    narrow = LANES > 8 and not any(library.get("architecture") in AVX512 for library in threadpool_info())
    return 48**3 if narrow else 100**3
