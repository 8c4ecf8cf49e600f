"""The compiled softmax and cross-entropy kernels against the reference: lengths, extremes, fallbacks, threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threads import assert_same_bits

from minidl.kernels import backend_module

CPU, REFERENCE = backend_module("cpu"), backend_module("reference")
TOLERANCE = 3e-6  # of the largest value: exp to 2 units in the last place, sums in another order


def draw(shape, seed=0, scale=5):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def close(actual, expected):
    assert actual.dtype == np.float32 and actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * max(np.abs(expected).max(), 1e-30))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 70), st.integers(1, 140))
def test_softmax_of_any_rows(rows, length):
    x, g = draw((rows, length)), draw((rows, length), 1, 1)
    for name in ("softmax", "log_softmax"):
        y = getattr(CPU, name)(x, -1)
        exact = getattr(REFERENCE, name)(x.astype(np.float64), -1)
        close(y, exact)
        grad, grad_exact = getattr(CPU, name + "_grad")(g, y, 1), getattr(REFERENCE, name + "_grad")(g, exact, 1)
        np.testing.assert_allclose(grad, grad_exact, rtol=0, atol=TOLERANCE * length)  # sums of `length` terms near 1


def test_exponentials_to_two_units_in_the_last_place():
    # softmax of (x, 0) with x far below is e^x, up to e^-17 of it
    x = np.linspace(-87.3, -17, 200_001, dtype=np.float32)
    y = CPU.softmax(np.stack([x, np.zeros_like(x)], axis=1), -1)[:, 0]
    exact = np.exp(x.astype(np.float64))
    exact /= 1 + exact
    assert (np.abs(y - exact) / np.spacing(exact.astype(np.float32))).max() <= 2


def test_masked_places_have_no_share():
    x = draw((3, 40))
    x[:, 7:] = -np.inf
    y = CPU.softmax(x, -1)
    assert (y[:, 7:] == 0).all()
    close(y, REFERENCE.softmax(x, -1))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_nan_and_infinity_spoil_their_row_alone(name):
    x = draw((5, 37))
    x[0, 30], x[1, 3], x[2], x[3, 36] = np.nan, np.inf, -np.inf, 3e38
    with np.errstate(all="ignore"):
        expected = getattr(REFERENCE, name)(x, -1)
    np.testing.assert_allclose(getattr(CPU, name)(x, -1), expected, rtol=1e-6, atol=1e-6)
    assert np.isnan(expected[:3]).all(axis=1).tolist()[0] and np.isfinite(expected[4]).all()


def labels_of(shape, classes, integer=np.int64):
    return np.random.default_rng(1).integers(0, classes, shape).astype(integer)


def results_of(kernels, x, target, g, options):
    """Losses, normalizers, total, counted and the gradient, of one backend."""
    losses, normalizers, total, counted = kernels.cross_entropy(x, target, **options)
    return losses, normalizers, total, counted, kernels.cross_entropy_grad(g, x, target, normalizers, **options)


def check_cross_entropy(x, target, g, **options):
    """Against the reference in float64."""
    exact_options = {**options, "weight": options["weight"].astype(np.float64)} if "weight" in options else options
    exact = results_of(REFERENCE, x.astype(np.float64), target, g.astype(np.float64), exact_options)
    losses, normalizers, total, counted, grad = results_of(CPU, x, target, g, options)
    close(losses, exact[0])
    close(normalizers, exact[1])
    np.testing.assert_allclose([total, counted], [exact[2], exact[3]], rtol=3e-6)
    largest = np.abs(g).max() * (options["weight"].sum() if "weight" in options else 1)  # of what is added up
    np.testing.assert_allclose(grad, exact[4], rtol=0, atol=TOLERANCE * largest)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 140), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.1, 1.0]),
       st.sampled_from([np.int64, np.int32, np.uint8]))
def test_cross_entropy(rows, classes, ignore, weighted, label_smoothing, integer):
    x, target = draw((rows, classes)), labels_of(rows, classes, integer)
    options = {"ignore_index": int(target[0]) if ignore else -100, "label_smoothing": label_smoothing}
    if weighted:
        options["weight"] = np.random.default_rng(2).random(classes, np.float32)
    for g in (np.float32(1 / rows), draw(rows, 3, 1)):
        check_cross_entropy(x, target, g, **options)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.integers(1, 40), st.booleans(), st.booleans(),
       st.sampled_from([0.0, 0.1]))
def test_cross_entropy_of_every_pixel(images, classes, height, width, ignore, weighted, label_smoothing):
    x, target = draw((images, classes, height, width)), labels_of((images, height, width), classes)
    options = {"ignore_index": int(target.flat[0]) if ignore else -100, "label_smoothing": label_smoothing}
    if weighted:
        options["weight"] = np.random.default_rng(2).random(classes, np.float32)
    for g in (np.float32(0.7), draw(target.shape, 3, 1)):
        check_cross_entropy(x, target, g, **options)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 20), st.booleans(), st.booleans())
def test_nll_loss(rows, classes, length, ignore, weighted):
    log_p, target = draw((rows, classes, length)), labels_of((rows, length), classes)
    weight = np.random.default_rng(2).random(classes, np.float32) if weighted else None
    options = {"weight": weight, "ignore_index": int(target[0, 0]) if ignore else -100}
    (losses, *sums), (exact, *exact_sums) = [k.nll_loss(log_p, target, **options) for k in (CPU, REFERENCE)]
    close(losses, exact)
    np.testing.assert_allclose(sums, exact_sums, rtol=1e-5, atol=1e-5)
    for g in (np.float32(0.7), draw(target.shape, 3, 1)):
        close(CPU.nll_loss_grad(g, target, classes, **options),
              REFERENCE.nll_loss_grad(g, target, classes, **options))


@pytest.mark.parametrize("backend", [CPU, REFERENCE], ids=["cpu", "reference"])
@pytest.mark.parametrize("label", [-1, 7, 10**12])
def test_labels_outside_the_classes_are_found_on_any_number_of_threads(backend, label):
    for shape in ((2000, 7), (3, 7, 900)):
        target = labels_of(shape[:1] + shape[2:], 7)
        target.flat[-1] = label
        for loss in (backend.cross_entropy, backend.nll_loss):
            with pytest.raises(IndexError, match="outside"):
                loss(draw(shape), target)
            losses = loss(draw(shape), target, ignore_index=label)[0]
            assert losses.flat[-1] == 0 and losses.flat[0] != 0


def test_cross_entropy_of_huge_logits():
    x = draw((4, 50), scale=1e30)
    target = x.argmax(axis=1)
    losses, normalizers, total, _ = CPU.cross_entropy(x, target)
    np.testing.assert_array_equal(losses, 0)
    np.testing.assert_array_equal(CPU.cross_entropy_grad(np.ones(4, np.float32), x, target, normalizers), 0)
    assert total == 0


def test_cross_entropy_of_nan():
    x = draw((4, 50))
    x[1, 20] = np.nan
    target = np.array([3, 4, 5, 6])
    losses, normalizers, _, _ = CPU.cross_entropy(x, target)
    grad = CPU.cross_entropy_grad(np.ones(4, np.float32), x, target, normalizers)
    assert np.isnan(losses).tolist() == np.isnan(grad).all(axis=1).tolist() == [False, True, False, False]
    pixels, labels = np.stack([x, x + 1]).transpose(0, 2, 1).copy(), np.stack([target, target])  # 2, 50, 4
    losses, normalizers, _, _ = CPU.cross_entropy(pixels, labels)
    grad = CPU.cross_entropy_grad(np.ones((2, 4), np.float32), pixels, labels, normalizers)
    assert np.isnan(losses).tolist() == np.isnan(grad).all(axis=1).tolist() == [[False, True, False, False]] * 2


@pytest.mark.parametrize("change", [lambda x: x.astype(np.float64), lambda x: x[::-1], lambda x: x.T],
                         ids=["float64", "reversed", "turned"])
def test_other_arrays_take_the_reference(change):
    x, g = change(draw((8, 8))), change(draw((8, 8), 1))
    target = np.arange(8)
    for name in ("softmax", "log_softmax"):
        for dim in (0, 1, -1):
            y = getattr(REFERENCE, name)(x, dim)
            same([getattr(CPU, name)(x, dim), getattr(CPU, name + "_grad")(g, y, dim)],
                 [y, getattr(REFERENCE, name + "_grad")(g, y, dim)])
    g = np.ones(8, x.dtype)
    same(results_of(CPU, x, target, g, {}), results_of(REFERENCE, x, target, g, {}))


def same(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        np.testing.assert_array_equal(ours, theirs)


def test_same_bits_for_any_number_of_threads():
    x, g, target = draw((301, 143)), draw((301, 143), 1), np.arange(301) % 143
    pixels, labels = draw((3, 5, 41, 43)), labels_of((3, 41, 43), 5)
    weight = np.random.default_rng(2).random(143, np.float32)

    def compute():
        y, log_y = CPU.softmax(x, -1), CPU.log_softmax(x, -1)
        results = [y, log_y, CPU.softmax_grad(g, y, -1), CPU.log_softmax_grad(g, log_y, -1),
                   *results_of(CPU, x, target, g[:, 0].copy(), {"weight": weight, "label_smoothing": 0.1}),
                   *results_of(CPU, pixels, labels, draw(labels.shape), {"label_smoothing": 0.1}),
                   *CPU.nll_loss(log_y, target, weight)]
        return dict(enumerate(results))

    assert_same_bits(compute)
