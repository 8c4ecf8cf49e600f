"""ONNX export: every operation, layer and model computes in ONNX Runtime what it computes here, for other sizes too."""

import json

import numpy as np
import onnx
import pytest
from cases import CASES, Case
from onnx_runtime import assert_exports, assert_same, session
from zoo_cases import CASES as ZOO
from zoo_cases import weights

import minidl
import minidl.nn.functional as F
from minidl import models, nn
from minidl.onnx import ExportError, export
from minidl.onnx.export_table import EMITTERS, REFUSED
from minidl.tensor import OPS, Tensor

RECURRENT = ("rnn", "lstm", "gru")
RANDOM = ("dropout-p=1.0", "feature_dropout-p=1.0")  # drop at random even in evaluation mode


class Operation(nn.Module):
    """One operation as a network; `held` are the arrays it has of its own."""

    def __init__(self, case: Case, held: list):
        self.operation, self.options, self.held = OPS[case.operation], case.options, [Tensor(x) for x in held]

    def forward(self, *xs):
        return self.operation(*xs, *self.held, **self.options)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_every_operation_is_written_or_refused_with_a_reason():
    ours = {name for name, operation in OPS.items() if operation.__module__.startswith("minidl.")}
    assert ours <= set(EMITTERS) | set(REFUSED)
    assert not set(EMITTERS) & set(REFUSED)
    assert set(REFUSED) <= ours


@pytest.mark.parametrize("case", [case for case in CASES if case.operation not in REFUSED and case.name not in RANDOM
                                  and case.options.get("batch_sizes") is None], ids=lambda case: case.name)
def test_operation(case, tmp_path):
    arrays = case.arrays(np.float32)
    own = (3 if case.operation == "lstm" else 2) if case.operation in RECURRENT else len(arrays)
    inputs = tuple([Tensor(array) for array in arrays[:own]])
    assert_exports(tmp_path, Operation(case, arrays[own:]), inputs, dynamic_axes={})


def test_an_operation_without_a_counterpart_is_named_with_its_module_and_the_reason(tmp_path):
    class Loss(nn.Module):
        def forward(self, x):
            return F.mse_loss(x, x * 0.5)

    network = nn.Sequential({"first": nn.Linear(3, 3), "last": nn.Sequential({"loss": Loss()})})
    with pytest.raises(ExportError, match=r"mse_loss in last\.loss cannot be exported: it is a loss"):
        export(network, minidl.randn(2, 3), tmp_path / "model.onnx")
    packed = Operation(next(case for case in CASES if case.name == "lstm-packed"), [])
    with pytest.raises(ExportError, match="lstm in the model itself .* padded sequences"):
        arrays = next(case for case in CASES if case.name == "lstm-packed").arrays(np.float32)
        export(packed, tuple(map(Tensor, arrays)), tmp_path / "model.onnx", dynamic_axes={})
    assert not list(tmp_path.iterdir())


LAYERS = [  # an input, and the layers it is led through
    (numbers(2, 3, 12, 10), [
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True), nn.BatchNorm2d(8), nn.PReLU(8),
        nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.LeakyReLU(), nn.GroupNorm(2, 4), nn.Upsample(scale_factor=2), nn.ELU(),
        nn.AvgPool2d(3, 2, 1), nn.SiLU(), nn.Upsample(size=(9, 7), mode="bilinear", align_corners=True), nn.Mish(),
        nn.AdaptiveMaxPool2d((6, 5)), nn.Dropout2d(), nn.AdaptiveAvgPool2d((4, 5)), nn.Identity(), nn.Flatten(),
        nn.Linear(80, 12), nn.BatchNorm1d(12), nn.Sigmoid(), nn.Unflatten(1, (3, 4)), nn.Softmax(-1)]),
    (numbers(2, 3, 24), [
        nn.Conv1d(3, 6, 3, 2), nn.Tanh(), nn.MaxPool1d(2), nn.ConvTranspose1d(6, 4, 3), nn.GELU(), nn.AvgPool1d(2),
        nn.Softplus(), nn.AdaptiveAvgPool1d(4), nn.SELU(), nn.AdaptiveMaxPool1d(3), nn.ReLU6(), nn.LayerNorm(3),
        nn.LogSigmoid(), nn.Dropout(), nn.LogSoftmax(1)]),
    (np.arange(10).reshape(2, 5), [
        nn.Embedding(10, 6), nn.SinusoidalPosition(6), nn.LearnedPosition(6, 9),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, activation="gelu"), 2)]),
]


@pytest.mark.parametrize("array, layers", LAYERS, ids=["images", "signals", "tokens"])
def test_layers(array, layers, tmp_path):
    assert_exports(tmp_path, nn.Sequential(*layers), Tensor(array), Tensor(np.concatenate([array, array[::-1]])))


class Cells(nn.Module):
    def __init__(self):
        self.rnn, self.lstm, self.gru = nn.RNNCell(4, 5), nn.LSTMCell(4, 5), nn.GRUCell(4, 5)

    def forward(self, x):
        h, c = self.lstm(x)
        h, c = self.lstm(x, (h, c))
        return self.rnn(x, h) + self.gru(x, c)


class SelfAttention(nn.Module):
    def __init__(self):
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, padding):
        return self.attention(x, x, x, key_padding_mask=padding, is_causal=True)


PADDING = np.array([[False, False, True, True], [False, False, False, False], [False, True, True, True]])
OTHERS = [
    (Cells(), (numbers(2, 4),), (numbers(5, 4),), {}),
    (SelfAttention(), (numbers(2, 4, 8), PADDING[:2]), (numbers(3, 4, 8), PADDING), {}),
    (nn.MultiheadAttention(8, 2), (numbers(4, 2, 8), numbers(5, 2, 8), numbers(5, 2, 8)),
     (numbers(3, 3, 8), numbers(6, 3, 8), numbers(6, 3, 8)),
     {"dynamic_axes": {"query": {0: "L", 1: "N"}, "key": {0: "S", 1: "N"}, "value": {0: "S", 1: "N"}}}),
    (nn.RNN(4, 5, 2, "relu"), (numbers(6, 2, 4),), (numbers(3, 3, 4),), {"dynamic_axes": {"input": {0: "T", 1: "N"}}}),
    (nn.GRU(4, 5, 2, batch_first=True, bidirectional=True), (numbers(2, 6, 4), numbers(4, 2, 5)),
     (numbers(3, 6, 4), numbers(4, 3, 5)), {"dynamic_axes": {"input": {0: "N"}, "hx": {1: "N"}}}),
    (nn.LSTM(4, 5, bias=False, batch_first=True), (numbers(2, 6, 4), None, np.array([6, 2])),
     (numbers(3, 6, 4), None, np.array([1, 6, 3])), {}),
    (nn.LSTM(4, 5, 2, bidirectional=True), (numbers(6, 4),), (numbers(6, 4, seed=1),), {"dynamic_axes": {}}),
]


@pytest.mark.parametrize("model, example, other, options", OTHERS, ids=lambda value: type(value).__name__)
def test_layers_with_several_inputs_and_outputs(model, example, other, options, tmp_path):
    assert_exports(tmp_path, model, example, other, **options)


class Between(nn.LSTM):
    """A class of one's own around a recurrent layer, which also hands an input through NumPy."""

    def forward(self, x, lengths):
        states, (h, _) = super().forward(x * 2, None, lengths)
        return states.sum(1) + h[0], minidl.where(x > 0, Tensor(np.asarray(x.numpy())), 0.0)


def test_what_is_built_around_layers(tmp_path):
    x, lengths = numbers(3, 6, 4), np.array([1, 6, 3])
    assert_exports(tmp_path, Between(4, 5, batch_first=True), (Tensor(x[:2]), Tensor(lengths[:2])), (x, lengths))


def test_padding_with_zeros_becomes_part_of_the_convolution(tmp_path):
    class Same(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(3, 4, 4, padding=(0, 1))

        def forward(self, x):
            return self.conv(F.pad(x, (1, 2, 0, 3))), self.conv(F.pad(x, (1, 2, 0, 3), value=1.0))

    assert_exports(tmp_path, Same(), Tensor(numbers(2, 3, 6, 5)), Tensor(numbers(3, 3, 6, 5)))
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert sorted(kinds) == ["Conv", "Conv", "Pad"]


def test_no_layer_is_left_out():
    tried = {type(module) for _, layers in LAYERS for module in nn.Sequential(*layers).modules()}
    tried |= {type(module) for model, *_ in OTHERS for module in model.modules()}
    every = {value for name in nn.__all__
             if isinstance(value := getattr(nn, name), type) and issubclass(value, nn.Module)}
    not_networks = {nn.Module, nn.ModuleDict}
    assert every - tried == not_networks | {value for value in every if value.__name__.endswith("Loss")}


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow) if case.slow else case
                                  for case in ZOO if not case.training], ids=lambda case: case.name)
def test_models_of_the_zoo(case, tmp_path):
    model = models.create_model(case.name, 7, **case.options)
    model.load_state_dict(weights({name: value.shape for name, value in model.state_dict().items()}))
    assert_exports(tmp_path, model, Tensor(numbers(*case.shape)), Tensor(numbers(3, *case.shape[1:])))


BERT = {"vocab_size": 30, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 16,
        "max_position_embeddings": 12}
IDS = np.random.default_rng(0).integers(1, 30, (3, 7))
MASK = (np.arange(7) < np.array([[2], [5], [7]])).astype(np.int64)
TOKENS = {0: "batch", 1: "tokens"}


def test_bert_for_other_numbers_of_sentences_and_tokens(tmp_path):
    model = models.BertModel(**BERT)
    runtime = assert_exports(tmp_path, model, (Tensor(IDS[:2, :4]), Tensor(MASK[:2, :4])), (IDS, MASK),
                             (IDS, np.ones_like(MASK)),
                             dynamic_axes={"input_ids": TOKENS, "attention_mask": TOKENS})
    assert [output.name for output in runtime.get_outputs()] == ["last_hidden_state", "pooler_output"]
    assert runtime.get_outputs()[0].shape == ["batch", "tokens", 12]
    encoder = models.SentenceEncoder(model, normalize=True, all_layers=True)
    assert_exports(tmp_path, encoder, (Tensor(IDS[:2]), Tensor(MASK[:2])), (IDS, MASK))


@pytest.mark.parametrize("tied", [True, False])
def test_gpt_for_other_numbers_of_texts_and_tokens(tied, tmp_path):
    model = models.GPT(30, 12, n_layer=2, n_head=2, n_embd=8, tied=tied)
    assert_exports(tmp_path, model, IDS[:2, :4], IDS, dynamic_axes={"ids": TOKENS})
    names = [tensor.name for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert ("lm_head.weight" in names) == (not tied)


@pytest.mark.parametrize("recurrent, pool, layers", [("lstm", "mean", 2), ("gru", "max", 1), ("rnn", "last", 2)])
def test_classifiers_of_padded_texts(recurrent, pool, layers, tmp_path):
    model = models.RecurrentClassifier(30, 4, 6, 5, layers, recurrent=recurrent, pool=pool)
    lengths = np.array([2, 7, 4])
    assert_exports(tmp_path, model, (IDS[:2], lengths[:2]), (IDS, lengths))


class Handwritten(nn.Module):
    """What people write between layers: sizes read from shapes, slices, functions, arrays of their own."""

    def __init__(self):
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        n, c, h, w = x.shape
        y = F.relu(self.conv(F.pad(x, (1, 1, 1, 1), "reflect"))).reshape(n, -1)
        means = x.view(n * c, h, w).mean((1, 2)).view(n, c)
        picked = y[:, ::2][:, 1:4] + means
        repeated = picked.expand(2, n, 3).permute(1, 0, 2).contiguous().view(n, 6)
        mixed = minidl.zeros(n, 1) + repeated.sum(1, keepdim=True) / y[:, None, -1].abs().clamp(min=1)
        values, places = x.flatten(2).max(2)
        return {"joined": minidl.cat([mixed, repeated.repeat(1, 2), values], 1), "places": places,
                "best": minidl.argmax(picked, 1), "kept": minidl.where(picked > 0, picked, -1.0),
                "chosen": x[:, [2, 0]], "normal": F.normalize(y), "spread": (y - y.mean()).std(0)}


def test_what_stands_between_layers(tmp_path):
    runtime = assert_exports(tmp_path, Handwritten(), Tensor(numbers(2, 3, 6, 5)), Tensor(numbers(5, 3, 6, 5)))
    assert {output.name: output.shape for output in runtime.get_outputs()}["joined"] == ["batch", 16]


@pytest.mark.parametrize("opset", [18, 19, 20, 21])
def test_later_opsets(opset, tmp_path):
    assert_exports(tmp_path, Handwritten(), Tensor(numbers(2, 3, 6, 5)), opset_version=opset)
    assert {one.version for one in onnx.load(tmp_path / "model.onnx").opset_import} == {opset}


def test_an_example_of_one_is_enough_for_other_batches_and_images(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert_exports(tmp_path, model, Tensor(numbers(1, 3, 8, 8)), Tensor(numbers(4, 3, 15, 12)),
                   dynamic_axes={"x": {0: "batch", 2: "height", 3: "width"}}, input_names=["x"])


def test_the_file_has_the_models_names_and_what_it_carries(tmp_path):
    model = models.create_model("resnet20", 3)
    model.classes, model.licence = ["cat", "dog", "émeu"], "MIT"
    model.preprocessing, model.provenance = {"range": [0, 1], "mean": [0.5]}, {"trained_on": "nothing"}
    export(model, minidl.randn(2, 3, 16, 16), tmp_path / "model.onnx", output_names=["scores"])
    file = onnx.load(tmp_path / "model.onnx")
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in file.graph.initializer}
    for name, value in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(stored[name], value.numpy())
    kinds = {node.name: node.op_type for node in file.graph.node}
    assert kinds["layer1.0.conv1/Conv"] == "Conv" and kinds["layer1.0.bn1/BatchNormalization"] == "BatchNormalization"
    assert (file.producer_name, file.producer_version) == ("minidl", minidl.__version__)
    assert [output.name for output in file.graph.output] == ["scores"]
    carried = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    assert carried["minidl.classes"] == model.classes and carried["minidl.licence"] == "MIT"
    assert carried["minidl.preprocessing"] == model.preprocessing
    assert carried["minidl.provenance"] == model.provenance
    assert minidl.transfer.build(carried["minidl.architecture"]).state_dict().keys() == model.state_dict().keys()


def test_the_model_is_left_as_it_was(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Dropout(0.5)))
    model[2].eval()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    attributes = [set(vars(module)) for module in model.modules()]
    export(model, minidl.randn(4, 3), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="features"):
        export(model, minidl.randn(4, 2), tmp_path / "model.onnx")
    assert [module.training for module in model.modules()] == [True, True, True, False, False]
    assert [set(vars(module)) - {"_mode"} for module in model.modules()] == [own - {"_mode"} for own in attributes]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    assert_same(session(tmp_path / "model.onnx"), model, (minidl.randn(3, 3),))  # the failed one left the file alone


def test_features_of_a_model(tmp_path):
    model = models.create_model("resnet20", 3)
    assert_exports(tmp_path, minidl.features(model, at=["layer1", "layer2.0"]), minidl.randn(2, 3, 16, 16))
    assert_exports(tmp_path, minidl.transfer.headless(model), minidl.randn(2, 3, 16, 16))


class Wrong(nn.Module):
    def __init__(self, function):
        self.function = function

    def forward(self, x, *more):
        return self.function(x, *more)


REFUSALS = {
    "an array computed from values": (lambda x: x + Tensor(np.sort(x.numpy(), 1)), "'y' was computed by numpy.sort"),
    "a number computed from values": (lambda x: x * x.sum().item(), "mul.*'y' depends on the values or sizes"),
    "a decision by values": (lambda x: x.exp() if x.numpy()[0, 0] > 0.5 else -x, "fixed computation"),
    "an array made anew for each size": (lambda x: x * Tensor(np.arange(x.shape[0])[:, None] % 3), "computes anew"),
    "a size that no formula gives": (lambda x: x[: x.shape[0] // 2], "getitem.*'index' depends on the values or sizes"),
    "a mask of unknown size": (lambda x: x[x > 0], "size depends|number of axes|computes|boolean mask"),
    "a change in place": (lambda x: x.mul_(2), "read-only"),
    "no tensor": (lambda x: 3, "no tensor"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_written_is_refused(name, tmp_path):
    function, message = REFUSALS[name]
    with pytest.raises((ExportError, RuntimeError), match=message):
        export(Wrong(function), Tensor(np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_input_that_changes_nothing_is_refused(tmp_path):
    with pytest.raises(ExportError, match="'attention_mask' has no influence .* zeros"):
        export(models.BertModel(**BERT), (Tensor(IDS), Tensor(np.ones_like(IDS))), tmp_path / "model.onnx")


def test_more_than_two_gigabytes_are_refused_before_they_are_copied(tmp_path):
    class Large(nn.Module):
        def __init__(self):
            self.table = Tensor(np.broadcast_to(np.float32(1), (2**29, 1)))
            self.register_buffer("table", self.table)

        def forward(self, ids):
            return self.table[ids]

    with pytest.raises(ExportError, match="more than 2 GB"):
        export(Large(), Tensor(np.array([1, 2])), tmp_path / "model.onnx")


@pytest.mark.parametrize("options, message", [
    ({"opset_version": 12}, "17 to 21"),
    ({"input_names": ["a", "b"]}, "1 different names, for x"),
    ({"output_names": ["x"]}, "1 different names"),
    ({"dynamic_axes": {"y": {0: "n"}}}, "'y', the inputs are x"),
    ({"dynamic_axes": {"x": {5: "n"}}}, "axis 5 of 'x'"),
])
def test_wrong_arguments_are_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(nn.ReLU(), minidl.randn(2, 3), tmp_path / "model.onnx", **options)


def test_sizes_are_fixed_where_the_model_fixes_them(tmp_path):
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(2, 6)

    with pytest.raises(ExportError, match="with other sizes .* dynamic_axes"):
        export(Fixed(), minidl.randn(2, 2, 3), tmp_path / "model.onnx")
    assert_exports(tmp_path, Fixed(), minidl.randn(2, 2, 3), dynamic_axes={})
