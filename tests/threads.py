"""Results of kernels have the same bits for any number of threads."""

import numpy as np

from minidl.kernels import get_num_threads, set_num_threads


def assert_same_bits(compute):
    """Call `compute()`, which gives arrays by name, on 1, 2 and 3 threads."""
    before = get_num_threads()
    try:
        set_num_threads(1)
        one = compute()
        for threads in (2, 3):
            set_num_threads(threads)
            for name, result in compute().items():
                assert np.array_equal(result, one[name]), (name, threads)
    finally:
        set_num_threads(before)
