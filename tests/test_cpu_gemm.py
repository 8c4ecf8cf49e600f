"""The compiled matrix products against float64: edges of every kind, transposed operands, batches, threads, layouts."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl
from minidl import kernels

pytest.importorskip("numba")

from minidl.kernels.cpu import gemm as gemm_module  # noqa: E402
from minidl.kernels.cpu.gemm import chosen, gemm, gemm_batched  # noqa: E402
from minidl.kernels.cpu.microkernel import COLUMNS, LANES, ROWS, tile_of  # noqa: E402
from minidl.kernels.cpu.runtime import get_num_threads, set_num_threads  # noqa: E402


@pytest.fixture(autouse=True)
def always_compiled(monkeypatch):
    """Small products, too, in the compiled loops: what NumPy would compute proves nothing here."""
    monkeypatch.setattr(gemm_module, "small_products", lambda: 0)


@pytest.fixture
def threads():
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


def operand(seed, rows, columns, transposed=False):
    values = np.random.default_rng(seed).standard_normal((columns, rows) if transposed else (rows, columns))
    return values.astype(np.float32).T if transposed else values.astype(np.float32)


def assert_product(result, x, y, extra=0.0):
    expected = np.matmul(x.astype(np.float64), y.astype(np.float64)) + extra
    assert result.dtype == np.float32 and result.shape == expected.shape
    # Each of k rounded additions may err by half a unit in the last place of a partial sum.
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


SHAPES = [(ROWS, COLUMNS, LANES), (2, 2, 1), (ROWS - 1, COLUMNS - 1, LANES - 1), (2 * ROWS + 1, COLUMNS + LANES, 300),
          (3, 5, 1200), (100, 130, 70), (257, 129, 530), (400, 700, 33)]


@pytest.mark.parametrize("b_transposed", [False, True])
@pytest.mark.parametrize("a_transposed", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_product_of_operands_in_either_order(shape, a_transposed, b_transposed):
    m, n, k = shape
    a, b = operand(0, m, k, a_transposed), operand(1, k, n, b_transposed)
    assert_product(gemm(a, b), a, b)


@pytest.mark.parametrize("shape", SHAPES[:5], ids=str)
def test_product_of_columns_of_wider_matrices(shape):
    m, n, k = shape
    a, b = operand(0, m, k + 5)[:, 2:k + 2], operand(1, k, n + 40)[:, 40:]
    assert np.shares_memory(gemm_module.flat(a)[0], a) and np.shares_memory(gemm_module.flat(b.T)[0], b)
    assert_product(gemm(a, b), a, b)
    a, b = operand(0, k, m + 5)[:, 5:].T, operand(1, n, k + 1)[:, :k].T
    assert_product(gemm(a, b), a, b)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 60), st.integers(2, 80), st.integers(1, 90), st.booleans(), st.booleans())
def test_any_small_shape(m, n, k, a_transposed, b_transposed):
    a, b = operand(2, m, k, a_transposed), operand(3, k, n, b_transposed)
    assert_product(gemm(a, b), a, b)


@pytest.mark.parametrize("shape", [(3000, 40, 20), (700, 530, 20), (20, 40, 2500), (700, 600, 800)], ids=str)
def test_more_than_is_packed_at_once(shape):
    m, n, k = shape
    assert m > gemm_module.BLOCK_ROWS or n > gemm_module.GROUP or k > gemm_module.DEPTH
    a, b = operand(4, m, k), operand(5, k, n)
    assert_product(gemm(a, b), a, b)


@pytest.mark.parametrize("shape", [(40, 50, 60), (33, 65, 1100)], ids=str)
def test_bias_and_relu_are_applied_once_after_the_last_step(shape):
    m, n, k = shape
    a, b, bias = operand(6, m, k), operand(7, k, n), operand(8, 1, n)[0] * 10
    assert_product(gemm(a, b, bias), a, b, bias)
    for extra in (None, bias):
        result = gemm(a, b, extra, relu=True)
        np.testing.assert_array_equal(result, np.maximum(gemm(a, b, extra), 0))
        assert (result == 0).any() and (result > 0).any()


def test_nan_and_inf_stay_in_their_rows_and_columns():
    a, b = operand(9, 40, 50), operand(10, 50, 70)
    a[3, 7], b[11, 69] = np.nan, np.inf
    result = gemm(a, b, relu=True)
    expected = np.maximum(np.matmul(a, b), 0)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(result), np.isinf(expected))
    assert np.isnan(result[3]).all() and not np.isnan(result[4, :69]).any()


@pytest.mark.parametrize("shape", [(300, 300, 300), (31, 1000, 700), (1000, 33, 300)], ids=str)
def test_same_bits_for_any_number_of_threads(shape, threads):
    m, n, k = shape
    a, b = operand(11, m, k), operand(12, k, n, transposed=True)
    threads(1)
    alone = gemm(a, b)
    threads(2)
    np.testing.assert_array_equal(gemm(a, b), alone)
    np.testing.assert_array_equal(gemm(a, b), alone)


def test_same_bits_serial_and_parallel(monkeypatch):
    a, b = operand(13, 300, 200), operand(14, 200, 250)
    parallel = gemm(a, b)
    monkeypatch.setattr(gemm_module, "_PARALLEL_FROM", 1 << 60)
    np.testing.assert_array_equal(gemm(a, b), parallel)


def test_python_threads_do_not_share_panels():
    operands = [(operand(seed, 90, 200), operand(seed + 50, 200, 100)) for seed in range(4)]
    alone, together = [gemm(a, b) for a, b in operands], [[] for _ in operands]

    def work(index):
        for _ in range(20):
            together[index].append(gemm(*operands[index]))

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(operands))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result, repeated in zip(alone, together):
        assert len(repeated) == 20
        for other in repeated:
            np.testing.assert_array_equal(other, result)


@pytest.mark.parametrize("x_shape, y_shape", [
    ((5, 30, 40), (5, 40, 50)), ((3, 1, 30, 40), (4, 40, 50)), ((30, 40), (6, 40, 50)), ((2, 3, 30, 40), (40, 50)),
    ((2, 260, 280), (1, 280, 300)),
], ids=str)
def test_batches_broadcast(x_shape, y_shape):
    rng = np.random.default_rng(15)
    x, y = rng.standard_normal(x_shape).astype(np.float32), rng.standard_normal(y_shape).astype(np.float32)
    assert_product(gemm_batched(x, y), x, y)
    assert_product(kernels.matmul(x, y), x, y)
    turned = np.ascontiguousarray(y.swapaxes(-1, -2)).swapaxes(-1, -2)
    assert_product(kernels.matmul(x, turned), x, y)
    turned = np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    assert_product(kernels.matmul(turned, y), x, y)


def variants(x):
    """The same numbers in every layout that a caller may pass."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {"strided": wide[..., ::2], "reversed": x[::-1].copy()[::-1], "fortran": np.asfortranarray(x),
            "read-only": read_only, "float64": x.astype(np.float64)}


@pytest.mark.parametrize("layout", ["strided", "reversed", "fortran", "read-only", "float64"])
def test_dense_layer_in_every_layout(layout):
    x, weight, bias, g = operand(16, 60, 50), operand(17, 40, 50), operand(18, 1, 40)[0], operand(19, 60, 40)
    x3, g3 = x.reshape(3, 20, 50), g.reshape(3, 20, 40)
    for name, arguments in [("linear", (x3, weight, bias)), ("linear", (x3, weight)), ("matmul", (x, weight.T)),
                            ("linear_grad_input", (g3, weight)), ("linear_grad_weight", (g3, x3))]:
        changed = [variants(argument)[layout] for argument in arguments]
        with kernels.use_backend("reference"):
            expected = getattr(kernels, name)(*[argument.astype(np.float64) for argument in arguments])
        with kernels.use_backend("cpu"):
            result = getattr(kernels, name)(*changed)
        assert result.dtype == changed[0].dtype and result.shape == expected.shape
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("m, n, k", [(0, 3, 4), (3, 0, 4), (3, 4, 0)])
def test_empty_operands(m, n, k):
    result = kernels.matmul(np.ones((m, k), np.float32), np.ones((k, n), np.float32))
    np.testing.assert_array_equal(result, np.zeros((m, n), np.float32))


def test_operands_are_left_alone():
    a, b, bias = operand(20, 70, 80), operand(21, 80, 90), operand(22, 1, 90)[0]
    before = a.copy(), b.copy(), bias.copy()
    gemm(a, b, bias, relu=True)
    for left, was in zip((a, b, bias), before):
        np.testing.assert_array_equal(left, was)


def test_parts_for_many_threads_cover_the_product(monkeypatch):
    """More threads than this machine may have: the parts are the same work, cut in other places."""
    for threads in (1, 3, 7, 64):
        monkeypatch.setattr(gemm_module, "get_num_threads", lambda: threads)
        for m, n, k in [(5, 3000, 300), (3000, 5, 300), (130, 600, 100)]:
            a, b = operand(28, m, k), operand(29, k, n)
            assert_product(gemm(a, b), a, b)


def test_packed_operands_and_operands_as_they_lie():
    """Both ways of reading an operand, for all edges: a distance of NEAR or less between lines decides."""
    near = gemm_module.NEAR
    for m, n, k in [(61, 60, 50), (61, near + 40, 40), (near + 40, 61, 40), (61, 90, near + 40)]:
        for a_transposed in (False, True):
            for b_transposed in (False, True):
                a, b = operand(30, m, k, a_transposed), operand(31, k, n, b_transposed)
                assert_product(gemm(a, b), a, b)


def test_choice_can_be_seen(monkeypatch):
    monkeypatch.undo()
    assert chosen(512, 512, 512) == "gemm"
    assert chosen(48, 48, 48) == chosen(1, 4000, 4000) == "numpy"
    assert chosen(32, 32, 784) == "gemm"  # BLAS would cut the sum over k as the number of its threads says
    a, b = operand(23, 8, 16), operand(24, 16, 8)
    np.testing.assert_array_equal(gemm(a, b), np.matmul(a, b))


def test_tile_fits_the_registers():
    assert tile_of({"avx512f": True, "avx2": True, "fma": True}) == (16, 14, 32, True)
    assert tile_of({"avx2": True, "fma": True}) == (8, 6, 16, True)
    assert tile_of({"avx2": True}) == tile_of({}) == (4, 6, 8, False)
    assert tile_of({"neon": True}) == (4, 8, 8, True)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_gradients_through_the_compiled_products(batch):
    x = minidl.Tensor(operand(25, 30, 40) * np.ones((*batch, 1, 1), np.float32), requires_grad=True)
    weight = minidl.Tensor(operand(26, 40, 50), requires_grad=True)
    g = np.random.default_rng(27).standard_normal((*batch, 30, 50)).astype(np.float32)
    ((x @ weight) * minidl.Tensor(g)).sum().backward()
    assert_product(x.grad.array, g, weight.array.T)
    assert_product(weight.grad.array, x.array.reshape(-1, 40).T, g.reshape(-1, 50))
