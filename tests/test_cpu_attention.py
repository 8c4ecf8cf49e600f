"""The compiled attention against the reference in float64: shapes, layouts, masks, dropout, threads, memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threads import assert_same_bits

from minidl.kernels import backend_module

CPU, REFERENCE = backend_module("cpu"), backend_module("reference")
MASKS = {
    "none": lambda n, h, queries, keys: None, "pairs": lambda n, h, queries, keys: (queries, keys),
    "keys": lambda n, h, queries, keys: (n, 1, 1, keys), "all": lambda n, h, queries, keys: (n, h, queries, keys),
    "queries": lambda n, h, queries, keys: (h, queries, 1), "one": lambda n, h, queries, keys: (1,),
}
LAYOUTS = ("separate", "by-head", "packed")


class Problem:
    """Arrays for one call, in one of the layouts; `packed`: views of one array, queries, keys and values in a row."""

    def __init__(self, n, h, queries, keys, width, value_width, layout="separate", mask="none", booleans=True,
                 causal=None, p=0.0):
        random = np.random.default_rng(n + 10 * queries + keys)
        self.layout, self.sizes = layout, (n, h)
        self.query, self.key, self.value, self.g = (
            self.place(*sizes, random) for sizes in ((queries, width), (keys, width), (keys, value_width),
                                                     (queries, value_width)))
        shape, self.mask = MASKS[mask](n, h, queries, keys), None
        if shape is not None:
            self.mask = random.random(shape) < 0.7 if booleans else random.standard_normal(shape).astype(np.float32)
        self.options = causal, 0.3, p, 12345

    def place(self, length, width, random=None):
        n, h = self.sizes
        shape = {"by-head": (n, h, length, width), "packed": (n, length + 1, h, width + 3)}
        shape = shape.get(self.layout, (n, length, h, width))
        x = np.full(shape, np.nan, np.float32) if random is None else random.standard_normal(shape).astype(np.float32)
        return x.swapaxes(1, 2) if self.layout == "by-head" else x[:, :length, :, :width]

    def run(self, kernels, dtype=np.float32):
        """Results by name: output, log sum exp and gradients."""
        arrays = [None if x is None else x if x.dtype == bool else x.astype(dtype, copy=False)
                  for x in (self.query, self.key, self.value, self.mask)]
        output = self.place(self.query.shape[1], self.value.shape[3]).astype(dtype, copy=False)
        logsumexp = kernels.attention(output, *arrays, *self.options)
        grads = [self.place(x.shape[1], x.shape[3]).astype(dtype, copy=False) for x in arrays[:3]]
        kernels.attention_grad(*grads, self.g.astype(dtype, copy=False), *arrays[:3], output, logsumexp, arrays[3],
                               *self.options)
        return dict(zip(("output", "logsumexp", "grad_query", "grad_key", "grad_value"), [output, logsumexp, *grads]))

    def check(self):
        ours, exact, sizes = self.run(CPU), self.run(REFERENCE, np.float64), self.sizes_before_cancelling()
        for name, expected in exact.items():
            found = ours[name]
            assert found.dtype == np.float32, name
            finite = np.isfinite(expected)
            np.testing.assert_array_equal(found[~finite], expected[~finite], err_msg=name)  # -inf
            np.testing.assert_allclose(found[finite], expected[finite], rtol=0, atol=3e-6 * sizes[name].max(),
                                       err_msg=name)

    def sizes_before_cancelling(self):
        """What each result would be if all terms had one sign: rounding is measured by that."""
        query, key, value, g = (np.abs(x).astype(np.float64) for x in (self.query, self.key, self.value, self.g))
        causal, scale, p, seed = self.options
        keys = key.shape[1]
        weights = np.empty((*query.shape[:3], keys))
        each = np.broadcast_to(np.eye(keys)[:, None], (len(key), keys, key.shape[2], keys))
        REFERENCE.attention(weights, self.query, self.key, each, self.mask, causal, scale, 0.0, seed)
        weights /= 1 - p if p < 1 else 1
        grads = scale * weights * np.einsum("nlhv,nshv->nlhs", g, value)
        scores = np.ones(1) + scale * query.max() * key.max() * query.shape[3]
        return {
            "output": np.einsum("nlhs,nshv->nlhv", weights, value), "logsumexp": scores,
            "grad_query": np.einsum("nlhs,nshe->nlhe", grads, key),
            "grad_key": np.einsum("nlhs,nlhe->nshe", grads, query),
            "grad_value": np.einsum("nlhs,nlhv->nshv", weights, g),
        }


lengths = st.integers(1, 90) | st.integers(100, 300)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 3), h=st.integers(1, 3), queries=lengths, keys=lengths, width=st.integers(1, 70),
       value_width=st.integers(1, 70), layout=st.sampled_from(LAYOUTS), mask=st.sampled_from(sorted(MASKS)),
       booleans=st.booleans(), causal=st.none() | st.integers(-5, 60), p=st.sampled_from([0.0, 0.0, 0.3, 1.0]))
def test_every_shape_and_mask(**sizes):
    Problem(**sizes).check()


@pytest.mark.parametrize("causal", [None, 0], ids=["whole", "causal"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sizes_of_real_networks(causal, layout):
    Problem(2, 2, 64, 64, 32, 32, layout, causal=causal).check()
    Problem(1, 2, 600, 600, 64, 64, layout, causal=causal).check()  # more queries than one task takes


def test_the_mask_of_dropout_is_that_of_the_reference():
    problem = Problem(2, 3, 70, 150, 8, 150, p=0.4)
    problem.value = np.broadcast_to(np.eye(150, dtype=np.float32)[:, None], (2, 150, 3, 150)).copy()
    kept = problem.run(CPU)["output"] != 0
    np.testing.assert_array_equal(kept.swapaxes(1, 2), REFERENCE.attention_dropout_mask((2, 3, 70, 150), 0.4, 12345))


def test_large_scores_do_not_overflow_and_later_blocks_may_hold_the_largest():
    problem = Problem(1, 1, 40, 400, 16, 16)
    problem.key = problem.key * np.linspace(1, 60, 400, dtype=np.float32)[:, None, None]
    exact = problem.run(REFERENCE, np.float64)
    assert exact["logsumexp"].max() > 100  # e^100 is no float32
    np.testing.assert_allclose(problem.run(CPU)["output"], exact["output"], rtol=0, atol=1e-4)


def test_nan_and_inf_reach_their_queries_and_no_others():
    problem = Problem(1, 2, 40, 50, 8, 8)
    problem.query[0, 7, 1, 3] = np.nan
    problem.query[0, 9, 0, 2] = np.inf
    for kernels in (CPU, REFERENCE):
        with np.errstate(invalid="ignore"):
            output = problem.run(kernels)["output"]
        wrong = ~np.isfinite(output).all(axis=-1)[0]
        assert wrong[7, 1] and wrong[9, 0] and wrong.sum() == 2


def test_a_query_that_sees_no_key_gives_zero_and_moves_nothing():
    problem = Problem(1, 2, 40, 50, 8, 8)
    problem.mask = np.ones((40, 50), bool)
    problem.mask[[3, 33]] = False
    for kernels in (CPU, REFERENCE):
        found = problem.run(kernels)
        assert not found["output"][:, [3, 33]].any() and not found["grad_query"][:, [3, 33]].any()
        assert np.isneginf(found["logsumexp"][..., [3, 33]]).all()
        assert np.isfinite(found["grad_key"]).all() and np.isfinite(found["grad_value"]).all()


@pytest.mark.parametrize("change", [lambda x: x.astype(np.float64), lambda x: x[::-1], lambda x: x[..., ::2],
                                    lambda x: x[:, :0]], ids=["float64", "reversed", "step", "empty"])
def test_other_arrays_take_the_reference(change):
    problem = Problem(2, 2, 20, 20, 16, 16, causal=0)
    for name in ("query", "key", "value", "g"):
        setattr(problem, name, change(getattr(problem, name)))
    dtype = problem.query.dtype
    ours, expected = problem.run(CPU, dtype), problem.run(REFERENCE, dtype)
    for name in expected:
        assert ours[name].dtype == expected[name].dtype
        np.testing.assert_allclose(ours[name], expected[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", [lambda x: x[::-1, ::-1], lambda x: x[:, ::-1].T[::-1].T, lambda x: x.T.copy().T,
                                    lambda x: np.broadcast_to(x[:, :1], x.shape), lambda x: np.asarray(x[0, 0])],
                         ids=["reversed", "twice", "turned", "broadcast", "scalar"])
@pytest.mark.parametrize("booleans", [True, False], ids=["booleans", "numbers"])
def test_masks_of_any_layout(change, booleans):
    problem = Problem(2, 2, 40, 50, 16, 16, mask="pairs", booleans=booleans)
    problem.mask = change(problem.mask)
    problem.check()


def test_a_broadcast_key_is_read_once_for_all_samples():
    problem = Problem(3, 2, 30, 40, 16, 16)
    problem.key = np.broadcast_to(problem.key[:1], problem.key.shape)
    problem.check()


def test_same_bits_on_any_number_of_threads():
    problems = [Problem(5, 3, 64, 64, 32, 32, "packed", causal=0, p=0.2), Problem(1, 3, 600, 600, 32, 32, mask="keys")]
    assert_same_bits(lambda: {(number, name): array for number, problem in enumerate(problems)
                              for name, array in problem.run(CPU).items()})


MEMORY = """
import resource, sys
from test_cpu_attention import Problem, backend_module
kernels = backend_module(sys.argv[1])
Problem(1, 1, 400, 400, 16, 16, causal=0).run(kernels)  # loaded
problem = Problem(1, 1, 4096, 4096, 16, 16, causal=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
problem.run(kernels)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_grows_with_the_length_not_with_its_square():
    """In a process of its own, whose peak is not that of other tests."""
    pytest.importorskip("resource")
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    done = subprocess.run([sys.executable, "-c", MEMORY, "cpu"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 4096 * 4096 * 4 / 6, "a sixth of one matrix of scores"
