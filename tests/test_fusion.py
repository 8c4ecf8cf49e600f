"""A Sequential computes neighbours together: with the results of the modules one by one, where none is seen."""

import numpy as np
import pytest

import minidl
from minidl import kernels, nn, ops
from minidl.transfer import features

NETWORKS = {
    "conv, relu": (lambda: [nn.Conv2d(3, 5, 3, padding=1), nn.ReLU()], (2, 3, 9, 10)),
    "conv without bias, relu, pool": (lambda: [nn.Conv2d(3, 5, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2)],
                                      (2, 3, 9, 10)),
    "overlapping and padded windows": (lambda: [nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)],
                                       (2, 3, 9, 10)),
    "reflected border": (lambda: [nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"), nn.ReLU(True)], (2, 3, 9, 10)),
    "norm between": (lambda: [nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2)], (2, 3, 9, 10)),
    "signals": (lambda: [nn.Conv1d(3, 5, 3, groups=1), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(5, 5, 3, groups=5),
                         nn.ReLU()], (2, 3, 20)),
    "unbatched": (lambda: [nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2)], (3, 9, 10)),
    "dense": (lambda: [nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5, bias=False), nn.ReLU()], (4, 3, 7)),
    "nested": (lambda: [nn.Sequential(nn.Linear(7, 6), nn.ReLU()), nn.ReLU(), nn.Linear(6, 4)], (4, 7)),
}


def one_by_one(modules, x):
    for module in modules:
        x = one_by_one(list(module), x) if isinstance(module, nn.Sequential) else module(x)
    return x


def outcome(network, run, x):
    """Output and gradients of the input and of all parameters."""
    x = minidl.tensor(x, requires_grad=True)
    network.zero_grad()
    y = run(x)
    (y * minidl.tensor(np.random.default_rng(1).standard_normal(y.shape, np.float32))).sum().backward()
    return [y.numpy(), x.grad.numpy(), *[p.grad.numpy() for p in network.parameters()]]


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_together_and_one_by_one_are_equal(name, backend):
    make, shape = NETWORKS[name]
    network = nn.Sequential(*make())
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    x.flat[5] = np.nan
    with kernels.use_backend(backend):
        fused = outcome(network, network, x)
        plain = outcome(network, lambda x: one_by_one(list(network), x), x)
    for ours, theirs in zip(fused, plain):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def calls(monkeypatch):
    """The operations called, with "+relu" where they cut at zero."""
    seen = []

    def noting(name, kernel):
        def note(*arrays, **options):
            seen.append(name + "+relu" * bool(options.get("relu")))
            return kernel(*arrays, **options)
        return note

    for name in ("conv2d", "linear", "relu", "max_pool2d"):
        monkeypatch.setattr(kernels, name, noting(name, getattr(kernels, name)))
    return seen


def conv_relu():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())


def test_what_runs_together(calls):
    x = minidl.randn(1, 1, 8, 8)
    network = nn.Sequential(nn.Sequential(*conv_relu()), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                            nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    network(x)
    assert calls == ["conv2d+relu", "conv2d", "max_pool2d", "relu", "linear+relu", "linear"]


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Softer(nn.ReLU):
    def forward(self, x):
        return ops.relu(x) + 0.1 * x


def test_a_hook_sees_what_its_module_computes(calls):
    network, seen = conv_relu(), []
    handle = network[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    y = network(minidl.randn(1, 1, 8, 8))
    assert calls == ["conv2d", "relu"] and (seen[0].numpy() < 0).any() and (y.numpy() >= 0).all()
    handle.remove()
    network[1].register_forward_hook(lambda module, inputs, output: output + 1)
    assert network(minidl.randn(1, 1, 8, 8)).numpy().min() == 1


def test_features_of_a_middle_module():
    network, x = nn.Sequential(*conv_relu(), nn.MaxPool2d(2)), minidl.randn(1, 1, 8, 8)
    for path, count in (("0", 1), ("1", 2), ("2", 3)):
        np.testing.assert_array_equal(features(network, at=path)(x).numpy(),
                                      one_by_one(list(network)[:count], x).numpy())


@pytest.mark.parametrize("change", ["subclassed layer", "subclassed ReLU", "replaced forward", "replaced class method"])
def test_layers_that_do_something_else_run_alone(calls, change, monkeypatch):
    network, x = conv_relu(), minidl.randn(1, 1, 8, 8)
    if change == "subclassed layer":
        network[0] = Doubled(1, 2, 3)
    elif change == "subclassed ReLU":
        network[1] = Softer()
    elif change == "replaced forward":
        network[1].forward = lambda x: ops.relu(x) - 1
    else:
        monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: ops.relu(x) - 1)
    np.testing.assert_array_equal(network(x).numpy(), one_by_one(list(network), x).numpy())
    assert "conv2d+relu" not in calls


def test_shared_and_frozen_modules(calls):
    relu = nn.ReLU()
    network = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu, relu)
    minidl.freeze(network, network[0])
    network(minidl.randn(3, 4)).sum().backward()
    assert calls == ["linear+relu", "linear+relu", "relu"]
    assert network[0].weight.grad is None and network[2].weight.grad is not None


def test_an_error_names_the_module():
    with pytest.raises(ValueError, match=r"^Sequential: 1\.0 \(Conv2d|^1\.0 \(Conv2d"):
        nn.Sequential(nn.Identity(), conv_relu())(minidl.randn(1, 3, 8, 8))
