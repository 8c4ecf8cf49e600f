"""The compiled kernels' threads, forks, fallbacks and messages, most of it in processes of their own."""

import os
import subprocess
import sys
import threading
from ctypes.util import find_library
from pathlib import Path

import numba
import numpy as np
import pytest

import minidl
from minidl import kernels
from minidl.kernels.cpu import runtime

ROOT = Path(__file__).resolve().parents[1]


@runtime.compiled_parallel
def square_roots(x, y):
    chunks = 8
    for chunk in numba.prange(chunks):
        for i in range(chunk * x.size // chunks, (chunk + 1) * x.size // chunks):
            y[i] = np.sqrt(x[i]) + np.float32(1)


def run(code, **environment):
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, cwd=ROOT,
                          timeout=900, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def x():
    return np.random.default_rng(0).random(100_003, dtype=np.float32)


@pytest.fixture
def threads():
    before = minidl.get_num_threads()
    yield minidl.set_num_threads
    minidl.set_num_threads(before)


def test_a_loop_computes_every_share_on_any_number_of_threads(x, threads):
    for count in (1, 2, 3):
        threads(count)
        for size in (1, 7, 8, 1001, x.size):
            y = np.full(size, np.nan, np.float32)
            runtime.parallel(square_roots, x[:size], y)
            np.testing.assert_array_equal(y, np.sqrt(x[:size]) + np.float32(1))


def test_python_threads_may_run_kernels_at_once(x):
    wanted = np.sqrt(x) + np.float32(1)
    wrong = []

    def work():
        for _ in range(200):
            y = np.empty_like(x)
            runtime.parallel(square_roots, x, y)
            if not np.array_equal(y, wanted):
                wrong.append(y)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


FORK = """
import os, sys, threading
import numpy as np
sys.path.insert(0, "tests")
from test_cpu_runtime import runtime, square_roots
x = np.random.default_rng(0).random(100_003, dtype=np.float32)
def roots():
    y = np.empty_like(x)
    runtime.parallel(square_roots, x, y)
    return y
wanted, done = roots(), threading.Event()
def busy():
    while not done.is_set():
        roots()
thread = threading.Thread(target=busy)
thread.start()
for _ in range(5):
    child = os.fork()
    if not child:
        right = all(np.array_equal(roots(), wanted) for _ in range(20))
        os._exit(0 if right and len(runtime._helpers) == len(os.sched_getaffinity(0)) - 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(roots(), wanted)
done.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="fork is for Linux here")
def test_a_forked_child_computes_the_same_and_on_its_own_threads():
    run(FORK)


def test_the_users_own_loops_stay_on_the_layer_that_they_chose():
    code = """
import numba, numpy as np
from minidl.kernels.cpu import runtime
@numba.njit(parallel=True)
def own(y):
    for i in numba.prange(y.size):
        y[i] = numba.get_thread_id()
y = np.zeros(1000)
own(y)
assert numba.threading_layer() == "workqueue"
assert len(np.unique(y)) == min(2, numba.get_num_threads()), y
assert not runtime._helpers
"""
    run(code, NUMBA_THREADING_LAYER="workqueue", NUMBA_NUM_THREADS="2")


def test_the_thread_count_of_others_openmp_stays_as_they_set_it():
    """As PyTorch's does, which shares the library with Numba's layer."""
    if find_library("gomp") is None:
        pytest.skip("no libgomp here")
    said = run("import ctypes, ctypes.util, numpy, minidl\n"
               "openmp = ctypes.CDLL(ctypes.util.find_library('gomp'))\n"
               "openmp.omp_set_num_threads(3)\n"
               "minidl.kernels.relu(numpy.ones((300, 300), numpy.float32))\n"
               "print(openmp.omp_get_max_threads())", NUMBA_THREADING_LAYER="omp", NUMBA_NUM_THREADS="2")
    assert said.stdout.split() == ["3"]


def test_without_numba_one_warning_and_the_reference():
    code = """
import sys
sys.modules["numba"] = None
import minidl
x = minidl.tensor([-1.0, 2.0])
print(minidl.relu(x).tolist(), minidl.sigmoid(x).shape)
"""
    done = run(code)
    assert done.stdout.split("\n")[0].startswith("[0.0, 2.0]")
    assert done.stderr.count("RuntimeWarning") == 1 and "pip install numba" in done.stderr


def test_numba_is_loaded_by_the_first_kernel_and_not_by_the_reference():
    code = """
import sys
import minidl
assert "numba" not in sys.modules
with minidl.use_backend("reference"):
    minidl.relu(minidl.tensor([1.0]))
assert "numba" not in sys.modules
minidl.relu(minidl.tensor([1.0]))
assert "numba" in sys.modules
"""
    run(code)
    run("import sys, minidl; minidl.relu(minidl.tensor([1.0])); assert 'numba' not in sys.modules",
        MINIDL_BACKEND="reference")


def test_compiling_is_announced_once_and_loading_is_not(tmp_path):
    code = "import minidl; x = minidl.randn(3, 3); x.sigmoid(); x.tanh()"
    first, second = (run(code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert first.stderr.count("compiling kernels") == 1
    assert second.stderr == ""


def test_the_number_of_threads(threads):
    threads(1)
    assert minidl.get_num_threads() == 1
    for wrong in (0, -1, 1.5):
        with pytest.raises(ValueError, match="from 1"):
            threads(wrong)
    code = "import minidl; print(minidl.get_num_threads())"
    assert run(code, MINIDL_THREADS="1").stdout == "1\n"
    with pytest.raises(AssertionError, match="MINIDL_THREADS must be a number"):
        run(code, MINIDL_THREADS="many")


@pytest.mark.parametrize("wrong", [
    np.zeros(3), np.zeros(0, np.float32), np.zeros((4, 4), np.float32).T[1:], np.float32(1),
    np.broadcast_to(np.float32(1), (3,)), [1.0],
])
def test_what_does_not_fit(wrong):
    right = np.zeros((2, 3), np.float32)
    assert runtime.fits(right, right)
    assert not runtime.fits(right, wrong)


def test_a_kernel_that_is_missing_runs_in_the_reference(monkeypatch):
    @kernels.kernel
    def halve(x):
        """x / 2."""

    del kernels.CONTRACT["halve"]
    monkeypatch.setattr(kernels.backend_module("reference"), "halve", lambda x: x / 2, raising=False)
    assert halve(3.0) == 1.5


def test_warm_up_calls_every_parallel_loop_and_draws_no_random_numbers():
    code = """
import minidl
from minidl.warmup import warm_up
minidl.seed(3)
wanted = minidl.rand(2).tolist()
minidl.seed(3)
warm_up(progress=False)
from minidl.kernels.cpu import runtime
assert runtime.not_yet_loaded() == [], runtime.not_yet_loaded()
assert minidl.rand(2).tolist() == wanted
"""
    assert "compiling kernels" not in run(code).stderr


def test_the_warmup_verb():
    done = subprocess.run([sys.executable, "-m", "minidl.cli", "warmup"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "compiling kernels for" not in done.stderr


def test_where_nothing_can_be_kept_kernels_still_run_after_one_warning():
    code = """
from numba.core import caching
for kind in (caching.CacheImpl, *caching.CacheImpl.__subclasses__()):
    kind._locator_classes = []
import minidl
print(minidl.tanh(minidl.zeros(1000)).sum().item())
"""
    done = run(code)
    assert done.stdout == "0.0\n"
    assert "not kept on disk" in done.stderr and "NUMBA_CACHE_DIR" in done.stderr
