"""The compiled pooling kernels against the reference: windows of every kind, NaN, fallbacks, threads."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minidl.kernels import backend_module
from minidl.kernels.cpu import runtime
from minidl.kernels.reference.pool import output_size

CPU, REFERENCE = backend_module("cpu"), backend_module("reference")
TOLERANCE = 1e-5  # of the largest value: sums of a window in another order

pair = st.tuples(st.integers(1, 4), st.integers(1, 4))


def draw(shape, seed=0, special=0.0):
    """Numbers with many ties, and `special` of them NaN and as many -Inf."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(np.float32).round(1)
    x[rng.random(shape) < special] = np.nan
    x[rng.random(shape) < special] = -np.inf
    return x


def close(actual, expected):
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    atol = TOLERANCE * max(np.abs(expected).max(initial=0), 1e-30)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def check_max_pool(x, windows, ceil_mode=False):
    y, winners = CPU.max_pool2d(x, **windows, ceil_mode=ceil_mode)
    expected, places = REFERENCE.max_pool2d(x, **windows, ceil_mode=ceil_mode)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(winners, places)
    assert y.dtype == expected.dtype and winners.dtype == places.dtype
    g = draw(y.shape, 1).astype(x.dtype)
    size = x.shape[2:]
    close(CPU.max_pool2d_grad(g, winners, size, **windows), REFERENCE.max_pool2d_grad(g, winners, size, **windows))


def windows_of(kernel_size, stride, padding=(0, 0), dilation=(1, 1)):
    return {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}


@pytest.mark.parametrize("size", [(26, 26), (11, 11), (7, 45), (2, 2), (3, 3), (40, 71), (33, 32)], ids=str)
@pytest.mark.parametrize("kernel, padding", [(2, 0), (3, 0), (3, 1)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_max_pool_of_windows_two_apart(size, kernel, padding, ceil_mode):
    if min(size) + 2 * padding >= kernel:
        windows = windows_of((kernel, kernel), (2, 2), (padding, padding))
        check_max_pool(draw((2, 3, *size), special=0.05), windows, ceil_mode)


@settings(max_examples=150, deadline=None)
@given(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)), pair, pair, pair,
       st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0, 0.1, 1]))
def test_max_pool_of_any_windows(shape, kernel_size, stride, dilation, pad_rows, pad_columns, ceil_mode, special):
    padding = (pad_rows * (kernel_size[0] // 2), pad_columns * (kernel_size[1] // 2))
    assume(min(output_size(shape[2:], kernel_size, stride, padding, dilation, ceil_mode)) > 0)
    assume(shape[2] >= dilation[0] and shape[3] >= dilation[1])  # else a window may lie in the padding alone
    check_max_pool(draw(shape, special=special), windows_of(kernel_size, stride, padding, dilation), ceil_mode)


@settings(max_examples=100, deadline=None)
@given(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)), pair, pair,
       st.booleans(), st.booleans(), st.booleans(), st.sampled_from([None, 3, -2.5]))
def test_avg_pool(shape, kernel_size, stride, padded, ceil_mode, count_include_pad, divisor_override):
    padding = tuple(padded * (k // 2) for k in kernel_size)
    assume(min(output_size(shape[2:], kernel_size, stride, padding, (1, 1), ceil_mode)) > 0)
    options = {"kernel_size": kernel_size, "stride": stride, "padding": padding,
               "count_include_pad": count_include_pad, "divisor_override": divisor_override}
    x = draw(shape)
    y = CPU.avg_pool2d(x, **options, ceil_mode=ceil_mode)
    close(y, REFERENCE.avg_pool2d(x, **options, ceil_mode=ceil_mode))
    g = draw(y.shape, 1)
    close(CPU.avg_pool2d_grad(g, shape[2:], **options), REFERENCE.avg_pool2d_grad(g, shape[2:], **options))


@pytest.mark.parametrize("size", [(7, 7), (3, 5), (1, 1), (20, 33)], ids=str)
@pytest.mark.parametrize("output_size", [(1, 1), (2, 3), (5, 1), (1, 4), (9, 9)], ids=str)
def test_adaptive_avg_pool(size, output_size):
    x = draw((2, 3, *size))
    y = CPU.adaptive_avg_pool2d(x, output_size=output_size)
    close(y, REFERENCE.adaptive_avg_pool2d(x, output_size=output_size))
    g = draw(y.shape, 1)
    close(CPU.adaptive_avg_pool2d_grad(g, size), REFERENCE.adaptive_avg_pool2d_grad(g, size))


@pytest.mark.parametrize("images", [(1, 1), (5, 3), (3, 16), (40, 20)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (7, 7), (13, 20)], ids=str)
def test_the_mean_of_every_image(images, size):
    """Images go 16 at a time, and what is left one by one: each must have the same bits as alone."""
    x = draw((*images, *size))
    y = CPU.adaptive_avg_pool2d(x, output_size=(1, 1))
    close(y, REFERENCE.adaptive_avg_pool2d(x, output_size=(1, 1)))
    alone = CPU.adaptive_avg_pool2d(x[-1:, -1:].copy(), output_size=(1, 1))
    assert alone[0, 0, 0, 0] == y[-1, -1, 0, 0]
    first = CPU.adaptive_avg_pool2d(x[:1, :1].copy(), output_size=(1, 1))
    assert first[0, 0, 0, 0] == y[0, 0, 0, 0]


@pytest.mark.parametrize("size", [(7, 7), (3, 5), (1, 1), (20, 33)], ids=str)
@pytest.mark.parametrize("output_size", [(1, 1), (2, 3), (9, 9)], ids=str)
@pytest.mark.parametrize("special", [0, 0.02, 0.4, 1])
def test_adaptive_max_pool(size, output_size, special):
    x = draw((2, 3, *size), special=special)
    y, winners = CPU.adaptive_max_pool2d(x, output_size=output_size)
    expected, places = REFERENCE.adaptive_max_pool2d(x, output_size=output_size)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(winners, places)
    assert winners.dtype == places.dtype
    g = draw(y.shape, 1)
    close(CPU.adaptive_max_pool2d_grad(g, winners, size), REFERENCE.adaptive_max_pool2d_grad(g, winners, size))


def test_mean_of_a_large_image_is_exact_to_rounding():
    x = np.random.default_rng(0).random((1, 2, 300, 301), dtype=np.float32) + 10
    mean = CPU.adaptive_avg_pool2d(x, output_size=(1, 1))[..., 0, 0]
    np.testing.assert_allclose(mean, x.mean(axis=(2, 3), dtype=np.float64), rtol=1e-6)


def test_nan_and_infinity_in_averages():
    x = draw((1, 2, 36, 36))
    x[0, 0, 5, 6], x[0, 1, 30, 2] = np.nan, np.inf
    options = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0), "count_include_pad": True,
               "divisor_override": None}
    close_where_finite = CPU.avg_pool2d(x, **options, ceil_mode=False)
    expected = REFERENCE.avg_pool2d(x, **options, ceil_mode=False)
    np.testing.assert_allclose(close_where_finite, expected, atol=1e-6)
    assert np.isnan(expected).sum() == 1 and np.isinf(expected).sum() == 1
    assert np.isnan(CPU.adaptive_avg_pool2d(x, output_size=(1, 1))[0, 0, 0, 0])


@pytest.mark.parametrize("change", [lambda x: x.astype(np.float64), lambda x: x[:, :, ::-1], lambda x: x[:0],
                                    lambda x: x.transpose(0, 1, 3, 2)], ids=["float64", "reversed", "empty", "turned"])
def test_other_arrays_take_the_reference(change):
    x = change(draw((2, 2, 9, 8)))
    check_max_pool(x, windows_of((2, 2), (2, 2)))
    for name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
        np.testing.assert_array_equal(getattr(CPU, name)(x, output_size=(1, 1)),
                                      getattr(REFERENCE, name)(x, output_size=(1, 1)))


def test_windows_of_more_than_256_taps():
    check_max_pool(draw((1, 2, 40, 40)), windows_of((17, 17), (2, 2)))


@pytest.mark.parametrize("shape", [(5, 7, 37, 45), (64, 16, 11, 11)], ids=str)
@pytest.mark.parametrize("kernel, padding", [(2, 0), (3, 1), (4, 2)])
def test_same_bits_on_one_and_on_two_threads(shape, kernel, padding):
    """On two threads a vector that reaches into the next thread's images would spoil what that one has done."""
    x, windows = draw(shape, special=0.01), windows_of((kernel, kernel), (2, 2), (padding, padding))
    averages = {**windows, "count_include_pad": False, "divisor_override": None}
    del averages["dilation"]
    before, results = runtime.get_num_threads(), []
    try:
        for threads in (1, 2):
            runtime.set_num_threads(threads)
            y, winners = CPU.max_pool2d(x, **windows, ceil_mode=False)
            mean = CPU.avg_pool2d(x, **averages, ceil_mode=False)
            g = draw(y.shape, 1)
            results.append([y, winners, mean, CPU.max_pool2d_grad(g, winners, x.shape[2:], **windows),
                            CPU.avg_pool2d_grad(g, x.shape[2:], **averages),
                            CPU.adaptive_avg_pool2d(x, output_size=(1, 1)),
                            CPU.adaptive_avg_pool2d(x, output_size=(3, 2)),
                            CPU.adaptive_avg_pool2d_grad(g[:, :, :2, :3].copy(), x.shape[2:]),
                            *CPU.adaptive_max_pool2d(x, output_size=(3, 2)),
                            CPU.adaptive_max_pool2d_grad(*CPU.adaptive_max_pool2d(x, output_size=(2, 3)), x.shape[2:])])
    finally:
        runtime.set_num_threads(before)
    assert [result.tobytes() for result in results[0]] == [result.tobytes() for result in results[1]]


def test_the_next_image_is_not_touched():
    """Vectors reach beyond their rows: every image must come out as if it were alone."""
    x, windows = draw((40, 2, 11, 11)), windows_of((2, 2), (2, 2))
    y, winners = CPU.max_pool2d(x, **windows, ceil_mode=False)
    g = draw(y.shape, 1)
    grad = CPU.max_pool2d_grad(g, winners, (11, 11), **windows)
    for n in range(len(x)):
        alone, places = CPU.max_pool2d(x[n:n + 1], **windows, ceil_mode=False)
        np.testing.assert_array_equal(y[n], alone[0])
        np.testing.assert_array_equal(grad[n], CPU.max_pool2d_grad(g[n:n + 1], places, (11, 11), **windows)[0])
