"""Compiled resizing against the reference: any sizes and factors, both ways of corners, what does not fit, threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threads import assert_same_bits

from minidl.kernels import backend_module

CPU, REFERENCE = backend_module("cpu"), backend_module("reference")
axis = st.one_of(st.tuples(st.integers(1, 30), st.integers(1, 40)).map(lambda n: (*n, n[0] / n[1])),
                 st.tuples(st.integers(3, 30), st.sampled_from([2.0, 1.7, 0.4])).map(
                     lambda n: (n[0], int(n[0] * n[1]), 1 / n[1])))  # before, after, and the step between


def draw(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def kinds(step):
    """The options of every way of resizing: kernel, options."""
    for exact in (False, True):
        yield "upsample_nearest2d", {"step": step, "exact": exact}
    for align_corners in (False, True):
        yield "upsample_bilinear2d", {"step": step, "align_corners": align_corners}


def check(x, size, step, tolerance):
    for name, options in kinds(step):
        y, exact = [getattr(k, name)(x, size=size, **options) for k in (CPU, REFERENCE)]
        assert y.dtype == exact.dtype and y.shape == exact.shape
        np.testing.assert_allclose(y, exact, rtol=0, atol=tolerance)
        g = draw(y.shape, 1).astype(x.dtype)
        grad, exact = [getattr(k, name + "_grad")(g, x.shape[2:], **options) for k in (CPU, REFERENCE)]
        assert grad.dtype == exact.dtype and grad.shape == exact.shape
        np.testing.assert_allclose(grad, exact, rtol=0, atol=tolerance * max(np.abs(exact).max(), 1))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 3), axis, axis)
def test_any_sizes(channels, rows, columns):
    before, size, step = zip(rows, columns)
    check(draw((2, channels, *before)), size, step, 3e-6)


@pytest.mark.parametrize("size", [(14, 26), (13, 26), (14, 39), (7, 13)], ids=str)
def test_whole_factors(size):
    check(draw((3, 5, 7, 13)), size, tuple([n / o for n, o in zip((7, 13), size)]), 2e-6)


@pytest.mark.parametrize("change", [lambda x: x.astype(np.float64), lambda x: x[:, :, ::-1], lambda x: x[:0],
                                    lambda x: x.transpose(0, 1, 3, 2)], ids=["float64", "reversed", "empty", "turned"])
def test_other_arrays_take_the_reference(change):
    x = change(draw((2, 3, 6, 5)))
    for name, options in kinds((0.5, 0.5)):
        ours, theirs = [getattr(k, name)(x, size=(12, 10), **options) for k in (CPU, REFERENCE)]
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_nan_and_infinity_reach_what_they_are_blended_into_only():
    x = draw((1, 2, 6, 7))
    x[0, 0, 2, 3], x[0, 1, 4, 5] = np.nan, np.inf
    for name, options in kinds((0.5, 0.5)):
        with np.errstate(invalid="ignore"):
            ours, theirs = [getattr(k, name)(x, size=(12, 14), **options) for k in (CPU, REFERENCE)]
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
        assert np.isnan(theirs).any() and np.isfinite(theirs).sum() > 200


def test_same_bits_for_any_number_of_threads():
    x, g = draw((5, 13, 21, 33)), draw((5, 13, 40, 66), 1)

    def compute():
        results = {}
        for name, options in kinds((21 / 40, 0.5)):
            results[f"{name} {options}"] = getattr(CPU, name)(x, size=(40, 66), **options)
            results[f"{name}_grad {options}"] = getattr(CPU, name + "_grad")(g, (21, 33), **options)
        return results

    assert_same_bits(compute)
