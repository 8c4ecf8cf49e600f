"""From whatever holds the data to batches: arrays and data sets become loaders, batches become inputs and target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from minidl.data.datasets import TensorDataset
from minidl.data.loader import DataLoader
from minidl.errors import ShapeError
from minidl.tensor import Tensor


def as_loader(data: Any, batch_size: int, shuffle: bool = False, generator: np.random.Generator | None = None,
              dtype: Any = np.float32) -> Any:
    """An iterable of batches over `data`.

    data: a DataLoader or another iterable of batches, used as it is; a data set; a tuple of arrays (inputs, target) of
        equal length, or one array of inputs alone. Floating-point arrays are converted to `dtype`.
    Raises ValueError if there is nothing in it, TypeError for anything else.
    """
    if isinstance(data, (np.ndarray, Tensor)):
        data = (data,)
    elif isinstance(data, list) and len(data) > 1 and all(isinstance(part, (np.ndarray, Tensor)) for part in data):
        data = tuple(data)
    if isinstance(data, tuple):
        data = TensorDataset(*(_converted(part, dtype) for part in data))
    if isinstance(data, Mapping) or not (hasattr(data, "__getitem__") or isinstance(data, Iterable)):
        raise TypeError(f"data must be a DataLoader, a data set or a tuple of arrays (inputs, target), got a "
                        f"{type(data).__name__}")
    loader = data
    if hasattr(data, "__getitem__"):
        loader = DataLoader(data, batch_size, shuffle, generator=generator)
    if hasattr(loader, "__len__") and len(loader) == 0:
        raise ValueError(f"the {type(loader).__name__} has no batches; is the data set empty, or drop_last set with a "
                         "batch_size above its length?")
    return loader


def _converted(values: Any, dtype: Any) -> Any:
    array = values.array if isinstance(values, Tensor) else np.asarray(values)
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array


def sample_count(loader: Any) -> int | None:
    """How many samples one pass of a DataLoader gives; None for other iterables, which do not say."""
    if not isinstance(loader, DataLoader):
        return None
    if loader.batch_sampler is not None:
        return getattr(loader.batch_sampler, "samples", None)
    items = len(loader.dataset) if loader.sampler is None else len(loader.sampler)  # type: ignore[arg-type]
    return min(items, len(loader) * loader.batch_size)


def groups(batches: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` batches each; the last one may be shorter."""
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group


def inputs_and_target(batch: Any) -> tuple[tuple[Tensor, ...], Tensor]:
    """The inputs (N, ...) of a batch and, as its last part, the target (N, ...)."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        shown = f"of shape {batch.shape}" if hasattr(batch, "shape") else f"with {len(batch)} parts"
        raise TypeError(f"a batch must be (inputs, target), got a {type(batch).__name__} {shown}; "
                        "for arrays give the tuple (inputs, target)")
    *inputs, target = (part if isinstance(part, Tensor) else Tensor(part) for part in batch)
    if inputs[0].ndim and target.ndim and inputs[0].shape[0] != target.shape[0]:
        raise ShapeError(f"the batch has {inputs[0].shape[0]} inputs {inputs[0].shape} but {target.shape[0]} targets "
                         f"{target.shape}")
    return tuple(inputs), target


def inputs_alone(batch: Any) -> tuple[Tensor, ...]:
    """The inputs of a batch: all but the last part, or the only one."""
    if isinstance(batch, (tuple, list)):
        parts = batch[:-1] if len(batch) > 1 else batch
    else:
        parts = (batch,)
    return tuple(part if isinstance(part, Tensor) else Tensor(part) for part in parts)
