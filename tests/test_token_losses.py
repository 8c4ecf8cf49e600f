"""Losses and perplexity over tokens: PyTorch's values, padding that changes nothing, errors that name the numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl.nn.functional as F
from minidl import nn
from minidl.data import length_mask
from minidl.errors import ShapeError
from minidl.tensor import Tensor
from minidl.train import Perplexity, perplexity

GOLDEN = np.load(Path(__file__).with_name("golden") / "token_losses.npz")
OPTIONS = {"mean": {}, "sum": {"reduction": "sum"}, "none": {"reduction": "none"}, "smooth": {"label_smoothing": 0.1},
           "weighted": {"weight": GOLDEN["weight"]}}
TARGET, MASK = GOLDEN["target"], GOLDEN["mask"]


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize("name", OPTIONS)
def test_values_and_gradients_are_pytorchs(name, dtype, rtol):
    for masked in (True, False):
        logits = Tensor(GOLDEN["logits"].astype(dtype), requires_grad=True)
        target = TARGET if masked else np.where(MASK, TARGET, -100)
        mask = MASK.astype(np.int64) if masked else None
        loss = F.masked_cross_entropy(logits, Tensor(target), mask, **OPTIONS[name])
        loss.sum().backward()
        assert loss.dtype == logits.grad.dtype == dtype
        np.testing.assert_allclose(loss.numpy(), GOLDEN[f"{name}/loss"], rtol=rtol)
        np.testing.assert_allclose(logits.grad.numpy(), GOLDEN[f"{name}/grad"], rtol=10 * rtol, atol=rtol)


def test_the_layer_is_the_function():
    logits = Tensor(GOLDEN["logits"])
    for options in ({}, {"reduction": "sum", "label_smoothing": 0.2}, {"ignore_index": 3}):
        layer = nn.MaskedCrossEntropyLoss(**options)
        assert layer(logits, TARGET, MASK).item() == F.masked_cross_entropy(logits, TARGET, MASK, **options).item()
        assert layer(logits, TARGET).item() == F.masked_cross_entropy(logits, TARGET, **options).item()
    weighted = nn.MaskedCrossEntropyLoss(GOLDEN["weight"])(logits, TARGET, MASK)
    np.testing.assert_allclose(weighted.numpy(), GOLDEN["weighted/loss"], rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), more=st.integers(0, 3), seed=st.integers(0, 9))
def test_padding_changes_nothing(lengths, more, seed):
    generator = np.random.default_rng(seed)
    steps = max(lengths) + more
    logits, ids = generator.standard_normal((len(lengths), steps, 4)), generator.integers(0, 4, (len(lengths), steps))
    mask = length_mask(lengths, steps)
    one_by_one = [F.cross_entropy(Tensor(row[:length]), Tensor(own[:length]), reduction="sum").item()
                  for row, own, length in zip(logits, ids, lengths)]
    mean = sum(one_by_one) / sum(lengths)
    assert F.masked_cross_entropy(Tensor(logits), Tensor(ids), mask).item() == pytest.approx(mean, rel=1e-12)
    metric = Perplexity(ignore_index=-1)
    for row, own, inside in zip(logits, ids, mask):
        metric.update(Tensor(row[None]), Tensor(np.where(inside, own, -1)[None]))
    assert metric.compute() == pytest.approx(math.exp(mean), rel=1e-12)


def test_perplexity_is_exp_of_pytorchs_loss():
    padded = np.where(MASK, TARGET, -100)
    assert perplexity(GOLDEN["logits"], padded) == pytest.approx(float(GOLDEN["perplexity"]), rel=1e-12)
    assert perplexity(GOLDEN["logits"].reshape(-1, 7), padded.reshape(-1)) == perplexity(GOLDEN["logits"], padded)
    assert perplexity(np.zeros((2, 3, 5)), np.zeros((2, 3), int)) == pytest.approx(5)
    assert perplexity(np.array([[1e4, 0.0]]), np.array([1])) == math.inf
    assert perplexity(np.array([[1e4, 0.0]]), np.array([0])) == 1
    assert math.isnan(perplexity(np.array([[np.nan, 0.0]]), np.array([0])))
    assert Perplexity().name == "perplexity"


@pytest.mark.parametrize("change, error, message", [
    ({"mask": MASK[:, :4]}, ShapeError, r"the mask has shape \(3, 4\), the targets \(3, 5\)"),
    ({"mask": MASK.astype(float)}, TypeError, "this one is float64: use mask > 0"),
    ({"mask": np.zeros_like(MASK)}, ValueError, "none of the 15 targets counts"),
    ({"target": TARGET.T}, ShapeError, r"\(3, 5, 7\) and \(5, 3\) do not fit$"),
    ({"target": TARGET[:, :1].repeat(7, 1)}, ShapeError, r"use input.transpose\(1, 2\)"),
    ({"target": TARGET + 7, "mask": None}, IndexError, "lies outside the 7 classes"),
])
def test_what_does_not_fit_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        F.masked_cross_entropy(**{"input": Tensor(GOLDEN["logits"]), "target": TARGET, "mask": MASK, **change})


def test_perplexity_of_what_does_not_fit():
    with pytest.raises(ShapeError, match=r"logits of shape \(2, 5, 3\) and targets of shape \(2, 3\) do not fit"):
        perplexity(np.zeros((2, 5, 3)), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="the target holds the label 5, expected labels from 0 to 4"):
        perplexity(np.zeros((2, 3, 5)), np.full((2, 3), 5))
    with pytest.raises(ValueError, match="no samples were given"):
        perplexity(np.zeros((1, 3)), np.array([-100]))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_token_outside_the_vocabulary_names_layer_id_and_size(backend):
    from minidl import use_backend

    model = nn.Sequential({"words": nn.Sequential({"embedding": nn.Embedding(50, 4)}), "output": nn.Linear(4, 2)})
    ids = np.full((40, 30), 7)
    ids[3, 9] = 50
    with use_backend(backend):
        with pytest.raises(IndexError, match=r"words.embedding \(Embedding\(50, 4\)\): embedding: index 50 at position "
                                             r"\(3, 9\) lies outside the 50 rows.*the vocabulary that belongs"):
            model(Tensor(ids))
