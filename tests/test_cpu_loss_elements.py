"""Compiled losses of input and target, and their logarithm, against the reference: edges, weights, NaN, threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threads import assert_same_bits

from minidl.kernels import backend_module
from minidl.kernels.cpu.logarithm import log, log_of_one_less
from minidl.kernels.cpu.runtime import compiled

CPU, REFERENCE = backend_module("cpu"), backend_module("reference")
DIFFERENCES = [("mse_loss", ()), ("l1_loss", ()), ("smooth_l1_loss", (0.7,)), ("huber_loss", (1.3,))]
SIZES = [400, 1025, 16384, 40_001]  # the smallest that is compiled, and where blocks, parts and threads begin


def draw(shape, seed=0, scale=2):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def unit(shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def close(actual, expected, tolerance=3e-6):
    assert np.asarray(actual).dtype == np.float32 and np.shape(actual) == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-30))


def check(name, gradient, inputs, options):
    """Losses, their sum, and the gradient for one g and for one each."""
    exact = [x.astype(np.float64) for x in inputs]
    wide = {key: value.astype(np.float64) if isinstance(value, np.ndarray) else value
            for key, value in options.items()}
    losses = getattr(CPU, name)(*inputs, **options)
    close(losses, getattr(REFERENCE, name)(*exact, **wide))
    close(getattr(CPU, name)(*inputs, **options, total=True), getattr(REFERENCE, name)(*exact, **wide, total=True))
    for g in (np.float32(0.3), draw(losses.shape, 7), np.broadcast_to(np.float32(2), losses.shape)):
        close(getattr(CPU, gradient)(g, *inputs, **options),
              getattr(REFERENCE, gradient)(g.astype(np.float64), *exact, **wide))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name, parameter", DIFFERENCES, ids=lambda value: str(value))
def test_losses_of_the_difference(name, parameter, size):
    x, y = draw(size), draw(size, 1)
    x[::5] = y[::5]
    options = dict(zip(("beta" if name == "smooth_l1_loss" else "delta",), parameter))
    check(name, name + "_grad", (x, y), options)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_losses(size, weighted):
    weight = {"weight": np.broadcast_to(unit(1) + 1, (size, 3))} if weighted else {}
    p, t = unit((size, 3)), unit((size, 3), 1)
    # up to where p (1 - p) has no digits left
    p.flat[::7], p.flat[1::7], t.flat[::3] = 1e-4, 1 - 2**-10, 1
    check("binary_cross_entropy", "binary_cross_entropy_grad_input", (p, t), weight)
    for favour in ({}, {"pos_weight": unit((size, 3), 2) * 3}):
        check("binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_grad_input", (draw((size, 3)), t),
              {**weight, **favour})


def test_edges_of_binary_cross_entropy():
    p = np.tile(np.array([0, 1, 0, 1, 1e-40, 0.5], np.float32), 100)
    t = np.tile(np.array([1, 0, 0, 1, 1, 0.5], np.float32), 100)
    expected = REFERENCE.binary_cross_entropy(p.astype(np.float64), t)
    close(CPU.binary_cross_entropy(p, t), expected)
    assert expected[:4].tolist() == [100, 100, 0, 0]
    close(CPU.binary_cross_entropy_grad_input(np.float32(1), p, t),
          REFERENCE.binary_cross_entropy_grad_input(np.float32(1), p, t))
    x = np.tile(np.array([-1e30, 1e30, -90, 90, 0, 20], np.float32), 100)
    close(CPU.binary_cross_entropy_with_logits(x, t),
          REFERENCE.binary_cross_entropy_with_logits(x.astype(np.float64), t))


@settings(max_examples=40, deadline=None)
@given(st.floats(2.0**-148, 2.0**126, width=32, allow_subnormal=True))
def test_logarithm(x):
    values = (np.float32(x) * np.linspace(0.5, 2, 100, dtype=np.float32)).astype(np.float32)
    values = values[values > 0]
    exact = np.log(values.astype(np.float64))
    assert (np.abs(logarithms(values) - exact) <= 3 * np.spacing(np.abs(exact).astype(np.float32))).all()


def test_logarithm_of_one_less():
    p = np.concatenate([np.geomspace(1e-30, 1, 3000), np.linspace(0.2, 0.9999, 3000)]).astype(np.float32)[1:]
    p = p[p < 1]
    exact = np.log1p(-p.astype(np.float64))
    error = np.abs(logarithms_of_one_less(p) - exact)
    assert (error <= 4 * np.spacing(np.abs(exact).astype(np.float32))).all()
    assert np.isneginf(logarithms_of_one_less(np.ones(1, np.float32))[0])


def test_logarithm_of_what_has_none():
    y = logarithms(np.array([0, -1, np.nan, np.inf, -np.inf], np.float32))
    np.testing.assert_array_equal(y, np.array([-np.inf, np.nan, np.nan, np.inf, np.nan], np.float32))


@compiled
def logarithms(x):
    y = np.empty_like(x)
    for i in range(x.size):
        y[i] = log(x[i])
    return y


@compiled
def logarithms_of_one_less(x):
    y = np.empty_like(x)
    for i in range(x.size):
        y[i] = log_of_one_less(x[i])
    return y


@pytest.mark.parametrize("name, parameter", [*DIFFERENCES, ("binary_cross_entropy_with_logits", ())])
def test_nan_and_infinity_pass(name, parameter):
    x, y = draw(500), unit(500, 1)
    x[3], y[5], x[7] = np.nan, np.nan, np.inf
    kernel, plain = getattr(CPU, name), getattr(REFERENCE, name)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(kernel(x, y, *parameter), plain(x, y, *parameter), rtol=1e-5, atol=1e-6)
    assert np.isnan(kernel(x, y, *parameter)[[3, 5]]).all() and np.isnan(kernel(x, y, *parameter, total=True))
    grad = name + ("_grad" if parameter or name in ("mse_loss", "l1_loss") else "_grad_input")
    gradients = [getattr(k, grad)(np.float32(1), x, y, *parameter) for k in (CPU, REFERENCE)]
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [lambda x: x.astype(np.float64), lambda x: x[::-1], lambda x: x.T, lambda x: x[:0],
                                    lambda x: x[:3]], ids=["float64", "reversed", "turned", "empty", "small"])
def test_other_arrays_take_the_reference(change):
    x, y = change(draw((40, 40))), change(unit((40, 40), 1))
    for name, parameter in [*DIFFERENCES, ("binary_cross_entropy_with_logits", ())]:
        for total in (False, True):
            ours, theirs = [getattr(k, name)(x, y, *parameter, total=total) for k in (CPU, REFERENCE)]
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(CPU.mse_loss(x, y[:1]), REFERENCE.mse_loss(x, y[:1]))


def test_same_bits_for_any_number_of_threads():
    x, y, weight = draw(100_003), unit(100_003, 1), unit(100_003, 2)

    def compute():
        return {f"{name} {total}": getattr(CPU, name)(x, y, *options, total=total) for total in (False, True)
                for name, options in [*DIFFERENCES, ("binary_cross_entropy_with_logits", (weight,))]} | {
            "p": CPU.binary_cross_entropy(y, weight, total=True), "g": CPU.huber_loss_grad(x, x, y, 0.5)}

    assert_same_bits(compute)
