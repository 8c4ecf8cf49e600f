"""The compiled recurrent kernels against the reference in float64: sizes, directions, lengths, fallbacks, threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threads import assert_same_bits

from minidl.kernels import backend_module
from minidl.kernels.cpu.recurrent import _shares

CPU, REFERENCE = backend_module("cpu"), backend_module("reference")
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
KINDS = ("rnn tanh", "rnn relu", "lstm", "gru")
every_kind = pytest.mark.parametrize("kind", KINDS)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def run(module, kind, width, batch_sizes, reverse, dtype=np.float32, change=lambda x: x):
    """All that a kernel and its gradient give, for arrays drawn from one seed."""
    random, (name, *nonlinearity) = np.random.default_rng(0), kind.split()
    size, count, gates = sum(batch_sizes), batch_sizes[0], GATES[name]
    batch_sizes = np.array(batch_sizes)

    def draw(*shape):
        return change(random.standard_normal(shape).astype(np.float32).astype(dtype))

    inputs, weight = draw(size, gates * width), draw(gates * width, width) / np.sqrt(width).astype(dtype)
    starts = [draw(count, width) for _ in range(2 if name == "lstm" else 1)]
    options = (batch_sizes, *nonlinearity, reverse)
    g, bias = draw(size + len(starts) * count, width), [draw(width)] if name == "gru" else []
    forward = getattr(module, name)(inputs, *starts, weight, *bias, *options)
    backward, results = getattr(module, f"{name}_grad"), list(forward) if isinstance(forward, tuple) else [forward]
    if name == "rnn":
        return [*results, *backward(g, forward, weight, *options)]
    if name == "lstm":
        return [*results, inputs, *backward(g, inputs, forward[1], starts[1], weight, *options)]
    return [*results, inputs, *backward(g, inputs, forward[1], forward[0], starts[0], weight, *options)]


def check(kind, width, batch_sizes, reverse, tolerance=2e-5):
    exact = run(REFERENCE, kind, width, batch_sizes, reverse, np.float64)
    for ours, other in zip(run(CPU, kind, width, batch_sizes, reverse), exact, strict=True):
        assert ours.dtype == np.float32 and ours.shape == other.shape
        np.testing.assert_allclose(ours, other, rtol=0, atol=tolerance * max(1, np.abs(other).max()))


@every_kind
@both_ways
@pytest.mark.parametrize("width, batch_sizes", [(1, [1]), (5, [3, 2, 2]), (32, [64] * 3), (50, [29, 29, 16, 15, 1]),
                                                (70, [1] * 5), (129, [15] * 4)], ids=str)
def test_agrees_with_the_reference(kind, reverse, width, batch_sizes):
    check(kind, width, batch_sizes, reverse)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 40), st.lists(st.integers(1, 6), min_size=1, max_size=20), st.booleans())
def test_agrees_for_any_lengths(kind, width, lengths, reverse):
    batch_sizes = [sum(length > step for length in lengths) for step in range(max(lengths))]
    check(kind, width, batch_sizes, reverse)


@every_kind
@both_ways
def test_same_bits_for_any_number_of_threads(kind, reverse):
    falling = [40 - step // 2 for step in range(30)]
    for width, batch_sizes in [(33, [37] * 12), (64, falling), (24, [4] * 40)]:
        def compute(width=width, batch_sizes=batch_sizes):
            return {str(number): result for number, result in enumerate(run(CPU, kind, width, batch_sizes, reverse))}

        assert_same_bits(compute)


def test_threads_share_sequences_of_different_length_evenly(monkeypatch):
    monkeypatch.setattr("minidl.kernels.cpu.recurrent.get_num_threads", lambda: 2)
    lengths = np.arange(100, 0, -1)
    batch_sizes = np.array([(lengths > step).sum() for step in range(100)])
    _, bounds = _shares(batch_sizes, np.empty((64, 64)))
    first, second = lengths[:bounds[1]].sum(), lengths[bounds[1]:].sum()
    assert bounds[0] == 0 and bounds[2] == 100 and abs(first - second) <= 100


@every_kind
def test_other_arrays_take_the_reference(kind):
    for change in (lambda x: x.astype(np.float64), lambda x: x[::-1] if x.ndim == 2 else x):
        mine, theirs = [run(module, kind, 6, [4, 4, 2], False, change=change) for module in (CPU, REFERENCE)]
        for ours, other in zip(mine, theirs, strict=True):
            assert ours.dtype == other.dtype
            np.testing.assert_allclose(ours, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ("rnn tanh", "lstm", "gru"))
def test_nan_and_large_numbers_stay_in_their_row(kind):
    name, *nonlinearity = kind.split()
    inputs = np.zeros((12, 20 * GATES[name]), np.float32)
    inputs[1, 3], inputs[2] = np.nan, 1e30
    states = [np.zeros((4, 20), np.float32)] * (2 if name == "lstm" else 1)
    weight, bias = np.eye(20 * GATES[name], 20, dtype=np.float32), [None] if name == "gru" else []
    result = getattr(CPU, name)(inputs, *states, weight, *bias, np.array([4, 4, 4]), *nonlinearity, False)
    result = result[0] if isinstance(result, tuple) else result
    assert np.isnan(result[1]).sum() == 1 and np.isnan(result[9]).any()
    assert np.isfinite(np.delete(result[:12], [1, 5, 9], axis=0)).all()
