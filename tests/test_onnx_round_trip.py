"""From minidl to an ONNX file and back: the same results, the same names of weights, and once more to a file."""

import numpy as np
import onnx_runtime
import pytest
from zoo_cases import weights

import minidl
from minidl import models, nn
from minidl.onnx import export
from minidl.tensor import Tensor

importer = pytest.importorskip("minidl.onnx.importer")
IDS = np.random.default_rng(0).integers(1, 30, (3, 7))
MASK = (np.arange(7) < np.array([[2], [5], [7]])).astype(np.int64)


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def results(model, arrays):
    model.eval()
    with minidl.no_grad():
        return onnx_runtime.tensors(model(*[Tensor(array) for array in arrays]))


def round_trip(path, model, example, other):
    """The model of the exported file; it gives what the first one gives, and so does that of its own file."""
    export(model, example, path / "first.onnx")
    loaded = importer.load(path / "first.onnx")
    export(loaded, example, path / "second.onnx")
    for arrays in (example, other):
        expected = results(model, arrays)
        for copy in (loaded, importer.load(path / "second.onnx")):
            for ours, theirs in zip(expected, results(copy, arrays), strict=True):
                assert ours.shape == theirs.shape
                np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5 * np.abs(ours).max())
    return loaded


@pytest.mark.parametrize("name, shape", [("lenet5", (1, 28, 28)), ("resnet20", (3, 16, 16)),
                                         ("mobilenet_v2", (3, 32, 32)), ("efficientnet_lite0", (3, 33, 32))])
def test_image_classifiers_keep_every_weight_under_its_name(name, shape, tmp_path):
    model = models.create_model(name, 5)
    model.load_state_dict(weights({name: value.shape for name, value in model.state_dict().items()}))
    loaded = round_trip(tmp_path, model, (numbers(2, *shape),), (numbers(3, *shape),))
    found = dict(loaded.named_parameters())
    for key, value in model.named_parameters():
        np.testing.assert_array_equal(found[key].numpy(), value.numpy())
    assert len(found) == len(dict(model.named_parameters()))


def test_texts(tmp_path):
    bert = models.BertModel(30, 12, 2, 3, 16, max_position_embeddings=12)
    round_trip(tmp_path, bert, (IDS[:2], MASK[:2]), (IDS, MASK))
    round_trip(tmp_path, models.GPT(30, 12, n_layer=2, n_head=2, n_embd=8), (IDS[:2],), (IDS,))
    lengths = np.array([2, 7, 4])
    classifier = models.RecurrentClassifier(30, 4, 6, 5, 2, recurrent="gru", pool="max")
    round_trip(tmp_path, classifier, (IDS[:2], lengths[:2]), (IDS, lengths))


def test_layers_that_onnx_writes_otherwise(tmp_path):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"), nn.GELU(), nn.MaxPool2d(2, ceil_mode=True), nn.GroupNorm(2, 4),
        nn.ConvTranspose2d(4, 3, 3, 2, 1, 1), nn.Mish(), nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.AdaptiveAvgPool2d((3, 5)), nn.Flatten(2), nn.LayerNorm(15), nn.LSTM(15, 4, batch_first=True,
                                                                                bidirectional=True))
    round_trip(tmp_path, model, (numbers(2, 3, 9, 8),), (numbers(4, 3, 9, 8),))
