"""Features: outputs at module paths without running what comes after; preprocessing that travels with a model."""

import io
import sys
import threading

import numpy as np
import pytest

from minidl import ShapeError, nn
from minidl.data.loader import DataLoader, TensorDataset
from minidl.tensor import Tensor, no_grad
from minidl.transfer import compute_features, features, freeze, preprocess

RNG = np.random.default_rng(0)
X = Tensor(RNG.standard_normal((7, 6)).astype(np.float32))
LABELS = np.arange(7)


class Counted(nn.Module):
    """Adds one and counts its calls."""

    def __init__(self):
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x + 1


def network():
    return nn.Sequential({
        "body": nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), Counted()),
        "after": Counted(),
        "fc": nn.Linear(5, 3),
    })


def hooks(model):
    return [hook for module in model.modules() for hook in module._forward_hooks.values()]


def test_it_returns_the_output_at_a_path_without_running_what_comes_after():
    model = network().eval()
    network_at = features(model, "body")
    np.testing.assert_array_equal(network_at(X).numpy(), model.body(X).numpy())
    assert model.after.calls == 0
    np.testing.assert_array_equal(network_at(X).numpy(), model.body(X).numpy())
    assert not hooks(model)


def test_several_paths_give_a_dict_in_the_order_asked_for():
    model = network().eval()
    outputs = features(model, ["body.3", "body.0", "body.3"])(X)
    assert list(outputs) == ["body.3", "body.0"] and model.after.calls == 0
    np.testing.assert_array_equal(outputs["body.0"].numpy(), model.body[0](X).numpy())
    np.testing.assert_array_equal(outputs["body.3"].numpy(), model.body(X).numpy())
    whole = features(model, ["", "after"])(X)
    np.testing.assert_array_equal(whole[""].numpy(), model(X).numpy())


class Parts(nn.Module):
    """A module under two names, one called twice, modules in a list, and results that are no tensors."""

    def __init__(self):
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.again = self.layers[0]
        self.pair, self.lstm, self.last = Pair(), nn.LSTM(6, 4), Counted()

    def forward(self, x):
        x = self.layers[1](self.again(self.layers[0](x)))
        y, _ = self.lstm(self.pair(x)["sum"])
        return self.last(y)


class Pair(nn.Module):
    def forward(self, x):
        return {"sum": x + 1, "twice": x * 2}


def test_paths_into_lists_shared_modules_and_outputs_that_are_no_tensors():
    model = Parts()
    first = model.layers[0](X)
    before = model.layers[1](model.layers[0](first))
    outputs = features(model, ["lstm", "pair", "layers.1", "layers.0"])(X)
    np.testing.assert_array_equal(outputs["layers.0"].numpy(), first.numpy())  # the first of its two calls
    np.testing.assert_array_equal(outputs["layers.1"].numpy(), before.numpy())
    np.testing.assert_array_equal(outputs["pair"]["twice"].numpy(), (before * 2).numpy())
    states, (h, c) = outputs["lstm"]
    assert states.shape == (7, 4) and h.shape == c.shape == (1, 4) and model.last.calls == 0
    shared = features(model, "again")(X)
    np.testing.assert_array_equal(shared.numpy(), first.numpy())


def test_gradients_flow_to_what_was_run():
    model = network().train()
    features(model, "body")(X).sum().backward()
    assert model.body[0].weight.grad is not None and model.fc.weight.grad is None
    assert len(list(features(model, "body").parameters())) == len(list(model.parameters()))


def test_a_wrong_path_raises_with_the_nearest_names():
    with pytest.raises(KeyError, match="no module 'boddy'; did you mean 'body'"):
        features(network(), "boddy")
    with pytest.raises(ValueError, match="name at least one path"):
        features(network(), [])


def test_hooks_are_gone_after_an_error_and_it_works_again():
    model = network().eval()
    network_at = features(model, ["body.0", "after"])
    with pytest.raises(ShapeError, match=r"body.0"):
        network_at(Tensor(np.ones((2, 5), np.float32)))
    assert not hooks(model)
    assert network_at(X)["after"].shape == (7, 5)


def test_a_model_that_never_calls_the_module_is_told():
    class Odd(nn.Module):
        def __init__(self):
            self.used, self.unused = nn.Identity(), nn.Identity()

        def forward(self, x):
            return self.used(x)

    with pytest.raises(RuntimeError, match="the model ran without calling unused"):
        features(Odd(), ["used", "unused"])(X)


def test_code_that_catches_exceptions_on_the_way_does_not_hold_up_the_stop():
    class Careful(nn.Module):
        def __init__(self):
            self.inner, self.after = Counted(), Counted()

        def forward(self, x):
            try:
                x = self.inner(x)
            except Exception:
                x = x * 0
            return self.after(x)

    model = Careful()
    np.testing.assert_array_equal(features(model, "inner")(X).numpy(), X.numpy() + 1)
    assert model.after.calls == 0


def test_threads_on_one_model_do_not_see_each_others_outputs():
    model = network().eval()
    inputs = [Tensor(np.full((2, 6), i, np.float32)) for i in range(4)]
    expected = [model.body(x).numpy() for x in inputs]
    wrong = []

    def work(i):
        network_at = features(model, "body")
        for _ in range(100):
            with no_grad():
                if not np.array_equal(network_at(inputs[i]).numpy(), expected[i]):
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and not hooks(model)


@pytest.mark.parametrize("data", [
    (X, LABELS), (X.numpy(), Tensor(LABELS)), TensorDataset(X, Tensor(LABELS)),
    DataLoader(TensorDataset(X, Tensor(LABELS)), batch_size=2), [(X[:3], LABELS[:3]), (X[3:], LABELS[3:])],
], ids=["tensors", "arrays", "data set", "loader", "list of batches"])
@pytest.mark.parametrize("at", ["body", None])
def test_compute_features_runs_everything_once_in_evaluation_mode(data, at):
    model = freeze(network().train(), "body.1")
    modes = [module.training for module in model.modules()]
    statistics = model.body[1].running_mean.numpy().copy()
    found, labels = compute_features(model, data, at, batch_size=3)
    assert [module.training for module in model.modules()] == modes
    np.testing.assert_array_equal(model.body[1].running_mean.numpy(), statistics)
    expected = model.eval().body(X) if at else model.after(model.eval().body(X))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)  # float32, other batch sizes
    np.testing.assert_array_equal(labels, LABELS)
    assert isinstance(found, np.ndarray) and labels.dtype == np.int64


def test_compute_features_of_inputs_alone_and_of_several_paths():
    model = network()
    found, labels = compute_features(model, X, ["body.0", "after"], batch_size=4)
    assert labels is None and found["body.0"].shape == (7, 5) and found["after"].shape == (7, 5)
    with pytest.raises(ValueError, match="7 inputs but 6 labels"):
        compute_features(model, (X, LABELS[:6]))
    with pytest.raises(ValueError, match="the data set is empty"):
        compute_features(model, [])


def test_compute_features_restores_the_modes_after_an_error():
    model = network().train()
    with pytest.raises(ShapeError):
        compute_features(model, np.ones((3, 4), np.float32))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("terminal", [True, False])
def test_compute_features_shows_its_progress_on_a_terminal(monkeypatch, terminal):
    screen = io.StringIO()
    screen.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", screen)
    compute_features(network(), X, "body", batch_size=2, progress=True)
    assert ("features" in screen.getvalue()) == terminal


SPEC = {"range": [0, 1], "mean": [0.5, 0.25], "std": [0.5, 0.25], "channels": "RG"}


def test_preprocess_scales_bytes_and_normalises_per_channel():
    image = np.zeros((2, 1, 1), np.uint8)
    image[0] = 255
    expected = np.array([1.0, -1.0], np.float32).reshape(2, 1, 1)
    np.testing.assert_allclose(preprocess(image, SPEC).numpy(), expected)
    np.testing.assert_allclose(preprocess(image[None], SPEC).numpy(), expected[None])
    np.testing.assert_allclose(preprocess(image / 255, SPEC).numpy(), expected)
    assert preprocess(image / 255, SPEC).dtype == np.float32
    np.testing.assert_allclose(preprocess(image, {"range": [-1, 1]}).numpy().ravel(), [1, -1])


def test_preprocess_warns_of_a_range_that_cannot_be_right():
    with pytest.warns(UserWarning, match="values from 0 to 255, the model was trained on 0 to 1"):
        preprocess(np.array([0.0, 255.0]).reshape(2, 1, 1), SPEC)


@pytest.mark.parametrize("image, spec, kind, message", [
    (np.zeros((3, 4, 4), np.float32), SPEC, ShapeError, "do not have the 2 channels of mean"),
    (np.zeros((2, 4, 4), np.int64), SPEC, TypeError, "must be bytes"),
    (np.zeros((2, 4, 4)), {"std": [0.0, 1.0]}, ValueError, "std .* is not possible"),
    (np.zeros((2, 4, 4)), {"mean": "0.5"}, ValueError, "mean must be a list of numbers"),
    (np.zeros((2, 4, 4)), {"range": [1, 0]}, ValueError, "range .* is not possible"),
])
def test_preprocess_refuses_what_does_not_fit(image, spec, kind, message):
    with pytest.raises(kind, match=message):
        preprocess(image, spec)
