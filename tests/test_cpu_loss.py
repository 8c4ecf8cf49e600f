"""The compiled softmax and cross-entropy kernels against the reference: lengths, extremes, fallbacks, threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl.kernels import backend_module
from minidl.kernels.cpu import runtime

CPU, REFERENCE = backend_module("cpu"), backend_module("reference")
TOLERANCE = 3e-6  # of the largest value: exp to 2 units in the last place, sums in another order


def draw(shape, seed=0, scale=5):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def close(actual, expected):
    assert actual.dtype == np.float32 and actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * max(np.abs(expected).max(), 1e-30))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 70), st.integers(1, 140))
def test_softmax_of_any_rows(rows, length):
    x, g = draw((rows, length)), draw((rows, length), 1, 1)
    for name in ("softmax", "log_softmax"):
        y = getattr(CPU, name)(x, -1)
        exact = getattr(REFERENCE, name)(x.astype(np.float64), -1)
        close(y, exact)
        grad, grad_exact = getattr(CPU, name + "_grad")(g, y, 1), getattr(REFERENCE, name + "_grad")(g, exact, 1)
        np.testing.assert_allclose(grad, grad_exact, rtol=0, atol=TOLERANCE * length)  # sums of `length` terms near 1


def test_exponentials_to_two_units_in_the_last_place():
    # softmax of (x, 0) with x far below is e^x, up to e^-17 of it
    x = np.linspace(-87.3, -17, 200_001, dtype=np.float32)
    y = CPU.softmax(np.stack([x, np.zeros_like(x)], axis=1), -1)[:, 0]
    exact = np.exp(x.astype(np.float64))
    exact /= 1 + exact
    assert (np.abs(y - exact) / np.spacing(exact.astype(np.float32))).max() <= 2


def test_masked_places_have_no_share():
    x = draw((3, 40))
    x[:, 7:] = -np.inf
    y = CPU.softmax(x, -1)
    assert (y[:, 7:] == 0).all()
    close(y, REFERENCE.softmax(x, -1))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_nan_and_infinity_spoil_their_row_alone(name):
    x = draw((5, 37))
    x[0, 30], x[1, 3], x[2], x[3, 36] = np.nan, np.inf, -np.inf, 3e38
    with np.errstate(all="ignore"):
        expected = getattr(REFERENCE, name)(x, -1)
    np.testing.assert_allclose(getattr(CPU, name)(x, -1), expected, rtol=1e-6, atol=1e-6)
    assert np.isnan(expected[:3]).all(axis=1).tolist()[0] and np.isfinite(expected[4]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 140), st.booleans(), st.sampled_from([np.int64, np.int32, np.uint8]))
def test_cross_entropy(rows, classes, ignore, integer):
    x = draw((rows, classes))
    target = np.random.default_rng(1).integers(0, classes, rows).astype(integer)
    g = np.broadcast_to(np.float32(1 / rows), rows)
    ignore_index = int(target[0]) if ignore else -100
    exact = REFERENCE.cross_entropy(x.astype(np.float64), target, None, ignore_index)
    results = CPU.cross_entropy(x, target, None, ignore_index)
    for ours, theirs in zip(results, exact, strict=True):
        close(ours, theirs)
    close(CPU.cross_entropy_grad(g, x, target, *results[1:], None, ignore_index),
          REFERENCE.cross_entropy_grad(g, x.astype(np.float64), target, *exact[1:], None, ignore_index))


def test_cross_entropy_of_huge_logits():
    x = draw((4, 50), scale=1e30)
    target = x.argmax(axis=1)
    losses, peak, log_sum = CPU.cross_entropy(x, target)
    np.testing.assert_array_equal(losses, 0)
    np.testing.assert_array_equal(CPU.cross_entropy_grad(np.ones(4, np.float32), x, target, peak, log_sum), 0)


def test_cross_entropy_of_nan():
    x = draw((4, 50))
    x[1, 20] = np.nan
    target = np.array([3, 4, 5, 6])
    losses, peak, log_sum = CPU.cross_entropy(x, target)
    grad = CPU.cross_entropy_grad(np.ones(4, np.float32), x, target, peak, log_sum)
    assert np.isnan(losses).tolist() == np.isnan(grad).all(axis=1).tolist() == [False, True, False, False]


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"weight": np.linspace(0.5, 2, 6, dtype=np.float32)}])
@pytest.mark.parametrize("shape", [(8, 6), (3, 6, 4)], ids=str)
def test_options_and_more_axes_take_the_reference(shape, options):
    x, target = draw(shape), np.random.default_rng(1).integers(0, 6, (shape[0], *shape[2:]))
    results, expected = CPU.cross_entropy(x, target, **options), REFERENCE.cross_entropy(x, target, **options)
    g = draw(target.shape, 2)
    same([*results, CPU.cross_entropy_grad(g, x, target, *results[1:], **options)],
         [*expected, REFERENCE.cross_entropy_grad(g, x, target, *expected[1:], **options)])


@pytest.mark.parametrize("change", [lambda x: x.astype(np.float64), lambda x: x[::-1], lambda x: x.T],
                         ids=["float64", "reversed", "turned"])
def test_other_arrays_take_the_reference(change):
    x, g = change(draw((8, 8))), change(draw((8, 8), 1))
    target = np.arange(8)
    for name in ("softmax", "log_softmax"):
        for dim in (0, 1, -1):
            y = getattr(REFERENCE, name)(x, dim)
            same([getattr(CPU, name)(x, dim), getattr(CPU, name + "_grad")(g, y, dim)],
                 [y, getattr(REFERENCE, name + "_grad")(g, y, dim)])
    same(CPU.cross_entropy(x, target), REFERENCE.cross_entropy(x, target))


def same(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_same_bits_on_one_and_on_two_threads():
    x, g, target = draw((301, 143)), draw((301, 143), 1), np.arange(301) % 143
    before, results = runtime.get_num_threads(), []
    try:
        for threads in (1, 2):
            runtime.set_num_threads(threads)
            y, log_y = CPU.softmax(x, -1), CPU.log_softmax(x, -1)
            losses = CPU.cross_entropy(x, target)
            results.append([y, log_y, CPU.softmax_grad(g, y, -1), CPU.log_softmax_grad(g, log_y, -1), *losses,
                            CPU.cross_entropy_grad(g[:, 0].copy(), x, target, *losses[1:])])
    finally:
        runtime.set_num_threads(before)
    assert [result.tobytes() for result in results[0]] == [result.tobytes() for result in results[1]]
