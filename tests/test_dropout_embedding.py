"""Dropout (what is drawn, and when) and embedding (which rows are read, and which receive gradients)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl.nn.functional as F
from minidl import nn, random
from minidl.errors import ShapeError
from minidl.tensor import Tensor


def ones(*shape, dtype=np.float32):
    return Tensor(np.ones(shape, dtype), requires_grad=True)


def own(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_keeps_the_mean_and_scales_what_stays(p, dtype):
    x = ones(200, 500, dtype=dtype)
    y = F.dropout(x, p, generator=own()).numpy()
    assert y.dtype == dtype
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - p)], rtol=1e-6)
    assert np.mean(y == 0) == pytest.approx(p, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.02)


def test_the_gradient_passes_where_the_value_passed():
    x = Tensor(np.arange(1, 21, dtype=np.float32).reshape(4, 5), requires_grad=True)
    y = F.dropout(x, 0.4, generator=own())
    g = own(1).standard_normal((4, 5)).astype(np.float32)
    y.backward(g)
    factors = y.numpy() / x.numpy()
    assert 0 < (factors == 0).sum() < 20
    np.testing.assert_allclose(x.grad.numpy(), g * factors, rtol=1e-6)


def test_the_input_is_left_as_it_is():
    x = ones(10, 10)
    for layer in (nn.Dropout(0.5, inplace=True), nn.Dropout2d(0.5)):
        layer(x)
    assert (x.numpy() == 1).all()


def test_p_of_0_and_1():
    x = ones(3, 4)
    np.testing.assert_array_equal(F.dropout(x, 0.0).numpy(), x.numpy())
    y = F.dropout(x, 1.0)
    np.testing.assert_array_equal(y.numpy(), np.zeros((3, 4)))
    y.backward(np.ones((3, 4), np.float32))
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros((3, 4)))
    for wrong in (-0.1, 1.1):
        for call in (lambda p=wrong: F.dropout(x, p), lambda p=wrong: nn.Dropout(p), lambda p=wrong: F.dropout2d(x, p)):
            with pytest.raises(ValueError, match=f"between 0 and 1, not {wrong}"):
                call()


def test_dropout2d_drops_whole_channels():
    y = nn.Dropout2d(0.5, generator=own())(ones(8, 16, 3, 4)).numpy()
    per_channel = y.reshape(8, 16, -1)
    assert (per_channel == per_channel[:, :, :1]).all()
    assert 0.3 < (per_channel[:, :, 0] == 0).mean() < 0.7
    assert len({tuple(sample) for sample in per_channel[:, :, 0]}) > 1
    with pytest.raises(ValueError, match=r"\(N, C, ...\)"):
        F.dropout2d(ones(5))


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.Dropout2d(0.5)], ids=str)
def test_evaluation_and_frozen_parts_drop_nothing(layer):
    x = ones(4, 5, 2, 2)
    network = nn.Sequential(layer, nn.Identity())
    assert (network.train()(x).numpy() == 0).any()
    np.testing.assert_array_equal(network.eval()(x).numpy(), x.numpy())
    layer.frozen = True
    np.testing.assert_array_equal(network.train()(x).numpy(), x.numpy())
    layer.training = True
    np.testing.assert_array_equal(layer(x).numpy(), x.numpy())


def test_masks_follow_the_shared_seed_or_an_own_generator():
    layer, x = nn.Dropout(0.5), ones(10, 10)
    random.seed(5)
    first, second = layer(x).numpy(), layer(x).numpy()
    assert not np.array_equal(first, second)
    random.seed(5)
    np.testing.assert_array_equal(layer(x).numpy(), first)
    random.seed(6)
    np.testing.assert_array_equal(nn.Dropout(0.5, generator=own(5))(x).numpy(), first)
    np.testing.assert_array_equal(F.dropout(Tensor(x.numpy().astype(np.float64)), generator=own(5)).numpy(), first)


def test_dropout_layers_rebuild_from_their_config():
    assert repr(nn.Dropout(0.3, True)) == "Dropout(p=0.3, inplace=True)"
    assert repr(nn.Dropout(**nn.Dropout(0.3, True).config())) == "Dropout(p=0.3, inplace=True)"


@settings(max_examples=50, deadline=None)
@given(shape=st.lists(st.integers(0, 4), max_size=3), rows=st.integers(1, 5), padding=st.booleans(),
       dtype=st.sampled_from([np.int64, np.int32, np.uint8]))
def test_embedding_and_its_gradient_are_the_plain_loop(shape, rows, padding, dtype):
    indices = own().integers(0, rows, shape).astype(dtype)
    weight = Tensor(own(1).standard_normal((rows, 3)), requires_grad=True)
    y = F.embedding(Tensor(indices), weight, rows - 1 if padding else None)
    assert y.shape == (*shape, 3)
    g = own(2).standard_normal(y.shape)
    y.backward(g)
    expected = np.zeros((rows, 3))
    for place in np.ndindex(*shape):
        np.testing.assert_array_equal(y.numpy()[place], weight.numpy()[indices[place]])
        if not (padding and indices[place] == rows - 1):
            expected[indices[place]] += g[place]
    np.testing.assert_allclose(weight.grad.numpy(), expected, rtol=1e-12, atol=1e-14)


def test_the_gradient_is_the_same_bit_for_bit_in_every_run():
    indices = Tensor(own().integers(0, 7, 1000))
    g = own(1).standard_normal((1000, 4)).astype(np.float32)
    gradients = set()
    for _ in range(3):
        weight = ones(7, 4)
        F.embedding(indices, weight).backward(g)
        gradients.add(weight.grad.numpy().tobytes())
    assert len(gradients) == 1
    weight = ones(7, 4)
    F.embedding(indices, weight).backward(g)
    in_order = np.zeros((7, 4), np.float32)
    np.add.at(in_order, indices.numpy(), g)
    np.testing.assert_allclose(weight.grad.numpy(), in_order, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("values, error, message", [
    ([[0, 1], [7, 2]], IndexError, r"index 7 at position \(1, 0\) lies outside the 5 rows"),
    ([0, -1], IndexError, r"index -1 at position \(1,\)"),
    ([0.0, 1.0], TypeError, r"must be integers, these are float32.*long\(\)"),
])
def test_indices_that_do_not_fit_are_refused(values, error, message):
    dtype = np.float32 if error is TypeError else np.int64
    with pytest.raises(error, match=message):
        nn.Embedding(5, 2)(Tensor(np.array(values, dtype)))
    with pytest.raises(error, match="Embedding"):
        nn.Embedding(5, 2)(Tensor(np.array(values, dtype)))


def test_swapped_arguments_and_flat_tables_are_refused():
    with pytest.raises(TypeError, match=r"embedding\(indices, weight\)"):
        F.embedding(ones(5, 2), Tensor(np.array([1, 2])))
    with pytest.raises(ShapeError, match=r"weight has shape \(5,\)"):
        F.embedding(Tensor(np.array([1, 2])), ones(5))
    with pytest.raises(IndexError, match="padding_idx 5"):
        F.embedding(Tensor(np.array([1, 2])), ones(5, 2), padding_idx=5)
    with pytest.raises(ValueError, match="padding_idx -6"):
        nn.Embedding(5, 2, padding_idx=-6)


def test_the_padding_row_starts_at_zero_and_stays_there():
    layer = nn.Embedding(5, 2, padding_idx=-2)
    assert layer.padding_idx == 3
    assert repr(layer) == "Embedding(5, 2, padding_idx=3)"
    assert (layer.weight.numpy()[3] == 0).all() and (layer.weight.numpy()[[0, 1, 2, 4]] != 0).all()
    layer(Tensor(np.array([3, 4]))).backward(np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(layer.weight.grad.numpy(), [[0, 0], [0, 0], [0, 0], [0, 0], [1, 1]])


def test_a_pretrained_table_is_copied_and_not_trained_unless_asked():
    table = own().standard_normal((4, 3)).astype(np.float32)
    layer = nn.Embedding.from_pretrained(Tensor(table))
    assert not layer.weight.requires_grad
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad
    np.testing.assert_array_equal(layer(Tensor(np.array([2]))).numpy(), table[[2]])
    layer.weight.numpy()[...] = 0
    assert (table != 0).all()
    assert nn.Embedding.from_pretrained(table.astype(np.float64)).weight.dtype == np.float64
    with pytest.raises(ShapeError, match=r"\(4,\)"):
        nn.Embedding.from_pretrained(table[:, 0])
