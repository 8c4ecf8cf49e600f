"""The compiled convolutions against the reference: all options, odd sizes, NaN, threads, and what falls back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threads import assert_same_bits

from minidl.kernels import cpu, reference, use_precision
from minidl.kernels.cpu import conv_lowered, conv_samples
from minidl.kernels.shapes import conv_output_size

# Sums of float32 in another order: within this part of the largest value.
TOLERANCE = 1e-5
# N, C, H, W, O, kernel, stride, padding, dilation, groups
CASES = [
    (2, 3, 9, 11, 5, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (3, 32, 13, 13, 64, (3, 3), (1, 1), (0, 0), (1, 1), 1),  # rows of positions that cross panels and samples
    (2, 4, 17, 9, 6, (3, 2), (2, 3), (1, 2), (2, 1), 2),  # groups, and everything different for rows and columns
    (3, 20, 7, 7, 33, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (3, 20, 8, 7, 33, (1, 1), (2, 2), (0, 0), (1, 1), 1),  # pixels that no window reaches
    (2, 3, 30, 31, 40, (7, 7), (2, 2), (3, 3), (1, 1), 1),
    (1, 70, 5, 6, 15, (3, 3), (1, 1), (2, 1), (1, 1), 1),  # channels in more than one pass
    (2, 2, 6, 6, 3, (1, 1), (1, 1), (2, 1), (1, 1), 1),
    (1, 1, 25, 25, 2, (21, 21), (1, 1), (3, 3), (1, 1), 1),  # a channel's taps alone are a deep pass
    (1, 3, 24, 25, 2, (21, 21), (1, 1), (3, 3), (1, 1), 1),
    (2, 30, 9, 9, 5, (7, 7), (1, 1), (3, 3), (1, 1), 1),  # blocks of few channels in the gradient of the weights
    (2, 24, 28, 28, 10, (1, 1), (1, 1), (0, 0), (1, 1), 1),  # gradients of the weights as dot products, also below:
    (1, 3, 30, 30, 18, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (2, 3, 31, 31, 5, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    (3, 4, 40, 40, 12, (1, 1), (1, 1), (0, 0), (1, 1), 2),
    (9, 48, 7, 7, 130, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (2, 37, 20, 70, 3, (3, 3), (1, 1), (1, 1), (1, 1), 1),  # few outputs, more columns than a tile
    (2, 4, 29, 37, 6, (3, 5), (2, 3), (1, 2), (1, 1), 2),
    (1, 40, 11, 13, 1, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (1, 300, 9, 9, 17, (3, 3), (1, 1), (1, 1), (1, 1), 1),  # passes that add to sums which do not lie in a row
    (1, 1, 3, 300, 2, (1, 5), (1, 4), (0, 2), (1, 3), 1),
    (2, 2, 5, 5, 3, (2, 2), (3, 3), (0, 0), (1, 1), 1),  # strides longer than the kernel
    (1, 1, 1, 1, 1, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (3, 18, 13, 11, 20, (3, 3), (2, 2), (1, 1), (1, 1), 1),  # two apart, odd sizes: shares of different length
    (3, 5, 29, 27, 290, (3, 3), (2, 2), (0, 2), (1, 1), 1),  # … whose sums take more than one pass, in several blocks
    (1, 12, 15, 14, 8, (5, 5), (2, 2), (3, 3), (1, 1), 2),
    (1, 20, 17, 16, 7, (3, 3), (2, 2), (2, 1), (3, 2), 1),  # a share's places do not follow on one another
    (2, 8, 11, 40, 9, (3, 2), (3, 2), (0, 1), (2, 1), 1),
    (1, 6, 1, 9, 5, (2, 3), (2, 2), (1, 0), (1, 1), 1),  # fewer rows than strides
    (2, 7, 9, 1, 6, (3, 1), (1, 2), (1, 0), (1, 1), 1),
    (1, 6, 9, 9, 5, (1, 1), (2, 2), (1, 1), (1, 1), 1),  # no share of even rows or columns has a tap
    (4, 70, 8, 8, 80, (3, 3), (1, 1), (1, 1), (1, 1), 1),  # weights packed when they are needed, and ahead:
    (1, 80, 24, 24, 20, (3, 3), (1, 1), (1, 1), (2, 2), 1),
    (1, 130, 5, 6, 129, (1, 1), (1, 1), (0, 0), (1, 1), 1),  # few positions, many weights, also below:
    (2, 100, 4, 7, 120, (1, 1), (2, 3), (0, 1), (1, 1), 1),
    (1, 60, 3, 5, 200, (2, 3), (2, 1), (1, 2), (2, 1), 1),
    (32, 20, 6, 5, 18, (3, 3), (1, 1), (0, 0), (1, 1), 1),  # small maps of many samples, also below:
    (61, 40, 8, 7, 34, (2, 3), (1, 2), (0, 0), (1, 2), 2),  # … with a panel that is not full, and two groups
    (25, 6, 7, 7, 20, (2, 2), (3, 3), (0, 0), (1, 1), 1),  # … with pixels that no window reaches
    (2, 6, 9, 10, 12, (3, 2), (2, 3), (1, 1), (2, 2), 6),  # depthwise, two outputs a channel
    (2, 6, 9, 10, 6, (5, 5), (2, 2), (2, 2), (1, 1), 6),
    (3, 5, 8, 40, 5, (3, 3), (1, 1), (1, 1), (1, 1), 5),
    (1, 4, 6, 6, 4, (4, 4), (3, 3), (3, 3), (1, 1), 4),
]


def draw(case, seed=0):
    samples, channels, height, width, outputs, kernel, stride, padding, dilation, groups = case
    generator = np.random.default_rng(seed)
    size = [conv_output_size(*axis) for axis in zip((height, width), kernel, stride, padding, dilation)]
    x = generator.standard_normal((samples, channels, height, width), dtype=np.float32)
    weight = generator.standard_normal((outputs, channels // groups, *kernel), dtype=np.float32)
    g = generator.standard_normal((samples, outputs, *size), dtype=np.float32)
    bias = generator.standard_normal(outputs, dtype=np.float32)
    return x, weight, bias, g, dict(stride=stride, padding=padding, dilation=dilation, groups=groups)


def results(backend, x, weight, bias, g, options):
    return {
        "conv2d": backend.conv2d(x, weight, bias, **options),
        "conv2d without bias": backend.conv2d(x, weight, None, **options),
        "conv2d with relu": backend.conv2d(x, weight, bias, relu=True, **options),
        "conv2d_grad_input": backend.conv2d_grad_input(g, weight, x.shape[2:], **options),
        "conv2d_grad_weight": backend.conv2d_grad_weight(g, x, weight.shape[2:], **options),
        "conv2d_grad_bias": backend.conv2d_grad_bias(g),
    }


def assert_alike(ours, theirs):
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape and ours[name].dtype == expected.dtype, name
        # Rounding follows the numbers that are summed, whose size is 1; a sum of a few may by chance be almost 0.
        allowed = TOLERANCE * max(np.abs(expected).max(initial=0), 1)
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=allowed, err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(case):
    drawn = draw(case)
    assert_alike(results(cpu, *drawn), results(reference, *drawn))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_bits_for_any_number_of_threads(case):
    drawn = draw(case)
    assert_same_bits(lambda: results(cpu, *drawn))


def test_cases_of_small_maps_hold_samples_side_by_side():
    for samples, channels, *size, outputs, kernel, stride, padding, dilation, groups in CASES[-7:-4]:
        axes = size, kernel, stride, padding, dilation
        g_size = [conv_output_size(*axis) for axis in zip(*axes)]
        sizes = samples, outputs // groups, channels // groups, size, g_size
        assert conv_samples.pays(*sizes, *axes[1:], winograd=False), sizes


def test_cases_of_few_positions_write_the_windows_out():
    for samples, channels, *size, outputs, kernel, stride, padding, dilation, groups in CASES[-10:-7]:
        g_size = [conv_output_size(*axis) for axis in zip(size, kernel, stride, padding, dilation)]
        for turned in (False, True):
            assert conv_lowered.pays(samples, channels, outputs, g_size, kernel[0] * kernel[1], groups, turned=turned)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_the_reference_for_any_options(data):
    number = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    groups = number(1, 3)
    kernel, stride, dilation = [(number(1, 4), number(1, 4)) for _ in range(3)]
    padding = (number(0, 4), number(0, 4))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, padding, dilation)]
    size = [number(low, low + 12) for low in least]
    channels, outputs = groups * number(1, 20), groups * number(1, 20)
    case = (number(1, 3), channels, *size, outputs, kernel, stride, padding, dilation, groups)
    drawn = draw(case, seed=number(0, 9))
    assert_alike(results(cpu, *drawn), results(reference, *drawn))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("more", [(0, 2), (-1, 0), (-2, 1)])
def test_g_decides_how_many_windows_there_are(groups, more):
    """The last windows may run over the end of x, or x go on where no window reaches."""
    case = (2, 4, 9, 10, 8, (3, 3), (2, 1), (1, 1), (1, 2), groups)
    x, weight, bias, g, options = draw(case)
    g = np.random.default_rng(1).standard_normal(
        (2, 8, g.shape[2] + more[0], g.shape[3] + more[1]), dtype=np.float32
    )
    for name, first, rest in (("conv2d_grad_input", weight, (9, 10)), ("conv2d_grad_weight", x, (3, 3))):
        ours = getattr(cpu, name)(g, first, rest, **options)
        assert_alike({name: ours}, {name: getattr(reference, name)(g, first, rest, **options)})


@pytest.mark.parametrize("case", [CASES[1], CASES[2], CASES[8], CASES[12], CASES[-7]], ids=str)
def test_nan_stays_where_the_windows_take_it(case):
    x, weight, bias, g, options = draw(case)
    x[0, 0, 2, 3] = np.nan
    x[-1, -1, -1, -1] = np.inf
    g[0, 0, 0, 1] = np.nan
    with np.errstate(invalid="ignore"), use_precision("strict"):  # Winograd spreads it, see test_cpu_winograd.py
        ours, theirs = [results(backend, x, weight, bias, g, options) for backend in (cpu, reference)]
    for name, expected in theirs.items():
        assert np.array_equal(np.isnan(ours[name]), np.isnan(expected)), name
        finite = np.isfinite(expected)
        np.testing.assert_allclose(ours[name][finite], expected[finite], rtol=0, atol=1e-4, err_msg=name)


def test_other_arrays_take_the_reference():
    x, weight, bias, g, options = draw(CASES[2])
    double = [array.astype(np.float64) for array in (x, weight, bias, g)]
    for name, result in results(cpu, *double, options).items():
        assert result.dtype == np.float64 and np.array_equal(result, results(reference, *double, options)[name]), name
    strided = [np.repeat(array, 2, axis=-1)[..., ::2] for array in (x, weight, bias, g)]
    assert not strided[0].flags.c_contiguous
    assert_alike(results(cpu, *strided, options), results(reference, x, weight, bias, g, options))
    empty = results(cpu, x[:0], weight, bias, g[:0], options)
    for name, expected in results(reference, x[:0], weight, bias, g[:0], options).items():
        assert np.array_equal(empty[name], expected), name


def test_arguments_are_not_written_to():
    drawn = draw(CASES[0])
    copies = [array.copy() for array in drawn[:4]]
    results(cpu, *drawn)
    for array, copy in zip(drawn, copies):
        assert np.array_equal(array, copy)
