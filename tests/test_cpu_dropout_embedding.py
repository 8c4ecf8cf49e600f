"""Compiled dropout, its masks, and embedding against the reference: odd sizes, what does not fit, threads."""

import numpy as np
import pytest
from threads import assert_same_bits

import minidl
from minidl.kernels import cpu, reference

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(3,), (401,), (7, 11, 13), (50, 1001)], ids=str)
def test_dropout(shape, p):
    x = GENERATOR.standard_normal(shape).astype(np.float32)
    mask = GENERATOR.random(shape) >= p
    np.testing.assert_allclose(cpu.dropout(x, mask, p), reference.dropout(x, mask, p), rtol=3e-7)
    channels = mask[:1]  # broadcasts
    for other, kept in ((x, channels), (x.astype(np.float64), mask), (x.T, mask.T)):
        ours = cpu.dropout(other, kept, p)
        np.testing.assert_allclose(ours, reference.dropout(other, kept, p), rtol=3e-7)
        assert ours.dtype == other.dtype


@pytest.mark.parametrize("p", [0.0, 1e-12, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (3, 5), (8191,), (8193,), (3, 20_001)], ids=str)
def test_a_mask_has_the_bits_that_its_specification_says(shape, p):
    masks = [backend.dropout_mask(shape, p, np.random.default_rng(5)) for backend in (cpu, reference)]
    assert masks[0].dtype == masks[1].dtype == np.bool_ and masks[0].shape == shape
    np.testing.assert_array_equal(*masks)
    flat, seed = masks[0].reshape(-1), int(np.random.default_rng(5).integers(2**64, dtype=np.uint64))
    for i in range(0, flat.size, 997):
        half = splitmix64(seed, i // 2 + 1) >> 32 * (i % 2) & 0xFFFFFFFF
        assert flat[i] == (half >= round(p * 2**32))


def splitmix64(seed, number):
    """The word of that number, in Python's own integers."""
    word = (seed + number * 0x9E3779B97F4A7C15) % 2**64
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31


def test_splitmix64_is_the_published_one():
    # the first words of seed 1234567 as Rosetta Code lists them ("Pseudo-random numbers/Splitmix64")
    assert [splitmix64(1234567, n) for n in (1, 2, 3)] == [6457827717110365317, 3203168211198807973,
                                                           9817491932198370423]


def test_masks_are_random():
    """Shares, neighbours, rows and masks of one generator: each within five standard deviations."""
    generator, p, count = np.random.default_rng(0), 0.3, 1_000_000
    first, second = [cpu.dropout_mask((1000, 1000), p, generator) for _ in range(2)]
    deviation = (p * (1 - p) / count) ** 0.5
    for mask in (first, second):
        assert abs(mask.mean() - (1 - p)) < 5 * deviation
        assert np.abs(mask.mean(axis=0) - (1 - p)).max() < 5 * (p * (1 - p) / 1000) ** 0.5
        assert np.abs(mask.mean(axis=1) - (1 - p)).max() < 5 * (p * (1 - p) / 1000) ** 0.5
        flat = mask.reshape(-1).astype(np.float64) - (1 - p)
        for lag in (1, 2, 3, 16, 1000):
            assert abs((flat[lag:] * flat[:-lag]).mean()) < 5 * p * (1 - p) / count**0.5
    both = (first.astype(np.float64) - (1 - p)) * (second.astype(np.float64) - (1 - p))
    assert abs(both.mean()) < 5 * p * (1 - p) / count**0.5


def test_a_mask_has_the_same_bits_for_any_number_of_threads():
    assert_same_bits(lambda: {"mask": cpu.dropout_mask((7, 11_003), 0.4, np.random.default_rng(2))})


@pytest.mark.parametrize("shape, table, width", [((5,), 3, 1), ((4, 9), 50, 17), ((60, 100), 1000, 64), ((9,), 9, 3)])
def test_embedding(shape, table, width):
    weight, indices = GENERATOR.standard_normal((table, width)).astype(np.float32), GENERATOR.integers(0, table, shape)
    for rows, places in ((weight, indices), (weight.astype(np.float64), indices), (weight[:, ::-1], indices),
                         (weight, indices.astype(np.uint8)), (weight, indices[..., ::-1]), (weight, indices[:0])):
        ours = cpu.embedding(rows, places)
        np.testing.assert_array_equal(ours, rows[places])
        assert ours.dtype == rows.dtype
    for wrong in (-1, table):
        indices.flat[-1] = wrong
        for backend in (cpu, reference):
            with pytest.raises(IndexError, match="outside"):
                backend.embedding(weight, indices)


@pytest.mark.parametrize("padding_idx", [None, 0, 2])
@pytest.mark.parametrize("shape, table, width", [((5,), 3, 1), ((4, 9), 50, 17), ((60, 100), 1000, 64), ((9,), 9, 3)])
def test_embedding_grad(shape, table, width, padding_idx):
    indices = GENERATOR.integers(0, table, shape)
    g = GENERATOR.standard_normal((*shape, width)).astype(np.float32)
    before = minidl.get_num_threads()
    results = []
    for threads in (1, 2):
        minidl.set_num_threads(threads)
        results.append(cpu.embedding_grad(g, indices, table, padding_idx))
    minidl.set_num_threads(before)
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(results[0], reference.embedding_grad(g, indices, table, padding_idx), atol=3e-6)
    assert padding_idx is None or not results[0][padding_idx].any()


def test_embedding_grad_of_what_does_not_fit():
    indices = np.array([[1, 2], [0, 1]])
    g = np.ones((2, 2, 3), np.float32)
    for other_g, other in ((g, indices.astype(np.int32)), (g.astype(np.float64), indices), (g[:0], indices[:0]),
                           (g, indices.T), (g[:, :, ::2], indices)):
        ours = cpu.embedding_grad(other_g, other, 4)
        np.testing.assert_array_equal(ours, reference.embedding_grad(other_g, other, 4))
        assert ours.dtype == other_g.dtype
    with pytest.raises(IndexError):
        cpu.embedding_grad(g, indices + 10, 4)
