"""Sequences of different length in one batch: padded to a rectangle, or packed without the padding.

    padded (T, N) with lengths 3, 2, 1         packed: the rows of each step, one after the other
        a0 b0 c0                                   data         a0 b0 c0 a1 b1 a2
        a1 b1  .                                   batch_sizes  3        2     1
        a2  .  .

Recurrent layers take packed sequences and compute what is there, nothing else. Packing sorts the sequences, longest
first, so that those which still run at a step stand in front; `sorted_indices` says which came from where. PyTorch's
`torch.nn.utils.rnn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minidl import ops
from minidl.errors import ShapeError
from minidl.tensor import Tensor, as_array


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """Packed sequences: data (S, ...), batch_sizes (T,), the number of sequences that have a row at each step.

    sorted_indices (N,): which of the sequences given stands at each place, None if they came sorted; unsorted_indices
    is the way back. Made by `pack_padded_sequence` or `pack_sequence`.
    """

    __slots__ = ()

    def __new__(cls, data: Tensor, batch_sizes: Tensor, sorted_indices: Tensor | None = None,
                unsorted_indices: Tensor | None = None) -> PackedSequence:
        if unsorted_indices is None and sorted_indices is not None:
            unsorted_indices = Tensor(np.argsort(as_array(sorted_indices)))
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, dtype: Any) -> PackedSequence:
        """The same sequences with their data in another dtype."""
        return self._replace(data=self.data.to(dtype))

    def lengths(self) -> np.ndarray:
        """How long each sequence is, in the order in which they were given."""
        sizes = as_array(self.batch_sizes)
        sorted_lengths = (sizes[:, None] > np.arange(sizes[0])).sum(axis=0)
        return sorted_lengths if self.unsorted_indices is None else sorted_lengths[as_array(self.unsorted_indices)]


def pack_padded_sequence(input: Tensor, lengths: Any, batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences padded to input (T, N, ...), or (N, T, ...) with batch_first; lengths (N,) from 1 to T.

    enforce_sorted: the lengths must not rise; without it they may stand in any order.
    Raises ShapeError for another number of lengths than sequences, ValueError for a length below 1 or above T, and for
    lengths that rise although they must not.
    """
    name = "pack_padded_sequence"
    if input.ndim < 2:
        raise ShapeError(f"{name}: an input {'(N, T, ...)' if batch_first else '(T, N, ...)'} is needed, it has shape "
                         f"{input.shape}")
    count, steps = input.shape[:2] if batch_first else input.shape[1::-1]
    sizes = _checked_lengths(name, lengths, count, steps)
    order = None
    if enforce_sorted:
        _check_sorted(name, sizes)
    else:
        order = np.argsort(-sizes, kind="stable")
        sizes = sizes[order]
    batch_sizes = _batch_sizes(sizes)
    step, place = _rows(batch_sizes)
    sequence = place if order is None else order[place]
    index = sequence * steps + step if batch_first else step * count + sequence
    rows = ops.reshape(input, (count * steps, *input.shape[2:]))
    return PackedSequence(ops.place_rows(rows, index), Tensor(batch_sizes), None if order is None else Tensor(order))


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Tensor, Tensor]:
    """The padded form (T, N, ...), or (N, T, ...) with batch_first, and the lengths (N,): `pack_padded_sequence` back.

    The sequences stand in the order in which they were given. T is the longest length, or total_length.
    Raises ValueError if total_length is below the longest length.
    """
    lengths = sequence.lengths()
    longest = len(sequence.batch_sizes)
    steps = longest if total_length is None else total_length
    if steps < longest:
        raise ValueError(f"pad_packed_sequence: total_length is {total_length}, the longest sequence has {longest} "
                         "steps")
    step, place = _rows(as_array(sequence.batch_sizes))
    order = sequence.sorted_indices
    where = place if order is None else as_array(order)[place]
    index = np.full((len(lengths), steps) if batch_first else (steps, len(lengths)), -1)
    index[(where, step) if batch_first else (step, where)] = np.arange(len(step))
    return ops.place_rows(sequence.data, index, padding_value), Tensor(lengths)


def pad_sequence(sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0,
                 padding_side: str = "right") -> Tensor:
    """Sequences (L, ...) of different length side by side, padded to the longest: (T, N, ...) or (N, T, ...).

    padding_side: "right", behind the end, or "left". Raises ShapeError where the other axes differ.
    """
    if padding_side not in ("right", "left"):
        raise ValueError(f"pad_sequence: padding_side is 'right' or 'left', not {padding_side!r}")
    tensors = _as_tensors("pad_sequence", sequences)
    lengths = [len(tensor) for tensor in tensors]
    starts, steps = np.cumsum([0, *lengths]), max(lengths)
    index = np.full((len(tensors), steps), -1)
    for number, length in enumerate(lengths):
        first = 0 if padding_side == "right" else steps - length
        index[number, first:first + length] = starts[number] + np.arange(length)
    return ops.place_rows(ops.cat(tensors), index if batch_first else index.T, padding_value)


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack a list of sequences (L, ...) of different length; enforce_sorted as in `pack_padded_sequence`."""
    lengths = [len(tensor) for tensor in _as_tensors("pack_sequence", sequences)]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences (L, ...) of a padded batch, one by one: `pad_sequence` back."""
    count, steps = padded_sequences.shape[:2] if batch_first else padded_sequences.shape[1::-1]
    sizes = _checked_lengths("unpad_sequence", lengths, count, steps)
    return [padded_sequences[number, :length] if batch_first else padded_sequences[:length, number]
            for number, length in enumerate(sizes.tolist())]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences (L, ...) of a packed batch, one by one: `pack_sequence` back."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences, batch_first=True), batch_first=True)


def _checked_lengths(name: str, lengths: Any, count: int, steps: int) -> np.ndarray:
    sizes = as_array(lengths, None if hasattr(lengths, "dtype") else np.int64)
    if sizes.dtype.kind not in "iu":
        raise TypeError(f"{name}: lengths are integers, these are {sizes.dtype}")
    if sizes.shape != (count,):
        raise ShapeError(f"{name}: {count} lengths are needed, one for each sequence of the batch, not an array of "
                         f"shape {sizes.shape}; is batch_first right?")
    wrong = (sizes < 1) | (sizes > steps)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"{name}: lengths[{first}] is {sizes[first]}; the sequences have from 1 to {steps} steps")
    return sizes.astype(np.int64)


def _check_sorted(name: str, sizes: np.ndarray) -> None:
    rises = np.flatnonzero(np.diff(sizes) > 0)
    if rises.size:
        first = int(rises[0])
        raise ValueError(f"{name}: lengths[{first + 1}] is {sizes[first + 1]}, longer than lengths[{first}], which is "
                         f"{sizes[first]}: sort the sequences, longest first, or give enforce_sorted=False")


def _batch_sizes(sizes: np.ndarray) -> np.ndarray:
    """How many sequences are longer than 0, 1, 2, … steps."""
    return (sizes[None] > np.arange(sizes[0])[:, None]).sum(axis=1)


def _rows(batch_sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The step of each packed row, and its place among the rows of that step."""
    step = np.repeat(np.arange(len(batch_sizes)), batch_sizes)
    return step, np.arange(len(step)) - (np.cumsum(batch_sizes) - batch_sizes)[step]


def _as_tensors(name: str, sequences: Sequence[Any]) -> list[Tensor]:
    if isinstance(sequences, Tensor):
        sequences = list(sequences)
    tensors = [sequence if isinstance(sequence, Tensor) else Tensor(sequence) for sequence in sequences]
    if not tensors:
        raise ValueError(f"{name}: there are no sequences")
    others = {tensor.shape[1:] for tensor in tensors}
    if len(others) > 1 or not all(tensor.ndim for tensor in tensors):
        raise ShapeError(f"{name}: sequences may differ in their first axis only, these have shapes "
                         f"{', '.join(str(tensor.shape) for tensor in tensors[:5])}")
    return tensors
