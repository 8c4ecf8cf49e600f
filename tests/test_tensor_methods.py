"""Methods of Tensor that no case in cases.py reaches: changing in place, conversions, interop, Python's protocols."""

import warnings

import numpy as np
import pytest

import minidl
from minidl import Tensor
from minidl.errors import ShapeError
from minidl.ops import methods


def recorded(*shape):
    return minidl.ones(*shape, requires_grad=True) * 2


IN_PLACE = {
    "x += y": lambda x: x.__iadd__(1.0), "x -= y": lambda x: x.__isub__(1.0), "x *= y": lambda x: x.__imul__(2.0),
    "x /= y": lambda x: x.__itruediv__(2.0), "x[…] = value": lambda x: x.__setitem__(0, 1.0),
    "add_": lambda x: x.add_(1.0), "clamp_": lambda x: x.clamp_(min=3), "copy_": lambda x: x.copy_(minidl.zeros(2)),
    "fill_": lambda x: x.fill_(3), "zero_": lambda x: x.zero_(), "normal_": lambda x: x.normal_(),
    "uniform_": lambda x: x.uniform_(), "masked_fill_": lambda x: x.masked_fill_(minidl.tensor([True, False]), 9.0),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_recorded_result_is_never_changed_in_place(name):
    for changed_under_no_grad in (False, True):
        x = recorded(2)
        before = x.numpy().copy()
        with minidl.set_grad_enabled(not changed_under_no_grad), pytest.raises(RuntimeError) as error:
            IN_PLACE[name](x)
        assert "result of 'mul'" in str(error.value) and "write" in str(error.value)
        np.testing.assert_array_equal(x.numpy(), before)


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_leaf_that_requires_grad_is_changed_under_no_grad_only(name):
    x = minidl.full((2,), 2.0, requires_grad=True)
    memory = x.numpy()
    with pytest.raises(RuntimeError, match="no_grad"):
        IN_PLACE[name](x)
    assert x.tolist() == [2.0, 2.0]
    with minidl.no_grad():
        IN_PLACE[name](x)
    assert x.numpy() is memory and x.tolist() != [2.0, 2.0]
    assert x.requires_grad and x.is_leaf and x.dtype == minidl.float32


def test_a_change_in_place_never_loses_the_gradient_of_what_is_put_in():
    w = minidl.ones(2, requires_grad=True)
    for change in (lambda x: x.add_(w), lambda x: x.__setitem__(0, w[0]), lambda x: x.copy_(w),
                   lambda x: x.__imul__(w)):
        with pytest.raises(RuntimeError, match="gradient of the right-hand side would be lost"):
            change(minidl.zeros(2))
    with minidl.no_grad():
        assert minidl.zeros(2).add_(w).tolist() == [1.0, 1.0]


def test_what_to_write_instead_is_in_the_message():
    with pytest.raises(RuntimeError, match=r"write `x = x \+ y`"):
        x = recorded(2)
        x += 1
    with pytest.raises(RuntimeError, match=r"write `x = x\.clamp\(…\)`"):
        recorded(2).clamp_(0)


def test_the_target_keeps_its_dtype_and_shape():
    x = minidl.zeros(2, 3)
    x += np.ones(3)  # float64
    x.copy_(minidl.tensor([1, 2, 3]))
    assert x.dtype == minidl.float32 and x.tolist() == [[1.0, 2.0, 3.0]] * 2
    for grow in (lambda: x.add_(minidl.ones(4, 2, 3)), lambda: x[0].add_(minidl.ones(2, 3)),
                 lambda: minidl.ones(1, 3).copy_(x), lambda: minidl.ones(3, 1).mul_(x[0])):
        with pytest.raises(ShapeError, match="does not fit"):
            grow()
    with pytest.raises(TypeError, match="float32, this tensor int64"):
        minidl.tensor([1, 2]).add_(0.5)
    with pytest.raises(ShapeError, match=r"\(2,\) does not fit into the part of shape \(3,\)"):
        x[0] = minidl.zeros(2)
    assert x.tolist() == [[1.0, 2.0, 3.0]] * 2


def test_read_only_memory_is_refused():
    with pytest.raises(RuntimeError, match="read-only"):
        minidl.zeros(1, 3).expand(2, 3).add_(1)
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    with pytest.raises(RuntimeError, match="clone"):
        minidl.from_numpy(frozen)[0] = 1


def test_in_place_draws_use_the_given_generator():
    x, y = minidl.empty(4), minidl.empty(4)
    x.normal_(3, 2, generator=np.random.default_rng(5))
    y.uniform_(-1, 1, generator=minidl.Generator().manual_seed(5))
    np.testing.assert_allclose(x.numpy(), np.random.default_rng(5).normal(3, 2, 4).astype(np.float32))
    np.testing.assert_allclose(y.numpy(), np.random.default_rng(5).uniform(-1, 1, 4).astype(np.float32))


def test_a_step_of_gradient_descent_by_hand():
    w = minidl.tensor([1.0, -2.0], requires_grad=True)
    (w * w).sum().backward()
    with minidl.no_grad():
        w -= 0.25 * w.grad
    w.grad.zero_()
    w.data -= 0.5
    assert w.tolist() == [0.0, -1.5] and w.grad.tolist() == [0.0, 0.0]


def test_to_accepts_dtype_device_tensor_in_any_order_and_returns_itself_if_nothing_changes():
    x = minidl.ones(2)
    assert x.to("cpu") is x and x.to(minidl.float32) is x and x.float() is x and x.cpu() is x
    assert x.to("cpu", minidl.float64).dtype == x.to(dtype=minidl.double, device="cpu").dtype == minidl.float64
    assert x.to(minidl.tensor([1], dtype=minidl.int32)).dtype == minidl.int32
    assert x.to(minidl.float32, copy=True).numpy() is not x.numpy()
    assert x.astype(np.float32).numpy() is not x.numpy()
    assert [getattr(x, name)().dtype.name for name in ("double", "half", "long", "int", "bool")] == \
        ["float64", "float16", "int64", "int32", "bool"]
    assert x.type() == "float32" and x.type(minidl.float64).dtype == minidl.float64
    for move in (lambda: x.to("cuda"), lambda: x.cuda(), lambda: minidl.zeros(2, device="cuda:1")):
        with pytest.raises(RuntimeError, match="minidl.cuda.is_available"):
            move()
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        x.to("gpu")


def test_conversion_between_floats_is_differentiable_and_to_integers_is_not():
    x = minidl.tensor([1.5, 2.5], requires_grad=True)
    y = x.double() * 3
    y.sum().backward()
    assert y.dtype == minidl.float64 and x.grad.dtype == minidl.float32 and x.grad.tolist() == [3.0, 3.0]
    assert not x.long().requires_grad and not (x > 2).requires_grad and not x.argmax().requires_grad


def test_contiguous_strides_and_sizes():
    x = minidl.arange(6).view(2, 3)
    assert x.is_contiguous() and x.contiguous() is x and not x.T.is_contiguous()
    assert x.T.contiguous().is_contiguous() and x.T.contiguous().tolist() == x.T.tolist()
    assert x.stride() == (3, 1) and x.stride(0) == 3 and x.T.stride() == (1, 3)
    assert (x.size(), x.size(-1), x.dim(), x.numel(), x.nbytes, x.element_size()) == ((2, 3), 3, 2, 6, 48, 8)


def test_clone_copies_and_detach_does_not():
    x = minidl.ones(2, requires_grad=True)
    copy, view = x.clone(), x.detach()
    assert copy.requires_grad and copy.numpy() is not x.numpy()
    assert not view.requires_grad and view.numpy() is x.numpy()
    hidden = x * 2
    hidden.detach_()
    assert hidden.is_leaf and not hidden.requires_grad


def test_numpy_reads_and_shares():
    x = minidl.tensor([[1.0, 2.0]])
    assert np.asarray(x) is x.numpy()
    assert np.asarray(x, np.float64).dtype == np.float64
    assert np.array(x) is not x.numpy()
    assert np.exp(x).shape == (1, 2)
    assert (np.sum(x), np.max(x), np.argmax(x), np.mean(x, axis=1).tolist()) == (3, 2, 1, [1.5])
    x.numpy()[0, 0] = 5
    assert x.tolist() == [[5.0, 2.0]]


def test_dlpack_shares_memory_both_ways():
    x = minidl.tensor([1.0, 2.0])
    array, y = np.from_dlpack(x), minidl.from_dlpack(x.numpy())
    x[0] = 7.0
    assert array[0] == 7.0 and y.tolist() == [7.0, 2.0] and isinstance(y, Tensor)


@pytest.mark.parametrize("other", [np.ones(3), np.ones(3, np.float32), np.float64(2), np.float32(2), np.int64(2)],
                         ids=lambda other: f"{type(other).__name__}-{other.dtype}")
def test_numpy_operands_on_either_side(other):
    x = minidl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for result, expected in ((other * x, x.numpy() * other), (x * other, x.numpy() * other),
                             (other - x, other - x.numpy()), (other / x, other / x.numpy()),
                             (x**other, x.numpy() ** other)):
        assert isinstance(result, Tensor) and result.requires_grad
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)
    assert isinstance(other < x, Tensor) and (other < x).tolist() == [bool(v) for v in np.asarray(other) < x.numpy()]


@pytest.mark.parametrize("scalar", [2, 2.0, True, np.float64(2), np.int64(2), np.float32(2)], ids=repr)
def test_numbers_never_widen_a_float32_tensor(scalar):
    x = minidl.ones(3, requires_grad=True)
    for y in (x + scalar, scalar + x, x * scalar, x / scalar, scalar / x, x**scalar, scalar - x.detach() + 0 * x,
              minidl.maximum(x, scalar), minidl.where(x > 0, x, scalar)):
        assert y.dtype == minidl.float32
    y = (x * scalar).sum()
    y.backward()
    assert x.grad.dtype == minidl.float32


@pytest.mark.parametrize("operation", [lambda x: x + "a", lambda x: x * None, lambda x: [1.0] / x, lambda x: x - {}])
def test_operands_that_are_no_numbers_are_type_errors(operation):
    with pytest.raises(TypeError, match=r"minidl\.tensor"):
        operation(minidl.ones(2))


def test_comparisons_give_bool_tensors_and_leave_other_objects_to_python():
    x = minidl.tensor([1.0, 2.0])
    assert (x == 1).dtype == bool and (x == 1).tolist() == [True, False] and (x != x).tolist() == [False, False]
    assert (x == None) is False and (x != None) is True and (x == "a") is False  # noqa: E711
    assert x in [x, minidl.zeros(3)]  # identity comes first
    assert 2.0 in x and 3.0 not in x
    with pytest.raises(TypeError):
        x < None  # noqa: B015
    assert len({x, x, minidl.tensor([1.0, 2.0])}) == 2  # hashed by identity


def test_masks_combine():
    a, b = minidl.tensor([True, True, False]), minidl.tensor([True, False, False])
    assert (a & b).tolist() == [True, False, False] and (a | b).tolist() == [True, True, False]
    assert (a ^ b).tolist() == [False, True, False] and (~a).tolist() == [False, False, True]
    assert minidl.logical_and(minidl.tensor([1.5, 0.0]), minidl.tensor([2, 2])).tolist() == [True, False]


def test_python_protocols():
    x = minidl.tensor([[1, 2], [3, 4]])
    assert len(x) == 2 and [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert float(x[0, 1]) == 2.0 and int(x[1, 1]) == 4 and [10, 20, 30][x[0, 0]] == 20
    assert f"{minidl.tensor(2.5):.2f}" == "2.50"
    assert bool(minidl.tensor([0.0])) is False and bool(minidl.tensor(3))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    with pytest.raises(TypeError):
        len(minidl.tensor(1))
    with pytest.raises(TypeError):
        iter(minidl.tensor(1))
    with pytest.raises(TypeError):
        [0, 1][minidl.tensor(1.0)]


def test_repr_says_values_dtype_and_graph():
    assert repr(minidl.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(minidl.tensor(3)) == "tensor(3)"
    assert "dtype=float64" in repr(minidl.zeros(2, dtype=minidl.float64))
    assert "requires_grad=True" in repr(minidl.ones(1, requires_grad=True))
    assert "grad_fn=<mul>" in repr(recorded(2))


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "prod", "amax", "amin", "max", "min", "argmax", "argmin",
                                  "all", "any", "norm", "logsumexp"])
def test_numpys_words_are_taken_for_dim_and_keepdim(name):
    x = minidl.tensor([[1.0, 5.0, 2.0], [0.5, 0.0, 4.0]])
    for dim in (0, 1, -1):
        for keep in (False, True):
            one, other = getattr(x, name)(axis=dim, keepdims=keep), getattr(x, name)(dim=dim, keepdim=keep)
            one, other = (pair[0] if isinstance(pair, tuple) else pair for pair in (one, other))
            assert one.shape == other.shape == np.sum(x.numpy(), axis=dim, keepdims=keep).shape
            assert minidl.equal(one, other)


@pytest.mark.parametrize("call", [
    lambda x: x.sum(2), lambda x: x.mean((0, -3)), lambda x: x.max(2), lambda x: x.argmax(5), lambda x: x.cumsum(2),
    lambda x: x.sort(2), lambda x: x.unsqueeze(3), lambda x: x.transpose(0, 2), lambda x: x.flatten(0, 2),
    lambda x: x.softmax(2), lambda x: minidl.cat([x], 2), lambda x: x.unbind(2), lambda x: x.squeeze(-3),
])
def test_a_dim_that_does_not_exist_is_an_index_error_that_says_which_do(call):
    with pytest.raises(IndexError, match=r"dim -?\d does not exist for shape \(2, 3\); expected -\d to \d"):
        call(minidl.zeros(2, 3))


@pytest.mark.parametrize("call, words", [
    (lambda x: x.view(4, 2), ["reshape", "(2, 3)", "6 elements", "(4, 2)"]),
    (lambda x: x.expand(2, 4), ["broadcast_to", "(2, 3)", "(2, 4)"]),
    (lambda x: x.permute(0, 0), ["permute", "(0, 0)", "(2, 3)"]),
    (lambda x: x.unflatten(1, (2, 2)), ["unflatten", "(2, 2)", "(2, 3)"]),
    (lambda x: x.repeat(2), ["repeat", "(2,)", "(2, 3)"]),
    (lambda x: minidl.cat([x, minidl.zeros(3, 3)], 1), ["cat", "(2, 3)", "(3, 3)"]),
    (lambda x: minidl.stack([x, minidl.zeros(3)]), ["stack", "(2, 3)", "(3,)", "cat"]),
    (lambda x: x[:0].max(), ["amax", "(0, 3)"]),
    (lambda x: minidl.mm(x, x[0]), ["mm", "(2, 3)", "(3,)", "matmul"]),
    (lambda x: minidl.bmm(x[None], minidl.zeros(2, 3, 1)), ["bmm", "(1, 2, 3)", "(2, 3, 1)"]),
    (lambda x: minidl.nn.functional.pad(x, (1, 2, 3)), ["pad", "3 sizes", "(2, 3)"]),
    (lambda x: minidl.nn.functional.pad(x, (3, 0), mode="reflect"), ["pad", "(3, 0)", "reflect", "to 2"]),
    (lambda x: minidl.nn.functional.pad(x, (-4, 0)), ["pad", "takes away", "(2, 3)"]),
    (lambda x: x[0].mT, ["mT", "(3,)"]),
    (lambda x: x + minidl.zeros(2, 2), ["add", "(2, 3)", "(2, 2)", "from the right"]),
    (lambda x: x / minidl.zeros(4, 1, 3).int()[:, :, :2], ["div", "(2, 3)", "(4, 1, 2)"]),
    (lambda x: x > minidl.zeros(2), ["gt", "(2, 3)", "(2,)"]),
    (lambda x: minidl.where(x[:, :2] > 0, x, x), ["where", "(2, 2)", "(2, 3)"]),
])
def test_shape_errors_name_operation_and_shapes(call, words):
    with pytest.raises(ShapeError) as caught:
        call(minidl.zeros(2, 3))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_variance_of_too_few_elements_warns():
    with pytest.warns(UserWarning, match="var: the result over 1 elements with correction 1"):
        assert np.isnan(minidl.ones(1).var().item())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert minidl.ones(1).var(unbiased=False).item() == 0


def test_sequences_of_tensors_may_be_lists_or_tuples_but_not_empty():
    x = minidl.ones(2)
    assert minidl.cat((x, x)).shape == minidl.concatenate([x, x], axis=0).shape == (4,)
    assert minidl.stack((x, x), axis=1).shape == (2, 2)
    for join in (minidl.cat, minidl.stack):
        with pytest.raises(ValueError, match="at least one tensor"):
            join([])


def test_every_method_named_in_the_tables_exists_under_its_name():
    for name in [*methods.METHODS, *methods.ALIASES, *methods.FACTS, *methods.OPERATORS]:
        assert hasattr(Tensor, name), name
    for name in methods.CHANGED_IN_PLACE.split():
        assert callable(getattr(Tensor, f"{name}_"))
