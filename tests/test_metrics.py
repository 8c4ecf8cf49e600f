"""Metrics equal scikit-learn's, in one go and batch by batch, from labels, scores and logits; errors are explained."""

from pathlib import Path

import numpy as np
import pytest

from minidl.errors import ShapeError
from minidl.tensor import Tensor
from minidl.train import metrics

GOLDEN = np.load(Path(__file__).with_name("golden") / "metrics.npz")
CASES = sorted({key.split("/")[0] for key in GOLDEN.files} - {"ranking", "regression"})
FUNCTIONS = [metrics.precision, metrics.recall, metrics.f1]
AVERAGES = ["binary", "micro", "macro", "weighted"]
EMPTY = [0.0, 1.0, np.nan]
every_case = pytest.mark.parametrize("name", CASES)


def case(name):
    return GOLDEN[f"{name}/predicted"], GOLDEN[f"{name}/target"]


@every_case
@pytest.mark.parametrize("average", AVERAGES)
def test_means_over_classes_equal_scikit_learn(name, average):
    if average == "binary" and not name.startswith("binary"):
        with pytest.raises(ValueError, match="average='binary' is for the labels 0 and 1.*'macro'"):
            metrics.precision(*case(name))
        return
    expected = GOLDEN[f"{name}/means"][:, AVERAGES.index(average)]
    for i, function in enumerate(FUNCTIONS):
        for j, empty in enumerate(EMPTY):
            figure = function(*case(name), average=average, zero_division=empty)
            assert isinstance(figure, float)
            np.testing.assert_allclose(figure, expected[i, j, 0], rtol=1e-12, err_msg=f"{function} {empty}")
            if average != "binary":
                figure = function(*case(name), average=average, zero_division=empty, num_classes=6)
                np.testing.assert_allclose(figure, expected[i, j, 1], rtol=1e-12, err_msg=f"{function} {empty} of 6")


@every_case
def test_figures_of_each_class_equal_scikit_learn(name):
    for i, function in enumerate(FUNCTIONS):
        for j, empty in enumerate(EMPTY):
            for key, classes in (("classes", None), ("classes_of_6", 6)):
                figures = function(*case(name), average=None, zero_division=empty, num_classes=classes)
                np.testing.assert_allclose(figures, GOLDEN[f"{name}/{key}"][i, j], rtol=1e-12)


@every_case
def test_accuracy_and_confusion_matrix_equal_scikit_learn(name):
    assert metrics.accuracy(*case(name)) == pytest.approx(float(GOLDEN[f"{name}/accuracy"]), rel=1e-12)
    for key, classes in (("confusion_matrix", None), ("confusion_matrix_of_6", 6)):
        matrix = metrics.confusion_matrix(*case(name), num_classes=classes)
        np.testing.assert_array_equal(matrix, GOLDEN[f"{name}/{key}"])
        assert matrix.dtype == np.int64


@pytest.mark.parametrize("k", range(1, 8))
def test_top_k_accuracy_equals_scikit_learn(k):
    scores, target = GOLDEN["ranking/scores"], GOLDEN["ranking/target"]
    assert metrics.top_k_accuracy(scores, target, k) == pytest.approx(GOLDEN["ranking/top_k"][k - 1], rel=1e-12)


def test_a_constant_or_nan_output_is_not_always_among_the_highest():
    target = np.arange(4) % 4
    assert metrics.top_k_accuracy(np.zeros((4, 4)), target, 2) == 0.5
    assert metrics.top_k_accuracy(np.full((4, 4), np.nan), target, 2) == 0.0


@pytest.mark.parametrize("function", [metrics.mean_squared_error, metrics.mean_absolute_error])
def test_regression_equals_scikit_learn(function):
    figure = function(GOLDEN["regression/output"], GOLDEN["regression/target"])
    assert figure == pytest.approx(float(GOLDEN[f"regression/{function.__name__}"]), rel=1e-12)


METRICS = [metrics.Accuracy(), metrics.ConfusionMatrix(), metrics.Precision("macro"), metrics.Recall(None),
           metrics.F1("weighted"), metrics.TopKAccuracy(2), metrics.MeanSquaredError(), metrics.MeanAbsoluteError()]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_batches_add_up(metric):
    """Classes that turn up in later batches only, a reset in between, and Tensors as well as arrays."""
    random = np.random.default_rng(7)
    scores, target = random.standard_normal((30, 5)).astype(np.float32), np.sort(random.integers(0, 5, 30))
    if "error" in metric.name:
        target = random.standard_normal((30, 5))
    whole = metric(scores, target)
    metric.update(scores, target)
    metric.reset()
    for rows in (slice(0, 3), slice(3, 20), slice(20, 30)):
        metric.update(Tensor(scores[rows]), Tensor(target[rows]))
    np.testing.assert_allclose(metric.compute(), whole, rtol=1e-12)


def test_outputs_of_every_form_become_labels():
    target = np.array([0, 2, 1, 1])
    scores = np.array([[3.0, 1, 2], [0, 0, 1], [5, 4, 3], [0, 1, 0]], np.float32)  # 0, 2, 0, 1
    assert metrics.accuracy(scores, target) == 0.75
    assert metrics.accuracy(scores, np.eye(3)[target]) == 0.75
    assert metrics.accuracy(np.array([0, 2, 0, 1]), target) == 0.75
    assert metrics.accuracy(scores.T.reshape(1, 3, 4), target.reshape(1, 4)) == 0.75  # N, C, L
    assert metrics.accuracy([0, 2, 0, 1], target.tolist()) == 0.75
    yes = np.array([1, 0, 1, 1])
    logits = np.array([0.3, -2.0, 0.7, -0.1])
    assert metrics.accuracy(logits, yes) == metrics.accuracy(logits[:, None], yes) == 0.75
    assert metrics.accuracy(logits[:, None], yes[:, None].astype(np.float32)) == 0.75
    assert metrics.accuracy(logits, yes, threshold=0.5) == 0.5
    assert metrics.precision(logits, yes) == 1.0
    assert metrics.recall(logits, yes) == pytest.approx(2 / 3)


@pytest.mark.parametrize("call, error, message", [
    (lambda: metrics.accuracy(np.zeros((4, 3)), np.zeros(5, int)), ShapeError, r"\(4, 3\).*\(5,\)"),
    (lambda: metrics.accuracy(np.zeros(4, int), np.zeros(5, int)), ShapeError, r"\(4,\).*\(5,\)"),
    (lambda: metrics.accuracy(np.zeros((4, 3)), np.full(4, 0.5)), TypeError, "class labels"),
    (lambda: metrics.accuracy(np.zeros((4, 3)), np.full(4, 3)), ValueError, "label 3, expected labels from 0 to 2"),
    (lambda: metrics.accuracy(np.zeros(4, int), np.full(4, -1)), ValueError, "label -1"),
    (lambda: metrics.accuracy(np.zeros(4), np.full(4, 2)), ValueError, "from 0 to 1"),
    (lambda: metrics.top_k_accuracy(np.zeros((4, 3)), np.zeros(4, int)), ValueError, "only 3 classes"),
    (lambda: metrics.top_k_accuracy(np.zeros(4), np.zeros(4, int), 1), ShapeError, r"scores \(N, C\)"),
    (lambda: metrics.TopKAccuracy(0), ValueError, "k must be"),
    (lambda: metrics.confusion_matrix([0, 7], [0, 1], num_classes=3), ValueError, "label 7 does not fit num_classes=3"),
    (lambda: metrics.confusion_matrix([0, 10**9], [0, 1]), ValueError, "too large a matrix"),
    (lambda: metrics.f1([0, 1], [0, 1], average="mean"), ValueError, "average must be one of"),
    (lambda: metrics.Accuracy().compute(), ValueError, "no samples"),
    (lambda: metrics.F1("macro").compute(), ValueError, "no samples"),
    (lambda: metrics.mean_squared_error(np.zeros((4, 1)), np.zeros(4)), ShapeError, r"use output.squeeze\(1\)"),
])
def test_bad_input_is_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()
