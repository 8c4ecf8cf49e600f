"""The rows of packed sequences: which belong to a time step, and what stood before each. All backends share this.

Packed, as in PyTorch: sequences sorted by length, longest first; the rows (S, ...) of all that are still running at
step 0, then at step 1, … `batch_sizes` (T,) says how many run at each step. Sequence n has row n of each step it lives
to see. Where all are equally long, this is an array (T, N, ...) in C order, and batch_sizes is N, T times.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def steps(batch_sizes: Any, reverse: bool = False) -> list[slice]:
    """The rows of each time step, from the first step to the last, or from the last to the first."""
    ends = np.cumsum(batch_sizes).tolist()
    slices = [slice(end - size, end) for end, size in zip(ends, np.asarray(batch_sizes).tolist())]
    return slices[::-1] if reverse else slices


def previous(states: Any, first: Any, batch_sizes: Any, reverse: bool) -> Any:
    """For each row of states (S, H) the state that its sequence had before: one of the rows, or of first (N, H)."""
    result = np.empty_like(states)
    current = first.astype(states.dtype)
    for rows in steps(batch_sizes, reverse):
        running = rows.stop - rows.start
        result[rows] = current[:running]
        current[:running] = states[rows]
    return result
