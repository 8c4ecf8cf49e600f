"""Data sets: tensors side by side, parts, several joined into one, and random splits as PyTorch makes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data_loader import Squares, all_indices

from minidl.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, random_split
from minidl.errors import ShapeError
from minidl.tensor import Tensor


def test_tensor_data_set_items_and_errors():
    dataset = TensorDataset(np.arange(6.0).reshape(3, 2), Tensor(np.array([4, 5, 6])))
    row, label = dataset[1]
    assert row.array.tolist() == [2.0, 3.0] and isinstance(label, Tensor) and label.array == 5
    assert TensorDataset([1.0, 2.0]).tensors[0].dtype == np.float32
    with pytest.raises(ShapeError, match=r"these have shapes \(3, 2\), \(4,\)"):
        TensorDataset(np.zeros((3, 2)), np.zeros(4))
    with pytest.raises(ShapeError, match=r"shapes \(\)"):
        TensorDataset(np.float32(3))
    with pytest.raises(ValueError, match="at least one array"):
        TensorDataset()


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any), data=st.data())
def test_concatenated_data_sets_are_one_after_the_other(sizes, data):
    starts = np.cumsum([0, *sizes])
    parts = [Subset(Squares(100), range(start, start + size)) for start, size in zip(starts, sizes)]
    joined = ConcatDataset(parts)
    total = sum(sizes)
    assert len(joined) == total
    index = data.draw(st.integers(-total, total - 1))
    assert joined[index][0] == index % total
    assert [i for batch in all_indices(DataLoader(joined, 3)) for i in batch] == list(range(total))
    for outside in (total, -total - 1):
        with pytest.raises(IndexError, match=f"out of range for {total} items"):
            joined[outside]


def test_subsets_of_subsets_stay_fast_and_right():
    inner = Subset(TensorDataset(np.arange(100)), np.arange(50, 100))
    outer = Subset(inner, [3, 1, 2])
    assert [batch[0].array.tolist() for batch in DataLoader(outer, 2)] == [[53, 51], [52]]
    assert int(outer[0][0].array) == 53
    assert len(Squares(2) + Squares(3)) == 5
    with pytest.raises(ValueError, match="at least one data set"):
        ConcatDataset([])


@settings(max_examples=60, deadline=None)
@given(total=st.integers(5, 60), weights=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 9))
def test_a_random_split_covers_everything_once(total, weights, seed):
    fractions = [weight / sum(weights) for weight in weights]
    try:
        parts = random_split(Squares(total), fractions, np.random.default_rng(seed))
    except UserWarning as warning:
        assert "is empty" in str(warning)
        return
    items = [part[i][0] for part in parts for i in range(len(part))]
    assert sorted(items) == list(range(total))
    for part, fraction in zip(parts, fractions):
        assert int(np.floor(total * fraction)) <= len(part) <= int(np.floor(total * fraction)) + 1


def test_random_split_as_pytorch_words_it():
    # PyTorch's documentation: fractions are rounded down, what is left over goes round the parts from the first.
    assert [len(part) for part in random_split(Squares(30), [0.3, 0.3, 0.4])] == [9, 9, 12]
    assert [len(part) for part in random_split(Squares(11), [0.5, 0.25, 0.25])] == [6, 3, 2]
    again = [random_split(Squares(10), [3, 7], np.random.default_rng(42)) for _ in range(2)]
    assert again[0][0].indices.tolist() == again[1][0].indices.tolist() != list(range(3))
    with pytest.raises(ValueError, match=r"\[3, 6\] add up to 9, the data set has 10 items"):
        random_split(Squares(10), [3, 6])
    with pytest.raises(ValueError, match="fractions must add up to 1"):
        random_split(Squares(10), [0.5, 0.6])
    with pytest.raises(ValueError, match="must not be negative"):
        random_split(Squares(10), [-1, 11])
    with pytest.warns(UserWarning, match=r"part 1 of \[10, 0\] is empty"):
        random_split(Squares(10), [10, 0])


def test_a_data_set_must_say_what_it_holds():
    with pytest.raises(NotImplementedError, match="Dataset must define __len__"):
        len(Dataset())
    with pytest.raises(NotImplementedError, match="must define __getitem__"):
        Dataset()[0]
