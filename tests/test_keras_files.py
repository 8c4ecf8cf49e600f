"""Files of Keras are read without Keras and HDF5, and models with their weights compute what Keras computed."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.formats.kerasconfig import Network, flattened_channels
from minidl.models import create_model
from minidl.transfer import LoadError, load, load_keras, load_tensors, rename_keras_by_order, save_tensors
from minidl.transfer.structure import build, structure

GOLDEN = np.load(Path(__file__).with_name("golden") / "keras_files.npz")
IMAGE = ("image.keras", "image.h5", "image.weights.h5", "image_2_whole.h5", "image_2_weights.h5")
IMAGE_PLACES = {"c1": "0", "batch_normalization": "2", "depthwise_conv2d": "3", "separable_conv2d.depthwise": "4",
                "separable_conv2d.pointwise": "5", "conv2d_transpose": "7", "batch_normalization_1": "10",
                "dense": "12", "dense_1": "14"}
TEXT = ("text.keras", "text.h5", "text.weights.h5", "text_2_whole.h5", "text_2_weights.h5")


@pytest.fixture
def file(tmp_path):
    def write(name):
        GOLDEN[name].tofile(tmp_path / name)
        return tmp_path / name
    return write


class States(nn.Module):
    """All states of a recurrent layer."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


class Nested(nn.Module):
    def __init__(self):
        self.stem, self.norm = nn.Conv2d(2, 4, 3, 2), nn.BatchNorm2d(4)
        self.mix = nn.Conv2d(4, 4, 1, groups=2, bias=False)
        self.hidden, self.out = nn.Linear(36, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = nn.functional.relu(self.norm(self.stem(nn.functional.pad(x, (0, 1, 0, 1)))))
        x = x + self.mix(x)
        return self.out(nn.functional.relu(self.hidden(minidl.flatten(x, 1))))


def image():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 8, (3, 2), groups=4),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.Conv2d(8, 5, 1), nn.MaxPool2d(2),
        nn.ConvTranspose2d(5, 6, (2, 3), (2, 3)), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(324), nn.Dropout(0.5),
        nn.Linear(324, 7), nn.ReLU(), nn.Linear(7, 3),
    )


def text():
    return nn.Sequential(
        nn.Embedding(11, 5), States(nn.LSTM(5, 4, batch_first=True, bidirectional=True)),
        States(nn.GRU(8, 3, batch_first=True)), States(nn.RNN(3, 4, batch_first=True)), nn.LayerNorm(4),
        nn.Linear(4, 2), nn.Flatten(), nn.Linear(12, 2),
    )


def signal():
    return nn.Sequential(
        nn.Conv1d(2, 6, 3, 2, 1), nn.PReLU(6), nn.GroupNorm(3, 6), nn.ConvTranspose1d(6, 4, 3), nn.AvgPool1d(2),
        nn.Flatten(), nn.Linear(16, 2),
    )


def error_of(name, model, images=True):
    """The greatest difference from Keras' outputs."""
    x = GOLDEN[f"{name}/input"]
    x = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if images else x
    with minidl.no_grad():
        return abs(model.eval()(minidl.tensor(x)).numpy() - GOLDEN[f"{name}/output"]).max()


def values(model):
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def assert_unchanged(model, before):
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def has_configuration(name):
    return ".weights" not in name and "_weights" not in name


@pytest.mark.parametrize("name", IMAGE)
def test_images_with_every_convolution_and_a_flattened_map(file, name):
    path, model = file(name), image()
    if has_configuration(name):
        load(path, model, rename=rename_keras_by_order(path, model))
        assert (model[2].eps, model[2].momentum) == (2e-3, 0.1)
        assert (model[10].eps, model[10].momentum) == (1e-3, 0.01)
    else:
        if "_2_" in name:
            rename = rename_keras_by_order(path, model)
        else:
            with pytest.raises(ValueError, match="not tell the order of .* conv2d, separable_conv2d; write rename="):
                rename_keras_by_order(path, model)
            rename = IMAGE_PLACES
        with pytest.warns(UserWarning, match="the file does not tell its eps, here it is 1e-05; Keras' own is 0.001"):
            load(path, model, rename=rename)
        assert model[2].eps == 1e-5
        model[2].eps, model[10].eps = 2e-3, 1e-3
    assert error_of("image", model) < 1e-5


@pytest.mark.parametrize("name", TEXT)
def test_sequences_with_every_recurrent_layer(file, name):
    path, model = file(name), text()
    model[4].eps = 1e-3
    if name == "text.weights.h5":
        with pytest.raises(ValueError, match="not tell the order of its layers of the classes bidirectional, gru"):
            rename_keras_by_order(path, model)
        places = {"embedding": "0", "bidirectional": "1.layer", "gru": "2.layer", "simple_rnn": "3.layer",
                  "layer_normalization": "4", "steps": "5", "logits": "7"}
        load(path, model, rename=places)
    else:
        load(path, model, rename=rename_keras_by_order(path, model))
    assert error_of("text", model, images=False) < 1e-5


@pytest.mark.parametrize("name", ["signal.keras", "signal.h5", "signal.weights.h5"])
def test_signals(file, name):
    path, model = file(name), signal()
    model[2].eps = 1e-3
    load(path, model, rename=rename_keras_by_order(path, model))
    assert error_of("signal", model) < 1e-5


@pytest.mark.parametrize("name", ["nested.keras", "nested.h5", "nested.weights.h5"])
def test_networks_in_a_network_by_names_and_with_a_flattened_map_between_them(file, name):
    path, model = file(name), Nested()
    before = values(model)
    prefixes = {"backbone": "", "head": ""}
    if has_configuration(name):
        load(path, model, rename=prefixes)
        assert (model.norm.eps, model.norm.momentum) == (1e-3, 0.01)
    else:
        with pytest.raises(LoadError, match=r"'head.hidden' takes 36 values; .*convolutions with 4 channels.*flatten="):
            load(path, model, rename=prefixes)
        assert_unchanged(model, before)
        model.norm.eps = 1e-3
        load_keras(path, model, rename=prefixes, flatten={"head.hidden": 4})
    assert error_of("nested", model) < 1e-5


def test_names_and_values_are_keras_own(file):
    expected = {"c1/kernel": (3, 3, 3, 4), "c1/bias": (4,), "batch_normalization/gamma": (4,),
                "batch_normalization/beta": (4,), "batch_normalization/moving_mean": (4,),
                "batch_normalization/moving_variance": (4,), "separable_conv2d/depthwise_kernel": (3, 3, 8, 1),
                "separable_conv2d/pointwise_kernel": (1, 1, 8, 5), "conv2d_transpose/kernel": (2, 3, 6, 5),
                "dense/kernel": (324, 7)}
    first = load_tensors(file(IMAGE[0]))
    for name in IMAGE:
        found = load_tensors(file(name))
        assert {key: found[key].shape for key in expected} == expected
        for key, value in first.items():
            older = key.replace("depthwise_conv2d/kernel", "depthwise_conv2d/depthwise_kernel")
            older = {"dense_1/kernel": "dense_1/W_1", "dense_1/bias": "dense_1/b_1"}.get(key, older)
            other = found[key if key in found else older]
            np.testing.assert_array_equal(other, value)
    assert "backbone/stem/kernel" in load_tensors(file("nested.keras"))
    assert "lstm" in " ".join(load_tensors(file("text.h5")))
    assert load_tensors(file("image.h5"), part="c1").keys() == {"kernel", "bias"}


def test_the_kind_is_seen_from_the_content(file):
    for name in ("image.h5", "image.keras"):
        path = file(name)
        other = path.rename(path.with_name("weights"))
        assert "c1/kernel" in load_tensors(other)
    with pytest.raises(ValueError, match="files of Keras are read, not written"):
        save_tensors({"a": np.ones(2)}, path)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_every_piece_of_hdf5(file, libver):
    found = load_tensors(file(f"pieces_{libver}.h5"))
    wanted = np.random.default_rng(1).normal(size=(40, 33))
    numbers = {"thing/0": wanted[:5, :7].astype(np.float32), "thing/1": np.arange(-3, 3), "thing/2": np.float64(3.5),
               "thing/3": wanted[0].astype(np.float16), "thing/4": np.arange(5, dtype=np.uint8),
               "thing/5": (wanted[0].astype(np.float32).view(np.uint32) >> 16 << 16).view(np.float32)}
    if libver == "earliest":
        numbers |= {"packed/0": wanted, "packed/1": np.arange(2100).reshape(300, 7)}
        numbers |= {f"many/{number}": np.full(2, number, np.int16) for number in range(40)}
    assert found.keys() == numbers.keys()
    for name, value in numbers.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype and found[name].flags.writeable


def test_loading_is_strict_and_a_refused_file_changes_nothing(file):
    path, model = file("image.keras"), image()
    before = values(model)
    with pytest.raises(LoadError, match=r"did you mean 'c1.weight'[\s\S]*rename=transfer.rename_keras_by_order"):
        load(path, model)
    rename = rename_keras_by_order(path, model)
    with pytest.raises(LoadError, match=r"rename=\{'c2': …\} fits no name in the file; did you mean 'c1'"):
        load(path, model, rename={**rename, "c2": "0"})
    model[14] = nn.Linear(7, 5)
    with pytest.raises(LoadError, match=r"shape of '14.weight': \(3, 7\) in the file, \(5, 7\) in the model"):
        load(path, model, rename=rename)
    assert model[2].eps == 1e-5
    assert_unchanged(model, {**before, **{f"14.{name}": value for name, value in values(model[14]).items()}})
    load(path, model, rename=rename, allow={"14.*": "reinit"})
    assert minidl.transfer.untrained(model) == ["14.weight", "14.bias"]
    with pytest.raises(LoadError, match="pass it as model="):
        load(path)
    with pytest.raises(ValueError, match=r"'c1.weight' \(4, 3, 3, 3\) in the file meets '0' \(Conv2d\)"):
        rename_keras_by_order(path, nn.Sequential(nn.Conv2d(3, 5, 3)))
    with pytest.raises(ValueError, match="the file has 8 more layers, from 'batch_normalization' on"):
        rename_keras_by_order(path, nn.Sequential(nn.Conv2d(3, 4, 3)))


def test_what_differs_from_keras_is_named(file):
    path, model = file("nested.keras"), Nested()
    model.stem.padding = (1, 1)
    with pytest.warns(UserWarning, match=r"'backbone/stem': Keras pads by \(0, 1\) \(before, after\), the model by"):
        load(path, model, rename={"backbone": "", "head": ""})
    model.mix.stride = (2, 2)
    with pytest.warns(UserWarning, match=r"'mix': strides \(1, 1\) in the file, \(2, 2\) in the model"):
        load(path, model, rename={"backbone": "", "head": ""})
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
    with pytest.raises(LoadError, match="'dense' in the file is a dense, in the model it would be a Conv2d"):
        load(file("image.keras"), model, rename={"c1": "x", "dense": "0"})


def dense(options):
    """A network's configuration with a Flatten in front of its last layer, and options of its first."""
    layers = [{"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": [None, 5, 5, 3]}}, *options,
              {"class_name": "Flatten", "config": {"name": "flatten"}},
              {"class_name": "Dropout", "config": {"name": "drop"}},
              {"class_name": "Dense", "config": {"name": "dense"}}]
    return {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}


@pytest.mark.parametrize("options, channels", [
    ([], 3),
    ([{"class_name": "Conv2D", "config": {"name": "conv", "filters": 7}},
      {"class_name": "MaxPooling2D", "config": {"name": "pool"}}], 7),
    ([{"class_name": "GlobalAveragePooling2D", "config": {"name": "pool"}}], None),
    ([{"class_name": "Reshape", "config": {"name": "shape"}}], "'shape' is a Reshape"),
    ([{"class_name": "Mine", "config": {"name": "mine"}}], "'mine' is a Mine"),
])
def test_which_map_is_flattened_is_found_or_said_to_be_unknown(options, channels):
    import json
    network = Network(json.dumps(dense(options)), "test")
    assert flattened_channels(network.by_name["dense"]) == channels


def test_mobilenet_with_the_padding_of_keras():
    model = create_model("mobilenet_v2", num_classes=4, width_mult=0.35, same_padding=True)
    x = minidl.tensor(np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32))
    y = model.features[0][0](x)
    wanted = nn.functional.conv2d(nn.functional.pad(x, (0, 1, 0, 1)), model.features[0][0].weight, stride=2)
    np.testing.assert_allclose(y.numpy(), wanted.numpy(), rtol=1e-6, atol=1e-6)
    assert structure(build(structure(model))) == structure(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.load_state_dict(create_model("mobilenet_v2", num_classes=4, width_mult=0.35).state_dict())
