"""Networks out of ONNX files: they compute what ONNX Runtime does, and can be frozen, re-headed, trained and saved."""

from pathlib import Path

import numpy as np
import pytest
from onnx_parts import attribute, field, fields, ints, model, node, tensor, value, varint

import minidl
from minidl import FileFormatError, nn, optim
from minidl.onnx import load
from minidl.transfer import (
    compute_features,
    features,
    freeze,
    head_path,
    headless,
    load_tensors,
    rehead,
    save,
    unfreeze,
)

GOLDEN = Path(__file__).with_name("golden") / "onnx"
EXPECTED = np.load(GOLDEN / "expected.npz")
NAMES = sorted(path.stem for path in GOLDEN.glob("*.onnx"))
CLASSIFIERS = {"resnet": "fc", "resnet_batchnorm": "fc", "mobilenet": "classifier.1", "transformer": "head"}


def outputs(network, name):
    with minidl.no_grad():
        found = network(minidl.Tensor(EXPECTED[f"{name}.x"]))
    return [y.array for y in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.parametrize("name", NAMES)
def test_networks_of_pytorchs_exporter_compute_what_onnxruntime_does(name, tmp_path):
    network = load(GOLDEN / f"{name}.onnx")
    assert not network.training
    got = outputs(network, name)
    for place, y in enumerate(got):
        expected = EXPECTED[f"{name}.y{place}"]
        assert y.shape == expected.shape and y.dtype == expected.dtype
        assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()
    save(network, tmp_path / "saved.safetensors")
    for one, other in zip(got, outputs(minidl.load(tmp_path / "saved.safetensors").eval(), name)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_network_is_frozen_given_a_new_head_and_trained_like_any_other(name):
    network, x = load(GOLDEN / f"{name}.onnx"), minidl.Tensor(EXPECTED[f"{name}.x"])
    head = CLASSIFIERS[name]
    assert head_path(network) == head
    freeze(network)
    rehead(network, 2)
    before = {path: array.array.copy() for path, array in network.state_dict().items()}
    network.train()
    optimizer = optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(headless(network)(x) @ network.get_submodule(head).weight.T
                                     if name == "mobilenet" else network(x), minidl.tensor([0, 1]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    moved = {path for path, array in network.state_dict().items() if not np.array_equal(array.array, before[path])}
    assert moved == {f"{head}.weight"} | ({f"{head}.bias"} if name != "mobilenet" else set())
    unfreeze(network)
    network(x).sum().backward()
    assert [path for path, parameter in network.named_parameters() if parameter.grad is None] == []


def test_layers_are_those_of_nn_under_the_names_of_the_file():
    network = load(GOLDEN / "resnet_batchnorm.onnx")
    kinds = {"conv1": nn.Conv2d, "bn1": nn.BatchNorm2d, "maxpool": nn.MaxPool2d, "layer1.0.relu": nn.ReLU,
             "layer2.0.downsample.0": nn.Conv2d, "layer2.0.downsample.1": nn.BatchNorm2d, "fc": nn.Linear}
    assert {path: type(network.get_submodule(path)) for path in kinds} == kinds
    assert network.bn1.momentum == pytest.approx(0.1) and network.layer2.get_submodule("0").conv1.stride == (2, 2)
    names = {path for path, _ in network.named_parameters()}
    assert "layer2.1.bn2.weight" in names and len(names) == 3 * 8 + 2  # equal tensors, written once, are not tied
    assert set(load_tensors(GOLDEN / "resnet_batchnorm.onnx")) <= set(network.state_dict())
    assert "layer2.0.conv1" in network.summary((3, 20, 20))
    assert features(network, at="layer1.0.conv2")(minidl.ones(1, 3, 20, 20)).shape == (1, 4, 5, 5)
    assert compute_features(network, np.zeros((3, 3, 20, 20), np.float32))[0].shape == (3, 8)


@pytest.mark.parametrize("name, kinds", [
    ("lstm", {"embedding": nn.Embedding, "rnn": nn.LSTM, "rnn_2": nn.LSTM, "fc": nn.Linear}),
    ("gru", {"rnn": nn.GRU}), ("rnn", {"rnn": nn.RNN}),
    ("transformer", {"encoder.self_attn.out_proj": nn.Linear, "encoder.norm1": nn.LayerNorm, "position": nn.Module}),
    ("decoder", {"layers.2": nn.Module, "layers.3": nn.ConvTranspose2d, "layers.5": nn.GroupNorm})])
def test_layers_of_sequences_and_decoders_are_recognised(name, kinds):
    network = load(GOLDEN / f"{name}.onnx")
    for path, kind in kinds.items():
        assert isinstance(network.get_submodule(path), kind)


def test_transfer_load_and_load_tensors_read_onnx(tmp_path):
    path = GOLDEN / "resnet_batchnorm.onnx"
    assert outputs(minidl.load(path), "resnet")[0].shape == (2, 10)
    class Stem(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(3, 4, 7, 2, 3, bias=False)

    stem = Stem()
    minidl.load(path, stem, rename={"conv1": "conv"}, allow={name: "skip" for name in ("bn1.*", "layer*", "fc.*")})
    np.testing.assert_array_equal(stem.conv.weight.array, load_tensors(path)["conv1.weight"])
    with pytest.raises(ValueError, match="pass the model to fill"):
        minidl.load(path, allow={"fc.*": "reinit"})


def one(nodes, x, tensors=(), opset=17, path=None, outputs=("y",), kind=1):
    """What a network of these nodes makes of x."""
    file = path / "one.onnx"
    dims = x.shape
    file.write_bytes(model(nodes=nodes, tensors=tensors, inputs=[value("x", dims, kind)],
                           outputs=[value(name) for name in outputs], opset=opset))
    network = load(file)
    y = network(minidl.Tensor(x))
    return (y.array if isinstance(y, minidl.Tensor) else [part.array for part in y]), network


X = np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 4)


def of(number):
    return attribute("axis", 2, field(3, number))


OLDER = {  # opset, nodes, what comes out
    "Squeeze": (11, [node("Unsqueeze", ("x",), ("a",), [ints("axes", [0, 4])]),
                     node("Squeeze", ("a",), ("y",), [ints("axes", [4])])], X[None]),
    "Clip": (7, [node("Clip", attributes=[attribute("min", 1, field(2, -1.0)), attribute("max", 1, field(2, 3.0))])],
             X.clip(-1, 3)),
    "Slice": (9, [node("Slice", attributes=[ints("starts", [1, -3]), ints("ends", [2**62, -1]), ints("axes", [1, 2])])],
              X[:, 1:, -3:-1]),
    "Pad": (10, [node("Pad", attributes=[ints("pads", [0, 1, 0, 0, 0, 2]), attribute("value", 1, field(2, 7.0))])],
            np.pad(X, [(0, 0), (1, 0), (0, 2)], constant_values=7)),
    "ReduceMean": (13, [node("ReduceMean", attributes=[ints("axes", [-1]), attribute("keepdims", 2, field(3, 0))])],
                   X.mean(-1)),
    "ReduceSum": (11, [node("ReduceSum", attributes=[ints("axes", [0, 2])])], X.sum((0, 2), keepdims=True)),
    "Softmax over all that follows": (11, [node("Softmax", attributes=[of(1)])],
                                      np.exp(X) / np.exp(X).sum((1, 2), keepdims=True)),
    "Softmax over the last": (11, [node("Softmax", attributes=[of(2)])], np.exp(X) / np.exp(X).sum(-1, keepdims=True)),
    "TopK": (9, [node("TopK", ("x",), ("y", "i"), [attribute("k", 2, field(3, 2))])], X[..., :1:-1]),
    "Split": (11, [node("Split", ("x",), ("a", "y"), [of(2), ints("split", [3, 1])])], X[..., 3:]),
    "Dropout": (10, [node("Dropout", attributes=[attribute("ratio", 1, field(2, 0.3))])], X),
}


@pytest.mark.parametrize("case", OLDER)
def test_older_forms_of_operators(case, tmp_path):
    opset, nodes, expected = OLDER[case]
    np.testing.assert_allclose(one(nodes, X, opset=opset, path=tmp_path)[0], expected, rtol=1e-6, atol=1e-7)


def test_upsample_of_opset_9_repeats_pixels(tmp_path):
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    scales = tensor("s", (4,), 1, np.float32([1, 1, 2, 3]).tobytes())
    y, _ = one([node("Upsample", ("x", "s"))], x, [scales], 9, tmp_path)
    np.testing.assert_array_equal(y, x.repeat(2, 2).repeat(3, 3))


def floats(name, array):
    return tensor(name, array.shape, 1, np.float32(array).tobytes())


@pytest.mark.parametrize("auto_pad, pads", [("SAME_UPPER", (0, 1)), ("SAME_LOWER", (1, 0))])
def test_padding_that_follows_the_input_stands_before_the_layer(tmp_path, auto_pad, pads):
    rng = np.random.default_rng(0)
    weight, x = rng.standard_normal((2, 3, 3, 3)), rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    options = [attribute("auto_pad", 3, field(4, auto_pad)), ints("strides", (2, 2))]
    nodes = [node("Conv", ("x", "w"), attributes=options, name="conv")]
    y, network = one(nodes, x, [floats("w", weight)], 17, tmp_path)
    layer = nn.Conv2d(3, 2, 3, 2, bias=False)
    layer.weight.array[...] = weight
    wide = minidl.Tensor(np.pad(x, [(0, 0), (0, 0), pads, pads]))
    np.testing.assert_allclose(y, layer(wide).array, rtol=1e-5, atol=1e-6)
    assert type(network.conv) is nn.Conv2d and type(network.conv_pad).__name__ == "Operation"


def test_a_matmul_and_the_add_behind_it_are_one_dense_layer(tmp_path):
    weight, bias = np.arange(8.0).reshape(4, 2), np.array([1.0, -1.0])
    nodes = [node("MatMul", ("x", "top.weight"), ("a",)), node("Add", ("top.bias", "a"))]
    y, network = one(nodes, X, [floats("top.weight", weight), floats("top.bias", bias)], 17, tmp_path)
    np.testing.assert_allclose(y, X @ weight + bias)
    assert repr(network.top) == "Linear(in_features=4, out_features=2, bias=True)" and len(network.steps) == 1


def test_a_result_that_is_an_output_too_is_not_merged_away(tmp_path):
    nodes = [node("MatMul", ("x", "w"), ("a",)), node("Add", ("a", "b"))]
    (a, y), _ = one(nodes, X, [floats("w", np.ones((4, 2))), floats("b", np.ones(2))], 17, tmp_path, ("a", "y"))
    np.testing.assert_allclose(y, a + 1)


def test_a_table_that_is_embedding_and_head_stays_one_parameter(tmp_path):
    table = np.random.default_rng(0).standard_normal((5, 3))
    nodes = [node("Gather", ("table", "x"), ("a",)), node("Transpose", ("table",), ("t",), [ints("perm", (1, 0))]),
             node("MatMul", ("a", "t"))]
    y, network = one(nodes, np.array([[0, 4]]), [floats("table", table)], 17, tmp_path, kind=7)
    np.testing.assert_allclose(y[0], table[[0, 4]] @ table.T, rtol=1e-5)
    assert len(list(network.parameters())) == 1
    save(network, tmp_path / "tied.safetensors")
    assert len(list(minidl.load(tmp_path / "tied.safetensors").parameters())) == 1


def test_a_layer_that_is_called_twice_is_one_module(tmp_path):
    nodes = [node("MatMul", ("x", "w"), ("a",)), node("Relu", ("a",), ("b",)), node("MatMul", ("b", "w"))]
    y, network = one(nodes, X, [floats("w", np.eye(4) * 2)], 17, tmp_path)
    np.testing.assert_allclose(y, np.maximum(X * 2, 0) * 2)
    assert len(list(network.parameters())) == 1


def test_sizes_are_computed_from_those_of_the_input(tmp_path):
    nodes = [node("Shape", ("x",), ("s",)), node("Gather", ("s", "zero"), ("n",), [of(0)]),
             node("Concat", ("n", "rest"), ("target",), [of(0)]), node("Reshape", ("x", "target"))]
    tensors = [tensor("zero", (1,), 7, np.array([0]).tobytes()), tensor("rest", (1,), 7, np.array([-1]).tobytes())]
    y, network = one(nodes, X, tensors, 17, tmp_path)
    assert y.shape == (2, 12) and network(minidl.ones(5, 3, 4)).shape == (5, 12)


def test_loose_weights_are_parameters_and_plain_numbers_are_not(tmp_path):
    nodes = [node("Mul", ("x", "scale"), ("a",)), node("Add", ("a", "half"), ("b",)), node("Where", ("m", "b", "low"))]
    tensors = [floats("scale", np.full(4, 2.0)), floats("half", np.array(0.5)), floats("low", np.full(4, -np.inf)),
               tensor("m", (4,), 9, b"\1\0\1\1")]
    y, network = one(nodes, X, tensors, 17, tmp_path)
    np.testing.assert_array_equal(y, np.where([True, False, True, True], X * 2 + 0.5, -np.inf))
    assert [name for name, _ in network.named_parameters()] == ["scale.value"]


def test_everything_that_is_not_there_is_named_at_once(tmp_path):
    nodes = [node("NonMaxSuppression", ("x",), ("a",), name="nms"), node("Det", ("x",), ("b",)),
             node("Det", ("x",), ("c",), name="second"), node("Relu")]
    with pytest.raises(FileFormatError, match=r"opset 17: not there in minidl: NonMaxSuppression \(node 'nms'\), "
                                              r"Det \(nodes '#1', 'second'\)$"):
        one(nodes, X, path=tmp_path)


def test_tensors_of_every_kind_are_read(tmp_path):
    half = np.float16([1.5, -2]).view(np.uint16).tolist()
    tensors = {
        "float16 in a row": (tensor("t", (2,), 10, None, fields(5, half)), np.float16([1.5, -2])),
        "bfloat16": (tensor("t", (2,), 16, np.uint16([0x3FC0, 0xC000]).tobytes()), np.float32([1.5, -2])),
        "int8 in a row": (tensor("t", (3,), 3, None, field(5, b"".join(map(varint, (-1, 5, -128))))),
                          np.int8([-1, 5, -128])),
        "int64 one by one": (tensor("t", (2,), 7, None, fields(7, (-3, 2**40))), np.array([-3, 2**40])),
        "uint64": (tensor("t", (1,), 13, None, field(11, varint(2**64 - 1))), np.uint64([2**64 - 1])),
        "double": (tensor("t", (1, 2), 11, None, field(10, np.float64([1, 2]).tobytes())), np.float64([[1, 2]])),
        "bool": (tensor("t", (3,), 9, b"\0\1\1"), np.array([False, True, True])),
        "a scalar": (tensor("t", (), 1, np.float32(3).tobytes()), np.float32(3)),
        "nothing": (tensor("t", (0, 3), 1, b""), np.empty((0, 3), np.float32)),
    }
    for name, (data, expected) in tensors.items():
        (tmp_path / "t.onnx").write_bytes(model(tensors=[data]))
        found = load_tensors(tmp_path / "t.onnx")["t"]
        assert found.dtype == expected.dtype and found.shape == expected.shape, name
        np.testing.assert_array_equal(found, expected, err_msg=name)
        assert found.flags.writeable


def test_wrong_inputs_are_named(tmp_path):
    network = load(GOLDEN / "resnet.onnx")
    with pytest.raises(TypeError, match=r"takes 1 inputs \(x\), 0 were given"):
        network()
    with pytest.raises(ValueError, match="conv1"):
        network(minidl.ones(1, 4, 20, 20))


def test_what_minidl_wrote_beside_the_network_is_carried(tmp_path):
    facts = field(14, field(1, "minidl.classes") + field(2, '["cat", "dog"]')) + \
        field(14, field(1, "minidl.preprocessing") + field(2, '{"range": [0, 1]}'))
    (tmp_path / "a.onnx").write_bytes(model(more=facts))
    network = load(tmp_path / "a.onnx")
    assert network.classes == ["cat", "dog"] and network.preprocessing == {"range": [0, 1]}
    assert network.provenance == {"onnx": "a.onnx", "opset": 17, "producer": ""}
