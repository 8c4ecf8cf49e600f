"""The compiled depthwise convolutions against the reference: every step, its edges, multipliers, NaN, threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cpu_conv import assert_alike, draw, results
from threads import assert_same_bits

from minidl.kernels import cpu, reference
from minidl.kernels.cpu.conv_depthwise import GROUP, kind_of


def layer(samples, channels, height, width, kernel, stride, padding, multiplier=1):
    """A case of `test_cpu_conv.draw`, square in its options."""
    return (samples, channels, height, width, channels * multiplier, (kernel,) * 2, (stride,) * 2, (padding,) * 2,
            (1, 1), channels)


CASES = [layer(2, 3, *size, kernel, stride, kernel // 2)
         for kernel in (3, 5) for stride in (1, 2) for size in ((7, 7), (14, 15), (16, 33))]
CASES += [
    layer(2, GROUP + 3, 9, 8, 3, 1, 1),  # more channels than are summed at a time
    layer(2, 3, 9, 20, 3, 1, 0, multiplier=2),
    layer(2, 3, 9, 20, 3, 2, 1, multiplier=3),
    layer(2, 2, 10, 17, 5, 1, 2, multiplier=2),
    layer(1, 2, 11, 18, 5, 2, 2, multiplier=2),
    layer(2, 2, 1, 1, 5, 1, 2),  # an image smaller than the windows
    layer(2, 2, 2, 3, 5, 2, 3),
    layer(1, 2, 5, 6, 3, 1, 4),  # windows that lie outside altogether
    layer(1, 2, 5, 6, 3, 2, 5),
    layer(1, 2, 8, 40, 3, 2, 0),  # a last column that no window reaches
    (2, 4, 9, 11, 4, (3, 5), (1, 1), (1, 2), (1, 1), 4),  # loops over fields, from here on
    (2, 4, 9, 11, 8, (3, 3), (1, 2), (1, 0), (1, 1), 4),
    (2, 4, 12, 11, 4, (3, 3), (1, 1), (2, 2), (2, 2), 4),
    (2, 4, 12, 19, 4, (7, 7), (1, 1), (3, 3), (1, 1), 4),
    (2, 4, 12, 19, 4, (3, 3), (3, 3), (1, 1), (1, 1), 4),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(case):
    drawn = draw(case)
    assert_alike(results(cpu, *drawn), results(reference, *drawn))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cut_at_zero_with_bias(case):
    x, weight, bias, g, options = draw(case)
    for offset in (bias, None):
        ours, theirs = [backend.conv2d(x, weight, offset, relu=True, **options) for backend in (cpu, reference)]
        assert (ours >= 0).all()
        assert_alike({"relu": ours}, {"relu": theirs})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_bits_for_any_number_of_threads(case):
    drawn = draw(case)
    assert_same_bits(lambda: results(cpu, *drawn))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_the_reference_for_any_size(data):
    number = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    kernel, stride, padding = 2 * number(1, 2) + 1, number(1, 2), number(0, 6)
    least = max(1, kernel - 2 * padding)
    size = number(least, least + 18), number(least, least + 36)
    drawn = draw(layer(number(1, 3), number(2, 20), *size, kernel, stride, padding, number(1, 2)), seed=number(0, 9))
    assert_alike(results(cpu, *drawn), results(reference, *drawn))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("more", [(0, 2), (-1, 0), (-2, 1)])
def test_g_decides_how_many_windows_there_are(stride, more):
    x, weight, bias, g, options = draw(layer(2, 3, 9, 22, 3, stride, 1))
    g = np.random.default_rng(1).standard_normal((2, 3, g.shape[2] + more[0], g.shape[3] + more[1]), dtype=np.float32)
    for name, first, rest in (("conv2d_grad_input", weight, (9, 22)), ("conv2d_grad_weight", x, (3, 3))):
        ours, theirs = [getattr(backend, name)(g, first, rest, **options) for backend in (cpu, reference)]
        assert_alike({name: ours}, {name: theirs})


@pytest.mark.parametrize("case", CASES[:16], ids=str)
def test_nan_stays_where_the_windows_take_it(case):
    x, weight, bias, g, options = draw(case)
    x[0, 0, 0, -1], x[-1, -1, -1, 0], g[0, -1, -1, -1] = np.nan, np.inf, np.nan
    with np.errstate(invalid="ignore"):
        ours, theirs = [results(backend, x, weight, bias, g, options) for backend in (cpu, reference)]
        cut = cpu.conv2d(x, weight, bias, relu=True, **options)
    for name, expected in theirs.items():
        assert np.array_equal(np.isnan(ours[name]), np.isnan(expected)), name
        finite = np.isfinite(expected)
        np.testing.assert_allclose(ours[name][finite], expected[finite], rtol=0, atol=1e-4, err_msg=name)
    assert np.array_equal(np.isnan(cut), np.isnan(theirs["conv2d"]))


@pytest.mark.parametrize("case", CASES[:12], ids=str)
def test_nothing_is_written_beyond_the_result(case, monkeypatch):
    """Strips end in the middle of a register: what lies behind the result stays as it was."""
    from minidl.kernels.cpu import conv

    x, weight, bias, g, options = draw(case)
    for call in (lambda: cpu.conv2d(x, weight, bias, **options),
                 lambda: cpu.conv2d_grad_input(g, weight, x.shape[2:], **options)):
        kept = []

        def framed(shape, kept=kept):
            size = int(np.prod(shape))
            kept.append(np.full(size + 128, 7, np.float32))
            return kept[0][64:64 + size].reshape(shape)

        monkeypatch.setattr(conv, "empty", framed)
        call()
        assert (kept[0][:64] == 7).all() and (kept[0][-64:] == 7).all()


def test_which_windows_have_a_step_of_their_own():
    assert kind_of((3, 3), (1, 1), (1, 1)) != kind_of((5, 5), (2, 2), (1, 1))
    once = (1, 1)
    for other in (((3, 5), once, once), ((3, 3), (1, 2), once), ((3, 3), once, (2, 1)), ((7, 7), once, once)):
        assert kind_of(*other) is None
