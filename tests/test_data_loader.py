"""Data sets and the loader: every item once, the same order with and without the thread, nothing left behind."""

import gc
import threading
import time
import traceback
import weakref
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl import random
from minidl.data import (
    Compose,
    DataLoader,
    Dataset,
    ImageDataset,
    RandomCrop,
    RandomHorizontalFlip,
    Subset,
    TensorDataset,
)
from minidl.data.loader import default_collate
from minidl.errors import ShapeError
from minidl.tensor import Tensor


class Squares(Dataset):
    """Items (i, i * i) one by one; fails at `broken`."""

    def __init__(self, count, broken=None, error=ArithmeticError):
        self.count, self.broken, self.error = count, broken, error

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.broken:
            self.fail_here(index)
        return index, float(index * index)

    def fail_here(self, index):
        raise self.error(f"item {index} is broken")


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "minidl-prefetch"]


def all_indices(loader):
    return [batch[0].array.tolist() for batch in loader]


@settings(max_examples=80, deadline=None)
@given(
    count=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    prefetch=st.integers(1, 5),
    seed=st.integers(0, 3),
    whole=st.booleans(),
)
def test_every_item_comes_once_and_the_thread_changes_nothing(count, batch_size, shuffle, drop_last, prefetch, seed,
                                                              whole):
    batch_size = min(batch_size, count) if drop_last else batch_size
    dataset = TensorDataset(np.arange(count), np.arange(count) ** 2.0) if whole else Squares(count)

    def batches(**options):
        loader = DataLoader(dataset, batch_size, shuffle, drop_last=drop_last,
                            generator=np.random.default_rng(seed), **options)
        found = [(x.array.tolist(), y.array.tolist()) for x, y in loader]
        assert len(found) == len(loader)
        return found

    plain = batches()
    assert batches(num_workers=3, prefetch=prefetch) == plain
    indices = [index for x, _ in plain for index in x]
    assert all(len(x) == batch_size for x, _ in plain[:-1])
    if drop_last:
        assert len(indices) == count - count % batch_size and len(set(indices)) == len(indices)
    else:
        assert sorted(indices) == list(range(count))
    assert shuffle or indices == list(range(len(indices)))
    assert [value for _, y in plain for value in y] == [index**2 for index in indices]
    assert not prefetch_threads()


def test_shuffling_draws_a_new_order_each_pass_and_the_same_for_the_same_seed():
    first = DataLoader(Squares(50), 10, shuffle=True, generator=np.random.default_rng(1))
    second = DataLoader(Squares(50), 10, shuffle=True, generator=np.random.default_rng(1))
    one, two = all_indices(first), all_indices(first)
    assert one != two
    assert [all_indices(second), all_indices(second)] == [one, two]
    random.seed(5)
    default = all_indices(DataLoader(Squares(50), 10, shuffle=True))
    random.seed(5)
    assert all_indices(DataLoader(Squares(50), 10, shuffle=True)) == default


@pytest.mark.parametrize("workers", [0, 1])
def test_the_order_is_drawn_when_the_pass_begins(workers):
    loader = DataLoader(Squares(30), 30, shuffle=True, num_workers=workers, generator=np.random.default_rng(0))
    first, second = iter(loader), iter(loader)
    late = next(second)[0].array.tolist()
    generator = np.random.default_rng(0)
    again = DataLoader(Squares(30), 30, shuffle=True, generator=generator)
    assert next(first)[0].array.tolist() == next(iter(again))[0].array.tolist()
    assert late == next(iter(again))[0].array.tolist()


def test_a_loader_that_neither_shuffles_nor_augments_draws_nothing():
    random.seed(0)
    images = ImageDataset(np.zeros((4, 1, 2, 2), np.uint8), np.zeros(4, int), ["only"])
    for dataset in (TensorDataset(np.arange(4)), images, Subset(images, [0, 1]), images + images):
        list(DataLoader(dataset, 2))
    drawn = random.generator().random()
    random.seed(0)
    assert random.generator().random() == drawn


def test_a_sampler_gives_the_order():
    loader = DataLoader(Squares(10), 2, sampler=[7, 7, 3])
    assert all_indices(loader) == [[7, 7], [3]]
    assert len(loader) == 2
    with pytest.raises(IndexError, match="the sampler gave index 10, the data set has 10 items"):
        iter(DataLoader(Squares(10), sampler=[3, 10]))
    for bad in ([0.5, 1.0], [[1, 2], [3, 4]], []):
        with pytest.raises(TypeError, match="one integer index at a time"):
            iter(DataLoader(Squares(10), sampler=bad))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"batch_size": 2.0}, "batch_size must be an integer"),
        ({"batch_size": True}, "batch_size must be an integer"),
        ({"num_workers": -1}, "num_workers must be an integer of at least 0"),
        ({"prefetch": 0}, "prefetch must be an integer of at least 1"),
        ({"shuffle": True, "sampler": [1]}, "exclude each other"),
        ({"shuffle": True, "batch_sampler": [[1]]}, "batch_sampler gives the batches; leave out batch_size"),
        ({"batch_size": 2, "batch_sampler": [[1]]}, "batch_sampler gives the batches; leave out batch_size"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Squares(4), **options)


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match=r"the data set \(TensorDataset\) is empty"):
        DataLoader(TensorDataset(np.zeros((0, 3))))


def test_a_generator_must_be_numpys():
    with pytest.raises(TypeError, match=r"numpy.random.default_rng\(0\), not int"):
        DataLoader(Squares(4), generator=42)


def test_dropping_the_only_batch_is_warned_about():
    with pytest.warns(UserWarning, match="drop_last=True leaves no batch at all, batch_size is 5"):
        assert len(DataLoader(Squares(4), 5, drop_last=True)) == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_an_exception_in_the_data_set_comes_out_with_its_traceback(workers):
    found = []
    with pytest.raises(ArithmeticError, match="item 5 is broken") as raised:
        for x, _ in DataLoader(Squares(9, broken=5), 2, num_workers=workers):
            found += x.array.tolist()
    assert found == [0, 1, 2, 3]
    assert "fail_here" in "".join(traceback.format_tb(raised.value.__traceback__))
    assert not prefetch_threads()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stray_stop_iteration_does_not_end_the_pass_early(workers):
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(DataLoader(Squares(9, broken=5, error=StopIteration), 2, num_workers=workers))


def test_a_failure_frees_the_data_set_without_the_garbage_collector():
    dataset = Squares(9, broken=5)
    alive = weakref.ref(dataset)
    gc.disable()
    try:
        try:
            list(DataLoader(dataset, 2, num_workers=1))
        except ArithmeticError:
            pass
        del dataset
        assert alive() is None
    finally:
        gc.enable()


def test_breaking_off_ends_the_thread():
    for _ in DataLoader(Squares(1000), 2, num_workers=1):
        assert prefetch_threads()
        break
    assert not prefetch_threads()
    held = iter(DataLoader(Squares(1000), 2, num_workers=1))
    next(held)
    assert len(prefetch_threads()) == 1
    del held
    assert not prefetch_threads()


def test_the_thread_runs_ahead_by_no_more_than_asked():
    fetched = []

    class Watched(Squares):
        def __getitem__(self, index):
            fetched.append(index)
            return super().__getitem__(index)

    passing = iter(DataLoader(Watched(50), 1, num_workers=1, prefetch=3))
    next(passing)
    deadline = time.monotonic() + 20
    while len(fetched) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert fetched == [0, 1, 2, 3]  # the one taken, and three waiting
    assert [int(batch[0].array[0]) for batch in passing] == list(range(1, 50))


def augmented(seed, workers, draw_between):
    """Batches of randomly cropped images, while the training loop draws from the shared generator as dropout does."""
    random.seed(seed)
    pixels = np.arange(24 * 36, dtype=np.uint32).reshape(24, 1, 6, 6) % 251
    crop = Compose([RandomCrop(6, padding=2), RandomHorizontalFlip()])
    images = ImageDataset(pixels.astype(np.uint8), np.arange(24), list(range(24)), transform=crop)
    found = []
    loader = DataLoader(images, 5, shuffle=True, num_workers=workers)
    for _ in range(2):
        for x, _ in loader:
            found.append(x.array)
            if draw_between:
                random.generator().random(7)
    return np.concatenate(found)


def test_augmentation_does_not_depend_on_the_thread_nor_on_what_else_is_drawn():
    plain = augmented(1, workers=0, draw_between=True)
    np.testing.assert_array_equal(augmented(1, workers=1, draw_between=True), plain)
    np.testing.assert_array_equal(augmented(1, workers=0, draw_between=False)[:24], plain[:24])
    assert (augmented(2, workers=0, draw_between=True) != plain).any()
    assert (plain[:24] != plain[24:]).any()


def test_each_batch_is_augmented_differently():
    pixels = np.repeat(np.arange(36, dtype=np.uint8).reshape(1, 1, 6, 6), 40, axis=0)
    images = ImageDataset(pixels, np.zeros(40, int), ["same"], transform=RandomCrop(6, padding=3))
    batches = {batch.array.tobytes() for batch, _ in DataLoader(images, 4)}
    assert len(batches) == 10


@pytest.mark.parametrize("workers", [0, 1])
def test_outside_the_loader_augmentation_draws_from_the_shared_generator(workers):
    crop = RandomCrop(6, padding=3)
    image = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6)
    fetching, drawn = threading.Event(), threading.Event()

    class Waiting(Squares):
        def __getitem__(self, index):
            fetching.set()
            if workers:
                assert drawn.wait(20)
            return crop(image)

    random.seed(0)
    batches = iter(DataLoader(Waiting(2), 1, num_workers=workers))
    taking = threading.Thread(target=lambda: list(batches))
    taking.start()
    assert fetching.wait(20)
    if not workers:
        taking.join()
    state = random.generator().bit_generator.state["state"]
    crop(image)
    drawn.set()
    taking.join()
    assert random.generator().bit_generator.state["state"] != state


Pair = namedtuple("Pair", "left right")


def test_items_are_collated_as_pytorch_does():
    batch = default_collate([1, 2])
    assert isinstance(batch, Tensor) and batch.dtype == np.int64 and batch.array.tolist() == [1, 2]
    assert default_collate([1.0, 2.5]).dtype == np.float32
    assert default_collate([True, False]).dtype == np.bool_
    assert default_collate([np.float64(1), np.float64(2)]).dtype == np.float64
    assert default_collate([np.zeros((2, 3), np.uint8)] * 4).array.shape == (4, 2, 3)
    assert default_collate([Tensor([1.0, 2.0])] * 3).array.shape == (3, 2)
    assert default_collate(["a", "b"]) == ["a", "b"]
    fields = default_collate([(1, "x"), (2, "y")])
    assert isinstance(fields, list) and fields[0].array.tolist() == [1, 2] and fields[1] == ["x", "y"]
    named = default_collate([Pair(1, 2.0), Pair(3, 4.0)])
    assert type(named) is Pair and named.right.array.tolist() == [2.0, 4.0]
    table = default_collate([{"a": 1, "b": [1.0, 2]}, {"a": 3, "b": [2.0, 5]}])
    assert table["a"].array.tolist() == [1, 3] and table["b"][1].array.tolist() == [2, 5]


def test_items_that_do_not_go_together():
    with pytest.raises(ShapeError, match=r"different shapes \[\(2,\), \(3,\)\]"):
        default_collate([np.zeros(2), np.zeros(3)])
    with pytest.raises(ShapeError, match=r"different numbers of fields: \[2, 1\]"):
        default_collate([(1, 2), (1,)])
    with pytest.raises(TypeError, match="cannot make a batch of object"):
        default_collate([object()])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_collate_function_receives_single_items(workers):
    loader = DataLoader(TensorDataset(np.arange(5)), 2, num_workers=workers,
                        collate_fn=lambda items: [int(item[0].array) for item in items])
    assert list(loader) == [[0, 1], [2, 3], [4]]


def test_a_tensor_data_set_is_indexed_once_a_batch():
    class Counted(TensorDataset):
        calls = 0

        def __getitems__(self, indices):
            self.calls += 1
            return super().__getitems__(indices)

        def __getitem__(self, index):
            raise AssertionError("item by item")

    dataset = Counted(np.random.default_rng(0).random((10, 3), np.float32), np.arange(10))
    x, y = next(iter(DataLoader(dataset, 4)))
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(x.array, dataset.tensors[0].array[:4])
    x.array[:] = 0
    assert dataset.tensors[0].array[:4].all(), "a batch must not be a view of the data set"
    list(DataLoader(dataset, 4, shuffle=True))
    assert dataset.calls == 1 + 3


def test_a_batch_may_be_a_dict_or_a_list_of_items():
    class Whole(Squares):
        def __getitems__(self, indices):
            return {"index": indices, "pair": (indices, indices * 2.0)}

    class Listed(Squares):
        def __getitems__(self, indices):
            return [self[index] for index in indices]

    batch = next(iter(DataLoader(Whole(4), 3)))
    assert batch["index"].array.tolist() == [0, 1, 2] and batch["pair"][1].array.tolist() == [0, 2, 4]
    assert all_indices(DataLoader(Listed(4), 3)) == all_indices(DataLoader(Squares(4), 3))
