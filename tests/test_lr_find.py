"""lr_find: it finds a usable rate, and leaves no trace: training with and without it before is the same bit for bit."""

import functools
import hashlib
import math
import random as python_random

import numpy as np
import pytest

import minidl
from minidl import nn, optim, transfer
from minidl.data import DataLoader, Dataset, TensorDataset, mnist
from minidl.data.images import ImageDataset
from minidl.data.transforms import Compose, RandomCrop, RandomHorizontalFlip
from minidl.models import mnist_cnn
from minidl.train import Trainer, lr_find


def network():
    minidl.seed(5)
    return nn.Sequential({
        "conv": nn.Conv2d(1, 4, 3), "norm": nn.BatchNorm2d(4), "relu": nn.ReLU(), "pool": nn.MaxPool2d(2),
        "flatten": nn.Flatten(), "drop": nn.Dropout(0.3), "hidden": nn.Linear(36, 8), "head": nn.Linear(8, 3),
    })


def images(transform=None):
    draw = np.random.default_rng(1)
    labels = np.arange(48) % 3
    pixels = draw.integers(0, 120, (48, 1, 8, 8)) + 60 * labels[:, None, None, None]
    return ImageDataset(pixels.astype(np.uint8), labels, "abc", transform=transform)


def digest(*objects):
    """The SHA-256 of weights, buffers, optimiser state and random streams."""
    found = hashlib.sha256()
    for one in objects:
        if isinstance(one, nn.Module):
            for name, tensor in one.state_dict().items():
                found.update(name.encode() + tensor.array.tobytes())
            found.update(repr([(m._mode, m.frozen) for m in one.modules()]).encode())
        elif isinstance(one, optim.Optimizer):
            saved = one.state_dict()
            found.update(repr(saved["param_groups"]).encode())
            for name, state in saved["state"].items():
                for key, value in state.items():
                    found.update(f"{name}.{key}".encode() + np.asarray(value).tobytes())
        else:
            found.update(repr(one.bit_generator.state).encode())
    return found.hexdigest()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("given", ["class", "instance"])
def test_training_with_and_without_it_before_is_bit_identical(given, workers):
    found = []
    for look in (False, True):
        own, loader_draws = np.random.default_rng(2), np.random.default_rng(3)
        model = network()
        transfer.freeze(model, "conv")
        data = images(Compose([RandomHorizontalFlip(generator=own), RandomCrop(8, padding=1)]))
        loader = DataLoader(data, 16, shuffle=True, generator=loader_draws, num_workers=workers)
        optimizer = optim.AdamW(model.named_parameters(), lr=1e-2)
        trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer)
        trainer.fit(loader, epochs=1, progress=False)  # so that there is a state which could be spoilt
        np.random.seed(7)
        python_random.seed(7)
        if look:
            before = digest(model, optimizer, own, loader_draws, minidl.random.generator())
            result = lr_find(model, nn.CrossEntropyLoss(), loader, steps=20, start=1e-4, end=100.0,
                             optimizer=optimizer if given == "instance" else optim.SGD)
            assert len(result.losses) >= 10
            assert digest(model, optimizer, own, loader_draws, minidl.random.generator()) == before
            assert all(parameter.grad is None or parameter.requires_grad for parameter in model.parameters())
        trainer.fit(loader, epochs=2, progress=False)
        found.append(digest(model, optimizer, own, loader_draws, minidl.random.generator())
                     + str(np.random.random()) + str(python_random.random()))
    assert found[0] == found[1]


def test_data_sets_that_draw_from_the_shared_streams_of_numpy_and_python_go_on_as_if_nothing_had_been():
    class Noisy(Dataset):
        def __len__(self):
            return 32

        def __getitem__(self, index):
            noise = np.random.random() + python_random.random()
            return np.array([index % 2 + noise, 1.0], np.float32), index % 2

    model = nn.Linear(2, 2)
    np.random.seed(1)
    python_random.seed(1)
    minidl.seed(1)
    expected = np.random.default_rng(1).random()
    lr_find(model, nn.CrossEntropyLoss(), Noisy(), steps=12, start=1e-3)
    assert np.random.random() == np.random.RandomState(1).random_sample()
    assert python_random.random() == python_random.Random(1).random()
    assert minidl.random.generator().random() == expected


def test_the_rates_are_geometric_and_the_frozen_part_of_the_copy_stays_frozen():
    model = network()
    transfer.freeze(model, "conv", "norm")
    seen = []

    def loss(output, target):
        seen.append(output)
        return nn.CrossEntropyLoss()(output, target)

    trained = []

    class Recording(optim.SGD):
        def step(self, closure=None):
            trained.append({id(p) for group in self.param_groups for p, _ in self._ready(group)})
            return super().step(closure)

    result = lr_find(model, loss, images(), optimizer=Recording, start=1e-4, end=1e-1, steps=31)
    assert not result.diverged and len(result.rates) == len(result.losses) == len(result.smoothed) == 31
    np.testing.assert_allclose(result.rates, np.geomspace(1e-4, 1e-1, 31), rtol=1e-12)
    assert {len(step) for step in trained} == {4}, "hidden and head, a weight and a bias each"
    assert not trained[0] & {id(parameter) for parameter in model.parameters()}, "a copy is trained"


def test_it_stops_when_training_diverges_and_suggests_a_rate_that_trains():
    data = mnist("train", subset=600)
    minidl.seed(0)
    model = mnist_cnn(hidden=16)
    result = lr_find(model, nn.CrossEntropyLoss(), data, optimizer=functools.partial(optim.SGD, momentum=0.9),
                     start=1e-5, end=100.0, steps=80)
    assert result.diverged and len(result.rates) < 80
    assert result.rates[0] < result.suggestion == result.minimum / 10 < result.minimum < result.rates[-1]
    assert result.minimum == result.rates[int(np.argmin(result.smoothed))] and result.steepest <= result.minimum
    after = {}
    for factor in (1, 1000):
        minidl.seed(0)
        model = mnist_cnn(hidden=16)
        optimizer = optim.SGD(model.named_parameters(), lr=result.suggestion * factor, momentum=0.9)
        try:
            history = Trainer(model, nn.CrossEntropyLoss(), optimizer).fit(data, epochs=3, progress=False)
            after[factor] = history["loss"][-1]
        except FloatingPointError:
            after[factor] = math.inf
    assert after[1] < 1.5 < 2 < after[1000]


def test_groups_of_an_optimiser_keep_their_proportion():
    model = network()
    optimizer = optim.SGD([{"params": model.head.parameters(), "lr": 0.1}, {"params": model.hidden.parameters(),
                                                                           "lr": 0.02}])
    seen = []
    plain = optim.SGD.step

    class Recording(optim.SGD):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            return plain(self, closure)

    optimizer.__class__ = Recording
    result = lr_find(model, nn.CrossEntropyLoss(), images(), optimizer=optimizer, start=1e-3, end=1e-2, steps=10)
    np.testing.assert_allclose([high for high, _ in seen], result.rates, rtol=1e-12)
    np.testing.assert_allclose([high / low for high, low in seen], 5.0, rtol=1e-12)


def test_it_draws_what_it_found(tmp_path):
    pytest.importorskip("matplotlib")
    result = lr_find(network(), nn.CrossEntropyLoss(), images(), steps=20, start=1e-4)
    path = tmp_path / "pictures" / "rates.png"
    result.plot(path)
    assert path.read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("options, message", [
    ({"start": 0.1, "end": 0.01}, "below end"),
    ({"steps": 3}, "whole number from 10"),
    ({"smoothing": 1.0}, "smoothing"),
    ({"diverge": 1.0}, "diverge"),
    ({"optimizer": lambda params, lr: None}, "made a NoneType"),
])
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        lr_find(network(), nn.CrossEntropyLoss(), images(), **options)


def test_what_cannot_be_tested_is_refused():
    loss = nn.CrossEntropyLoss()
    with pytest.raises(ValueError, match="read only once"):
        lr_find(network(), loss, iter(DataLoader(images(), 16)))
    with pytest.raises(ValueError, match="all parameters of the model are frozen"):
        lr_find(transfer.freeze(network()), loss, images())
    with pytest.raises(ValueError, match="another model"):
        lr_find(network(), loss, images(), optimizer=optim.SGD(network().parameters()))
    spoilt = TensorDataset(np.full((20, 1, 8, 8), np.nan, np.float32), np.arange(20) % 3)
    with pytest.raises(FloatingPointError, match="not finite after 0 steps"):
        lr_find(network(), loss, spoilt)
