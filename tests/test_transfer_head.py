"""Promise 6 of the transfer module: a new head is marked until it is trained; how heads are found and replaced."""

import copy
import warnings

import numpy as np
import pytest

import minidl.nn.functional as F
from minidl import nn, optim
from minidl.tensor import Tensor, no_grad
from minidl.transfer import (
    UntrainedWarning,
    compute_features,
    freeze,
    head_path,
    headless,
    load,
    register,
    rehead,
    save,
    structure,
    untrained,
)


def network(dtype=np.float32):
    return nn.Sequential({"body": nn.Linear(4, 6), "fc": nn.Linear(6, 10)}).to(dtype)


def images(model, count=3):
    return Tensor(np.random.default_rng(0).standard_normal((count, 4)).astype(next(model.parameters()).dtype))


def predict(model):
    model.eval()
    with no_grad():
        return model(images(model))


def step(model):
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model.train()
    F.cross_entropy(model(images(model)), Tensor(np.array([0, 1, 2]))).backward()
    optimizer.step()


def test_promise_6_predicting_with_an_untrained_head_warns_once():
    model = rehead(network(), 5)
    assert untrained(model) == ["fc.weight", "fc.bias"]
    with pytest.warns(UntrainedWarning, match="Sequential predicts with .* never trained: fc.weight, fc.bias"):
        predict(model)
    predict(model)  # a second warning would be an error here
    assert untrained(model) == ["fc.weight", "fc.bias"]


def test_promise_6_no_grad_alone_is_a_prediction_too():
    model = rehead(network(), 5).train()
    with no_grad(), pytest.warns(UntrainedWarning):
        model(images(model))


def test_promise_6_training_takes_the_mark_away_and_does_not_warn():
    model = rehead(network(), 5)
    step(model)
    assert untrained(model) == []
    predict(model)


def test_promise_6_the_mark_goes_into_the_file_and_comes_back(tmp_path):
    save(rehead(network(), 5), tmp_path / "fresh.safetensors")
    model = load(tmp_path / "fresh.safetensors")
    assert untrained(model) == ["fc.weight", "fc.bias"]
    with pytest.warns(UntrainedWarning):
        predict(model)
    step(model)
    save(model, tmp_path / "trained.safetensors")
    model = load(tmp_path / "trained.safetensors")
    assert untrained(model) == []
    predict(model)


def test_promise_6_a_copy_warns_for_itself_and_the_features_below_the_head_do_not_warn():
    model = rehead(network(), 5)
    twin = copy.deepcopy(model)
    with pytest.warns(UntrainedWarning):
        predict(model)
    with pytest.warns(UntrainedWarning):
        predict(twin)
    compute_features(rehead(network(), 5), images(model))
    model = rehead(network(), 5)
    predict(headless(model))
    with pytest.warns(UntrainedWarning):
        predict(model)
    rehead(network(), 5).summary((4,))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_promise_6_a_new_head_keeps_kind_inputs_bias_and_dtype(dtype):
    model = network(dtype)
    model.fc = nn.Linear(6, 10, bias=False).to(dtype)
    body = model.body.weight.numpy().copy()
    assert rehead(model, 3) is model
    assert (model.fc.in_features, model.fc.out_features, model.fc.bias) == (6, 3, None)
    assert model.fc.weight.dtype == dtype and model.fc.weight.shape == (3, 6)
    np.testing.assert_array_equal(model.body.weight.numpy(), body)


def test_the_initialisation_is_that_of_a_new_layer_and_follows_the_generator():
    def head(seed):
        return rehead(network(), 500, generator=np.random.default_rng(seed)).fc
    assert (head(1).weight.numpy() == head(1).weight.numpy()).all()
    assert (head(1).weight.numpy() != head(2).weight.numpy()).any()
    for values in (head(1).weight.numpy(), head(1).bias.numpy()):
        assert 0.95 * 6**-0.5 < np.abs(values).max() <= 6**-0.5


def test_a_frozen_model_gets_a_trainable_head():
    model = rehead(freeze(network()), 5)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}
    model.train()
    assert model.training and model.fc.training and not model.body.training
    step(model)


def conv(inputs, outputs, size=1):
    return nn.Conv2d(inputs, outputs, size)


@pytest.mark.parametrize("model, path", [
    (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), "2"),
    (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.Softmax(-1)), "2"),
    (nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3), nn.LogSoftmax(-1)), "1"),
    (nn.Sequential({"fc": nn.Linear(4, 6), "other": nn.Linear(6, 3)}), "fc"),
    (nn.Sequential({"classifier": nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)), "aux": nn.Linear(6, 3)}),
     "classifier.1"),
    (nn.Sequential({"linear": nn.Linear(4, 6), "head": nn.Linear(6, 3)}), "head"),
    (nn.Sequential({"features": conv(3, 8, 3), "classifier": nn.Sequential(nn.Dropout(), conv(8, 10), nn.ReLU(),
                                                                           nn.AdaptiveAvgPool2d(1))}), "classifier.1"),
    (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 10, 1), nn.BatchNorm2d(10)), "2"),
    (nn.Linear(4, 3), ""),
])
def test_head_path_finds_the_layer_that_makes_the_scores(model, path):
    assert head_path(model) == path


@pytest.mark.parametrize("model, found", [
    (nn.Sequential(nn.Linear(4, 6), nn.Conv2d(3, 8, 3)), "'1': Conv2d"),
    (nn.Sequential(nn.ReLU()), "no layer has a weight"),
])
def test_a_model_without_a_recognisable_head_raises(model, found):
    with pytest.raises(ValueError, match=f"no head that can be recognised.*{found}.*at="):
        rehead(model, 5)


def test_at_names_the_head_and_refuses_what_is_none():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    assert rehead(model, 7, at="0")[0].out_features == 7
    with pytest.raises(TypeError, match="'1' is no layer that makes class scores"):
        rehead(model, 7, at="1")
    with pytest.raises(KeyError, match="no module 'fc'"):
        rehead(model, 7, at="fc")
    with pytest.raises(TypeError, match="nothing but its head"):
        rehead(nn.Linear(4, 3), 7)
    for wrong in (0, -1, 2.0, True, "5"):
        with pytest.raises(ValueError, match="num_classes must be a whole number"):
            rehead(model, wrong)


@register
class Classifier(nn.Module):
    def __init__(self, hidden, num_classes):
        self.hidden, self.num_classes = hidden, num_classes
        self.body, self.fc = nn.Linear(4, hidden), nn.Linear(hidden, num_classes)

    def forward(self, x):
        return self.fc(self.body(x).relu())


def test_the_count_of_classes_follows_and_their_names_are_dropped(tmp_path):
    model = Classifier(6, 10)
    model.classes = list("abcdefghij")
    rehead(model, 3)
    assert model.num_classes == 3 and model.classes is None
    assert structure(model)["config"] == {"hidden": 6, "num_classes": 3}
    save(model, tmp_path / "model.safetensors", classes=["x", "y", "z"])
    twin = load(tmp_path / "model.safetensors")
    assert type(twin) is Classifier and twin.fc.out_features == 3 and twin.classes == ["x", "y", "z"]


def test_headless_returns_what_the_head_is_given_and_leaves_the_model_alone():
    model = nn.Sequential({"body": nn.Linear(4, 6), "tail": nn.Sequential(nn.Linear(6, 3), nn.Softmax(-1))})
    x = images(model)
    features = headless(model)
    np.testing.assert_array_equal(features(x).numpy(), model.body(x).numpy())
    assert model(x).shape == (3, 3)
    assert features.body is model.body
    np.testing.assert_array_equal(headless(nn.Linear(4, 2))(x).numpy(), x.numpy())


def test_a_1x1_convolution_head_is_replaced_in_kind():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 1), nn.Flatten())
    rehead(model, 4)
    assert isinstance(model[1], nn.Conv2d) and model[1].out_channels == 4
    assert model(Tensor(np.ones((2, 3, 3, 3)))).shape == (2, 4)


def test_a_head_that_is_used_twice_is_replaced_in_both_places():
    head = nn.Linear(6, 10)
    model = nn.ModuleDict({"body": nn.Linear(4, 6), "head": head, "again": nn.Sequential(head)})
    rehead(model, 5, at="head")
    assert model["again"][0] is model["head"] and model["head"].out_features == 5


def test_no_warning_is_left_behind_when_nothing_is_untrained():
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(model)
