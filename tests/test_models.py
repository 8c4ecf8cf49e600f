"""The networks of the lessons have the published numbers of parameters, and the verbs of transfer work on them."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import optim
from minidl.models import cifar_cnn, mnist_cnn
from minidl.tensor import Tensor
from minidl.transfer import (
    build,
    compute_features,
    features,
    freeze,
    head_path,
    headless,
    load,
    rehead,
    save,
    structure,
)


def images(count, *shape):
    return Tensor(np.random.default_rng(0).random((count, *shape)).astype(np.float32))


@pytest.mark.parametrize("model, shape, parameters", [
    (mnist_cnn(), (1, 28, 28), 121_930),
    (mnist_cnn(hidden=128), (1, 28, 28), 225_034),
    (cifar_cnn(), (3, 32, 32), 122_570),
    (mnist_cnn(num_classes=5, in_channels=3), (3, 28, 28), 121_930 + 2 * 9 * 32 - 5 * 65),
])
def test_the_number_of_parameters_is_the_published_one_and_the_scores_have_the_right_shape(model, shape, parameters):
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    classes = model.classifier.output.out_features
    assert model(images(2, *shape)).shape == (2, classes)
    assert head_path(model) == "classifier.output"


def test_it_learns_a_batch_by_heart():
    minidl.seed(0)
    model = mnist_cnn()
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    x, y = images(8, 1, 28, 28), Tensor(np.arange(8))
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("make, shape, flat", [(mnist_cnn, (1, 28, 28), 1600), (cifar_cnn, (3, 32, 32), 1024)])
def test_it_is_cut_at_features_and_before_the_head(make, shape, flat):
    model, x = make(), images(2, *shape)
    assert features(model, "features")(x).shape == (2, flat)
    assert headless(model)(x).shape == (2, 64)
    assert compute_features(model, x, "features", batch_size=1)[0].shape == (2, flat)


def test_parameters_features_and_structure_are_carried_to_another_task(tmp_path):
    source = mnist_cnn()
    save(source, tmp_path / "source.safetensors")
    target = rehead(freeze(load(tmp_path / "source.safetensors"), "features"), 5)
    assert target(images(2, 1, 28, 28)).shape == (2, 5)
    x = images(2, 1, 28, 28)
    np.testing.assert_array_equal(target.features(x).numpy(), source.features(x).numpy())
    assert sum(p.numel() for p in target.parameters() if p.requires_grad) == 1600 * 64 + 64 + 64 * 5 + 5
    fresh = build(structure(source))
    assert repr(fresh) == repr(source)
    assert (fresh.features.conv1.weight.numpy() != source.features.conv1.weight.numpy()).any()
