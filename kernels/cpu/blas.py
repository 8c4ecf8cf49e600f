"""NumPy's BLAS is given one thread: its waiting threads spin, and would take the cores from minidl's own.

minidl asks it for small matrix products only. Measured on 2 cores, a training step of mnist_cnn at batch 64: 37 ms
beside two BLAS threads, 15 ms beside one.
"""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def one_thread() -> None:
    """Limit the BLAS libraries loaded in this process to one thread, from now on."""
    threadpool_limits(limits=1, user_api="blas")
