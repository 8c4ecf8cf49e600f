"""detect_anomaly names the operation and the layer that made the first nan or infinity, forward and backward."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import AnomalyError, detect_anomaly, nn


class Net(nn.Module):
    def __init__(self):
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.ratio = Ratio()

    def forward(self, x):
        return self.ratio(self.body(x))


class Ratio(nn.Module):
    def forward(self, x):
        return x / (x - x)


def test_forward_names_operation_path_and_values():
    with pytest.raises(AnomalyError, match=r"ratio \(Ratio\(\)\): div made inf from finite inputs") as caught:
        with detect_anomaly():
            Net()(minidl.ones(2, 3))
    assert caught.value.module == "ratio" and "0 to 0" in str(caught.value)


def test_backward_names_the_operation_and_the_layer_that_ran_it():
    class Root(nn.Module):
        def forward(self, x):
            return x.sqrt().sum()

    class Whole(nn.Module):
        def __init__(self):
            self.root = Root()

        def forward(self, x):
            return self.root(x * 2)

    x = minidl.zeros(3).requires_grad_()
    with detect_anomaly():
        loss = Whole()(x)
        with pytest.raises(AnomalyError, match=r"root \(Root\(\)\): the gradient of sqrt .* input 0 is inf"):
            loss.backward()


def test_nan_from_outside_is_reported_where_it_is_first_used():
    net = Net()
    net.body[0].weight.array[1, 1] = np.nan
    with pytest.raises(AnomalyError, match=r"body\.0 \(Linear.*\): linear was given nan in input 1"), detect_anomaly():
        net(minidl.ones(2, 3))


def test_infinities_given_on_purpose_pass():
    scores = minidl.randn(2, 4, requires_grad=True)
    mask = minidl.tensor([[False, True, False, False], [True, False, False, True]])
    added = minidl.tensor(np.where(mask.numpy(), -np.inf, 0).astype(np.float32))
    with detect_anomaly():
        F.softmax(scores.masked_fill(mask, -np.inf), 1).sum().backward()
        F.softmax(scores + added, 1).sum().backward()
        F.cross_entropy(scores, minidl.tensor(np.array([0, 3]))).backward()
    assert np.isfinite(scores.grad.numpy()).all()


def test_nan_made_of_given_infinities_is_one():
    masked = minidl.full((1, 3), -np.inf)
    with pytest.raises(AnomalyError, match="softmax made nan"), detect_anomaly():
        F.softmax(masked, 1)


def test_off_and_after_the_block_nothing_is_watched():
    with detect_anomaly(check_nan=False), np.errstate(invalid="ignore"):
        assert np.isnan((minidl.zeros(1) / 0).item())
    with pytest.raises(AnomalyError):
        with detect_anomaly():
            minidl.zeros(1) / 0
    with np.errstate(invalid="ignore"):
        assert np.isnan((minidl.zeros(1) / 0).item())


def test_same_bits_as_without():
    minidl.seed(0)
    net, x = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()), None
    x = minidl.randn(2, 1, 8, 8)
    net(x).square().sum().backward()
    plain = [p.grad.numpy().copy() for p in net.parameters()]
    net.zero_grad()
    with detect_anomaly():
        net(x).square().sum().backward()
    assert all(np.array_equal(p.grad.numpy(), q) for p, q in zip(net.parameters(), plain))


def test_recurrent_layers_and_attention_pass():
    x = minidl.randn(3, 2, 8, requires_grad=True)
    with detect_anomaly():
        nn.LSTM(8, 5, 2, bidirectional=True)(x)[0].sum().backward()
        nn.MultiheadAttention(8, 2)(x, x, x)[0].sum().backward()
