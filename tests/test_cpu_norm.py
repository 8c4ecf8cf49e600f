"""The compiled normalisation kernels against the reference in float64: shapes, options, fallbacks, threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl.kernels import backend_module
from minidl.kernels.cpu import runtime

CPU, REFERENCE = backend_module("cpu"), backend_module("reference")
TOLERANCE = 1e-5  # of the largest value: float32 rounding of results, sums are more exact than that
EPS = 1e-5


def draw(shape, seed, mean=0.0):
    return (np.random.default_rng(seed).standard_normal(shape) + mean).astype(np.float32)


def in_float64(*arrays):
    return [array if array is None or isinstance(array, int) else array.astype(np.float64) for array in arrays]


def close(actual, expected, tolerance=TOLERANCE):
    for ours, exact in zip(actual, expected, strict=True):
        assert ours.dtype == np.float32 and ours.shape == exact.shape
        np.testing.assert_allclose(ours, exact, rtol=0, atol=tolerance * max(np.abs(exact).max(), 1e-3))


def vectors(length, given):
    return [draw(length, seed, 1) if given else None for seed in (2, 3)]


SHAPES = [(3, 4, 5, 7), (8, 16, 26, 26), (64, 9), (4, 6, 9), (2, 2, 70, 71), (30, 3, 2, 2), (5, 3, 2, 3, 4),
          (130, 70, 2, 2), (67, 300)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
with_vectors = pytest.mark.parametrize("given", [True, False], ids=["affine", "plain"])


@every_shape
@with_vectors
def test_batch_norm(shape, given):
    x, g, (weight, bias) = draw(shape, 0, 3), draw(shape, 1), vectors(shape[1], given)
    results = CPU.batch_norm(x, weight, bias, EPS)
    exact = REFERENCE.batch_norm(*in_float64(x, weight, bias), EPS)
    close(results, exact)
    gradients = CPU.batch_norm_grad(g, x, weight, *results[1:], EPS)
    close(gradients, REFERENCE.batch_norm_grad(*in_float64(g, x, weight), *exact[1:], EPS))


@every_shape
@with_vectors
def test_batch_norm_inference(shape, given):
    x, g, (weight, bias) = draw(shape, 0, 3), draw(shape, 1), vectors(shape[1], given)
    mean, variance = draw(shape[1], 4), draw(shape[1], 5) ** 2 + np.float32(0.1)
    arguments = in_float64(x, weight, bias, mean, variance)
    close([CPU.batch_norm_inference(x, weight, bias, mean, variance, EPS)],
          [REFERENCE.batch_norm_inference(*arguments, EPS)])
    close([CPU.batch_norm_inference_grad_input(g, weight, variance, EPS)],
          [REFERENCE.batch_norm_inference_grad_input(*in_float64(g, weight, variance), EPS)])
    close([CPU.batch_norm_inference_grad_weight(g, x, mean, variance, EPS)],
          [REFERENCE.batch_norm_inference_grad_weight(*in_float64(g, x, mean, variance), EPS)])


@every_shape
@with_vectors
def test_group_norm(shape, given):
    x, g, (weight, bias) = draw(shape, 0, 3), draw(shape, 1), vectors(shape[1], given)
    for groups in (1, 2, 3, shape[1]):
        # in groups of few numbers the rounding of a float32 mean is large beside what lies between them
        if shape[1] % groups or x[0].size / groups < 8:
            continue
        results = CPU.group_norm(x, groups, weight, bias, EPS)
        exact = REFERENCE.group_norm(*in_float64(x, groups, weight, bias), EPS)
        close(results, exact)
        gradients = CPU.group_norm_grad(g, x, groups, weight, *results[1:], EPS)
        close(gradients, REFERENCE.group_norm_grad(*in_float64(g, x, groups, weight), *exact[1:], EPS), 2e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(8, 300), st.booleans())
def test_layer_norm(rows, length, given):
    check_layer_norm(rows, length, given)


@with_vectors
def test_layer_norm_of_long_rows(given):
    check_layer_norm(200, 513, given)
    check_layer_norm(3, 5000, given)


def check_layer_norm(rows, length, given):
    x, g, (weight, bias) = draw((rows, length), 0, 3), draw((rows, length), 1), vectors(length, given)
    results = CPU.layer_norm(x, weight, bias, EPS)
    exact = REFERENCE.layer_norm(*in_float64(x, weight, bias), EPS)
    close(results, exact)
    gradients = CPU.layer_norm_grad(g, x, weight, *results[1:], EPS)
    close(gradients, REFERENCE.layer_norm_grad(*in_float64(g, x, weight), *exact[1:], EPS), 2e-5)


def test_variance_far_from_zero_is_exact():
    """A mean a thousand times the deviation: sums of squares alone would lose six digits."""
    x = draw((8, 2, 40, 41), 0, 1000)
    variance = CPU.batch_norm(x, None, None, EPS)[2]
    np.testing.assert_allclose(variance, x.astype(np.float64).var(axis=(0, 2, 3)), rtol=1e-6)


def test_nan_stays_in_its_channel():
    x = draw((4, 3, 9, 9), 0)
    x[2, 1, 3, 4] = np.nan
    y, mean, variance = CPU.batch_norm(x, None, None, EPS)
    assert np.isnan(y[:, 1]).all() and np.isnan([mean[1], variance[1]]).all()
    assert np.isfinite(y[:, [0, 2]]).all()
    g = draw(x.shape, 1)
    grad = CPU.batch_norm_grad(g, x, None, mean, variance, EPS)[0]
    assert np.isnan(grad[:, 1]).all() and np.isfinite(grad[:, [0, 2]]).all()


@pytest.mark.parametrize("change", [lambda x: x.astype(np.float64), lambda x: x[:, :, ::-1],
                                    lambda x: x.transpose(0, 1, 3, 2)], ids=["float64", "reversed", "turned"])
def test_other_arrays_take_the_reference(change):
    x, g = change(draw((4, 6, 9, 8), 0)), change(draw((4, 6, 9, 8), 1))
    weight, bias = [vector.astype(x.dtype) for vector in vectors(6, True)]
    for name, first in [("batch_norm", ()), ("group_norm", (3,))]:
        expected = getattr(REFERENCE, name)(x, *first, weight, bias, EPS)
        same(getattr(CPU, name)(x, *first, weight, bias, EPS), expected)
        arguments = (g, x, *first, weight, *expected[1:], EPS)
        same(getattr(CPU, name + "_grad")(*arguments), getattr(REFERENCE, name + "_grad")(*arguments))


def same(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_same_bits_on_one_and_on_two_threads():
    x, g, (weight, bias) = draw((6, 10, 33, 35), 0), draw((6, 10, 33, 35), 1), vectors(10, True)
    rows, g_rows, (scale, shift) = x.reshape(-1, 70), g.reshape(-1, 70), vectors(70, True)
    before, results = runtime.get_num_threads(), []
    try:
        for threads in (1, 2):
            runtime.set_num_threads(threads)
            batch, group = CPU.batch_norm(x, weight, bias, EPS), CPU.group_norm(x, 5, weight, bias, EPS)
            layer = CPU.layer_norm(rows, scale, shift, EPS)
            results.append([*batch, *CPU.batch_norm_grad(g, x, weight, *batch[1:], EPS), *group, *layer,
                            *CPU.group_norm_grad(g, x, 5, weight, *group[1:], EPS),
                            *CPU.layer_norm_grad(g_rows, rows, scale, *layer[1:], EPS)])
    finally:
        runtime.set_num_threads(before)
    assert [result.tobytes() for result in results[0]] == [result.tobytes() for result in results[1]]
