"""Initialisers: their bounds and deviations against PyTorch's, and the defaults of every layer."""

import json
from pathlib import Path

import numpy as np
import pytest

from minidl import nn, random
from minidl.nn import init
from minidl.tensor import Tensor

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("init.json").read_text())


def empty(*shape):
    return Tensor(np.full(shape, np.nan, np.float32))


def assert_uniform(values, low, high):
    """Reaches to both bounds, but not beyond, and has the mean and deviation of a uniform distribution."""
    width = high - low
    assert low <= values.min() < low + 0.01 * width
    assert high - 0.01 * width < values.max() <= high
    assert values.mean() == pytest.approx((low + high) / 2, abs=0.03 * width)
    assert values.std() == pytest.approx(width / 12**0.5, rel=0.05)


def assert_normal(values, mean, std):
    assert values.mean() == pytest.approx(mean, abs=5 * std / values.size**0.5)
    assert values.std() == pytest.approx(std, rel=5 / (2 * values.size) ** 0.5)
    assert np.mean(np.abs(values - mean) < std) == pytest.approx(0.683, abs=0.04)
    assert np.abs(values - mean).max() > 2.5 * std


@pytest.mark.parametrize("row", GOLDEN["calls"], ids=lambda row: f"{row['name']}-{row['shape']}-{row['options']}")
def test_bounds_and_deviations_are_pytorchs(row):
    tensor = empty(*row["shape"])
    assert getattr(init, row["name"])(tensor, **row["options"], generator=np.random.default_rng(0)) is tensor
    values = tensor.numpy()
    assert values.dtype == np.float32
    if "uniform" in row["name"]:
        assert_uniform(values, -row["drawn"], row["drawn"])
    else:
        assert_normal(values, 0, row["drawn"])


@pytest.mark.parametrize("name", GOLDEN["gains"])
def test_gains_are_pytorchs(name):
    assert init.calculate_gain(name) == pytest.approx(GOLDEN["gains"][name], rel=1e-12)


def test_gain_of_leaky_relu_depends_on_its_slope():
    assert init.calculate_gain("leaky_relu", 0.2) == pytest.approx((2 / 1.04) ** 0.5)
    with pytest.raises(ValueError, match="softsign.*leaky_relu"):
        init.calculate_gain("softsign")


def test_uniform_and_normal():
    assert_uniform(init.uniform_(empty(4000), 2, 5, np.random.default_rng(0)).numpy(), 2, 5)
    assert_uniform(init.uniform_(empty(4000), generator=np.random.default_rng(0)).numpy(), 0, 1)
    assert_normal(init.normal_(empty(4000), 3, 0.5, np.random.default_rng(0)).numpy(), 3, 0.5)
    assert_normal(init.normal_(empty(4000), generator=np.random.default_rng(0)).numpy(), 0, 1)


def test_truncated_normal_has_no_value_outside_and_the_right_deviation():
    values = init.trunc_normal_(empty(20000), generator=np.random.default_rng(0)).numpy()
    assert np.abs(values).max() <= 2
    assert values.std() == pytest.approx(0.87962, rel=0.02)  # of a standard normal distribution cut at +-2
    values = init.trunc_normal_(empty(20000), 1, 2, 0, 10, np.random.default_rng(0)).numpy()
    assert values.min() >= 0
    assert values.mean() == pytest.approx(2.0183, rel=0.02)  # 1 + 2 phi(-0.5) / (1 - Phi(-0.5))
    with pytest.raises(ValueError, match="hardly any"):
        init.trunc_normal_(empty(3), 0, 0.02, 1, 2)
    with pytest.raises(ValueError, match="hardly any"):
        init.trunc_normal_(empty(3), a=1, b=-1)


def test_constants_and_identities():
    assert (init.constant_(empty(2, 3), 0.25).numpy() == 0.25).all()
    assert (init.zeros_(empty(2, 3)).numpy() == 0).all()
    assert (init.ones_(empty(2, 3)).numpy() == 1).all()
    np.testing.assert_array_equal(init.eye_(empty(2, 3)).numpy(), np.eye(2, 3))
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        init.eye_(empty(2, 3, 4))


def test_dirac_convolution_copies_its_channels():
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 6)).astype(np.float32)
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
    init.dirac_(layer.weight, groups=2)
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), x, rtol=1e-6)
    weight = init.dirac_(empty(3, 2, 5)).numpy()
    np.testing.assert_array_equal(np.argwhere(weight), [[0, 0, 2], [1, 1, 2]])
    with pytest.raises(ValueError, match="groups=2"):
        init.dirac_(empty(3, 2, 5), groups=2)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (6, 2, 3, 2)])
def test_orthogonal(shape):
    matrix = init.orthogonal_(empty(*shape), gain=2, generator=np.random.default_rng(0)).numpy().reshape(shape[0], -1)
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)


def test_orthogonal_matrices_have_no_preferred_sign():
    signs = [np.sign(init.orthogonal_(empty(3, 3), generator=np.random.default_rng(seed)).numpy()[0, 0])
             for seed in range(100)]
    assert 30 < signs.count(1) < 70


def test_sparse_sets_the_same_number_of_zeros_in_each_column():
    values = init.sparse_(empty(20, 30), 0.33, std=0.5, generator=np.random.default_rng(0)).numpy()
    assert ((values == 0).sum(axis=0) == 7).all()  # 0.33 * 20, rounded up
    assert len({tuple(column) for column in (values == 0).T}) > 1
    assert_normal(values[values != 0], 0, 0.5)


def test_draws_follow_the_shared_seed_and_an_own_generator():
    random.seed(3)
    first = init.xavier_normal_(empty(4, 4)).numpy().copy()
    assert not np.array_equal(init.xavier_normal_(empty(4, 4)).numpy(), first)
    random.seed(3)
    np.testing.assert_array_equal(init.xavier_normal_(empty(4, 4)).numpy(), first)
    own = init.xavier_normal_(empty(4, 4), generator=np.random.default_rng(3)).numpy()
    np.testing.assert_array_equal(own, first)


@pytest.mark.parametrize("call, message", [
    (lambda: init.kaiming_normal_(empty(4, 4), mode="fan_avg"), "fan_avg"),
    (lambda: init.xavier_uniform_(empty(4)), r"at least 2 axes.*\(4,\)"),
    (lambda: init.orthogonal_(empty(4)), "at least 2 axes"),
    (lambda: init.sparse_(empty(4), 0.1), "matrix"),
])
def test_tensors_and_modes_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("layer, fan_in", [
    (nn.Linear(64, 300), 64),
    (nn.Conv1d(16, 300, 5), 16 * 5),
    (nn.Conv2d(16, 300, (3, 5)), 16 * 3 * 5),
    (nn.Conv2d(16, 300, 3, groups=2), 8 * 9),
    (nn.ConvTranspose2d(12, 300, 3), 300 * 9),  # PyTorch takes the second axis of the weight (I, O, H, W) for fan in
], ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value))
def test_default_weights_and_biases_are_uniform_within_one_over_the_root_of_fan_in(layer, fan_in):
    random.seed(0)
    layer.reset_parameters()
    bound = fan_in**-0.5
    assert_uniform(layer.weight.numpy(), -bound, bound)
    assert np.abs(layer.bias.numpy()).max() <= bound
    assert np.abs(layer.bias.numpy()).max() > 0.95 * bound


def test_default_embeddings_are_standard_normal_and_norms_the_identity():
    random.seed(0)
    assert_normal(nn.Embedding(100, 50).weight.numpy(), 0, 1)
    for layer in (nn.BatchNorm1d(3), nn.BatchNorm2d(3), nn.LayerNorm(3), nn.GroupNorm(1, 3)):
        assert (layer.weight.numpy() == 1).all() and (layer.bias.numpy() == 0).all()


def test_a_large_tensor_is_drawn_in_blocks_with_the_numbers_of_one_draw():
    large = Tensor(np.empty((3, init.BLOCK), np.float32))
    strided = Tensor(np.empty((init.BLOCK, 3), np.float32).T)
    expected = np.random.default_rng(5).normal(1, 2, large.shape).astype(np.float32)
    assert np.array_equal(init.normal_(large, 1, 2, np.random.default_rng(5)), expected)
    assert np.array_equal(init.normal_(strided, 1, 2, np.random.default_rng(5)), expected)


def test_nothing_is_drawn_where_weights_are_filled_anyway():
    tensor = Tensor(np.full((2, 3), 7, np.float32))
    with init.skipped():
        init.normal_(init.uniform_(tensor))
    assert np.array_equal(tensor, np.full((2, 3), 7))
    assert not np.array_equal(init.normal_(tensor), np.full((2, 3), 7))
