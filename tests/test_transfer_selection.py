"""Which model, cut where: cuts at the ends of stages, scores from one pass, a table, and advice on real data."""

import json
import warnings

import numpy as np
import pytest

import minidl
from minidl import ShapeError, nn, no_grad, optim
from minidl.data import DataLoader, fashion_mnist, mnist
from minidl.models import BertModel, create_model, mnist_cnn
from minidl.tensor import Tensor
from minidl.train import Trainer
from minidl.transfer import (
    Probe,
    advise,
    compute_features,
    features,
    h_score,
    leep,
    linear_probe,
    logme,
    nce,
    rehead,
    which_model,
)
from minidl.transfer.selection.cuts import cells, find_cuts, pooled, run_once

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 3
IMAGES = (RNG.integers(0, 90, (60, 1, 8, 8)) + 80 * (LABELS[:, None, None, None] == np.arange(8) // 3)).astype(np.uint8)


class Counted(nn.Identity):
    """Counts the samples that pass."""

    seen = 0

    def forward(self, x):
        self.seen += len(x)
        return x


def small(classes=4, channels=1):
    return nn.Sequential({
        "count": Counted(),
        "stage1": nn.Sequential(nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        "stage2": nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        "dense": nn.Linear(32, 12),
        "relu": nn.ReLU(),
        "fc": nn.Linear(12, classes),
    })


def cuts_of(model, *shape):
    with no_grad():
        trace = run_once(model.eval(), Tensor(RNG.standard_normal(shape).astype(np.float32)))
    return find_cuts(trace), trace.head


def test_cuts_are_the_ends_of_stages():
    assert cuts_of(small(), 2, 1, 8, 8) == (["stage1", "stage2"], "fc")
    assert cuts_of(create_model("mnist_cnn"), 2, 1, 28, 28) == (["features.pool1", "features"], "classifier.output")
    resnet = create_model("resnet20")
    assert cuts_of(resnet, 2, 3, 32, 32) == (["layer1", "layer2", "layer3"], "linear")
    pooling = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert cuts_of(pooling, 2, 1, 8, 8) == ([], "4")  # what the head is given
    wrapped = nn.Sequential({"scale": nn.Identity(), "net": resnet})
    assert cuts_of(wrapped, 2, 3, 32, 32) == (["net.layer1", "net.layer2", "net.layer3"], "net.linear")
    mlp = nn.Sequential(*[part for _ in range(9) for part in (nn.Linear(6, 6), nn.ReLU())], nn.Linear(6, 2))
    assert cuts_of(mlp, 2, 6) == (["1", "3", "7", "9", "13", "15"], "18")  # of nine, six
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())  # no head at all
    assert cuts_of(body, 2, 1, 8, 8) == (["1"], None)


@pytest.mark.parametrize("height, width, grid", [(8, 8, 4), (7, 9, 4), (5, 3, 4), (1, 1, 4), (6, 6, 1), (11, 4, 2)])
def test_maps_are_averaged_in_cells_as_adaptive_pooling_does(height, width, grid):
    x = RNG.standard_normal((3, 5, height, width)).astype(np.float32)
    size = cells(x.shape, grid)
    expected = nn.AdaptiveAvgPool2d(size)(Tensor(x)).numpy().reshape(3, -1)
    np.testing.assert_allclose(pooled(x, grid=grid), expected, rtol=1e-5, atol=1e-6)
    assert size == min(grid, height, width) and cells((3, 512, 14, 14), 4) == 2 and cells((3, 2049, 7, 7), 4) == 1


def test_cuts_of_a_sequence_model_are_its_blocks():
    bert = BertModel(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
    ids = RNG.integers(1, 20, (30, 5))
    with no_grad():
        trace = run_once(bert.eval(), Tensor(ids))
    assert find_cuts(trace) == ["embeddings", "encoder.layer.0", "encoder.layer.1"] and trace.head is None
    labels = np.arange(30) % 2
    for pool, take in (("mean", lambda x: x.mean(1)), ("first", lambda x: x[:, 0])):
        found = which_model({"bert": bert}, (ids, labels), pool=pool, batch_size=16)
        assert found.pixels is None and {cut.at for cut in found.cuts} == set(find_cuts(trace))
        last = found.along("bert")[-1]
        expected = take(compute_features(bert, (ids, labels), "encoder.layer.1", batch_size=16)[0])
        assert last.logme == pytest.approx(logme(expected, labels), abs=1e-6) and last.leep is None


def test_scores_are_those_of_the_features_at_each_cut_from_one_pass():
    model = small().train()
    other = small(classes=5)
    statistics = model.stage1[1].running_mean.numpy().copy()
    found = which_model({"one": model, "two": lambda: other}, (IMAGES, LABELS), batch_size=16)
    assert model.training and not any(module._forward_hooks for module in model.modules())
    np.testing.assert_array_equal(model.stage1[1].running_mean.numpy(), statistics)
    assert model.count.seen == 60 + 2  # the data once, and two samples to find the cuts
    assert [cut.at for cut in found.along("one")] == ["stage1", "stage2", None]
    x = Tensor((IMAGES / 255).astype(np.float32))
    with no_grad():
        outputs = features(model.eval(), ["stage1", "stage2", "relu", "fc"])(x)
    for cut, path in zip(found.along("one"), ("stage1", "stage2", "relu")):
        expected = outputs[path].numpy()
        if expected.ndim == 4:  # stage1: (60, 6, 4, 4)
            expected = nn.AdaptiveAvgPool2d(4)(outputs[path]).numpy().reshape(60, -1)
            assert cut.title == "stage1, 4 x 4" and cut.cells == 4
        assert cut.features == expected.shape[1]
        assert cut.logme == pytest.approx(logme(expected, LABELS), abs=1e-4)
        assert cut.h_score == pytest.approx(h_score(expected, LABELS), abs=1e-3)
        assert cut.probe.accuracy == pytest.approx(linear_probe(expected, LABELS).accuracy, abs=0.04)
    scores = outputs["fc"].numpy().astype(float)
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    head = found.along("one")[-1]
    assert head.leep == pytest.approx(leep(p, LABELS), abs=1e-5)
    assert head.nce == pytest.approx(nce(p.argmax(1), LABELS), abs=1e-5)
    assert found.pixels.accuracy == pytest.approx(linear_probe(IMAGES.reshape(60, -1) / 255, LABELS).accuracy, abs=0.04)
    accuracies = [cut.probe.accuracy for cut in found.cuts]
    assert accuracies == sorted(accuracies, reverse=True) and found.best is found.cuts[0]
    assert (found.labels, found.classes, found.chance) == (60, 3, pytest.approx(1 / 3))
    by_logme = which_model({"one": model, "two": other}, (IMAGES, LABELS), by="logme", cuts={"one": ["stage1"]})
    assert by_logme.best.logme == max(cut.logme for cut in by_logme.cuts)
    assert [cut.at for cut in by_logme.along("one")] == ["stage1", None] and len(by_logme.along("two")) == 3


def test_data_of_every_kind_and_each_candidates_own_preprocessing():
    model = small()
    model.preprocessing = {"range": [0, 255]}
    model.preprocess = lambda images: minidl.transfer.preprocess(images, {"range": [0, 255], "mean": [100], "std": [9]})
    data = mnist("train", subset=40)
    options = {"prepare": lambda images: images[:, :, 2:26:3, 2:26:3], "cuts": ["stage1"]}
    whole = which_model({"a": model}, data, **options)
    pair = which_model({"a": model}, (data.images, data.labels), **options)
    assert whole.cuts[0].logme == pair.cuts[0].logme
    batches = [(data.images[start:start + 20], data.labels[start:start + 20]) for start in (0, 20)]
    assert which_model({"a": model}, batches, **options).cuts[0].logme == pytest.approx(pair.cuts[0].logme, abs=1e-5)
    exact = which_model({"a": model.double()}, pair_of(data), cuts=["stage1"])
    assert exact.along("a")[0].logme == pytest.approx(pair.along("a")[0].logme, abs=1e-4)
    model.float()
    bare = which_model({"a": small(), "b": model}, DataLoader([(image, 0 if i % 2 else 1) for i, image in enumerate(
        (data.images[:, :, 2:26:3, 2:26:3]).astype(np.uint8))], batch_size=8), cuts=["stage1"])
    assert bare.classes == 2
    with pytest.warns(UserWarning, match="values from 0 to 1, candidate 'a' was trained on up to 255; give bytes"):
        which_model({"a": model}, (data.images / np.float32(255), data.labels), **options)


def pair_of(data):
    return np.ascontiguousarray(data.images[:, :, 2:26:3, 2:26:3]), data.labels


def test_a_head_that_was_never_trained_says_nothing():
    model = rehead(small(), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = which_model({"a": model}, (IMAGES, LABELS))
    assert all(cut.leep is None for cut in found.cuts)
    with pytest.warns(minidl.transfer.UntrainedWarning):  # it still warns when it is asked to predict
        model.eval()(Tensor(IMAGES.astype(np.float32)))


def test_table_file_and_picture(tmp_path):
    found = which_model({"one": small(), "two": small()}, (IMAGES, LABELS))
    lines = str(found).splitlines()
    assert lines[0].startswith("| candidate | cut | features | probe | LogME |")
    assert sum(line.startswith(("| one |", "| two |")) for line in lines) == 6 and "| input of fc |" in str(found)
    assert lines[-1].startswith("Recommended: ") and "60 labels of 3 classes, chance 33.3%" in str(found)
    found.save(tmp_path / "found.json")
    read = json.loads((tmp_path / "found.json").read_text())
    assert read["cuts"][0]["logme"] == found.best.logme and read["advice"]["method"] == found.advice.method
    found.draw(tmp_path / "found.png")
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_compared_is_refused():
    data = (IMAGES, LABELS)
    with pytest.raises(ValueError, match="no candidates"):
        which_model({}, data)
    with pytest.raises(ValueError, match="by is one of probe, logme, h_score, not 'leep'"):
        which_model({"a": small()}, data, by="leep")
    with pytest.raises(ValueError, match="cuts for 'aa', which is no candidate; did you mean 'a'"):
        which_model({"a": small()}, data, cuts={"aa": ["stage1"]})
    with pytest.raises(KeyError, match="stage1"):
        which_model({"a": small()}, data, cuts=["stage7"])
    with pytest.raises(ShapeError, match="candidate 'a': .*; prepare= can bring the inputs to the shape"):
        which_model({"a": small(channels=3)}, data)
    with pytest.raises(ValueError, match="an iterator, which only the first candidate could read"):
        which_model({"a": small()}, iter([data]))
    with pytest.raises(ValueError, match="the data has no labels"):
        which_model({"a": small()}, IMAGES)
    with pytest.raises(TypeError, match="labels must be integers"):
        which_model({"a": small()}, (IMAGES, LABELS / 2))
    broken = small()
    broken.stage1[0].weight.array[...] = np.nan
    with pytest.raises(ValueError, match="candidate 'b' at 'stage1': logme: .* NaN .* does the network give NaN"):
        which_model({"a": small(), "b": broken}, data)


def probe(*folds):
    return Probe(float(np.mean(folds)), float(np.std(folds, ddof=1)), folds)


def test_the_rule_of_the_advice():
    good, better, poor = probe(0.8, 0.82, 0.81), probe(0.9, 0.91, 0.9), probe(0.5, 0.53, 0.51)
    assert advise("a", {None: good}, None, 0.1, poor, 20).method == "features"
    assert advise("a", {None: good}, None, 0.1, poor, 200).method == "parameters"
    assert advise("a", {None: probe(0.98, 0.99, 0.98)}, None, 0.1, poor, 200).method == "features"
    assert advise("a", {None: good}, None, 0.1, good, 200).method == "structure"
    assert advise("a", {None: good}, None, 0.1, better, 20).method == "scratch"
    assert advise("a", {None: probe(0.5, 0.52, 0.46)}, None, 0.5, None, 20).method == "scratch"
    assert advise("a", {None: probe(0.5, 0.9, 0.55)}, None, 0.5, None, 20).method == "scratch"  # noise
    early = advise("a", {"layer2": better, None: good}, "layer2", 0.1, poor, 200)
    assert early.method == "parameters" and "What comes behind 'layer2' belongs to the old task" in early.reason
    assert "belongs to the old" not in advise("a", {"layer2": good, None: good}, "layer2", 0.1, poor, 200).reason
    assert early.gain == pytest.approx(better.accuracy - poor.accuracy)


def test_features_are_recommended_where_they_suffice_and_refused_where_they_are_useless():
    """Digits the network has read already, and clothes for a network whose every unit is dead."""
    minidl.seed(0)
    reader = mnist_cnn()
    trainer = Trainer(reader, nn.CrossEntropyLoss(), optim.Adam(reader.named_parameters(), lr=1e-3))
    trainer.fit(mnist("train", subset=2000), epochs=3, batch_size=64, progress=False)
    found = which_model({"reader": reader, "fresh": mnist_cnn()}, mnist("test", subset=300), cuts=[])
    assert found.best.candidate == "reader" and found.advice.method == "features"
    assert found.best.probe.accuracy > found.pixels.accuracy + 0.05
    blind = mnist_cnn()
    blind.features.conv2.weight.array[2:] = 0  # two units are left of 64
    blind.features.conv2.bias.array[2:] = 0
    few = which_model({"blind": blind}, fashion_mnist("test", subset=200), cuts=[])
    assert few.advice.method == "scratch" and few.best.probe.accuracy < few.pixels.accuracy
    many = which_model({"blind": blind}, fashion_mnist("test", subset=1000), cuts=[])
    assert many.advice.method == "structure"
