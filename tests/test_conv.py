"""Convolution beyond the cases of cases.py: against a loop over its definition, in blocks, at its limits, as layers."""

import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl.nn.functional as F
from minidl import nn, ops
from minidl.errors import ShapeError
from minidl.gradcheck import check_gradients
from minidl.kernels.reference import conv
from minidl.tensor import Tensor

RANDOM = np.random.default_rng(3)


def normal(*shape, dtype=np.float64):
    return RANDOM.standard_normal(shape).astype(dtype)


def direct(x, weight, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The definition of a convolution, one output at a time."""
    padded = np.pad(x, ((0, 0), (0, 0), *[(p, p) for p in padding]))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:])]
    rows, columns = [(n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reach, stride)]
    y = np.zeros((len(x), len(weight), rows, columns))
    for n, o, r, c in np.ndindex(y.shape):
        first = o // (len(weight) // groups) * weight.shape[1]
        top, left = r * stride[0], c * stride[1]
        patch = padded[n, first:first + weight.shape[1], top:top + reach[0], left:left + reach[1]]
        y[n, o, r, c] = (patch[:, ::dilation[0], ::dilation[1]] * weight[o]).sum()
    return y


@st.composite
def convolutions(draw):
    """Shapes of x and weight, and options, such that at least one window fits."""
    small, axis = st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3))
    groups, kernel, stride, dilation = draw(small), draw(axis), draw(axis), draw(axis)
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = tuple([max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 4))
                  for k, p, d in zip(kernel, padding, dilation)])
    channels, outputs = draw(small), draw(small) * groups
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return (draw(small), channels * groups, *size), (outputs, channels, *kernel), options


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.sampled_from([1, 200, 2**21]))
def test_conv2d_is_what_its_definition_says(drawn, block_bytes):
    x_shape, weight_shape, options = drawn
    x, weight = normal(*x_shape), normal(*weight_shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "BLOCK_BYTES", block_bytes)
        y = ops.conv2d(Tensor(x), Tensor(weight), **options)
        np.testing.assert_allclose(y.numpy(), direct(x, weight, **options), atol=1e-12)
        check_gradients(lambda x, weight, bias: ops.conv2d(x, weight, bias, **options),
                        [x, weight, normal(weight_shape[0])])


@settings(max_examples=40, deadline=None)
@given(convolutions(), st.data())
def test_conv_transpose2d_is_the_transpose_of_conv2d(drawn, data):
    x_shape, weight_shape, options = drawn
    weight = normal(*weight_shape)
    x = normal(*x_shape)
    y = normal(*direct(x, weight, **options).shape)
    smallest = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in zip(
        y.shape[2:], options["stride"], options["padding"], options["dilation"], weight_shape[2:])]
    output_padding = tuple([n - low for n, low in zip(x_shape[2:], smallest)])
    back = ops.conv_transpose2d(Tensor(y), Tensor(weight), output_padding=output_padding, **options)
    assert back.shape == x_shape
    np.testing.assert_allclose((back.numpy() * x).sum(), (y * direct(x, weight, **options)).sum(), atol=1e-9)
    check_gradients(lambda y, weight, bias: ops.conv_transpose2d(
        y, weight, bias, output_padding=output_padding, **options), [y, weight, normal(x_shape[1])])


@pytest.mark.parametrize("options", [{}, {"padding": 1}, {"groups": 2, "padding": 2}, {"stride": 2, "dilation": 2}],
                         ids=str)
def test_blocks_give_what_one_pass_gives(options, monkeypatch):
    x, weight = normal(5, 4, 11, 9), normal(6, 4 // options.get("groups", 1), 3, 3)

    def everything():
        a, w = Tensor(x, requires_grad=True), Tensor(weight, requires_grad=True)
        y = ops.conv2d(a, w, **options)
        y.backward(np.sin(np.arange(y.numel())).reshape(y.shape))
        return y.numpy(), a.grad.numpy(), w.grad.numpy()

    whole = everything()
    assert len(list(conv.blocks(x, weight, *whole[0].shape[2:]))) == 1
    columns = 4 * 9 * whole[0][0, 0].size * 8  # bytes, of one sample
    for block_bytes in (1, columns // 2, columns * 2):  # an output row, some rows of a sample, two samples
        monkeypatch.setattr(conv, "BLOCK_BYTES", block_bytes)
        assert len(list(conv.blocks(x, weight, *whole[0].shape[2:]))) > 1
        for sliced, expected in zip(everything(), whole):
            np.testing.assert_allclose(sliced, expected, atol=1e-12)


def test_columns_of_a_large_input_are_never_in_memory_together():
    x = normal(2, 32, 96, 96, dtype=np.float32)
    weight = normal(4, 32, 5, 5, dtype=np.float32)
    a, w = Tensor(x, requires_grad=True), Tensor(weight, requires_grad=True)
    tracemalloc.start()
    ops.conv2d(a, w, padding=2).sum().backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert x.nbytes * 25 > 50e6  # what all columns together would take
    assert peak < 12e6


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"padding": "same"}], ids=str)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
@pytest.mark.parametrize("operation", [ops.conv2d, ops.conv_transpose2d])
def test_memory_layout_makes_no_difference(operation, kernel, options):
    if operation is ops.conv_transpose2d and "same" in options.values():
        options = {"stride": 3}
    x = normal(2, 5, 7, 4).transpose(0, 3, 2, 1)[:, ::2, ::-1]
    weight = normal(*kernel, 2, 4)[:, :, :, ::2].transpose(3, 2, 0, 1)
    assert not x.flags.c_contiguous and not weight.flags.c_contiguous

    def everything(x, weight, order):
        a, w = Tensor(x, requires_grad=True), Tensor(weight, requires_grad=True)
        y = operation(a, w, **options)
        y.backward(np.asarray(np.cos(np.arange(y.numel())).reshape(y.shape), order=order))
        return y.numpy(), a.grad.numpy(), w.grad.numpy()

    for strided, plain in zip(everything(x, weight, "F"), everything(x.copy(), weight.copy(), "C")):
        np.testing.assert_allclose(strided, plain, atol=1e-12)


def test_inputs_are_left_as_they_are():
    x, weight, bias = normal(2, 2, 5, 5), normal(3, 2, 3, 3), normal(3)
    copies = x.copy(), weight.copy(), bias.copy()
    tensors = [Tensor(a, requires_grad=True) for a in (x, weight, bias)]
    g = normal(2, 3, 5, 5)
    g_copy = g.copy()
    ops.conv2d(*tensors, padding=1).backward(g)
    for array, copy in zip((x, weight, bias, g), (*copies, g_copy)):
        assert np.array_equal(array, copy)


@pytest.mark.parametrize("operation", [ops.conv2d, ops.conv_transpose2d])
def test_frozen_weight_keeps_no_input(operation):
    x = Tensor(normal(1, 2, 5, 5), requires_grad=True)
    hidden = x * 2
    watch = weakref.ref(hidden.array)
    y = operation(hidden, Tensor(normal(2, 2, 3, 3)), padding=1)
    del hidden
    assert watch() is None
    y.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("operation", [ops.conv2d, ops.conv_transpose2d])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
def test_empty_batch(operation, kernel):
    x, bias = Tensor(np.zeros((0, 3, 5, 5)), requires_grad=True), Tensor(normal(3), requires_grad=True)
    weight = Tensor(normal(3, 3, *kernel), requires_grad=True)
    y = operation(x, weight, bias)
    assert y.shape[:2] == (0, 3)
    y.backward(np.zeros(y.shape))
    assert x.grad.shape == (0, 3, 5, 5)
    assert np.array_equal(weight.grad.numpy(), np.zeros((3, 3, *kernel)))
    assert np.array_equal(bias.grad.numpy(), np.zeros(3))


def zeros(*shape):
    return Tensor(np.zeros(shape, np.float32))


@pytest.mark.parametrize("call, error, parts", [
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 1, 3, 3)), ShapeError,
     ["conv2d", "(2, 3, 8, 8)", "has 3 channels", "expects 1"]),
    (lambda: F.conv2d(zeros(2, 4, 8, 8), zeros(4, 1, 3, 3), groups=2), ShapeError, ["groups = 2", "expects 2"]),
    (lambda: F.conv2d(zeros(64, 28, 28), zeros(4, 1, 3, 3)), ShapeError, ["64 channels", "give x[:, None]"]),
    (lambda: F.conv2d(zeros(28, 28), zeros(4, 1, 3, 3)), ShapeError, ["2 axes", "(N, C, H, W)", "give x[None]"]),
    (lambda: F.conv2d(zeros(2, 8, 8, 3), zeros(4, 3, 3, 3)), ShapeError, ["x.permute(0, 3, 1, 2)"]),
    (lambda: F.conv1d(zeros(8, 3), zeros(4, 3, 3)), ShapeError, ["x.permute(1, 0)"]),
    (lambda: F.conv1d(zeros(2, 3, 8, 8), zeros(4, 3, 3)), ShapeError, ["conv1d", "4 axes", "(N, C, L)"]),
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 3, 3)), ShapeError, ["weight of shape (4, 3, 3)", "4 axes"]),
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 3, 3, 3), zeros(3)), ShapeError, ["bias", "(4,)"]),
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 3, 9, 3)), ShapeError, ["(9, 3)", "larger than", "(2, 3, 8, 8)"]),
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 3, 3, 3), dilation=4), ShapeError, ["dilation 4", "larger than"]),
    (lambda: F.conv2d(zeros(2, 4, 8, 8), zeros(5, 2, 3, 3), groups=2), ShapeError, ["5 output channels"]),
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 3, 3, 3), stride=1.5), TypeError, ["stride", "1.5"]),
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 3, 3, 3), stride=0), ValueError, ["stride", "at least 1"]),
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 3, 3, 3), padding=-1), ValueError, ["padding", "at least 0"]),
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 3, 3, 3), padding=(1, 1, 1)), ValueError, ["3 numbers for 2 dims"]),
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 3, 3, 3), padding="full"), ValueError, ["'same', 'valid'"]),
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 3, 3, 3), stride=2, padding="same"), ValueError, ["stride 1"]),
    (lambda: F.conv2d(zeros(2, 3, 8, 8), zeros(4, 3, 3, 3), groups=1.0), TypeError, ["groups", "1.0"]),
    (lambda: F.conv_transpose2d(zeros(2, 4, 8, 8), zeros(3, 4, 3, 3)), ShapeError, ["has 4 channels", "expects 3"]),
    (lambda: F.conv_transpose2d(zeros(2, 3, 8, 8), zeros(3, 4, 3, 3), stride=2, output_padding=2), ValueError,
     ["output_padding 2", "smaller than the stride 2"]),
    (lambda: F.conv_transpose2d(zeros(2, 3, 1, 1), zeros(3, 4, 3, 3), padding=2), ShapeError, ["less padding"]),
    (lambda: F.conv_transpose2d(zeros(2, 3, 8, 8), zeros(3, 4, 3, 3), padding="same"), TypeError, ["in numbers"]),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, ["in_channels = 3", "groups = 2"]),
    (lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"), ValueError, ["stride 1"]),
    (lambda: nn.Conv2d(3, 4, (3, 3, 3)), ValueError, ["kernel_size", "3 numbers for 2 dims"]),
    (lambda: nn.Conv2d(3, 4.0, 3), TypeError, ["out_channels", "4.0"]),
    (lambda: nn.Conv2d(3, 4, 3, padding_mode="zero"), ValueError, ["padding_mode", "'zero'"]),
    (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), ValueError, ["'zeros'", "'reflect'"]),
    (lambda: nn.ConvTranspose2d(3, 4, 3, 2)(zeros(2, 3, 4, 4), output_size=(8, 8)), ShapeError, ["(9, 9)", "(10, 10)"]),
    (lambda: nn.ConvTranspose2d(3, 4, 3, 2)(zeros(2, 3, 4, 4), output_size=(9, 11)), ShapeError, ["(10, 10)"]),
    (lambda: nn.ConvTranspose2d(3, 4, 3, 2)(zeros(2, 3, 4, 4), output_size=9), TypeError, ["output_size", "9"]),
])
def test_errors_name_the_cause(call, error, parts):
    with pytest.raises(error) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("layer, text", [
    (nn.Conv2d(3, 4, 3, padding="same", bias=False),
     "Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=same, bias=False)"),
    (nn.Conv1d(3, 4, 3, 2, 1, 2), "Conv1d(3, 4, kernel_size=(3,), stride=(2,), padding=(1,), dilation=(2,))"),
    (nn.Conv2d(4, 4, (3, 1), groups=2, padding=1, padding_mode="circular"),
     "Conv2d(4, 4, kernel_size=(3, 1), stride=(1, 1), padding=(1, 1), groups=2, padding_mode=circular)"),
    (nn.ConvTranspose2d(3, 4, 3, 2, 1, 1),
     "ConvTranspose2d(3, 4, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), output_padding=(1, 1))"),
])
def test_layers_describe_and_rebuild_themselves(layer, text):
    assert repr(layer) == text
    again = type(layer)(**layer.config())
    assert repr(again) == text
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in layer.state_dict().items()}


def test_layers_hold_pytorchs_weights():
    assert nn.Conv2d(4, 6, (3, 2), groups=2).weight.shape == (6, 2, 3, 2)
    assert nn.ConvTranspose2d(4, 6, (3, 2), groups=2).weight.shape == (4, 3, 3, 2)
    assert nn.Conv1d(4, 6, 5, bias=False).bias is None
    layer = nn.Conv2d(16, 200, 3, groups=2)
    bound = (8 * 9) ** -0.5
    for parameter in (layer.weight.numpy(), layer.bias.numpy()):
        assert parameter.dtype == np.float32
        assert 0.95 * bound < np.abs(parameter).max() <= bound
        assert abs(parameter.std() / (bound / 3**0.5) - 1) < 0.1


@pytest.mark.parametrize("mode, numpy_mode", [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
@pytest.mark.parametrize("padding, edges", [((1, 2), ((1, 1), (2, 2))), ("same", ((0, 1), (1, 1)))])
def test_padding_modes(mode, numpy_mode, padding, edges):
    layer = nn.Conv2d(2, 3, (2, 3), padding=padding, padding_mode=mode, dtype=np.float64)
    x = normal(2, 2, 5, 6)
    expected = direct(np.pad(x, ((0, 0), (0, 0), *edges), numpy_mode), layer.weight.numpy())
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), expected + layer.bias.numpy()[:, None, None], atol=1e-12)


def test_transposed_layer_reaches_the_output_size_asked_for():
    layer = nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1)
    x = Tensor(normal(2, 3, 4, 4, dtype=np.float32))
    assert layer(x).shape == (2, 2, 7, 7)
    assert layer(x, output_size=(8, 7)).shape == (2, 2, 8, 7)
    assert layer(x, output_size=(2, 2, 7, 8)).shape == (2, 2, 7, 8)


@pytest.mark.parametrize("layer, shape, expected", [
    (nn.Conv1d(3, 4, 3, stride=2, padding=1), (2, 3, 9), (2, 4, 5)),
    (nn.Conv1d(3, 4, 3, padding="valid"), (3, 9), (4, 7)),
    (nn.ConvTranspose1d(3, 4, 3, stride=2), (2, 3, 5), (2, 4, 11)),
    (nn.Conv2d(3, 4, 3, 2, 1, 2, 1), (3, 9, 8), (4, 4, 3)),
])
def test_layers_pass_their_options_on(layer, shape, expected):
    assert layer(Tensor(normal(*shape, dtype=np.float32))).shape == expected
