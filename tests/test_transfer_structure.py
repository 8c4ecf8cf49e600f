"""Promise 4 of the transfer module, the architecture: a closed table of classes, checked arguments, nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidl import FileFormatError, nn
from minidl.tensor import Tensor
from minidl.transfer import build, register, structure
from minidl.transfer.structure import LAYERS

ARGUMENTS = {  # for each layer of minidl.nn, arguments that are not its defaults
    "AdaptiveAvgPool1d": (3,), "AdaptiveAvgPool2d": ((2, None),), "AdaptiveMaxPool1d": (3,),
    "AdaptiveMaxPool2d": ((2, 3),), "AvgPool1d": (3, 2, 1, True, False), "AvgPool2d": ((3, 2), 2, 1, True, False, 5),
    "BCELoss": {"reduction": "sum"}, "BCEWithLogitsLoss": {"reduction": "sum"},
    "BatchNorm1d": (4, 1e-3, None, False, True), "BatchNorm2d": {"num_features": 4, "momentum": 0.3, "bias": False},
    "Conv1d": (4, 6, 3, 2, 1, 2, 2, False, "reflect"),
    "Conv2d": {"in_channels": 4, "out_channels": 6, "kernel_size": (3, 5), "padding": "same", "groups": 2},
    "ConvTranspose1d": (4, 6, 3, 2, 1, 1, 2, False, 2), "ConvTranspose2d": (4, 6, (3, 2), 2, 1, 1, 2, True, 1),
    "CrossEntropyLoss": {"ignore_index": -5, "reduction": "sum", "label_smoothing": 0.1},
    "Dropout": (0.3, True), "Dropout2d": (0.2,), "ELU": (0.5,), "Embedding": (7, 3, 2), "Flatten": (2, 3),
    "GELU": ("tanh",), "GRU": (3, 4, 2, False, True, 0.25, True), "GRUCell": (3, 4, False),
    "GroupNorm": (2, 6, 1e-3), "HuberLoss": {"delta": 2.0}, "Identity": (),
    "KLDivLoss": {"log_target": True}, "L1Loss": {"reduction": "sum"}, "LSTM": (3, 4, 2, False, True, 0.25, True),
    "LSTMCell": (3, 4, False), "LayerNorm": ((3, 4), 1e-3, True, False),
    "LeakyReLU": (0.2,), "Linear": (3, 5, False), "LogSigmoid": (), "LogSoftmax": (1,),
    "MSELoss": {"reduction": "none"}, "MaskedCrossEntropyLoss": {"ignore_index": -5, "label_smoothing": 0.1},
    "MaxPool1d": (3, 2, 1, 1, False, True),
    "MaxPool2d": ((3, 2), (2, 1), 1, 1, False, True), "Mish": (True,),
    "ModuleDict": ({"a": nn.Linear(2, 3)},), "ModuleList": ([nn.Linear(2, 3), nn.Tanh()],),
    "NLLLoss": {"ignore_index": 2}, "PReLU": (3, 0.1), "RNN": (3, 4, 2, "relu", False, True, 0.25, True),
    "RNNCell": (3, 4, False, "relu"), "ReLU": (True,), "ReLU6": (True,), "SELU": (True,),
    "Sequential": (nn.Linear(2, 3), nn.Tanh()), "SiLU": (True,), "Sigmoid": (), "SmoothL1Loss": {"beta": 0.5},
    "Softmax": (-1,), "Softplus": (2.0, 10.0), "Tanh": (), "Unflatten": (1, (2, 3)),
    "LearnedPosition": (6, 9, False),
    "MultiheadAttention": {"embed_dim": 8, "num_heads": 2, "bias": False, "kdim": 4, "batch_first": True},
    "SinusoidalPosition": (6, 9, False),
    "TransformerEncoder": (nn.TransformerEncoderLayer(8, 2, 12, bias=False), 2, nn.LayerNorm(8, 1e-3), False, False),
    "TransformerEncoderLayer": (8, 2, 12, 0.2, "gelu", 1e-3, True, True, False),
    "Upsample": {"scale_factor": 2.0, "mode": "bilinear", "align_corners": True},
}


def make(name):
    arguments = ARGUMENTS[name]
    return LAYERS[name](**arguments) if isinstance(arguments, dict) else LAYERS[name](*arguments)


def shapes(model):
    return {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}


def test_every_public_layer_is_in_the_table():
    public = {name for name in dir(nn) if isinstance(value := getattr(nn, name), type) and issubclass(value, nn.Module)
              and not name.startswith("_")}
    assert set(LAYERS) == public - {"Module"}
    assert set(ARGUMENTS) == set(LAYERS)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_every_layer_survives_the_round_trip_with_arguments_that_are_not_its_defaults(name):
    model = nn.Sequential(make(name))
    text = json.dumps(structure(model), allow_nan=False)
    twin = build(text)
    assert type(twin[0]) is type(model[0])
    assert repr(twin) == repr(model)
    assert shapes(twin) == shapes(model)
    assert structure(twin) == json.loads(text)


def test_a_network_comes_back_with_names_order_dtypes_and_other_weights():
    model = nn.Sequential({"b": nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)),
                           "a": nn.ModuleDict({"x-1": nn.Tanh()}), "10": nn.Linear(3, 2).double(),
                           "2": nn.Linear(2, 2)})
    twin = build(structure(model))
    assert repr(twin) == repr(model) and shapes(twin) == shapes(model)
    assert (twin.b[0].weight.numpy() != model.b[0].weight.numpy()).any()


def test_shared_modules_stay_shared():
    block = nn.Sequential(nn.Linear(3, 3))
    model = nn.Sequential({"first": block, "act": nn.Tanh(), "again": block, "inner": nn.Sequential(block[0])})
    twin = build(json.dumps(structure(model)))
    assert twin.again is twin.first and twin.inner[0] is twin.first[0]
    assert len(list(twin.parameters())) == 2


@register
class Residual(nn.Module):
    def __init__(self, width, depth=2, rate: float = 0.5):
        self.width, self.depth, self.rate = width, depth, rate
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.last = self.layers[depth - 1]
        self.scale = nn.Parameter(np.ones(width, np.float32))
        self.extra = None

    def forward(self, x):
        for layer in self.layers:
            x = x + self.scale * layer(x)
        return x


@register
class Chain(nn.Sequential):
    pass


def test_a_registered_class_comes_back_as_its_constructor_and_later_changes_made_it():
    model = nn.Sequential(Residual(4, depth=3), Chain(nn.Linear(4, 4), nn.Tanh()))
    model[0].layers[0] = nn.Linear(4, 4, bias=False)
    model[0].extra = nn.Embedding(5, 4)
    twin = build(json.dumps(structure(model)))
    assert type(twin[0]) is Residual and type(twin[1]) is Chain
    assert repr(twin) == repr(model) and shapes(twin) == shapes(model)
    assert twin[0].last is twin[0].layers[2]
    plain = Residual(4, depth=3)
    twin = build(structure(nn.Sequential({"first": plain, "again": plain.layers[2]})))
    assert twin.again is twin.first.last is twin.first.layers[2]
    del model[0].extra
    model[0].last = None
    assert build(structure(model))[0].last is None


def test_a_class_of_ones_own_is_named_with_both_cures():
    class Mine(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(2, 2)

    with pytest.raises(TypeError, match=r"body \(Mine\) is a class of your own.*@minidl.transfer.register.*model=Mine"):
        structure(nn.Sequential({"body": Mine()}))
    register(Mine)
    assert type(build(structure(Mine()))) is Mine

    class Linear(nn.Module):
        pass

    with pytest.raises(ValueError, match="there is a class named Linear already, minidl.nn.linear.Linear"):
        register(Linear)
    with pytest.raises(TypeError, match="is not a Module class"):
        register(dict)


def test_what_json_cannot_hold_is_named():
    model = nn.Linear(2, 2)
    model.in_features = Tensor(np.ones(2))
    with pytest.raises(TypeError, match=r"the model \(Linear\): argument 'in_features' is tensor"):
        structure(model)

    @register
    class Forgetful(nn.Module):
        def __init__(self, width):
            self.fc = nn.Linear(width, 2)

    with pytest.raises(TypeError, match=r"\(Forgetful\) must keep its constructor's arguments.*no attribute 'width'"):
        structure(Forgetful(3))


def layer(name="Linear", **config):
    return {"class": name, "config": {"in_features": 2, "out_features": 2, **config} if name == "Linear" else config}


def chain(*children):
    return {"class": "Sequential", "children": [{"name": str(i), **child} for i, child in enumerate(children)]}


def named(name):
    return {"class": "Sequential", "children": [{"name": name, **layer()}]}


def deep(levels):
    node = layer("ReLU")
    for _ in range(levels):
        node = chain(node)
    return node


HOSTILE = {
    "not an object": ([], "expected an object"),
    "text that is not JSON": ("import os", "is not the JSON it should be"),
    "no class": ({}, "unknown layer 'None'"),
    "unknown layer": (layer("Linar"), "unknown layer 'Linar'; did you mean 'Linear'"),
    "a function of nn": (layer("init"), "unknown layer 'init'"),
    "the base class": (layer("Module"), "unknown layer 'Module'"),
    "a dotted path": (layer("os.system"), "unknown layer 'os.system'"),
    "a dunder": (layer("__class__"), "unknown layer '__class__'"),
    "a class that is a list": ({"class": ["Linear"]}, "unknown layer"),
    "an unknown field": ({**layer(), "state": {}}, "expected an object with class, config, dtype and children only"),
    "an unknown argument": (layer(in_feature=3), "takes no argument 'in_feature'; did you mean 'in_features'"),
    "a dunder argument": (layer(__class__="x"), "takes no argument '__class__'"),
    "self as argument": (layer(self=1), "takes no argument 'self'"),
    "a device": (layer(device="cuda"), "takes no argument 'device'"),
    "a missing argument": ({"class": "Linear", "config": {"in_features": 2}}, "argument 'out_features'.*is missing"),
    "text for a number": (layer(in_features="2"), "'in_features' must be integer, not text: '2'"),
    "a float for a number": (layer(in_features=2.0), "'in_features' must be integer, not number"),
    "true for a number": (layer(in_features=True), "'in_features' must be integer, not true or false"),
    "a number for true": (layer(bias=1), "'bias' must be true or false, not integer"),
    "null for a number": (layer(in_features=None), "'in_features' must be integer, not null"),
    "an object for a number": (layer(in_features={}), "'in_features' must be integer, not object"),
    "an object in a list": (layer("AdaptiveAvgPool2d", output_size=[{}, 1]), "holds an object"),
    "a negative size": (layer(in_features=-2), "refuses its arguments"),
    "a dropout rate of 7": (layer("Dropout", p=7.0), "Dropout refuses its arguments.*between 0 and 1"),
    "text for a size": (layer("MaxPool2d", kernel_size="__import__('os')"), "must be integer or list, not text"),
    "a text without end": (layer("GELU", approximate="x" * 10_000), "a text of 10,000 characters"),
    "infinity": (layer("Dropout", p=float("inf")), "'p' is inf"),
    "a list without end": (layer("LayerNorm", normalized_shape=[1] * 1000), "a list of 1,000 items"),
    "a billion units": (layer(in_features=10**9, out_features=10**9), "more than fits into the memory allowed"),
    "a billion channels": (layer("BatchNorm2d", num_features=10**9, affine=False), "more than fits"),
    "many units": (layer(in_features=10**8, out_features=10**8), "take more than the 2,147,483,648 bytes allowed"),
    "a large product": (layer("LayerNorm", normalized_shape=[10**5, 10**5]), "the product of"),
    "config is a list": ({"class": "Linear", "config": [2, 2]}, "config must be an object, not list"),
    "a container with arguments": ({"class": "Sequential", "config": {"modules": []}}, "takes no argument 'modules'"),
    "a list with arguments": ({"class": "ModuleList", "config": {"modules": []}}, "takes children, no arguments"),
    "children without names": ({"class": "Sequential", "children": [layer()]}, "a list of objects with names"),
    "children that are an object": ({"class": "Sequential", "children": {"0": layer()}}, "a list of objects"),
    "a dunder child": (named("__class__"), "cannot be called '__class__'"),
    "a child called forward": (named("forward"), "Sequential has an attribute of that name"),
    "a child called append": (named("append"), "Sequential has an attribute of that name"),
    "a child called training": (named("training"), "has an attribute of that name"),
    "a child called _buffer_names": (named("_buffer_names"), "has an attribute of that name"),
    "a child with a dot": (named("a.b"), "letters, digits"),
    "a child with a path": (named("../../etc"), "letters, digits"),
    "a child that is a number": (named(0), "letters, digits"),
    "a child that is a list": (named(["a"]), "letters, digits"),
    "a child without a name": (named(""), "letters, digits"),
    "one name twice": ({"class": "Sequential", "children": [{"name": "a", **layer()}] * 2}, "there are two of them"),
    "a child in place of a weight": ({**layer(), "children": [{"name": "weight", **layer()}]}, "keeps something else"),
    "a child in place of an option": ({**layer(), "children": [{"name": "in_features", **layer()}]}, "something else"),
    "sharing what is not there": (chain({"shared": "5"}), "shared with '5', which does not come before"),
    "sharing itself": (chain(chain({"shared": "0"})), "shared with '0', which does not come before"),
    "sharing the root": (chain({"shared": ""}), "shared with '', which does not come before"),
    "sharing a list": (chain({"shared": []}), "shared with"),
    "a strange dtype": ({**layer(), "dtype": "object"}, "dtype must be one of"),
    "a dtype that is a list": ({**layer(), "dtype": []}, "dtype must be one of"),
    "nested 65 deep": (deep(65), "more than 64 modules deep"),
    "nested 100,000 deep": ('{"children":[' * 100_000, "nested too deeply"),
    "very long": (" " * 5_000_000, "a text of 5,000,000 characters"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_promise_4_hostile_architectures_raise_file_format_error(name):
    description, message = HOSTILE[name]
    with pytest.raises(FileFormatError, match=message):
        build(description)


def test_promise_4_numbers_without_end_in_the_json_are_refused():
    for text in ('{"class":"Dropout","config":{"p":1e999}}', '{"class":"Dropout","config":{"p":NaN}}',
                 '{"class":"Linear","config":{"in_features":%s,"out_features":1}}' % ("9" * 5000)):
        with pytest.raises(FileFormatError):
            build(text)


@pytest.mark.parametrize("node", [layer(in_features=100, out_features=100), layer("PReLU"),
                                  layer("BatchNorm2d", num_features=10_000, affine=False)],
                         ids=lambda node: node["class"])
def test_promise_4_many_layers_are_counted_together(node):
    build(chain(*[node] * 5), limit=2**20)
    with pytest.raises(FileFormatError, match="take more than the 1,048,576 bytes allowed"):
        build(chain(*[node] * 20_000), limit=2**20)


def test_the_limit_can_be_chosen_and_ends_with_the_call():
    description = structure(nn.Linear(100, 100))
    with pytest.raises(FileFormatError, match="40,000 bytes allowed"):
        build(description, limit=40_000)
    build(description, limit=41_000)
    nn.Linear(2000, 2000)


GREEDY = """
import json, resource, sys
import minidl.data
from minidl import FileFormatError
from minidl.transfer import build
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for text in json.loads(sys.stdin.read()):
    try:
        build(text, limit=2**20)
    except FileFormatError:
        pass
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * (1 if sys.platform == "darwin" else 1024))
"""


def test_promise_4_no_layer_takes_memory_before_it_is_refused():
    """Each layer with 200,000 in place of each of its whole numbers: some would take hundreds of gigabytes."""
    texts = []
    small = {"groups": 1, "num_groups": 1, "padding": 0, "output_padding": 0, "stride": 1, "dilation": 1}
    for name in sorted(LAYERS):
        config = structure(make(name)).get("config", {})
        large = {key: 200_000 if type(value) is int else [200_000] * len(value) if isinstance(value, list) else value
                 for key, value in config.items()}
        modest = {**large, **{key: value for key, value in small.items() if key in config}}
        single = {**modest, "kernel_size": 200_000} if "kernel_size" in config else modest
        texts += [json.dumps({"class": name, "config": config}) for config in (large, modest, single)]
    root = Path(__file__).resolve().parents[1]
    ended = subprocess.run([sys.executable, "-c", GREEDY], input=json.dumps(texts), cwd=root, capture_output=True,
                           text=True)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 50 * 2**20
