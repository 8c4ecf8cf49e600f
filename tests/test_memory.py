"""The pool behind large results: memory is used again when nobody sees it any more, and never before."""

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from minidl.kernels import memory
from minidl.tensor import _memory

SIDE = 256  # a matrix of 256 KiB


@pytest.fixture(autouse=True)
def _an_empty_pool():
    gc.collect()
    memory.trim()
    yield
    memory.trim()


def test_memory_is_used_again_once_the_last_view_is_gone():
    x = memory.empty((SIDE, SIDE))
    address, view = x.ctypes.data, x[3:, ::2].T
    del x
    other = memory.empty((SIDE, SIDE))
    assert not np.shares_memory(view, other)
    del view
    assert memory.empty((SIDE * SIDE,)).ctypes.data == address


def test_results_are_plain_arrays_on_cache_lines():
    cases = ((SIDE, SIDE), np.float32), ((3, 12_347), np.float32), ((99_999,), np.uint8), ((2, 3), np.int64)
    for shape, dtype in cases:
        x = memory.empty(shape, np.dtype(dtype))
        assert type(x) is np.ndarray and x.shape == shape and x.dtype == dtype and x.flags.carray
        assert x.nbytes < memory.SMALLEST or x.ctypes.data % memory.ALIGNMENT == 0
    assert memory.empty(5).shape == (5,)
    assert memory.empty((0, 7)).size == 0


def test_what_is_set_aside_is_at_most_a_sixty_fourth_too_large():
    for size in (memory.SMALLEST, 100_001, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 123_456_789):
        assert size <= memory.block_size(size) <= size * (1 + 1 / 64)
        assert memory.block_size(memory.block_size(size)) == memory.block_size(size)


@pytest.mark.skipif(sys.platform != "linux", reason="segments are as small as what was asked")
def test_free_neighbours_are_joined_and_cut_anew():
    small = [memory.empty((SIDE, SIDE)) for _ in range(8)]
    start, end = min(x.ctypes.data for x in small), max(x.ctypes.data + x.nbytes for x in small)
    for i in (4, 0, 2, 3, 1, 7, 5, 6):  # each stands between others that are free, or not
        small[i] = None
    large = memory.empty((7 * SIDE, SIDE))
    assert start <= large.ctypes.data and large.ctypes.data + large.nbytes <= end
    rest = memory.empty((SIDE, SIDE))
    assert start <= rest.ctypes.data < end and not np.shares_memory(rest, large)


def test_memory_of_a_result_is_its_own_for_the_engine():
    x, y = memory.empty((SIDE, SIDE)), memory.empty((SIDE, SIDE))
    assert _memory(x[1:].T) is _memory(x) is not _memory(y)


def test_free_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(memory, "_limit", 10 << 20)
    arrays = [memory.empty((1 << 20,)) for _ in range(5)] + [memory.empty((1 << 14,)) for _ in range(1000)]
    assert memory.free_bytes() == 0
    arrays.clear()
    assert 0 < memory.free_bytes() <= (10 << 20) + 64 * memory.SMALLEST * 2
    memory.trim()
    assert memory.free_bytes() == 0


def test_threads_never_get_the_same_memory():
    wrong = []

    def work(number):
        for _ in range(300):
            arrays = [memory.empty((SIDE, 64)) for _ in range(4)]
            for i, array in enumerate(arrays):
                array.fill(number + i / 8)
            cycle = [arrays]
            cycle.append(cycle)  # some die in the garbage collector
            wrong.extend(array for i, array in enumerate(arrays) if not (array == number + i / 8).all())

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


FORK = """
import os, threading
import numpy as np
from minidl.kernels import memory
from minidl.tensor import _memory
done = threading.Event()
def busy():
    while not done.is_set():
        memory.empty((1 << 16,)).fill(1)
thread = threading.Thread(target=busy)
thread.start()
x = memory.empty((1 << 16,))
x.fill(3)
for _ in range(20):
    child = os.fork()
    if not child:
        for _ in range(50):
            memory.empty((1 << 16,)).fill(2)
        x.fill(4)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (x == 3).all()
done.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_memory_of_its_own():
    done = subprocess.run([sys.executable, "-c", FORK], cwd=Path(__file__).resolve().parents[1], timeout=120)
    assert done.returncode == 0
