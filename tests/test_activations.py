"""Activations: exact erf, no overflow far out, layers like PyTorch's."""

import math
import warnings

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.nn import functional as F

LAYERS = {
    nn.ReLU: "ReLU()", nn.ReLU6: "ReLU6()", nn.LeakyReLU: "LeakyReLU(negative_slope=0.01)", nn.ELU: "ELU(alpha=1.0)",
    nn.SELU: "SELU()", nn.GELU: "GELU(approximate='none')", nn.SiLU: "SiLU()", nn.Mish: "Mish()",
    nn.Sigmoid: "Sigmoid()", nn.LogSigmoid: "LogSigmoid()", nn.Tanh: "Tanh()",
    nn.Softplus: "Softplus(beta=1.0, threshold=20.0)", nn.PReLU: "PReLU(num_parameters=1)",
}
FUNCTIONS = {nn.ReLU: F.relu, nn.ReLU6: F.relu6, nn.LeakyReLU: F.leaky_relu, nn.ELU: F.elu, nn.SELU: F.selu,
             nn.GELU: F.gelu, nn.SiLU: F.silu, nn.Mish: F.mish, nn.Sigmoid: F.sigmoid, nn.LogSigmoid: F.logsigmoid,
             nn.Tanh: F.tanh, nn.Softplus: F.softplus, nn.PReLU: lambda x: F.leaky_relu(x, 0.25)}


def test_erf_is_exact_to_the_last_digits_in_both_widths():
    x = np.concatenate([np.linspace(-7, 7, 20_001), [0.46875, np.nextafter(0.46875, 1), 1e-300, 30.0, -1e5]])
    expected = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(minidl.erf(minidl.tensor(x)).numpy(), expected, rtol=1e-14, atol=0)
    single = minidl.erf(minidl.tensor(x.astype(np.float32)))
    expected = np.array([math.erf(v) for v in x.astype(np.float32)])
    assert single.dtype == minidl.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=5e-7, atol=1e-44)
    assert minidl.erf(minidl.tensor([np.inf, -np.inf])).tolist() == [1.0, -1.0]
    assert np.isnan(minidl.erf(minidl.tensor(float("nan"))).item())


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_nothing_overflows_far_out(layer):
    x = minidl.tensor([-1e4, -300.0, 0.0, 300.0, 1e4], requires_grad=True)
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        y = layer()(x)
        y.sum().backward()
    assert np.isfinite(y.numpy()).all() and np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_layers_call_the_function_of_their_name_and_read_like_pytorchs(layer):
    x = minidl.linspace(-3, 3, 13)
    np.testing.assert_allclose(layer()(x).numpy(), FUNCTIONS[layer](x).numpy(), rtol=1e-6, atol=1e-7)
    assert repr(layer()) == LAYERS[layer]


def test_layers_keep_their_arguments():
    assert repr(nn.ReLU(inplace=True)) == "ReLU(inplace=True)"
    assert repr(nn.LeakyReLU(0.2, True)) == "LeakyReLU(negative_slope=0.2, inplace=True)"
    assert nn.Softplus(2.0, 5.0).config() == {"beta": 2.0, "threshold": 5.0}
    assert nn.PReLU(3, 0.1).config() == {"num_parameters": 3, "init": 0.1}
    assert nn.GELU("tanh").config() == {"approximate": "tanh"}
    x = minidl.tensor([[-2.0, 2.0]])
    assert nn.LeakyReLU(0.5)(x).tolist() == [[-1.0, 2.0]]
    np.testing.assert_allclose(nn.ELU(2.0)(x).numpy(), [[2 * math.expm1(-2), 2]], rtol=1e-6)
    np.testing.assert_allclose(nn.PReLU(2, 0.5)(x).numpy(), [[-1.0, 2.0]])
    np.testing.assert_allclose(nn.Softmax(dim=1)(x).numpy().sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(nn.LogSoftmax(1)(x).numpy(), np.log(nn.Softmax(1)(x).numpy()), rtol=1e-5)
    with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', not 'fast'"):
        nn.GELU("fast")(x)


def test_relu_inplace_leaves_its_input_alone():
    x = minidl.tensor([-1.0, 1.0])
    assert nn.ReLU(inplace=True)(x).tolist() == F.relu(x, inplace=True).tolist() == [0.0, 1.0]
    assert x.tolist() == [-1.0, 1.0]


def test_prelu_trains_its_slopes_channel_by_channel():
    layer = nn.PReLU(2)
    x = minidl.tensor([[[-1.0, -2.0], [3.0, -4.0]]])  # N, C, L
    layer(x).sum().backward()
    assert layer.weight.grad.tolist() == [-3.0, -4.0]


def test_flatten_and_unflatten_undo_each_other():
    x = minidl.arange(24).view(2, 3, 2, 2)
    flat = nn.Flatten()(x)
    assert flat.shape == (2, 12)
    assert minidl.equal(nn.Unflatten(1, (3, 2, 2))(flat), x)
    assert nn.Flatten(0, 1)(x).shape == (6, 2, 2)
    assert repr(nn.Flatten()) == "Flatten(start_dim=1, end_dim=-1)"
    assert nn.Unflatten(1, [3, 4]).config() == {"dim": 1, "unflattened_size": (3, 4)}
