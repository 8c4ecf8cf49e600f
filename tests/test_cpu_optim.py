"""The compiled optimiser steps against the reference: every option, odd sizes, what does not fit, threads."""

import itertools

import numpy as np
import pytest

import minidl
from minidl.kernels import cpu, reference

SGD = [dict(lr=0.1, momentum=momentum, dampening=dampening, weight_decay=decay, nesterov=nesterov, maximize=maximize)
       for momentum, dampening, decay, nesterov, maximize in itertools.product(
           (0.0, 0.9), (0.0, 0.3), (0.0, 0.01), (False, True), (False, True))
       if not (nesterov and (dampening or not momentum))]
ADAM = [dict(lr=0.01, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=decay, decoupled_weight_decay=decoupled,
             maximize=maximize)
        for decay, decoupled, maximize in itertools.product((0.0, 0.1), (False, True), (False, True))]
RMSPROP = [dict(lr=0.01, alpha=0.9, eps=1e-8, momentum=momentum, weight_decay=decay, maximize=maximize)
           for momentum, decay, maximize in itertools.product((0.0, 0.5), (0.0, 0.1), (False, True))]
SHAPES = [(1,), (3, 5), (7, 11, 13), (40_001,)]


def arrays(shape, count, seed=0, dtype=np.float32):
    generator = np.random.default_rng(seed)
    parameter, gradient = (generator.standard_normal(shape).astype(dtype) for _ in range(2))
    return [parameter, gradient, *[np.zeros(shape, dtype) for _ in range(count)]]


def steps(backend, name, given, options, state=()):
    """Three steps on copies; the parameter and all state afterwards."""
    given = [array.copy(order="K") for array in given]
    kernel = getattr(backend, name)
    for step in range(1, 4):
        extra = {"step": step} if name == "adam_step" else {}
        lists = [[array] for array in given]
        kernel(*lists[:len(given) - len(state)], **dict(zip(state, lists[len(given) - len(state):])),
               **options, **extra)
        given[1][...] = np.cos(3 * given[1])  # another gradient for the next step, laid out alike
    return given


def same(name, given, options, state=(), rtol=2e-6):
    results = [steps(backend, name, given, options, state) for backend in (cpu, reference)]
    for ours, wanted in zip(*results):
        np.testing.assert_allclose(ours, wanted, rtol=rtol, atol=2e-6, err_msg=f"{name} {options}")
    assert not np.array_equal(results[0][0], given[0])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sgd(shape):
    for options in SGD:
        same("sgd_step", arrays(shape, 1 if options["momentum"] else 0), options)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_adam(shape, amsgrad):
    for options in ADAM:
        same("adam_step", arrays(shape, 3 if amsgrad else 2), options, rtol=2e-5)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rmsprop(shape, centered):
    for options in RMSPROP:
        state = (["momentum_buffers"] if options["momentum"] else []) + (["grad_avgs"] if centered else [])
        same("rmsprop_step", arrays(shape, 1 + len(state)), options, state, rtol=2e-5)


CALLS = {"sgd_step": (SGD[-1], 1), "adam_step": (ADAM[-1], 3), "rmsprop_step": (RMSPROP[-1], 2)}


@pytest.mark.parametrize("name", CALLS)
def test_what_does_not_fit_gives_the_same_through_the_reference(name):
    options, count = CALLS[name]
    doubles = arrays((5, 7), count, dtype=np.float64)
    transposed = [array.T for array in arrays((5, 7), count)]
    mixed = [np.asfortranarray(array) if i == 1 else array for i, array in enumerate(arrays((5, 7), count))]
    for given in (doubles, transposed, mixed):
        for ours, wanted in zip(*[steps(backend, name, given, options) for backend in (cpu, reference)]):
            np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("name", CALLS)
def test_the_same_bits_on_any_number_of_threads(name):
    options, count = CALLS[name]
    before = minidl.get_num_threads()
    results = []
    for threads in (1, 2):
        minidl.set_num_threads(threads)
        results.append(steps(cpu, name, arrays((100_003,), count), options))
    minidl.set_num_threads(before)
    for one, two in zip(*results):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", CALLS)
def test_nan_and_infinity_in_the_gradient_reach_the_parameter(name):
    options, count = CALLS[name]
    given = arrays((500,), count)
    given[1][[3, 4]] = np.nan, np.inf
    with np.errstate(all="ignore"):
        for ours, wanted in zip(*[steps(backend, name, given, options) for backend in (cpu, reference)]):
            np.testing.assert_array_equal(np.isnan(ours), np.isnan(wanted))
            assert np.isnan(ours[3]) and np.isfinite(ours[5])


@pytest.mark.parametrize("name", CALLS)
def test_many_parameters_at_once_as_one_by_one(name):
    """Small ones, one of several pieces, and one in the middle that only the reference takes."""
    options, count = CALLS[name]
    options = options | ({"step": 3} if name == "adam_step" else {})
    shapes = [(3, 5), (70_001,), (4, 4), (1,), (20, 1000)]
    given = [arrays(shape, count, seed) for seed, shape in enumerate(shapes)]
    given[2] = [array.astype(np.float64) for array in given[2]]
    together = [[array.copy() for array in several] for several in given]
    getattr(cpu, name)(*map(list, zip(*together)), **options)
    for several, result in zip(given, together):
        getattr(cpu, name)(*[[array] for array in several], **options)
        for one, other in zip(several, result):
            np.testing.assert_array_equal(one, other)
