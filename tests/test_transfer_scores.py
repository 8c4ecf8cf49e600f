"""Transferability scores against direct definitions, brute-force evidence and scikit-learn (golden/make_scores.py)."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl import ShapeError
from minidl.tensor import Tensor
from minidl.transfer import h_score, leep, linear_probe, logistic_regression, logme, nce
from minidl.transfer.selection.linear_probe import deal
from minidl.transfer.selection.ranks import kendall, spearman

GOLDEN = np.load(Path(__file__).parent / "golden" / "scores.npz")
TABLES = ["tall", "wide", "duplicated", "noise"]
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", TABLES)
def test_scores_are_those_of_the_direct_definitions(name):
    x, labels, p = (GOLDEN[f"{name}.{key}"] for key in ("x", "labels", "p"))
    assert logme(x, labels) == pytest.approx(float(GOLDEN[f"{name}.logme"]), abs=1e-9)
    assert logme(x.astype(np.float32), Tensor(labels)) == pytest.approx(float(GOLDEN[f"{name}.logme"]), abs=1e-5)
    assert leep(p, labels) == pytest.approx(float(GOLDEN[f"{name}.leep"]), abs=1e-12)
    assert nce(p.argmax(1), labels) == pytest.approx(float(GOLDEN[f"{name}.nce"]), abs=1e-12)
    assert h_score(x, labels) == pytest.approx(float(GOLDEN[f"{name}.h_score_shrunk"]), abs=1e-10)
    assert h_score(x, labels, shrinkage=False) == pytest.approx(float(GOLDEN[f"{name}.h_score"]), abs=1e-8)


@pytest.mark.parametrize("name", TABLES)
def test_logistic_regression_is_at_the_optimum(name):
    x, labels = GOLDEN[f"{name}.x"], GOLDEN[f"{name}.labels"]
    weight, bias = logistic_regression(x, labels, l2=1e-2)
    scores = x @ weight.T + bias
    logs = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    loss = -logs[np.arange(len(x)), labels].mean() + 5e-3 * (weight**2).sum()
    assert loss <= float(GOLDEN[f"{name}.logistic_loss"]) + 1e-8
    np.testing.assert_allclose(np.exp(logs), GOLDEN[f"{name}.logistic_p"], atol=1e-4)


def test_logme_of_regression_targets():
    targets = GOLDEN["regression.targets"]
    assert logme(GOLDEN["tall.x"], targets) == pytest.approx(float(GOLDEN["regression.logme"]), abs=1e-9)
    single = [logme(GOLDEN["tall.x"], column) for column in targets.T]
    assert np.mean(single) == pytest.approx(logme(GOLDEN["tall.x"], targets), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 40), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_no_other_alpha_and_beta_give_more_evidence(count, width, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, width)) * 10.0 ** rng.uniform(-1, 1)
    y = x @ rng.standard_normal(width) * rng.uniform(0, 1) + rng.standard_normal(count)
    found = logme(x, y)
    for _ in range(50):
        alpha, beta = 10.0 ** rng.uniform(-3, 3, 2)
        covariance = x @ x.T / alpha + np.eye(count) / beta
        evidence = -0.5 * (count * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1]
                           + y @ np.linalg.solve(covariance, y)) / count
        assert evidence <= found + 1e-9 * abs(found) + 1e-9


def test_scores_tell_a_network_that_knows_from_one_that_does_not():
    labels = np.arange(200) % 4
    knows = np.eye(4)[labels] @ RNG.standard_normal((4, 12)) + 0.3 * RNG.standard_normal((200, 12))
    guesses = RNG.standard_normal((200, 12))
    for score in (logme, h_score, lambda x, y: linear_probe(x, y).accuracy):
        assert score(knows, labels) > score(guesses, labels) + 0.1
    sure = np.full((200, 4), 0.1 / 3)
    sure[np.arange(200), (labels + 1) % 4] = 0.9  # other names for the same classes
    assert leep(sure, labels) > leep(RNG.permutation(sure), labels) + 0.5
    assert nce((labels + 1) % 4, labels) == 0.0
    assert nce(np.zeros(200, int), labels) == pytest.approx(-np.log(4))


def test_useless_duplicated_and_perfect_features_give_finite_scores():
    labels = np.arange(40) % 2
    constant = np.full((40, 3), 7.0)
    perfect = np.eye(2)[labels]
    for x in (constant, np.zeros((40, 2)), perfect, np.concatenate([perfect] * 50, 1), perfect * 1e-20, perfect * 1e20):
        assert all(np.isfinite(score(x, labels)) for score in (logme, h_score))
        assert all(np.isfinite(score(x, labels, shrinkage=False)) for score in (h_score,))
        assert linear_probe(x, labels).accuracy == (0.5 if np.ptp(x) == 0 else 1.0)
    assert h_score(constant, labels) == 0.0
    assert logme(perfect, labels) > logme(constant, labels) + 1
    once = logme(GOLDEN["tall.x"], GOLDEN["tall.labels"])
    assert logme(np.repeat(GOLDEN["tall.x"], 3, axis=1), GOLDEN["tall.labels"]) == pytest.approx(once, abs=1e-9)
    assert h_score(np.repeat(GOLDEN["tall.x"], 3, axis=1), GOLDEN["tall.labels"], shrinkage=False) == pytest.approx(
        float(GOLDEN["tall.h_score"]), abs=1e-9)


def test_the_probe_is_cross_validated_on_folds_with_each_class_in_its_share():
    labels = np.array([0] * 50 + [1] * 25 + [2] * 5)
    part = deal(labels, 5, seed=0)
    np.testing.assert_array_equal([[(part[labels == c] == f).sum() for f in range(5)] for c in range(3)],
                                  [[10] * 5, [5] * 5, [1] * 5])
    x = RNG.standard_normal((80, 300))  # more features than samples, and nothing in them
    found = linear_probe(x, labels)
    assert len(found.folds) == 5 and found.accuracy == pytest.approx(np.mean(found.folds))
    assert found.std == pytest.approx(np.std(found.folds, ddof=1)) and found.accuracy < 0.75
    assert linear_probe(x, labels) == found != linear_probe(x, labels, seed=1)
    assert linear_probe(x, labels, standardize=False).accuracy < 0.75


def test_the_probe_of_many_features_is_that_of_the_same_features_in_fewer_coordinates():
    x, labels = RNG.standard_normal((60, 8)), np.arange(60) % 3
    x[:, 0] += labels
    axes = np.linalg.qr(RNG.standard_normal((100, 8)))[0]
    wide = linear_probe(x @ axes.T, labels, standardize=False)  # (60, 100), a rotation of x
    assert wide == linear_probe(x, labels, standardize=False)


Y = np.arange(6) % 2


@pytest.mark.parametrize("score", [logme, h_score, linear_probe, logistic_regression])
def test_bad_features_are_refused(score):
    x = np.ones((6, 3))
    with pytest.raises(ShapeError, match=r"features \(N, F\).*average maps over their pixels"):
        score(np.ones((6, 3, 2, 2)), Y)
    with pytest.raises(ShapeError, match="not shape"):
        score(np.ones((0, 3)), np.ones(0, int))
    with pytest.raises(TypeError, match="real numbers, not complex"):
        score(x + 1j, Y)
    x[4, 1] = np.nan
    with pytest.raises(ValueError, match="1 of the features are NaN or infinite, the first is number 1 of sample 4"):
        score(x, Y)
    with pytest.raises(ValueError, match="all 6 labels are 3; a score needs samples of at least two classes"):
        score(np.ones((6, 3)), np.full(6, 3))
    with pytest.raises(ShapeError, match=r"labels of shape \(6,\), not \(5,\)|targets \(N,\)"):
        score(np.ones((6, 3)), Y[:5])


def test_bad_labels_targets_and_options_are_refused():
    x = np.ones((6, 3))
    with pytest.raises(TypeError, match="labels must be integers"):
        h_score(x, Y.astype(float))
    with pytest.raises(ValueError, match="1 of the targets are NaN"):
        logme(x, np.array([1, 2, 3, 4, 5, np.nan]))
    with pytest.raises(ValueError, match="target 1 is the same for all"):
        logme(x, np.stack([np.arange(6.0), np.ones(6)], 1))
    with pytest.raises(ValueError, match="Are they logits"):
        leep(RNG.standard_normal((6, 3)), Y)
    with pytest.raises(ShapeError, match=r"nce: 6 samples need labels of shape \(6,\)"):
        nce(Y, Y[:5])
    with pytest.raises(TypeError, match="nce: source_labels"):
        nce(np.ones(6), Y)
    with pytest.raises(ValueError, match="folds must be from 2 to the number of samples, 6, not 7"):
        linear_probe(x, Y, folds=7)
    with pytest.raises(ValueError, match="l2 must be above 0"):
        linear_probe(x, Y, l2=0.0)


def test_leep_of_classes_that_are_never_predicted():
    p = np.zeros((6, 5))
    p[:, 2] = 1
    assert leep(p, Y) == pytest.approx(np.log(0.5))


def test_rank_correlations_with_ties_are_scipys():
    x, y = GOLDEN["ranks.x"], GOLDEN["ranks.y"]
    assert spearman(x, y) == pytest.approx(float(GOLDEN["ranks.spearman"]), abs=1e-12)
    assert kendall(x, y) == pytest.approx(float(GOLDEN["ranks.kendall"]), abs=1e-12)
    for correlation in (spearman, kendall):
        assert correlation([1, 2, 9], [0, 5, 6]) == 1 and correlation([1, 2, 9], [6, 5, 0]) == -1
        assert np.isnan(correlation([1, 1, 1], [1, 2, 3]))
        with pytest.raises(ShapeError, match="of the same length"):
            correlation([1, 2], [1, 2, 3])
        with pytest.raises(ValueError, match="NaN has no rank"):
            correlation([1, np.nan], [1, 2])
