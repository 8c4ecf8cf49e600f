"""Losses: layers against functions, extreme inputs, what is refused and with which words, and what is warned about.

Values and gradients against PyTorch are in test_operations.py.
"""

import math
import warnings

import numpy as np
import pytest

import minidl.nn.functional as F
from minidl import nn, ops
from minidl.errors import ShapeError
from minidl.tensor import Tensor


def normal(*shape, dtype=np.float32):
    return Tensor(np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype), requires_grad=True)


def unit(*shape):
    return Tensor((np.random.default_rng(1 + sum(shape)).random(shape) * 0.8 + 0.1).astype(np.float32))


LABELS = Tensor(np.array([0, 3, 1, 3]))
WEIGHT = np.array([0.5, 2.0, 1.25, 0.75], np.float32)
OTHER = Tensor(-normal(4, 4).numpy()[::-1].copy())
LAYERS = [
    (nn.CrossEntropyLoss(), "cross_entropy", LABELS, {}),
    (nn.CrossEntropyLoss(WEIGHT, 3, "sum", 0.1), "cross_entropy", LABELS,
     {"weight": WEIGHT, "ignore_index": 3, "reduction": "sum", "label_smoothing": 0.1}),
    (nn.NLLLoss(WEIGHT, ignore_index=0), "nll_loss", LABELS, {"weight": WEIGHT, "ignore_index": 0}),
    (nn.BCEWithLogitsLoss(WEIGHT, "sum", WEIGHT[::-1].copy()), "binary_cross_entropy_with_logits", unit(4, 4),
     {"weight": WEIGHT, "reduction": "sum", "pos_weight": WEIGHT[::-1].copy()}),
    (nn.BCELoss(WEIGHT, "sum"), "binary_cross_entropy", unit(4, 4), {"weight": WEIGHT, "reduction": "sum"}),
    (nn.MSELoss("none"), "mse_loss", OTHER, {"reduction": "none"}),
    (nn.L1Loss(reduction="sum"), "l1_loss", OTHER, {"reduction": "sum"}),
    (nn.SmoothL1Loss(beta=0.3), "smooth_l1_loss", OTHER, {"beta": 0.3}),
    (nn.HuberLoss(delta=0.3), "huber_loss", OTHER, {"delta": 0.3}),
    (nn.KLDivLoss("batchmean", True), "kl_div", unit(4, 4), {"reduction": "batchmean", "log_target": True}),
]


@pytest.mark.parametrize("layer, function, target, options", LAYERS, ids=lambda value: str(value)[:20])
def test_layers_pass_every_option_on(layer, function, target, options):
    x = unit(4, 4) if function == "binary_cross_entropy" else normal(4, 4)
    loss = layer(x, target)
    np.testing.assert_array_equal(loss.numpy(), getattr(ops, function)(x, target, **options).numpy())
    np.testing.assert_array_equal(loss.numpy(), getattr(F, function)(x, target, **options).numpy())
    if options:  # each option matters: the default gives another value
        other = getattr(ops, function)(x, target).numpy()
        assert other.shape != loss.shape or not np.array_equal(loss.numpy(), other)


def test_class_weights_are_buffers():
    layer = nn.CrossEntropyLoss(weight=[1.0, 2.0])
    assert [name for name, _ in layer.named_buffers()] == ["weight"]
    assert list(layer.parameters()) == []
    assert layer.double().weight.dtype == np.float64
    assert list(nn.CrossEntropyLoss().state_dict()) == []


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_logits_of_any_size_give_finite_losses_and_gradients(size):
    x = Tensor(np.array([[size, 0, -size], [0, size, -size]], np.float32), requires_grad=True)
    loss = F.cross_entropy(x, Tensor(np.array([0, 2])), reduction="sum")
    assert loss.item() == pytest.approx(2 * size)
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 0, 0], [0, 1, -1]])
    x = Tensor(np.array([size, -size, size, -size], np.float32), requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(x, Tensor(np.array([1, 0, 0, 1], np.float32)), reduction="sum")
    assert loss.item() == pytest.approx(2 * size)
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0, 1, -1])


def test_large_common_offsets_do_not_blur_the_loss():
    x = np.array([[0.25, 1.5, -0.75]], np.float32)
    target = Tensor(np.array([1]))
    exact = F.cross_entropy(Tensor(x), target).item()
    assert F.cross_entropy(Tensor(x + 2**16), target).item() == pytest.approx(exact, rel=1e-6)


def test_all_targets_ignored_is_nan_for_the_mean_only():
    x, ignored = normal(2, 3), Tensor(np.array([-100, -100]))
    assert math.isnan(F.cross_entropy(x, ignored).item())
    assert math.isnan(F.nll_loss(x, ignored, weight=np.ones(3, np.float32)).item())
    loss = F.cross_entropy(x, ignored, reduction="sum")
    assert loss.item() == 0
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros((2, 3)))


def test_ignored_targets_change_neither_loss_nor_gradient():
    x = normal(5, 3)
    target = np.array([0, 2, -1, 1, -1])
    loss = F.cross_entropy(x, Tensor(target), ignore_index=-1, label_smoothing=0.1)
    loss.backward()
    kept = Tensor(x.numpy()[target != -1], requires_grad=True)
    expected = F.cross_entropy(kept, Tensor(target[target != -1]), label_smoothing=0.1)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (x.grad.numpy()[target == -1] == 0).all()
    np.testing.assert_allclose(x.grad.numpy()[target != -1], kept.grad.numpy(), rtol=1e-6)


def test_one_hot_probabilities_equal_indices():
    x, index = normal(4, 4), LABELS.numpy()
    one_hot = np.eye(4, dtype=np.float32)[index]
    hard, soft = F.cross_entropy(x, LABELS), F.cross_entropy(x, Tensor(one_hot))
    assert hard.item() == pytest.approx(soft.item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_labels_of_every_integer_type_are_taken(dtype):
    x = normal(4, 4)
    assert F.cross_entropy(x, Tensor(LABELS.numpy().astype(dtype))).item() == F.cross_entropy(x, LABELS).item()


def test_float64_targets_do_not_widen_float32():
    x = normal(4, 4)
    loss = F.cross_entropy(x, Tensor(np.full((4, 4), 0.25)), weight=np.ones(4), label_smoothing=np.float64(0.1))
    loss.backward()
    assert loss.dtype == x.grad.dtype == np.float32
    assert F.binary_cross_entropy_with_logits(x, Tensor(np.ones((4, 4))), pos_weight=np.ones(4)).dtype == np.float32
    for options in ({"label_smoothing": np.float64(0.1)}, {"weight": np.ones(4)}):
        assert ops.cross_entropy(x, LABELS, **options).dtype == np.float32
    assert ops.huber_loss(x, normal(4, 4), delta=np.float64(0.5)).dtype == np.float32
    assert ops.smooth_l1_loss(x, normal(4, 4), beta=np.float64(0.5)).dtype == np.float32
    assert F.mse_loss(x, Tensor(np.ones((4, 4), np.int64))).dtype == np.float32


def test_nan_passes_through():
    x = Tensor(np.array([[np.nan, 1, 2], [0, 1, 2]], np.float32), requires_grad=True)
    losses = F.cross_entropy(x, Tensor(np.array([1, 1])), reduction="none")
    assert np.isnan(losses.numpy()).tolist() == [True, False]
    losses.backward(np.ones(2, np.float32))
    assert np.isnan(x.grad.numpy()).tolist() == [[True] * 3, [False] * 3]
    probability = Tensor(np.array([np.nan, 0.5], np.float32))
    losses = F.binary_cross_entropy(probability, Tensor(np.ones(2, np.float32)), reduction="none").numpy()
    assert np.isnan(losses).tolist() == [True, False]
    assert math.isnan(F.mse_loss(x, Tensor(np.zeros((2, 3), np.float32))).item())


def test_binary_cross_entropy_cuts_logarithms_off_at_100():
    p = Tensor(np.array([0, 1, 0, 1], np.float32), requires_grad=True)
    losses = F.binary_cross_entropy(p, Tensor(np.array([1, 0, 0, 1], np.float32)), reduction="none")
    np.testing.assert_array_equal(losses.numpy(), [100, 100, 0, 0])
    losses.backward(np.ones(4, np.float32))
    assert np.isfinite(p.grad.numpy()).all()


def test_kl_div_of_zero_probability_is_zero_with_a_finite_gradient():
    target = Tensor(np.array([[0.0, 1.0]], np.float32), requires_grad=True)
    loss = F.kl_div(Tensor(np.log(np.array([[0.25, 0.75]], np.float32))), target, reduction="batchmean")
    assert loss.item() == pytest.approx(math.log(1 / 0.75))
    loss.backward()
    assert np.isfinite(target.grad.numpy()).all()


def test_kl_div_reaches_zero_for_equal_distributions():
    p = unit(3, 4).numpy()
    p /= p.sum(axis=1, keepdims=True)
    assert F.kl_div(Tensor(np.log(p)), Tensor(p), reduction="sum").item() == pytest.approx(0, abs=1e-6)


def index(*values):
    return Tensor(np.array(values))


BAD = [
    ("cross_entropy", normal(4, 10), index(1, 2, 10, 3), IndexError, r"label 10 at position \(2,\).*10 classes"),
    ("cross_entropy", normal(4, 10), index(1, 2, 3, -1), IndexError, r"label -1 at position \(3,\)"),
    ("cross_entropy", normal(4, 3), index(1, 2, 3, 1), IndexError, "do the labels start at 1"),
    ("cross_entropy", normal(2, 1), index(0, 1), IndexError, "binary_cross_entropy_with_logits"),
    ("nll_loss", normal(2, 3), index(0, 7), IndexError, r"nll_loss: label 7 at position \(1,\)"),
    ("cross_entropy", normal(2, 3, 2), Tensor(np.array([[0, 1], [0, 5]])), IndexError, r"label 5 at position \(1, 1\)"),
    ("cross_entropy", normal(4, 3), Tensor(np.zeros(4, np.float32)), TypeError, r"float32.*target\.long\(\)"),
    ("cross_entropy", normal(4, 3), Tensor(np.zeros(4, bool)), TypeError, "bool"),
    ("cross_entropy", normal(4, 3), Tensor(np.eye(4, 3, dtype=np.int64)), TypeError, r"one-hot.*argmax\(1\)"),
    ("nll_loss", normal(4, 3), Tensor(np.full((4, 3), 1 / 3)), TypeError, "class indices"),
    ("cross_entropy", normal(4, 3), Tensor(np.zeros((4, 1), int)), ShapeError, r"\(4, 1\).*needs \(4,\).*squeeze\(1\)"),
    ("cross_entropy", normal(4, 3), index(0, 1, 2), ShapeError, r"\(3,\), the input \(4, 3\) needs \(4,\)"),
    ("cross_entropy", index(1, 2), index(0), TypeError, "floating score"),
    ("binary_cross_entropy", unit(4, 1), unit(4), ShapeError, r"input\.squeeze\(1\)"),
    ("binary_cross_entropy", unit(4), unit(4, 1), ShapeError, r"target\.squeeze\(1\)"),
    ("binary_cross_entropy", unit(4), index(0, 1, 1, 0), TypeError, r"target\.float\(\)"),
    ("binary_cross_entropy", normal(50), unit(50), ValueError, "sigmoid"),
    ("binary_cross_entropy_with_logits", normal(4), index(0, 1, 1, 0), TypeError, r"target\.float\(\)"),
    ("binary_cross_entropy_with_logits", normal(4, 2), unit(4), ShapeError, r"\(4, 2\), target \(4,\)"),
    ("mse_loss", normal(4, 3), normal(4), ShapeError, r"mse_loss: input \(4, 3\) and target \(4,\)"),
    ("kl_div", normal(4, 3), normal(4), ShapeError, "kl_div"),
]


@pytest.mark.parametrize("function, input, target, error, message", BAD, ids=[f"{b[0]}-{i}" for i, b in enumerate(BAD)])
def test_bad_targets_are_refused(function, input, target, error, message):
    options = {"reduction": "sum"} if function == "kl_div" else {}
    with pytest.raises(error, match=message):
        getattr(F, function)(input, target, **options)


@pytest.mark.parametrize("call, message", [
    (lambda x, t: F.cross_entropy(x, t, weight=np.ones(3)), r"weight has shape \(3,\).*4 classes"),
    (lambda x, t: F.cross_entropy(x, t, reduction="average"), "'none', 'mean', 'sum', not 'average'"),
    (lambda x, t: F.cross_entropy(x, t, label_smoothing=1.5), "label_smoothing.*1.5"),
    (lambda x, t: F.cross_entropy(x, x.detach(), ignore_index=1), "ignore_index=1"),
    (lambda x, t: F.nll_loss(x, t, reduction="batchmean"), "batchmean"),
    (lambda x, t: F.mse_loss(x, x, reduction=None), "mse_loss: reduction"),
    (lambda x, t: F.smooth_l1_loss(x, x, beta=-1.0), "beta"),
    (lambda x, t: F.huber_loss(x, x, delta=0.0), "delta"),
    (lambda x, t: F.binary_cross_entropy_with_logits(x, unit(4, 4), pos_weight=np.ones(3)), "pos_weight"),
    (lambda x, t: F.binary_cross_entropy_with_logits(x, unit(4, 4), weight=np.ones((2, 4, 4))), "weight"),
])
def test_bad_options_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(normal(4, 4), LABELS)


def test_an_error_in_a_layer_names_it():
    with pytest.raises(IndexError, match="CrossEntropyLoss.*label 9"):
        nn.CrossEntropyLoss()(normal(2, 3), index(0, 9))


@pytest.mark.parametrize("call, message", [
    (lambda x: F.cross_entropy(F.softmax(x, dim=1), LABELS), "double softmax"),
    (lambda x: nn.CrossEntropyLoss()(F.softmax(x, dim=1), LABELS), "double softmax"),
    (lambda x: F.nll_loss(F.softmax(x, dim=1), LABELS), "log_softmax"),
    (lambda x: F.kl_div(F.softmax(x, dim=1), unit(4, 4), reduction="sum"), "log_softmax"),
    (lambda x: F.binary_cross_entropy_with_logits(ops.sigmoid(x), unit(4, 4)), "leave the sigmoid out"),
    (lambda x: nn.BCEWithLogitsLoss()(ops.sigmoid(x), unit(4, 4)), "leave the sigmoid out"),
    (lambda x: F.binary_cross_entropy_with_logits(x, Tensor(np.full((4, 4), 2.0))), "between 0 and 1.*2"),
    (lambda x: F.mse_loss(x, normal(4)), r"\(4, 4\) and target \(4,\)"),
    (lambda x: nn.L1Loss()(x, normal(4, 1)), r"\(4, 4\) and target \(4, 1\)"),
    (lambda x: F.smooth_l1_loss(x, normal(4)), "broadcasting"),
    (lambda x: F.huber_loss(x, normal(4)), "broadcasting"),
    (lambda x: F.kl_div(x, unit(4, 4)), "batchmean"),
])
def test_legal_but_surely_wrong_is_warned_about_at_the_callers_line(call, message):
    with pytest.warns(UserWarning, match=message) as caught:
        assert np.isfinite(call(normal(4, 4)).item())
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_the_warning_is_shown_once_for_each_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            F.cross_entropy(F.softmax(normal(4, 4), dim=1), LABELS)
    assert len(caught) == 1


def test_log_softmax_into_cross_entropy_is_fine():
    x = normal(4, 4)
    loss = F.cross_entropy(F.log_softmax(x, dim=1), LABELS)
    assert loss.item() == pytest.approx(F.cross_entropy(x, LABELS).item(), rel=1e-6)
    assert F.nll_loss(F.log_softmax(x, dim=1), LABELS).item() == pytest.approx(loss.item(), rel=1e-6)


def test_softmax_survives_large_and_infinite_scores():
    x = np.array([[1e4, 0, -np.inf], [-1e4, -1e4, -np.inf]], np.float32)
    np.testing.assert_array_equal(F.softmax(Tensor(x), dim=1).numpy(), [[1, 0, 0], [0.5, 0.5, 0]])
    np.testing.assert_allclose(F.log_softmax(Tensor(x), dim=1).numpy(),
                               [[0, -1e4, -np.inf], [-math.log(2), -math.log(2), -np.inf]], rtol=1e-6)
    rows = np.array([[-np.inf, -np.inf], [np.inf, 1e4], [1e4, 1e4]], np.float32)
    y = ops.logsumexp(Tensor(rows, requires_grad=True), dim=1)
    np.testing.assert_allclose(y.numpy(), [-np.inf, np.inf, 1e4 + math.log(2)], rtol=1e-7)


def test_softmax_of_a_dim_that_does_not_exist_names_it():
    with pytest.raises(IndexError, match="softmax: dim 2"):
        F.softmax(normal(4, 4), dim=2)


def test_integers_are_taken_as_float32():
    assert F.softmax(Tensor(np.array([1, 2])), dim=0).dtype == np.float32
