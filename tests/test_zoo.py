"""The zoo: published parameter counts, initial weights as their authors draw them, and transfer on each of them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from zoo_cases import weights

import minidl
from minidl import FileFormatError, nn
from minidl.models import create_model, list_models
from minidl.nn import init
from minidl.tensor import Tensor
from minidl.transfer import (
    UntrainedWarning,
    build,
    features,
    freeze,
    frozen,
    head_path,
    headless,
    load,
    rehead,
    save,
    structure,
)
from minidl.transfer.structure import _registered

TORCHVISION, HE = "torchvision's pages of its models", "He et al. 2016, table 6, in millions:"
PUBLISHED = {  # name: parameters, and where the number is published
    "alexnet": (61_100_840, TORCHVISION),
    "vgg11": (132_863_336, TORCHVISION), "vgg11_bn": (132_868_840, TORCHVISION),
    "vgg13": (133_047_848, TORCHVISION), "vgg13_bn": (133_053_736, TORCHVISION),
    "vgg16": (138_357_544, TORCHVISION), "vgg16_bn": (138_365_992, TORCHVISION),
    "vgg19": (143_667_240, TORCHVISION), "vgg19_bn": (143_678_248, TORCHVISION),
    "resnet18": (11_689_512, TORCHVISION), "resnet34": (21_797_672, TORCHVISION),
    "resnet50": (25_557_032, TORCHVISION), "resnet101": (44_549_160, TORCHVISION),
    "resnet152": (60_192_808, TORCHVISION), "inception_v3": (27_161_264, TORCHVISION),
    "mobilenet_v2": (3_504_872, TORCHVISION), "efficientnet_lite0": (4_652_008, "the published weights"),
    "resnet20": (269_722, f"{HE} 0.27"), "resnet32": (464_154, f"{HE} 0.46"), "resnet44": (658_586, f"{HE} 0.66"),
    "resnet56": (853_018, f"{HE} 0.85"), "resnet110": (1_727_962, f"{HE} 1.7"),
    "lenet5": (61_706, "textbooks; LeCun et al. 1998 join and pool otherwise and count 60,000"),
    "mnist_cnn": (121_930, "the lesson"), "cifar_cnn": (122_570, "the lesson"),
}
SMALL = {  # name: options, input, head, features before the head, a path inside and its channels
    "lenet5": ({}, (1, 28, 28), "fc3", 84, "conv2", 16),
    "alexnet": ({"hidden": 24}, (3, 67, 67), "classifier.6", 24, "features.3", 192),
    "vgg11_bn": ({"hidden": 24}, (3, 32, 32), "classifier.6", 24, "features.4", 128),
    "resnet18": ({}, (3, 32, 32), "fc", 512, "layer3.1", 256),
    "resnet50": ({}, (3, 32, 32), "fc", 2048, "layer2.0.conv2", 128),
    "resnet20": ({}, (3, 16, 16), "linear", 64, "layer2.1.bn1", 32),
    "inception_v3": ({}, (3, 80, 80), "fc", 2048, "Mixed_5b.branch_pool", 32),
    "mobilenet_v2": ({"width_mult": 0.35}, (3, 32, 32), "classifier.1", 1280, "features.3.conv.0", 48),
    "efficientnet_lite0": ({}, (3, 33, 33), "classifier", 1280, "blocks.2.1.conv_dw", 240),
}


def images(*shape):
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def make(name, classes=6):
    """The small form of a model with arbitrary weights and statistics."""
    with init.skipped():
        model = create_model(name, classes, **SMALL[name][0])
    model.load_state_dict(weights({path: value.shape for path, value in model.state_dict().items()}))
    return model.eval()


def bits(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def test_every_model_has_the_published_number_of_parameters():
    assert set(PUBLISHED) <= set(list_models())
    for name, (published, source) in PUBLISHED.items():
        with init.skipped():
            model = create_model(name)
        assert count(model) == published, f"{name}: {source}"
        if name == "vgg16":
            assert count(model.features) == 14_714_688
            convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
            assert len(convolutions) == 13 and sum(isinstance(m, nn.Linear) for m in model.modules()) == 3
        if name == "inception_v3":
            assert count(model) - count(model.AuxLogits) == 23_834_568


def test_models_are_made_and_listed_by_name():
    assert list_models("vgg*_bn") == ["vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]
    assert create_model("resnet20", num_classes=3).linear.out_features == 3
    assert minidl.models.resnet20(3).linear.out_features == 3
    with pytest.raises(ValueError, match="no model is called 'resnet21'; did you mean 'resnet"):
        create_model("resnet21")
    with pytest.raises(ValueError, match="num_classes must be a whole number of at least 1, not 0"):
        create_model("resnet20", 0)
    with pytest.raises(ValueError, match="there is a model called 'resnet20' already"):
        minidl.models.register_model("resnet20", dict)


@pytest.mark.parametrize("name, path, deviation", [
    ("resnet18", "layer2.0.conv1.weight", (2 / (128 * 9)) ** 0.5),
    ("vgg11", "features.3.weight", (2 / (128 * 9)) ** 0.5),
    ("vgg11", "classifier.0.weight", 0.01),
    ("resnet20", "layer2.0.conv1.weight", (2 / (16 * 9)) ** 0.5),
    ("resnet20", "linear.weight", (2 / 64) ** 0.5),
    ("inception_v3", "Mixed_5b.branch1x1.conv.weight", 0.1),
    ("inception_v3", "AuxLogits.fc.weight", 0.001),
    ("mobilenet_v2", "features.3.conv.1.0.weight", (2 / (9 * 144)) ** 0.5),
    ("mobilenet_v2", "classifier.1.weight", 0.01),
    ("efficientnet_lite0", "blocks.1.0.conv_dw.weight", (2 / 9) ** 0.5),
    ("efficientnet_lite0", "classifier.weight", (1 / 10 / 3) ** 0.5),
    ("alexnet", "features.3.weight", (1 / (64 * 25) / 3) ** 0.5),
])
def test_weights_start_as_the_authors_draw_them(name, path, deviation):
    minidl.seed(0)
    model = create_model(name, 10, **({"hidden": 16} if name in ("vgg11", "alexnet") else {}))
    weight = model.state_dict()[path].numpy()
    np.testing.assert_allclose([weight.mean() / deviation, weight.std() / deviation], [0, 1],
                               atol=5 / weight.size**0.5)
    biases = [value.numpy() for key, value in model.state_dict().items() if key == f"{path.removesuffix('weight')}bias"]
    if name in ("vgg11", "mobilenet_v2", "efficientnet_lite0"):
        assert not any(bias.any() for bias in biases)


@pytest.mark.parametrize("name", SMALL)
def test_the_verbs_of_transfer_work_on_every_architecture(name, tmp_path):
    _, shape, head, width, inner, channels = SMALL[name]
    model, x = make(name), images(2, *shape)
    assert head_path(model) == head
    scores = model(x).numpy()
    assert scores.shape == (2, 6)
    assert headless(model)(x).shape == (2, width)
    assert features(model, inner)(x).shape[:2] == (2, channels)

    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors").eval()
    assert type(again) is type(model) and repr(again) == repr(model) and bits(again) == bits(model)
    np.testing.assert_array_equal(again(x).numpy(), scores)

    freeze(again, *[path for path, _ in again.named_children() if not head.startswith(path)])
    before = bits(again)
    rehead(again, 3)
    with pytest.warns(UntrainedWarning):
        assert again(x).shape == (2, 3)
    heads = (head, *getattr(type(model), "auxiliary_heads", ()))
    changed = {path for path, value in bits(again).items() if before[path] != value}
    assert changed == {f"{path}.{kind}" for path in heads for kind in ("weight", "bias")}
    assert 0 < frozen(again) < count(again)
    twin = build(json.dumps(structure(again)))
    assert repr(twin) == repr(again) and twin.num_classes == 3
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in again.state_dict().items()}


def test_inception_returns_both_scores_in_training_and_both_heads_are_replaced():
    model = make("inception_v3").train()
    assert model.AuxLogits.fc.out_features == 6
    rehead(model, 4)
    assert model.AuxLogits.fc.out_features == 4 == model.AuxLogits.num_classes == model.num_classes
    outputs = model(images(2, 3, 299, 299))
    assert outputs.logits.shape == outputs.aux_logits.shape == (2, 4)
    with init.skipped():
        assert count(create_model("inception_v3", aux_logits=False)) == 23_834_568
    model.AuxLogits = None
    assert build(structure(model)).AuxLogits is None


def test_a_file_of_a_zoo_model_needs_no_import_of_the_zoo(tmp_path):
    save(make("resnet20"), tmp_path / "model.safetensors")
    code = f"from minidl import transfer; print(type(transfer.load({str(tmp_path / 'model.safetensors')!r})).__name__)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           cwd=Path(__file__).resolve().parents[1])
    assert ended.stdout.strip() == "CifarResNet"


def test_names_of_the_zoo_stay_free_for_the_users_own_classes():
    @minidl.transfer.register
    class VGG(nn.Module):
        def __init__(self, width: int):
            self.width = width
            self.fc = nn.Linear(width, 2)

    assert type(build(structure(VGG(3)))) is VGG
    assert structure(make("vgg11_bn"))["class"] == "models.VGG"
    del _registered["VGG"]


@pytest.mark.parametrize("name, config", [
    ("CifarResNet", {"depth": 240_002}), ("MobileNetV2", {"width_mult": 1e6}), ("MobileNetV2", {"width_mult": 1e300}),
    ("VGG", {"hidden": 200_000}), ("BasicConv2d", {"in_channels": 9, "out_channels": 9, "kernel_size": 200_000}),
    ("InvertedResidual", {"in_channels": 200_000, "out_channels": 1, "stride": 1, "expand_ratio": 200_000}),
    ("InceptionC", {"in_channels": 200_000, "channels_7x7": 200_000}),
    ("CifarBlock", {"in_channels": 5, "channels": -3}),
])
def test_a_zoo_model_from_a_file_may_not_be_larger_than_allowed(name, config):
    with pytest.raises(FileFormatError, match="take more than the 1,048,576 bytes allowed|refuses its arguments"):
        build({"class": f"models.{name}", "config": config}, limit=2**20)


@pytest.mark.parametrize("config, message", [
    ({"block": "basic", "layers": [2, 2, 2, 2**40]}, "more than fits into the memory allowed"),
    ({"block": "basic", "layers": [2, 2, 2, 10**6]}, "take more than"),
    ({"block": "os.system", "layers": [2, 2, 2, 2]}, "refuses its arguments"),
    ({"block": "basic", "layers": [2, 2]}, "refuses its arguments"),
    ({"layers": [2, 2, 2, 2]}, "'block' of ResNet is missing"),
    ({"block": ["basic"], "layers": [2, 2, 2, 2]}, "must be text"),
])
def test_hostile_arguments_of_a_zoo_model_are_refused(config, message):
    with pytest.raises(FileFormatError, match=message):
        build({"class": "models.ResNet", "config": config}, limit=2**27)
    with pytest.raises(FileFormatError, match="unknown layer 'models.system'"):
        build({"class": "models.system"})
