"""Indexing and broadcasting: whatever NumPy computes is computed, and every element gets its gradient once per use."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minidl
from minidl.errors import ShapeError

SHAPE = (3, 4, 2)


def dim_index(length):
    """One part of an index for a dim of this length: an integer, a slice, an integer array or a mask."""
    return st.one_of(
        st.integers(-length, length - 1),
        st.slices(length),
        hnp.arrays(np.int64, st.just((3,)), elements=st.integers(-length, length - 1)),
        hnp.arrays(np.bool_, (length,)).map(lambda mask: mask if mask.sum() == 3 else np.arange(3) % length),
    )


@st.composite
def indices(draw):
    """An index for an array of SHAPE: up to one part a dim, with None and Ellipsis anywhere."""
    count = draw(st.integers(0, 3))
    parts = [draw(dim_index(SHAPE[d])) for d in range(count)]
    for extra in draw(st.lists(st.just(None), max_size=2)) + draw(st.lists(st.just(Ellipsis), max_size=1)):
        if extra is Ellipsis:
            parts.append(extra)  # at the end, where it stands for the dims that are left
        else:
            parts.insert(draw(st.integers(0, len(parts))), extra)
    return tuple(parts)


def as_tensors(index):
    return tuple(minidl.tensor(part) if isinstance(part, np.ndarray) else part for part in index)


@given(indices(), st.booleans())
def test_indexing_is_numpys_and_its_gradient_counts_the_uses(index, with_tensors):
    values = np.arange(24.0).reshape(SHAPE)
    x = minidl.tensor(values, requires_grad=True)
    y = x[as_tensors(index) if with_tensors else index]
    np.testing.assert_array_equal(y.numpy(), values[index])
    weights = np.random.default_rng(0).standard_normal(y.shape)
    y.backward(weights)
    uses = np.zeros(SHAPE)
    np.add.at(uses, index, weights)
    np.testing.assert_allclose(x.grad.numpy(), uses, atol=1e-12)


@given(indices(), st.booleans())
def test_assignment_is_numpys(index, with_tensors):
    values = np.arange(24.0).reshape(SHAPE)
    x = minidl.tensor(values)
    value = np.random.default_rng(0).standard_normal(values[index].shape[-1:])
    x[as_tensors(index) if with_tensors else index] = minidl.tensor(value) if with_tensors else value
    values[index] = value
    np.testing.assert_array_equal(x.numpy(), values)


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3),
       st.sampled_from(["add", "sub", "mul", "div"]))
def test_broadcasting_is_numpys_and_gradients_are_summed_back(shapes, name):
    random = np.random.default_rng(1)
    a, b = (random.standard_normal(shape) + 3 for shape in shapes.input_shapes)
    x, y = minidl.tensor(a, requires_grad=True), minidl.tensor(b, requires_grad=True)
    z = getattr(minidl, name)(x, y)
    assert z.shape == shapes.result_shape
    np.testing.assert_array_equal(z.numpy(), {"add": a + b, "sub": a - b, "mul": a * b, "div": a / b}[name])
    weights = random.standard_normal(z.shape)
    z.backward(weights)
    slopes = {"add": (1, 1), "sub": (1, -1), "mul": (b, a), "div": (1 / b, -a / b**2)}[name]
    for tensor, slope in zip((x, y), slopes):
        full = np.broadcast_to(weights * slope, z.shape)
        lead = tuple(range(z.ndim - tensor.ndim))
        kept = tuple(d for d, n in enumerate((1,) * len(lead) + tensor.shape) if n == 1)
        summed = full.sum(axis=kept, keepdims=True).reshape(tensor.shape)
        np.testing.assert_allclose(tensor.grad.numpy(), summed, atol=1e-12)


@settings(deadline=None)  # the first product loads kernels
@given(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=3))
def test_matmul_broadcasts_like_numpy(shapes):
    random = np.random.default_rng(2)
    a, b = (random.standard_normal(shape) for shape in shapes.input_shapes)
    minidl.check_gradients(minidl.matmul, [a, b])
    np.testing.assert_allclose((minidl.tensor(a) @ minidl.tensor(b)).numpy(), a @ b, atol=1e-12)


LETTERS = "abcd"


@given(st.data())
def test_einsum_is_numpys_for_any_letters(data):
    lengths = dict(zip(LETTERS, (2, 3, 1, 2)))
    names = data.draw(st.lists(st.text(LETTERS, max_size=3), min_size=1, max_size=3))
    used = sorted(set("".join(names)))
    result = "".join(data.draw(st.permutations(used)))[: data.draw(st.integers(0, len(used)))]
    random = np.random.default_rng(3)
    arrays = [random.standard_normal([lengths[c] for c in name]) for name in names]
    equation = ",".join(names) + "->" + result
    y = minidl.einsum(equation, *map(minidl.tensor, arrays))
    np.testing.assert_allclose(y.numpy(), np.einsum(equation, *arrays, optimize=False), atol=1e-12)
    minidl.check_gradients(lambda *xs: minidl.einsum(equation, *xs), arrays)


def test_slices_share_memory_and_arrays_do_not():
    x = minidl.zeros(3, 4)
    x[1:, 0].fill_(5.0)
    x[0, 0].fill_(7.0)
    x[[0, 1]].fill_(9.0)
    np.testing.assert_array_equal(x.numpy()[:, 0], [7.0, 5.0, 5.0])
    assert not (x.numpy() == 9).any()


def test_a_repeated_row_collects_the_gradient_of_each_use():
    x = minidl.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    x[minidl.tensor([1, 1, 0, 1])].sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0], [3.0, 3.0]]


def test_gradient_keeps_the_index_it_was_made_with_and_the_dtype():
    x = minidl.ones(2, 3, requires_grad=True)
    x[0, :2].sum().backward()
    assert x.grad.dtype == minidl.float32
    assert x.grad.tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("index, words", [
    (5, ["index 5", "(2, 3)"]),
    ((0, 0, 0), ["too many indices", "(2, 3)"]),
    (np.array([True, False, True]), ["boolean", "(2, 3)"]),
    (minidl.tensor([0.5]), ["integer", "(2, 3)"]),
    (1.5, ["integers", "(2, 3)"]),
], ids=str)
def test_wrong_indices_are_index_errors_that_name_the_shape(index, words):
    with pytest.raises(IndexError) as error:
        minidl.zeros(2, 3)[index]
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("call, error, words", [
    (lambda x: x.gather(1, minidl.tensor([[3]])), IndexError, ["gather", "index 3", "(2, 3)", "0 to 2"]),
    (lambda x: x.gather(1, minidl.tensor([[-1]])), IndexError, ["gather", "index -1"]),
    (lambda x: x.gather(1, minidl.tensor([[1.0]])), IndexError, ["gather", "float32", ".long()"]),
    (lambda x: x.gather(1, minidl.tensor([1])), ShapeError, ["gather", "(1,)", "(2, 3)"]),
    (lambda x: x.index_select(0, minidl.tensor([2])), IndexError, ["index_select", "index 2", "(2, 3)"]),
    (lambda x: x.narrow(1, 2, 2), IndexError, ["narrow", "2 to 4", "(2, 3)"]),
    (lambda x: x.split([1, 1], dim=1), ShapeError, ["split", "[1, 1]", "add up to 2", "(2, 3)"]),
    (lambda x: x.split(0), ValueError, ["split", "positive"]),
    (lambda x: x.sum().unbind(), ShapeError, ["unbind", "without dims"]),
    (lambda x: x.topk(4), ShapeError, ["topk", "k=4", "(2, 3)"]),
    (lambda x: x.masked_fill(x > 0, minidl.zeros(2)), ShapeError, ["masked_fill", "one number", "(2,)"]),
    (lambda x: x.scatter(1, minidl.tensor([[0, 1]]), minidl.zeros(1, 1)), ShapeError, ["scatter", "(1, 1)", "(1, 2)"]),
])
def test_picking_errors_name_operation_and_shapes(call, error, words):
    with pytest.raises(error) as caught:
        call(minidl.zeros(2, 3))
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("equation, shapes, error, words", [
    ("ij,jk->ik", [(2, 3)], ValueError, ["names 2 operands", "1 were given"]),
    ("ij,jk->ik", [(2, 3), (4, 5)], ShapeError, ["'j'", "3", "4", "(2, 3)"]),
    ("ij->i", [(2, 3, 4)], ShapeError, ["'ij'", "2 dims", "(2, 3, 4)"]),
    ("ij->ix", [(2, 3)], ValueError, ["'ix'"]),
    ("ij->ii", [(2, 3)], ValueError, ["'ii'"]),
    ("ii", [(2, 3)], ShapeError, ["diagonal", "'i'", "(2, 3)"]),
    ("i1->i", [(2, 3)], ValueError, ["'i1'", "letters"]),
    ("...i...->i", [(2, 3)], ValueError, ["letters", "..."]),
    ("...i,...i->...", [(2, 5), (3, 5)], ShapeError, ["'...'", "2", "3"]),
])
def test_einsum_errors_name_the_letter(equation, shapes, error, words):
    with pytest.raises(error) as caught:
        minidl.einsum(equation, *[minidl.zeros(shape) for shape in shapes])
    assert all(word in str(caught.value) for word in ["einsum", equation, *words])
