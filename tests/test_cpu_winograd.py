"""Winograd's convolution against the reference in float64: odd shapes, paddings, groups, threads, NaN, kept filters."""

from __future__ import annotations

import numpy as np
import pytest
from threads import assert_same_bits

from minidl.kernels import cpu, reference, use_precision
from minidl.kernels.cpu import winograd
from minidl.kernels.cpu.winograd_matrices import AT, BT, G

PAYS = winograd.pays  # the rule itself, which the tests put aside
CLOSE = 1e-4  # of the standard deviation of the results
# N, C, H, W, O, padding, groups
CASES = [
    (1, 1, 4, 4, 1, (1, 1), 1),
    (1, 1, 3, 3, 1, (0, 0), 1),  # one output
    (2, 3, 1, 2, 5, (1, 2), 1),  # maps smaller than a tile
    (2, 3, 9, 11, 5, (1, 1), 1),
    (3, 32, 13, 13, 64, (0, 0), 1),  # tiles of several samples in one panel
    (1, 16, 70, 150, 20, (2, 1), 1),  # rows of tiles that fill more than a panel
    (5, 70, 7, 7, 29, (1, 0), 1),
    (2, 600, 7, 6, 33, (0, 2), 1),  # channels in two passes
    (2, 12, 10, 9, 8, (1, 1), 4),
]


@pytest.fixture(autouse=True)
def winograd_for_every_shape(monkeypatch):
    monkeypatch.setattr(winograd, "pays", lambda *shape: True)


def draw(case, seed=0):
    samples, channels, height, width, outputs, padding, groups = case
    generator = np.random.default_rng(seed)
    size = (height + 2 * padding[0] - 2, width + 2 * padding[1] - 2)
    shapes = ((samples, channels, height, width), (outputs, channels // groups, 3, 3), (outputs,),
              (samples, outputs, *size))
    arrays = [generator.standard_normal(shape, dtype=np.float32) for shape in shapes]
    return *arrays, dict(stride=(1, 1), padding=padding, dilation=(1, 1), groups=groups)


def results(backend, x, weight, bias, g, options):
    return {
        "conv2d": backend.conv2d(x, weight, None, **options),
        "conv2d with bias and relu": backend.conv2d(x, weight, bias, relu=True, **options),
        "conv2d_grad_input": backend.conv2d_grad_input(g, weight, x.shape[2:], **options),
        "conv2d_grad_weight": backend.conv2d_grad_weight(g, x, (3, 3), **options),
    }


def assert_close(ours, theirs):
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape and ours[name].dtype == np.float32, name
        scale = max(expected.std(), np.abs(expected).mean())
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=CLOSE * scale, err_msg=name)


def in_float64(x, weight, bias, g, options):
    return results(reference, *[array.astype(np.float64) for array in (x, weight, bias, g)], options)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(case):
    drawn = draw(case)
    assert_close(results(cpu, *drawn), in_float64(*drawn))


def test_the_matrices_convolve():
    d, w = np.arange(6.0) ** 2, np.array([1.0, -2.0, 0.5])
    expected = [d[i:i + 3] @ w for i in range(4)]
    np.testing.assert_allclose(AT @ ((G @ w) * (BT @ d)), expected, rtol=0, atol=1e-12)


def test_wide_enough_sums_stay_close():
    """512 channels, the most that is usual: the largest of 100,000 errors."""
    drawn = draw((2, 512, 28, 28, 64, (1, 1), 1))
    assert_close(results(cpu, *drawn), in_float64(*drawn))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_bits_for_any_number_of_threads(case):
    drawn = draw(case)
    assert_same_bits(lambda: results(cpu, *drawn))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_reach_all_outputs_whose_windows_hold_them(number):
    """In others of the same tile they may appear, too; other tiles stay as they are."""
    x, weight, bias, g, options = draw((2, 32, 20, 20, 32, (1, 1), 1))
    clean = cpu.conv2d(x, weight, bias, **options)
    x[1, 3, 9, 10] = number
    y = cpu.conv2d(x, weight, bias, **options)
    assert not np.isfinite(y[1, :, 8:11, 9:12]).any()
    apart = np.ones(y.shape, bool)
    apart[1, :, 8:12, 8:12] = False
    assert np.array_equal(y[apart], clean[apart])
    weight[5, 2, 1, 1] = number
    assert not np.isfinite(cpu.conv2d(x, weight, bias, **options)[:, 5]).any()


def test_relu_lets_nan_pass():
    x, weight, bias, g, options = draw((1, 16, 8, 8, 16, (1, 1), 1))
    x[0, 0, 0, 0] = np.nan
    assert np.isnan(cpu.conv2d(x, weight, bias, relu=True, **options)[0, :, 0, 0]).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_strict_precision_takes_the_plain_sums(case, monkeypatch):
    drawn = draw(case)
    with use_precision("strict"):
        strict = results(cpu, *drawn)
    monkeypatch.setattr(winograd, "pays", lambda *shape: False)
    for name, expected in results(cpu, *drawn).items():
        assert np.array_equal(strict[name], expected), name


def test_filters_that_are_kept_are_renewed_when_the_weights_change():
    x, weight, bias, g, options = drawn = draw((1, 16, 12, 12, 16, (1, 1), 1))
    for change in (lambda: None, lambda: None, lambda: np.multiply(weight, 2, out=weight),
                   lambda: weight.reshape(16, -1).T.__setitem__((-1, -1), 9)):
        change()
        for _ in range(3):
            assert_close(results(cpu, *drawn), in_float64(*drawn))


def test_weights_of_other_layouts_share_memory_but_no_filters():
    x, weight, bias, g, options = draw((1, 16, 12, 12, 16, (1, 1), 1))
    for _ in range(3):
        for groups, channels in ((1, 16), (2, 8)):
            view = weight.reshape(-1)[:16 * channels * 9].reshape(16, channels, 3, 3)
            drawn = x, view, bias, g, dict(options, groups=groups)
            assert_close(results(cpu, *drawn), in_float64(*drawn))


@pytest.mark.parametrize("shape, sums, expected", [
    ((4, 64, 64, (224, 224)), False, True), ((8, 512, 512, (7, 7)), False, True), ((8, 512, 512, (7, 7)), True, True),
    ((1, 512, 512, (7, 7)), False, False), ((64, 3, 64, (56, 56)), False, False), ((64, 64, 64, (1, 1)), True, False),
])
def test_the_rule(shape, sums, expected):
    assert PAYS(*shape, sums) == expected


def test_options_that_winograd_does_not_take():
    usual = dict(kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))
    assert winograd.suits(4, 64, 64, (56, 56), **usual)
    for name, other in dict(kernel=(3, 1), stride=(1, 2), padding=(3, 1), dilation=(2, 1)).items():
        assert not winograd.suits(4, 64, 64, (56, 56), **{**usual, name: other}), name


def test_arguments_are_not_written_to():
    drawn = draw(CASES[3])
    copies = [array.copy() for array in drawn[:4]]
    results(cpu, *drawn)
    for array, copy in zip(drawn, copies):
        assert np.array_equal(array, copy)


def test_long_sums_stay_close():
    """The weight gradient over 12,544 tiles."""
    drawn = draw((4, 16, 224, 224, 16, (1, 1), 1))
    assert_close({"grad": cpu.conv2d_grad_weight(drawn[3], drawn[0], (3, 3), **drawn[4])},
                 {"grad": in_float64(*drawn)["conv2d_grad_weight"]})


@pytest.mark.parametrize("more", [(0, 2), (-1, 0), (-2, 1)])
def test_g_decides_how_many_windows_there_are(more):
    x, weight, bias, g, options = draw((2, 16, 9, 10, 16, (1, 1), 1))
    g = np.random.default_rng(1).standard_normal((2, 16, 9 + more[0], 10 + more[1]), dtype=np.float32)
    for name, first, rest in (("conv2d_grad_input", weight, (9, 10)), ("conv2d_grad_weight", x, (3, 3))):
        expected = getattr(reference, name)(g.astype(np.float64), first.astype(np.float64), rest, **options)
        assert_close({name: getattr(cpu, name)(g, first, rest, **options)}, {name: expected})
