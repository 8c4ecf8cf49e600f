"""Pooling and resizing beyond the cases of cases.py: against loops over their definitions, ties, NaN, as layers."""

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl.nn.functional as F
from minidl import nn, ops
from minidl.errors import ShapeError
from minidl.gradcheck import check_gradients
from minidl.kernels.reference import pool
from minidl.tensor import Tensor

RANDOM = np.random.default_rng(4)


def starts(size, kernel, stride, padding, dilation, ceil_mode):
    """Where the windows of one axis start."""
    reach, found = dilation * (kernel - 1) + 1, [-padding]
    while found[-1] + reach < size + padding:  # the last one does not reach the end yet
        following = found[-1] + stride
        if following >= size if ceil_mode else following + reach > size + padding:
            break
        found.append(following)
    return found


def windows(size, kernel_size, stride, padding, dilation, ceil_mode):
    """For every output (row, column): the places of its window inside the input, in row-major order."""
    rows, columns = [starts(*axis, ceil_mode) for axis in zip(size, kernel_size, stride, padding, dilation)]
    for r, top in enumerate(rows):
        for c, left in enumerate(columns):
            inside = [(top + i * dilation[0], left + j * dilation[1]) for i, j in np.ndindex(*kernel_size)]
            yield (r, c), [(i, j) for i, j in inside if 0 <= i < size[0] and 0 <= j < size[1]]


def direct_max_pool(x, g, **options):
    """Result of max pooling one image and the gradient for g: the first of equal elements takes all."""
    y, grad = np.zeros(g.shape), np.zeros(x.shape)
    for place, inside in windows(x.shape, **options):
        winner = max(inside, key=lambda at: x[at])  # Python's max keeps the first
        y[place] = x[winner]
        grad[winner] += g[place]
    return y, grad


def direct_avg_pool(x, y_shape, count_include_pad, **options):
    y = np.zeros(y_shape)
    for place, inside in windows(x.shape, **options, dilation=(1, 1)):
        axes = zip(place, x.shape, options["kernel_size"], options["stride"], options["padding"])
        with_padding = [min(o * s - p + k, n + p) - (o * s - p) for o, n, k, s, p in axes]
        y[place] = sum(x[at] for at in inside) / (np.prod(with_padding) if count_include_pad else len(inside))
    return y


@st.composite
def poolings(draw, dilated):
    axis = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride = draw(axis), draw(axis)
    dilation = draw(axis) if dilated else (1, 1)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    padding = tuple([draw(st.integers(0, r // 2)) for r in reach])
    size = tuple([max(r, d) + draw(st.integers(0, 5)) for r, d in zip(reach, dilation)])
    options = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": draw(st.booleans())}
    return size, options, dilation


@settings(max_examples=80, deadline=None)
@given(poolings(dilated=True), st.sampled_from([1, 2**19]))
def test_max_pool2d_is_what_its_definition_says_ties_included(drawn, block_bytes):
    size, options, dilation = drawn
    options["dilation"] = dilation
    images = RANDOM.integers(0, 3, (2, 2, *size)).astype(np.float64)  # many ties
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "BLOCK_BYTES", block_bytes)
        x = Tensor(images, requires_grad=True)
        y = ops.max_pool2d(x, **options)
        g = RANDOM.standard_normal(y.shape)
        y.backward(g)
    for at in np.ndindex(2, 2):
        expected, grad = direct_max_pool(images[at], g[at], **options)
        assert np.array_equal(y.numpy()[at], expected)
        np.testing.assert_allclose(x.grad.numpy()[at], grad, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(poolings(dilated=False), st.booleans(), st.sampled_from([1, 2**19]))
def test_avg_pool2d_is_what_its_definition_says(drawn, count_include_pad, block_bytes):
    size, options, _ = drawn
    images = RANDOM.standard_normal((2, 2, *size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "BLOCK_BYTES", block_bytes)
        y = ops.avg_pool2d(Tensor(images), **options, count_include_pad=count_include_pad)
        check_gradients(lambda x: ops.avg_pool2d(x, **options, count_include_pad=count_include_pad), [images])
    for at in np.ndindex(2, 2):
        expected = direct_avg_pool(images[at], y.shape[2:], count_include_pad, **options)
        np.testing.assert_allclose(y.numpy()[at], expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(1, 7), st.integers(1, 7)), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_adaptive_pools_are_what_their_definition_says(size, output_size):
    images = RANDOM.standard_normal((2, 2, *size))
    mean, largest = np.zeros((2, 2, 2, *output_size))
    for r, c in np.ndindex(*output_size):
        (top, bottom), (left, right) = [(int(np.floor(o * n / m)), int(np.ceil((o + 1) * n / m)))
                                        for o, n, m in zip((r, c), size, output_size)]
        window = images[:, :, top:bottom, left:right]
        mean[:, :, r, c], largest[:, :, r, c] = window.mean(axis=(2, 3)), window.max(axis=(2, 3))
    np.testing.assert_allclose(ops.adaptive_avg_pool2d(Tensor(images), output_size).numpy(), mean, atol=1e-12)
    assert np.array_equal(ops.adaptive_max_pool2d(Tensor(images), output_size).numpy(), largest)
    check_gradients(lambda x: ops.adaptive_avg_pool2d(x, output_size), [images])
    check_gradients(lambda x: ops.adaptive_max_pool2d(x, output_size), [images])


def test_ties_send_the_gradient_to_the_first():
    x = Tensor(np.ones((1, 4, 4)), requires_grad=True)
    ops.max_pool2d(x, 2).sum().backward()
    assert np.array_equal(x.grad.numpy()[0], np.tile([[1, 0], [0, 0]], (2, 2)))
    x = Tensor(np.ones((1, 4, 4)), requires_grad=True)
    ops.adaptive_max_pool2d(x, 2).sum().backward()
    assert np.array_equal(x.grad.numpy()[0], np.tile([[1, 0], [0, 0]], (2, 2)))


def test_padding_is_never_taken_not_even_among_minus_infinities():
    x = Tensor(np.full((1, 3, 3), -np.inf), requires_grad=True)
    y = ops.max_pool2d(x, 2, padding=1)
    assert np.array_equal(y.numpy(), np.full((1, 2, 2), -np.inf))
    y.backward(np.array([[[1.0, 2.0], [3.0, 4.0]]]))
    assert np.array_equal(x.grad.numpy()[0], [[1, 2, 0], [3, 4, 0], [0, 0, 0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_windows_that_lie_wholly_in_the_padding(dtype):
    # PyTorch 2.13 gives -inf for these windows; the places that it notes for them lie outside the image
    x = Tensor(np.arange(1, 7, dtype=dtype).reshape(2, 1, 1, 3), requires_grad=True)
    y = ops.max_pool2d(x, 2, stride=1, padding=1, dilation=(2, 1))
    assert np.array_equal(y.numpy(), np.full((2, 1, 1, 4), -np.inf))
    y.backward(np.ones(y.shape))
    assert np.array_equal(x.grad.numpy(), np.zeros(x.shape))
    # a window between two that find a pixel each: its place must not be taken for one of them
    x = Tensor(np.array([[[[5, 7]]]], dtype), requires_grad=True)
    y = ops.max_pool2d(x, (1, 2), stride=1, padding=(0, 2), dilation=(1, 3))
    assert np.array_equal(y.numpy(), [[[[7, -np.inf, 5]]]])
    y.backward(np.array([[[[1, 2, 4]]]], dtype))
    assert np.array_equal(x.grad.numpy(), [[[[4, 1]]]])


def test_windows_of_more_than_256_elements():
    x = RANDOM.permutation(2 * 20 * 20).reshape(2, 20, 20).astype(np.float64)
    options = {"kernel_size": (17, 18), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    a = Tensor(x, requires_grad=True)
    g = RANDOM.standard_normal((2, 4, 3))
    y = ops.max_pool2d(a, **options)
    y.backward(g)
    for channel in range(2):
        expected, grad = direct_max_pool(x[channel], g[channel], **options, ceil_mode=False)
        assert np.array_equal(y.numpy()[channel], expected)
        np.testing.assert_allclose(a.grad.numpy()[channel], grad, atol=1e-12)


@pytest.mark.parametrize("operation", [
    lambda x: ops.max_pool2d(x, 2), lambda x: ops.avg_pool2d(x, 2),
    lambda x: ops.adaptive_avg_pool2d(x, 2), lambda x: ops.adaptive_max_pool2d(x, 2),
], ids=["max", "avg", "adaptive-avg", "adaptive-max"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_stay_in_their_window(operation, value):
    x = RANDOM.standard_normal((1, 1, 4, 4)).astype(np.float32)
    clean = operation(Tensor(x)).numpy().copy()
    x[0, 0, 3, 0] = value
    y = operation(Tensor(x)).numpy()
    assert np.array_equal(y[0, 0, 1, 0], np.float32(value), equal_nan=True)
    clean[0, 0, 1, 0] = y[0, 0, 1, 0]
    assert np.array_equal(y, clean, equal_nan=True)


def test_nan_takes_the_gradient_of_its_window():
    values = np.arange(16.0).reshape(1, 4, 4)
    values[0, 0, 1] = values[0, 1, 0] = np.nan
    x = Tensor(values, requires_grad=True)
    ops.max_pool2d(x, 2).backward(np.array([[[1.0, 2.0], [3.0, 4.0]]]))
    expected = np.zeros((4, 4))
    expected[1, 0], expected[1, 3], expected[3, 1], expected[3, 3] = 1, 2, 3, 4  # the last NaN, as PyTorch
    assert np.array_equal(x.grad.numpy()[0], expected)


@pytest.mark.parametrize("operation", [
    lambda x: ops.max_pool2d(x, 3, 2, 1), lambda x: ops.avg_pool2d(x, 3, 2, 1), lambda x: ops.max_pool2d(x, 2),
    lambda x: ops.adaptive_avg_pool2d(x, (3, 2)), lambda x: ops.adaptive_max_pool2d(x, (3, 2)),
    lambda x: ops.interpolate(x, scale_factor=2), lambda x: ops.interpolate(x, size=(3, 9), mode="bilinear"),
])
def test_memory_layout_makes_no_difference(operation):
    values = RANDOM.standard_normal((4, 6, 3, 4)).transpose(3, 2, 1, 0)[::2, :, ::-1]

    def everything(values, order):
        x = Tensor(values, requires_grad=True)
        y = operation(x)
        y.backward(np.asarray(np.cos(np.arange(y.numel())).reshape(y.shape), order=order))
        return y.numpy(), x.grad.numpy()

    for strided, plain in zip(everything(values, "F"), everything(values.copy(), "C")):
        assert np.array_equal(strided, plain)


@pytest.mark.parametrize("operation", [
    lambda x: ops.max_pool2d(x, 2), lambda x: ops.avg_pool2d(x, 2), lambda x: ops.adaptive_avg_pool2d(x, 1),
    lambda x: ops.interpolate(x, scale_factor=2),
])
def test_pooling_keeps_no_input(operation):
    x = Tensor(RANDOM.standard_normal((1, 2, 4, 4)), requires_grad=True)
    hidden = x * 2
    watch = weakref.ref(hidden.array)
    y = operation(hidden)
    del hidden
    assert watch() is None
    y.sum().backward()
    assert x.grad is not None


def test_max_pool_of_integers_and_of_nothing():
    y = ops.max_pool2d(Tensor(np.array([[[-5, -7], [-9, -3]]])), 2, stride=1, padding=1)
    assert y.dtype == np.int64
    assert np.array_equal(y.numpy()[0], [[-5, -5, -7], [-5, -3, -3], [-9, -3, -3]])
    for operation in (ops.max_pool2d, ops.avg_pool2d, ops.adaptive_avg_pool2d, ops.adaptive_max_pool2d,
                      lambda x, size: ops.interpolate(x, size, mode="bilinear")):
        nothing = Tensor(np.zeros((0, 2, 4, 4)), requires_grad=True)
        y = operation(nothing, 2)
        assert y.shape == (0, 2, 2, 2)
        y.backward(np.zeros(y.shape))
        assert nothing.grad.shape == nothing.shape


def test_nearest_repeats_and_skips_pixels():
    x = RANDOM.standard_normal((2, 3, 4, 6))
    larger = ops.interpolate(Tensor(x), scale_factor=(3, 2)).numpy()
    assert np.array_equal(larger, x.repeat(3, axis=2).repeat(2, axis=3))
    assert np.array_equal(ops.interpolate(Tensor(x), scale_factor=0.5).numpy(), x[:, :, ::2, ::2])


def test_bilinear_reproduces_a_plane():
    rows, columns = np.mgrid[0:5, 0:4].astype(np.float64)
    x = (2 * rows - 3 * columns)[None, None]
    y = ops.interpolate(Tensor(x), size=(9, 13), mode="bilinear", align_corners=True).numpy()
    rows, columns = np.meshgrid(np.linspace(0, 4, 9), np.linspace(0, 3, 13), indexing="ij")
    np.testing.assert_allclose(y[0, 0], 2 * rows - 3 * columns, atol=1e-12)


def zeros(*shape):
    return Tensor(np.zeros(shape, np.float32))


@pytest.mark.parametrize("call, error, parts", [
    (lambda: F.max_pool2d(zeros(28, 28), 2), ShapeError, ["max_pool2d", "2 axes", "give x[None]"]),
    (lambda: F.max_pool1d(zeros(2, 3, 4, 4), 2), ShapeError, ["max_pool1d", "4 axes", "(N, C, L)"]),
    (lambda: F.max_pool2d(zeros(1, 1, 4, 4), 2, padding=2), ShapeError, ["padding 2", "half", "kernel_size 2"]),
    (lambda: F.avg_pool2d(zeros(1, 1, 4, 4), 3, padding=2), ShapeError, ["padding 2", "half", "kernel_size 3"]),
    (lambda: F.max_pool2d(zeros(1, 1, 3, 4), 5), ShapeError, ["kernel_size 5", "(3, 4)"]),
    (lambda: F.max_pool1d(zeros(1, 1, 3), 5), ShapeError, ["kernel_size 5", "(3,)"]),
    (lambda: F.max_pool2d(zeros(1, 1, 4, 4), 2.0), TypeError, ["kernel_size", "2.0"]),
    (lambda: F.max_pool2d(zeros(1, 1, 4, 4), 2, stride=0), ValueError, ["stride", "at least 1"]),
    (lambda: F.max_pool2d(zeros(1, 1, 4, 4), 2, return_indices=True), ValueError, ["return_indices"]),
    (lambda: F.avg_pool2d(Tensor(np.ones((1, 1, 4, 4), np.int64)), 2), TypeError, ["int64", ".float()"]),
    (lambda: F.avg_pool2d(zeros(1, 1, 4, 4), 2, divisor_override=0), ValueError, ["divisor_override"]),
    (lambda: F.adaptive_avg_pool2d(zeros(1, 1, 4, 4), (2, 2, 2)), ValueError, ["output_size", "3 numbers for 2 dims"]),
    (lambda: F.adaptive_avg_pool2d(zeros(1, 1, 4, 4), 0), ValueError, ["output_size", "at least 1"]),
    (lambda: F.adaptive_max_pool2d(zeros(1, 1, 0, 4), 1), ShapeError, ["nothing to pool"]),
    (lambda: F.interpolate(zeros(1, 4, 4), size=3, mode="bilinear"), ValueError, ["'bilinear'", "3 axes", "'linear'"]),
    (lambda: F.interpolate(zeros(1, 1, 4, 4), size=3, mode="cubic"), ValueError, ["'cubic'", "'bilinear'"]),
    (lambda: F.interpolate(zeros(4, 4), size=3), ShapeError, ["2 axes"]),
    (lambda: F.interpolate(zeros(1, 1, 4, 4)), ValueError, ["either size or scale_factor"]),
    (lambda: F.interpolate(zeros(1, 1, 4, 4), size=3, scale_factor=2), ValueError, ["either size or scale_factor"]),
    (lambda: F.interpolate(zeros(1, 1, 4, 4), scale_factor=-1), ValueError, ["scale_factor", "positive"]),
    (lambda: F.interpolate(zeros(1, 1, 4, 4), scale_factor=0.1), ShapeError, ["(0, 0)"]),
    (lambda: F.interpolate(zeros(1, 1, 4, 4), size=2, align_corners=True), ValueError, ["align_corners"]),
])
def test_errors_name_the_cause(call, error, parts):
    with pytest.raises(error) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("layer, text, shape, expected", [
    (nn.MaxPool1d(2), "MaxPool1d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)", (2, 3, 7),
     (2, 3, 3)),
    (nn.MaxPool2d(3, 2, 1, 1, False, True), "MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=True)",
     (2, 3, 8, 8), (2, 3, 5, 5)),
    (nn.AvgPool1d(3, 1, 1), "AvgPool1d(kernel_size=3, stride=1, padding=1)", (2, 3, 7), (2, 3, 7)),
    (nn.AvgPool2d(3), "AvgPool2d(kernel_size=3, stride=3, padding=0)", (3, 8, 8), (3, 2, 2)),
    (nn.AdaptiveAvgPool1d(3), "AdaptiveAvgPool1d(output_size=3)", (2, 3, 7), (2, 3, 3)),
    (nn.AdaptiveAvgPool2d((None, 3)), "AdaptiveAvgPool2d(output_size=(None, 3))", (2, 3, 7, 7), (2, 3, 7, 3)),
    (nn.AdaptiveMaxPool1d(2), "AdaptiveMaxPool1d(output_size=2)", (2, 3, 7), (2, 3, 2)),
    (nn.AdaptiveMaxPool2d((1, 2)), "AdaptiveMaxPool2d(output_size=(1, 2))", (2, 3, 7, 7), (2, 3, 1, 2)),
    (nn.Upsample(scale_factor=2.0, mode="bilinear"), "Upsample(scale_factor=2.0, mode='bilinear')", (2, 3, 4, 5),
     (2, 3, 8, 10)),
    (nn.Upsample((3, 4)), "Upsample(size=(3, 4), mode='nearest')", (2, 3, 7, 7), (2, 3, 3, 4)),
])
def test_layers_describe_and_rebuild_themselves(layer, text, shape, expected):
    x = Tensor(RANDOM.standard_normal(shape).astype(np.float32))
    assert repr(layer) == text
    again = type(layer)(**layer.config())
    assert repr(again) == text
    y = layer(x)
    assert y.shape == expected
    assert y.dtype == np.float32
    assert np.array_equal(again(x).numpy(), y.numpy())


def test_avg_pool_layers_pass_every_option_on():
    x = Tensor(RANDOM.standard_normal((1, 1, 6, 6)))
    layer = nn.AvgPool2d(3, 2, 1, True, False, None)
    expected = ops.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)
    assert np.array_equal(layer(x).numpy(), expected.numpy())
    np.testing.assert_allclose(nn.AvgPool2d(2, divisor_override=1)(x).numpy(), 4 * nn.AvgPool2d(2)(x).numpy())
    signal = x[0]
    expected = ops.avg_pool1d(signal, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)
    assert np.array_equal(nn.AvgPool1d(3, 2, 1, True, False)(signal).numpy(), expected.numpy())


def test_upsample_passes_every_option_on():
    x = Tensor(RANDOM.standard_normal((1, 1, 4, 5)))
    for options in ({"align_corners": True}, {"recompute_scale_factor": True}):
        y = nn.Upsample(scale_factor=1.7, mode="bilinear", **options)(x).numpy()
        assert np.array_equal(y, ops.interpolate(x, scale_factor=1.7, mode="bilinear", **options).numpy())
        assert not np.allclose(y, ops.interpolate(x, scale_factor=1.7, mode="bilinear").numpy())
