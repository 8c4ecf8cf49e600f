"""The compiled activation functions against exact values: accuracy, special values, every option, sizes, threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl
from minidl.kernels import cpu, reference

CASES = {
    "relu": [()], "sigmoid": [()], "tanh": [()], "silu": [()], "erf": [()],
    "leaky_relu": [(0.01,), (0.3,)], "elu": [(1.0,), (1.7,)], "softplus": [(1.0, 20.0), (2.5, 4.0)],
    "gelu": [("none",), ("tanh",)],
}
ALL = [(name, options) for name, several in CASES.items() for options in several]
OF_RESULT = ("relu", "sigmoid", "tanh")  # their gradients take y instead of x
SPECIAL = np.array([0, -0.0, 1e-30, -1e-30, 3e-39, 1e-8, -1e-8, 0.9, 0.90001, -4, 4.01, 20, 88, -88, 89, -104, 200,
                    -200, 1e10, -1e10, np.inf, -np.inf, np.nan], np.float32)


def inputs(size=70_003):
    """Numbers of many sizes, and gradients; special values first."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal(size).astype(np.float32) * generator.choice(np.float32([1e-3, 1, 10]), size)
    x[:min(size, SPECIAL.size)] = SPECIAL[:size]
    return x, generator.standard_normal(size).astype(np.float32)


def exact(name, options, *arrays):
    with np.errstate(all="ignore"):
        return getattr(reference, name)(*[array.astype(np.float64) for array in arrays], *options)


@pytest.mark.parametrize("name, options", ALL)
def test_values_are_right_to_a_few_units_in_the_last_place(name, options):
    x, _ = inputs()
    y, wanted = getattr(cpu, name)(x, *options), exact(name, options, x)
    assert y.dtype == np.float32 and y.shape == x.shape
    finite = np.isfinite(wanted)
    assert np.array_equal(np.isfinite(y), finite)
    error = np.abs(y[finite] - wanted[finite])
    size = np.abs(x[finite]) if name == "gelu" else np.abs(wanted[finite])  # gelu is x times what cancels to 0
    assert np.max(error / np.maximum(size, 0.1)) < 5e-7  # 4 units, absolute near zero
    if name in ("tanh", "sigmoid", "elu", "erf") or options == (1.0, 20.0):  # right relative to tiny results too
        shown = np.abs(wanted[finite]) > 1e-37
        assert np.max((error / np.maximum(np.abs(wanted[finite]), 1e-45))[shown]) < 5e-7


@pytest.mark.parametrize("name, options", ALL)
def test_gradients(name, options):
    x, g = inputs()
    if name in OF_RESULT:
        x = getattr(cpu, name)(x, *options)
    ours, wanted = getattr(cpu, name + "_grad")(g, x, *options), exact(name + "_grad", options, g, x)
    finite = np.isfinite(wanted) & np.isfinite(x)
    assert np.max(np.abs(ours[finite] - wanted[finite]) / np.maximum(np.abs(wanted[finite]), 1)) < 5e-6
    assert np.isfinite(ours[finite]).all()


@pytest.mark.parametrize("name, options", ALL)
def test_special_values_as_in_the_reference(name, options):
    x, _ = inputs()
    with np.errstate(all="ignore"):
        wanted = getattr(reference, name)(x, *options)[:SPECIAL.size]
    np.testing.assert_allclose(getattr(cpu, name)(x, *options)[:SPECIAL.size], wanted, rtol=1e-6, atol=3e-7)


@pytest.mark.parametrize("name, options", ALL)
def test_other_arrays_go_to_the_reference(name, options):
    x, _ = inputs(2002)
    x = x.reshape(22, 91)
    with np.errstate(all="ignore"):
        for other in (x.astype(np.float64), x.T, x[:, ::2], x[:0], x[:2]):
            for kernel, arrays in ((name, [other]), (name + "_grad", [other, other])):
                ours = getattr(cpu, kernel)(*arrays, *options)
                np.testing.assert_array_equal(ours, getattr(reference, kernel)(*arrays, *options))
                assert ours.dtype == other.dtype


@pytest.mark.parametrize("name, options", ALL)
def test_the_same_bits_on_any_number_of_threads(name, options):
    x, g = inputs()
    before = minidl.get_num_threads()
    results = []
    for threads in (1, 2):
        minidl.set_num_threads(threads)
        results.append((getattr(cpu, name)(x, *options), getattr(cpu, name + "_grad")(g, x, *options)))
    minidl.set_num_threads(before)
    for one, two in zip(*results):
        np.testing.assert_array_equal(one, two)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4).filter(lambda shape: np.prod(shape) < 100_000))
def test_any_shape(shape):
    x = np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)
    for name in ("relu", "tanh", "silu"):
        y = getattr(cpu, name)(x)
        assert y.shape == x.shape
        np.testing.assert_allclose(y, getattr(reference, name)(x), rtol=1e-6, atol=1e-6)


def test_nan_stays_and_gradients_stop_where_the_result_is_zero():
    x = np.full(1000, np.nan, np.float32)
    assert np.isnan(cpu.relu(x)).all()
    assert not cpu.relu_grad(x, np.zeros_like(x)).any()
