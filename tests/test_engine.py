"""The engine itself: what is recorded, how the walk goes, and when memory is given back."""

import gc
import threading
import weakref

import numpy as np
import pytest

from minidl.gradcheck import check_gradients
from minidl.tensor import Tensor, differentiable, enable_grad, is_grad_enabled, no_grad, set_grad_enabled


def leaf(*values):
    return Tensor(np.array(values), requires_grad=True)


def test_lists_and_numbers_become_float32_and_arrays_keep_their_dtype():
    assert Tensor([1, 2]).dtype == np.float32
    assert Tensor(1.5).dtype == np.float32
    assert Tensor(np.zeros(2)).dtype == np.float64
    assert Tensor(np.zeros(2, np.int64)).dtype == np.int64


def test_a_tensor_shares_the_memory_of_its_array():
    array = np.zeros(3)
    Tensor(array).numpy()[0] = 7
    assert array[0] == 7


def test_a_reused_node_sends_back_the_sum():
    a = leaf(3.0)
    b = a + a
    (b + b).backward()
    assert a.grad.item() == 4


def test_a_diamond_is_walked_once_per_node():
    a = leaf(2.0)
    calls = []

    @differentiable
    def squared(x, /):
        def vjp(g):
            calls.append(g)
            return 2 * x * g
        return x * x, (vjp,)

    s = squared(a)
    (s * 3 + s * s).backward()
    assert len(calls) == 1
    assert a.grad.item() == pytest.approx(3 * 4 + 2 * 4 * 4)


def test_a_chain_of_20000_operations():
    a = leaf(1.0)
    x = a
    for _ in range(20_000):
        x = x * 1.0001
    x.backward()
    assert a.grad.item() == pytest.approx(1.0001**20_000)


def test_a_long_chain_that_is_never_walked_is_freed_without_recursion():
    a = leaf(1.0)
    x = a
    for _ in range(60_000):
        x = x + 1.0
    assert x.item() == 60_001
    node = weakref.ref(a)
    del x, a
    assert node() is None


def test_memory_is_freed_without_the_garbage_collector():
    class Array(np.ndarray):
        """An array that can be watched."""

    gc.disable()
    try:
        a = leaf(1.0, 2.0)
        saved = np.array([3.0, 4.0]).view(Array)
        watched = weakref.ref(saved)
        loss = (a * Tensor(saved)).sum()
        del saved
        assert watched() is not None
        loss.backward()
        assert watched() is None
        loss = (a * Tensor(np.ones(2).view(Array))).sum()
        watched = weakref.ref(loss)
        del loss
        assert watched() is None
    finally:
        gc.enable()


def test_saved_arrays_are_dropped_while_the_walk_goes_on():
    alive = []

    class Array(np.ndarray):
        """An array that can be watched."""

    @differentiable
    def step(x, /):
        saved = (x * 1.0).view(Array)
        watched = weakref.ref(saved)
        alive.append(watched)
        return x * 2, (lambda g: 2 * g + 0 * np.asarray(saved) + 0 * sum(w() is not None for w in alive[1:-1]),)

    counts = []

    @differentiable
    def count(x, /):
        return x * 1.0, (lambda g: counts.append(sum(w() is not None for w in alive)) or g,)

    x = leaf(1.0)
    y = step(step(step(count(x))))
    y.backward()
    assert counts == [0]


def test_second_backward_needs_retain_graph():
    a = leaf(2.0)
    y = a * a
    y.backward(retain_graph=True)
    y.backward()
    assert a.grad.item() == 8
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_backward_of_an_array_needs_a_gradient():
    y = leaf(1.0, 2.0) * 2
    with pytest.raises(RuntimeError, match="sum"):
        y.backward()
    with pytest.raises(RuntimeError, match=r"\(3,\)"):
        y.backward(np.ones(3))


def test_backward_of_something_constant_is_an_error():
    with pytest.raises(RuntimeError, match="frozen"):
        (Tensor([1.0]) * 2).backward()


def test_gradients_of_leaves_never_share_memory():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (a + b).sum().backward()
    a.grad.array *= 10
    assert b.grad.tolist() == [1, 1]


def test_the_given_gradient_is_not_aliased():
    a = leaf(1.0, 2.0)
    seed = np.ones(2)
    (a + 0.0).backward(seed)
    a.grad.array *= 5
    assert seed.tolist() == [1, 1]


def test_gradients_accumulate_until_they_are_reset():
    a = leaf(1.0)
    (a * 2).backward()
    (a * 3).backward()
    assert a.grad.item() == 5


def test_what_comes_before_the_first_trainable_tensor_is_not_recorded():
    x = Tensor(np.ones(3)) * 2 + 1
    assert x.grad_fn is None
    y = x * leaf(1.0, 2.0, 3.0)
    assert len(y.grad_fn.inputs) == 1


def test_the_vjp_of_a_frozen_weight_is_never_run():
    @differentiable
    def product(x, y, /):
        return x * y, (lambda g: g * y, lambda g: 1 / 0)

    a = leaf(2.0)
    product(a, Tensor(np.array([3.0]))).backward()
    assert a.grad.item() == 3


def test_a_failing_walk_leaves_every_gradient_as_it_was():
    @differentiable
    def breaks(x, /):
        return x * 1, (lambda g: 1 / 0,)

    a, b = leaf(1.0), leaf(2.0)
    with pytest.raises(ZeroDivisionError):
        (b * 2 + breaks(a * 1.0)).backward()
    assert a.grad is None
    assert b.grad is None


def test_no_grad_nests_survives_exceptions_and_decorates():
    with pytest.raises(KeyError):
        with no_grad():
            with enable_grad():
                assert is_grad_enabled()
            assert not is_grad_enabled()
            raise KeyError
    assert is_grad_enabled()

    @no_grad()
    def double(x):
        return x * 2

    @no_grad
    def triple(x):
        return x * 3

    assert not double(leaf(1.0)).requires_grad
    assert not triple(leaf(1.0)).requires_grad
    with set_grad_enabled(False):
        assert not (leaf(1.0) * 2).requires_grad
    assert (leaf(1.0) * 2).requires_grad


def test_no_grad_is_per_thread():
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_a_tensor_given_by_keyword_keeps_its_gradient():
    @differentiable
    def product(x, y, /, scale=1.0):
        return x * y * scale, (lambda g: g * y * scale, lambda g: g * x * scale)

    a, b = leaf(2.0), leaf(3.0)
    product(a, y=b, scale=2.0).backward()
    assert b.grad.item() == 4
    with pytest.raises(TypeError, match="several values"):
        product(a, b, y=b)
    for call in (lambda: product(a, b, scale=leaf(1.0)), lambda: product(a, b, leaf(1.0))):
        with pytest.raises(RuntimeError, match="would be lost"):
            call()


def test_requires_grad_is_for_floating_leaves():
    with pytest.raises(TypeError, match="int64"):
        Tensor(np.arange(3), requires_grad=True)
    y = leaf(1.0) * 2
    with pytest.raises(RuntimeError, match="detach"):
        y.requires_grad = False


def test_check_gradients_finds_a_wrong_gradient():
    @differentiable
    def wrong(x, /):
        return x**3, (lambda g: g * 2 * x * x,)

    with pytest.raises(AssertionError, match="finite differences"):
        check_gradients(wrong, [np.array([1.0, 2.0])])
    assert check_gradients(lambda x: x * x, [np.array([1.0, 2.0])]) < 1e-6


def test_gradients_of_leaves_share_no_memory_and_can_be_written():
    def leaf():
        return Tensor(np.random.default_rng(0).random((3, 4), np.float32), requires_grad=True)

    x, y, seed = leaf(), leaf(), np.ones((3, 4), np.float32)
    (x + y + x.reshape(12).reshape(3, 4)).backward(seed)
    x.grad.array += 1
    assert (y.grad.array == 1).all() and (x.grad.array == 3).all() and (seed == 1).all()
    z = leaf()
    z.mean().backward()
    z.grad.array += 1
    a = leaf()
    b = a * 2
    loss = (b + b * 3 + b).sum()
    loss.backward(retain_graph=True)
    np.testing.assert_array_equal(a.grad.array, 10)
    loss.backward()
    np.testing.assert_array_equal(a.grad.array, 20)
