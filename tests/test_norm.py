"""Normalisation layers: against PyTorch over several batches, against the plain formula, and what moves when."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from norm_cases import BATCH_NORMS, batches

import minidl.nn.functional as F
from minidl import nn, ops
from minidl.errors import ShapeError
from minidl.gradcheck import check_gradients
from minidl.ops.shared import once
from minidl.tensor import Tensor

GOLDEN = np.load(Path(__file__).with_name("golden") / "norm.npz")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def state(module):
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("name", BATCH_NORMS)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)], ids=["float64", "float32"])
def test_batch_norm_follows_pytorch_over_several_batches(name, dtype, tolerance):
    layer_name, shape, options = BATCH_NORMS[name]
    layer = getattr(nn, layer_name)(shape[1], dtype=dtype, **options)
    values = {}
    for x in batches(shape):
        values["trained"] = layer(Tensor(x.astype(dtype))).numpy()
    layer.eval()
    before = state(layer)
    values["evaluated"] = layer(Tensor(x.astype(dtype))).numpy()
    assert state(layer) == before
    values |= {key: buffer.numpy() for key, buffer in layer.named_buffers()}
    assert {f"{name}/{key}" for key in values} == {key for key in GOLDEN.files if key.startswith(f"{name}/")}
    for key, value in values.items():
        expected = GOLDEN[f"{name}/{key}"]
        assert value.dtype == (np.int64 if key == "num_batches_tracked" else dtype), key
        largest = max(1, np.abs(expected).max())
        np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * largest, err_msg=key)


def plain(x, axes, weight, bias, shape, eps):
    """The formula, step by step in float64."""
    x = x.astype(np.float64)
    mean = x.mean(axis=axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight.reshape(shape) + bias.reshape(shape)


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(2, 5), channels=st.integers(1, 5), space=st.lists(st.integers(1, 5), max_size=3),
       shift=st.floats(-50, 50), contiguous=st.booleans())
def test_batch_norm_is_the_formula_for_all_shapes(batch, channels, space, shift, contiguous):
    x = (normal(batch, channels, *space) + shift).astype(np.float32)
    x = x if contiguous else np.swapaxes(np.swapaxes(x, 0, 1).copy(), 0, 1)
    weight, bias = normal(channels, seed=1).astype(np.float32), normal(channels, seed=2).astype(np.float32)
    y = F.batch_norm(Tensor(x), None, None, Tensor(weight), Tensor(bias), training=True, eps=1e-2).numpy()
    axes = (0, *range(2, x.ndim))
    expected = plain(x, axes, weight, bias, (1, channels, *(1 for _ in space)), 1e-2)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-4)


@settings(max_examples=40, deadline=None)
@given(lead=st.lists(st.integers(1, 4), min_size=1, max_size=3),
       last=st.lists(st.integers(1, 5), min_size=1, max_size=2), contiguous=st.booleans())
def test_layer_norm_is_the_formula_for_all_shapes(lead, last, contiguous):
    x = normal(*lead, *last).astype(np.float32)
    x = x if contiguous else np.swapaxes(np.swapaxes(x, 0, -1).copy(), 0, -1)
    weight, bias = normal(*last, seed=1).astype(np.float32), normal(*last, seed=2).astype(np.float32)
    y = F.layer_norm(Tensor(x), last, Tensor(weight), Tensor(bias), eps=1e-2).numpy()
    axes = tuple(range(len(lead), x.ndim))
    np.testing.assert_allclose(y, plain(x, axes, weight, bias, tuple(last), 1e-2), rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(1, 4), groups=st.integers(1, 3), per_group=st.integers(1, 3),
       space=st.lists(st.integers(1, 4), max_size=2))
def test_group_norm_is_the_formula_for_all_shapes(batch, groups, per_group, space):
    channels = groups * per_group
    x = normal(batch, channels, *space).astype(np.float32)
    weight, bias = normal(channels, seed=1).astype(np.float32), normal(channels, seed=2).astype(np.float32)
    y = F.group_norm(Tensor(x), groups, Tensor(weight), Tensor(bias), eps=1e-2).numpy()
    grouped = x.reshape(batch, groups, -1)  # N, G, (C / G) * H * W
    ones, zeros = np.ones(1), np.zeros(1)
    expected = plain(grouped, (2,), ones, zeros, (1, 1, 1), 1e-2).reshape(x.shape)
    per_channel = (1, channels, *(1 for _ in space))
    expected = expected * weight.reshape(per_channel) + bias.reshape(per_channel)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


def test_a_frozen_batch_norm_keeps_its_statistics_inside_a_training_network():
    frozen, free = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    frozen(Tensor(normal(8, 3).astype(np.float32) * 2 + 1))
    frozen.frozen = True
    network = nn.Sequential(frozen, free)
    network.train()
    before, free_before = state(frozen), state(free)
    x = Tensor(normal(8, 3, seed=1).astype(np.float32), requires_grad=True)
    y = frozen(x)
    for _ in range(5):
        network(x).backward(np.ones((8, 3), np.float32))
    assert state(frozen) == before
    assert state(free) != free_before
    expected = (x.numpy() - frozen.running_mean.numpy()) / np.sqrt(frozen.running_var.numpy() + 1e-5)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_frozen_wins_over_a_training_flag_set_by_hand():
    layer = nn.BatchNorm1d(3)
    layer.frozen = layer.training = True
    before = state(layer)
    layer(Tensor(normal(4, 3).astype(np.float32)))
    assert state(layer) == before


def test_the_same_layer_twice_moves_its_statistics_twice_and_adds_its_gradients():
    layer = nn.BatchNorm1d(3, dtype=np.float64)
    x = normal(5, 3)
    y = layer(Tensor(x)).detach()
    after_one = layer.running_var.numpy().copy()
    layer(y)
    assert layer.num_batches_tracked.item() == 2
    expected = 0.9 * after_one + 0.1 * y.numpy().var(axis=0, ddof=1)
    np.testing.assert_allclose(layer.running_var.numpy(), expected, rtol=1e-12)
    weight, bias = normal(3, seed=1), normal(3, seed=2)

    def twice(x, w, b):
        return ops.batch_norm(ops.batch_norm(x, w, b, training=True, eps=0.1), w, b, training=True, eps=0.1)

    check_gradients(twice, [x, weight, bias])


def test_evaluation_gradient_uses_the_statistics_of_its_forward_pass():
    layer = nn.BatchNorm1d(3, dtype=np.float64).eval()
    x = Tensor(normal(4, 3), requires_grad=True)
    y = layer(x)
    layer.train()(Tensor(normal(4, 3) * 100))
    y.backward(np.ones((4, 3)))
    np.testing.assert_allclose(x.grad.numpy(), np.full((4, 3), 1 / np.sqrt(1 + 1e-5)))


def test_a_retained_graph_gives_the_same_gradients_again():
    tensors = [Tensor(normal(5, 3), requires_grad=True), Tensor(np.ones(3), requires_grad=True)]
    y = ops.batch_norm(*tensors, training=True)
    g = normal(5, 3, seed=1)
    y.backward(g, retain_graph=True)
    first = [x.grad.numpy().copy() for x in tensors]
    y.backward(g, retain_graph=True)
    g *= 2  # the same array with other numbers: nothing remembered may be used
    y.backward(g)
    for x, gradient in zip(tensors, first, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), 4 * gradient, rtol=1e-12)


def test_once_computes_gradients_together_and_never_hands_one_out_twice():
    asked = []

    def gradients(g):
        asked.append(g)
        return g * 2, g * 3

    vjp_x, vjp_y = once(gradients, 2)
    g = np.ones(2)
    first = vjp_x(g)
    np.testing.assert_array_equal(vjp_y(g), 3 * g)
    assert len(asked) == 1
    again = vjp_x(g)
    assert again is not first and len(asked) == 2
    np.testing.assert_array_equal(vjp_y(g + 1), 3 * (g + 1))
    assert len(asked) == 3


def test_one_value_per_channel_cannot_train_but_can_be_evaluated():
    layer = nn.BatchNorm1d(3)
    before = state(layer)
    with pytest.raises(ValueError, match=r"more than 1 value per channel.*\(1, 3\)"):
        layer(Tensor(np.zeros((1, 3), np.float32)))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm2d(3)(Tensor(np.zeros((1, 3, 1, 1), np.float32)))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm2d(3)(Tensor(np.zeros((0, 3, 4, 4), np.float32)))
    assert state(layer) == before
    assert layer.eval()(Tensor(np.zeros((1, 3), np.float32))).shape == (1, 3)


@pytest.mark.parametrize("layer, shape, message", [
    (nn.BatchNorm2d(3), (4, 3), r"\(N, C, H, W\) with C = 3 is expected, not \(4, 3\)"),
    (nn.BatchNorm1d(3), (4, 3, 2, 2), r"\(N, C\) or \(N, C, L\)"),
    (nn.BatchNorm2d(3), (4, 5, 2, 2), "C = 3"),
    (nn.GroupNorm(2, 4), (4, 6, 2), "C = 4"),
    (nn.LayerNorm((2, 3)), (4, 3, 2), r"\(4, 3, 2\) are not normalized_shape \(2, 3\)"),
])
def test_inputs_that_do_not_fit_raise_and_change_nothing(layer, shape, message):
    before = state(layer)
    with pytest.raises(ShapeError, match=message):
        layer(Tensor(np.zeros(shape, np.float32)))
    assert state(layer) == before


def test_functions_refuse_vectors_of_another_length():
    x, three = Tensor(normal(4, 2)), Tensor(np.ones(3))
    with pytest.raises(ShapeError, match="weight"):
        F.batch_norm(x, None, None, three, training=True)
    with pytest.raises(ShapeError, match="running_var"):
        F.batch_norm(x, Tensor(np.ones(2)), three)
    with pytest.raises(ValueError, match="running_mean and running_var"):
        F.batch_norm(x, None, None)
    with pytest.raises(ShapeError, match="bias"):
        F.layer_norm(x, 2, None, three)
    with pytest.raises(ShapeError, match="3 groups"):
        F.group_norm(x, 3)
    with pytest.raises(ValueError, match="4 channels cannot be split into 3"):
        nn.GroupNorm(3, 4)


def test_large_offsets_do_not_spoil_the_variance():
    x = (normal(64, 2) + 3e3).astype(np.float32)
    y = F.batch_norm(Tensor(x), None, None, training=True).numpy()
    expected = plain(x, (0,), np.ones(2), np.zeros(2), (2,), 1e-5)
    np.testing.assert_allclose(y, expected, atol=3e-3)


def test_nan_and_inf_pass_through():
    x = normal(6, 2)
    x[0, 0] = np.nan
    y = F.batch_norm(Tensor(x), None, None, training=True).numpy()
    assert np.isnan(y[:, 0]).all() and np.isfinite(y[:, 1]).all()
    y = F.layer_norm(Tensor(x), 2).numpy()
    assert np.isnan(y[0]).all() and np.isfinite(y[1:]).all()


def test_parameters_buffers_and_texts_are_pytorchs():
    layer = nn.BatchNorm2d(3)
    assert list(layer.state_dict()) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert (layer.weight.numpy() == 1).all() and (layer.bias.numpy() == 0).all()
    assert repr(layer) == "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)"
    assert repr(nn.LayerNorm(4)) == "LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)"
    assert repr(nn.GroupNorm(2, 4)) == "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)"
    assert list(nn.BatchNorm1d(3, affine=False, track_running_stats=False).state_dict()) == []
    assert list(nn.LayerNorm(3, bias=False).state_dict()) == ["weight"]


@pytest.mark.parametrize("layer", [
    nn.BatchNorm1d(3, 1e-3, None, affine=False), nn.BatchNorm2d(3, bias=False, track_running_stats=False),
    nn.LayerNorm((2, 3), bias=False), nn.LayerNorm(3, elementwise_affine=False), nn.GroupNorm(1, 3, affine=False),
], ids=str)
def test_config_builds_an_equal_layer(layer):
    twin = type(layer)(**layer.config())
    assert repr(twin) == repr(layer)
    assert list(twin.state_dict()) == list(layer.state_dict())


def test_reset_running_stats_forgets():
    layer = nn.BatchNorm1d(3)
    before = state(layer)
    layer(Tensor(normal(4, 3).astype(np.float32)))
    assert state(layer) != before
    layer.reset_running_stats()
    assert state(layer) == before
