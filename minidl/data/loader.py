"""DataLoader: batches of Tensors from a data set, in order or shuffled, with an optional background thread.

An index array is drawn once per epoch; each slice of it is fetched as one batch, all at once where the data set
offers `__getitems__` (see `datasets.py`), else item by item and put together by `default_collate`.
Read `vision.py` next for the image data sets.
"""

from __future__ import annotations

import queue
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minidl import random
from minidl.data.datasets import ConcatDataset, Dataset, Subset, TensorDataset, is_random, random_split
from minidl.data.randomness import check_generator, drawing_from
from minidl.errors import ShapeError
from minidl.tensor import Tensor

__all__ = ["ConcatDataset", "DataLoader", "Dataset", "Subset", "TensorDataset", "default_collate", "random_split"]


def default_collate(samples: Sequence[Any]) -> Any:
    """Put single items together into a batch, by what the first one is.

    Tensors and arrays are stacked along a new first axis, floats become a float32 Tensor, ints an int64 and bools a
    bool Tensor, strings stay a list; tuples, lists and mappings are collated field by field (tuples become lists,
    as in PyTorch). Raises ShapeError if shapes or numbers of fields differ, TypeError for anything else.
    """
    first = samples[0]
    if isinstance(first, Tensor):
        return Tensor(_stack([sample.array for sample in samples]))
    if isinstance(first, (np.ndarray, np.generic)):
        return Tensor(_stack([np.asarray(sample) for sample in samples]))
    for kind, dtype in ((bool, np.bool_), (int, np.int64), (float, np.float32)):
        if isinstance(first, kind):
            return Tensor(np.array(samples, dtype))
    if isinstance(first, (str, bytes)):
        return list(samples)
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        if len({len(sample) for sample in samples}) != 1:
            raise ShapeError(f"default_collate: items have different numbers of fields: {[len(s) for s in samples]}")
        fields = [default_collate(field) for field in zip(*samples)]
        return type(first)(*fields) if hasattr(first, "_fields") else fields
    raise TypeError(f"default_collate: cannot make a batch of {type(first).__name__}; return arrays, Tensors, numbers, "
                    "strings, or tuples, lists or dicts of these, or pass DataLoader a collate_fn")


def _stack(arrays: list[Any]) -> Any:
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1:
        raise ShapeError(f"default_collate: items of one batch have different shapes {sorted(shapes)}; crop or pad "
                         "them to one size, or pass DataLoader a collate_fn")
    return np.stack(arrays)


class DataLoader:
    """Yields the items of `dataset` in batches of Tensors; the last batch may be smaller unless `drop_last`.

    shuffle: draw a new order at each pass, from `generator` (default: minidl's shared one).
    sampler: a sized iterable of indices instead of shuffle.
    batch_sampler: a sized iterable of batches of indices, which says all about order and size (`batch_size` is then
        None); `BucketBatchSampler` in `sequences.py` is one.
    num_workers: any number above 0 means one background thread that keeps up to `prefetch` batches ready; NumPy
        lets go of Python's lock in the heavy parts, so more processes would cost more than they bring. The order
        and the augmentation are the same as without it.
    collate_fn: called with the list of single items of a batch instead of `default_collate`.
    pin_memory: accepted for PyTorch's sake, without effect.
    Augmentations that have no generator of their own draw from one that depends on `generator` and the batch's
    number only; one with its own is drawn from ahead of time when `num_workers` is above 0.

    Raises ValueError for an empty data set and for options that contradict each other.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        generator: np.random.Generator | None = None,
        prefetch: int = 2,
    ):
        _check_count("batch_size", batch_size, least=1)
        _check_count("num_workers", num_workers, least=0)
        _check_count("prefetch", prefetch, least=1)
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler and shuffle=True exclude each other; the sampler gives the order")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError("DataLoader: batch_sampler gives the batches; leave out batch_size, shuffle, sampler and "
                             "drop_last")
        if len(dataset) == 0:
            raise ValueError(f"DataLoader: the data set ({type(dataset).__name__}) is empty, there is nothing to load")
        self.dataset = dataset
        self.batch_size: Any = batch_size if batch_sampler is None else None
        self.shuffle = shuffle
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.generator = check_generator(generator, "DataLoader")
        self.prefetch = prefetch
        if drop_last and sampler is None and batch_size > len(dataset):
            warnings.warn(f"DataLoader: drop_last=True leaves no batch at all, batch_size is {batch_size} and the data "
                          f"set has {len(dataset)} items", stacklevel=2)

    def __len__(self) -> int:
        """The number of batches in one pass."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        count = len(self.dataset) if self.sampler is None else len(self.sampler)  # type: ignore[arg-type]
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """Start a pass. Everything random is drawn here, in the calling thread."""
        return self.ahead(self.start())

    def start(self, first: int = 0) -> _Pass:
        """Draw all that a pass draws, and return its batches from number `first` on, each fetched when asked for."""
        batches = self._batches()
        seed = None
        if is_random(self.dataset):
            seed = int(random.generator(self.generator).integers(2**63))
        return _Pass(batches, _fetch_all(self.dataset, self.collate_fn, batches, seed, first), first)

    def ahead(self, batches: _Pass) -> _Pass:
        """The same batches, fetched ahead of time by a thread if this loader works with one."""
        if not self.num_workers:
            return batches
        return _Pass(batches.indices, _in_background(batches.batches, self.prefetch), batches.given)

    @property
    def draws_ahead(self) -> bool:
        """Whether a generator of an augmentation's own may be ahead of the batches that were handed out."""
        return self.num_workers > 0 and is_random(self.dataset)

    def _batches(self) -> list[np.ndarray]:
        if self.batch_sampler is not None:
            return [self._checked(list(batch), "batch_sampler") for batch in self.batch_sampler]
        order = self._order()
        stop = len(order) - len(order) % self.batch_size if self.drop_last else len(order)
        return [order[start : start + self.batch_size] for start in range(0, stop, self.batch_size)]

    def _order(self) -> np.ndarray:
        count = len(self.dataset)
        if self.sampler is None:
            return random.generator(self.generator).permutation(count) if self.shuffle else np.arange(count)
        return self._checked(list(self.sampler), "sampler")

    def _checked(self, indices: list, source: str) -> np.ndarray:
        order, count = np.asarray(indices), len(self.dataset)
        if order.ndim != 1 or order.dtype.kind not in "iu":
            expected = "one integer index at a time" if source == "sampler" else "lists of integer indices"
            raise TypeError(f"DataLoader: the {source} must give {expected}, and at least one; it gave shape "
                            f"{order.shape} of {order.dtype}")
        outside = order[(order < 0) | (order >= count)]
        if outside.size:
            raise IndexError(f"DataLoader: the {source} gave index {outside[0]}, the data set has {count} items")
        return order


class _Pass:
    """One pass through the data, which knows the indices of the samples in the batches it has given."""

    def __init__(self, indices: list[np.ndarray], batches: Iterator[Any], given: int = 0):
        self.indices, self.batches, self.given = indices, batches, given

    def __iter__(self) -> _Pass:
        return self

    def __next__(self) -> Any:
        batch = next(self.batches)
        self.given += 1
        return batch

    def last(self, back: int = 0) -> np.ndarray | None:
        """The indices of the samples in the last batch given, or in the one `back` batches before it."""
        place = self.given - 1 - back
        return self.indices[place] if 0 <= place < len(self.indices) else None

    def close(self) -> None:
        """End the pass early; the thread that loads ahead ends too."""
        self.batches.close()  # type: ignore[attr-defined]


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"DataLoader: {name} must be an integer of at least {least}, got {value!r}")


def _fetch_all(dataset: Any, collate: Callable | None, batches: list, seed: int | None, first: int) -> Iterator[Any]:
    for number, indices in enumerate(batches[first:], first):
        generator = None if seed is None else np.random.default_rng((seed, number))
        with drawing_from(generator):
            batch = _fetch(dataset, collate, indices)
        yield batch


def _fetch(dataset: Any, collate: Callable | None, indices: np.ndarray) -> Any:
    whole = collate is None or collate is default_collate
    if whole and hasattr(dataset, "__getitems__"):
        batch = dataset.__getitems__(indices)
        if not isinstance(batch, list):
            return _as_tensors(batch)
    else:
        batch = [dataset[int(index)] for index in indices]
    return (collate or default_collate)(batch)


def _as_tensors(batch: Any) -> Any:
    """Wrap the arrays that `__getitems__` returned, in the containers `default_collate` would have used."""
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping):
        return {key: _as_tensors(value) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return [_as_tensors(value) for value in batch]
    return Tensor(batch)


class _Failure:
    def __init__(self, error: BaseException):
        self.error = error


_END = object()


def _in_background(batches: Iterator[Any], ahead: int) -> Iterator[Any]:
    """Yield what `batches` yields, computed up to `ahead` batches early by a thread that ends with this iterator."""
    ready: queue.SimpleQueue = queue.SimpleQueue()
    free_places = threading.Semaphore(ahead)
    stopped = threading.Event()
    thread = threading.Thread(target=_work, args=(batches, ready, free_places, stopped),
                              name="minidl-prefetch", daemon=True)
    thread.start()
    try:
        while (batch := ready.get()) is not _END:
            free_places.release()
            if isinstance(batch, _Failure):
                raise batch.error
            yield batch
    finally:
        batch = None  # a failure kept here would hold its traceback, and that this frame, until the next collection
        stopped.set()
        free_places.release()
        if thread is not threading.current_thread():  # the garbage collector may run this in any thread
            thread.join()


def _work(batches: Iterator[Any], ready: queue.SimpleQueue, free_places: threading.Semaphore,
          stopped: threading.Event) -> None:
    try:
        free_places.acquire()
        while not stopped.is_set():
            batch = next(batches, _END)
            ready.put(batch)
            if batch is _END:
                return
            free_places.acquire()
    except BaseException as error:
        ready.put(_Failure(error))
