"""Compiled dropout and embedding gradients against the reference: odd sizes, what does not fit, threads."""

import numpy as np
import pytest

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
