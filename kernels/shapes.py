"""Arithmetic of windows that slide over an axis: how many fit, and which inputs they read.

Convolution, pooling and resizing of every backend share it. Convolution and pooling are built on one idea: output
`o` of an axis reads, for tap `i` of the window, the input `o * stride + i * dilation - padding`. Fixing the tap
instead of the output turns a window into a strided slice of the whole input, and padding into a shorter slice.
Read `reference/conv.py` next.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Pair = tuple[int, int]


def conv_output_size(size: int, kernel_size: int, stride: int, padding: int, dilation: int) -> int:
    """How many windows fit into an axis padded on both sides; zero or less if the kernel is longer than that."""
    return (size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1


def conv_transpose_output_size(
    size: int, kernel_size: int, stride: int, padding: int, output_padding: int, dilation: int
) -> int:
    """The axis from which a convolution would make `size` outputs; `output_padding` picks among several."""
    return (size - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1


def pool_output_size(
    size: int, kernel_size: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """As `conv_output_size`; with `ceil_mode` a last window may run over the end, but must not start beyond it."""
    if not ceil_mode:
        return conv_output_size(size, kernel_size, stride, padding, dilation)
    windows = -(-(size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride) + 1
    return windows - 1 if (windows - 1) * stride >= size + padding else windows


def same_padding(kernel_size: int, dilation: int) -> Pair:
    """Padding (before, after) that keeps an axis as long as it is, at stride 1; the odd one goes after."""
    total = dilation * (kernel_size - 1)
    return total // 2, total - total // 2


def reach(offset: int, stride: int, size: int, start: int, stop: int) -> tuple[slice, slice]:
    """For one tap, the outputs of `start..stop` that find an input, and the inputs they find.

    Output o reads input o * stride + offset of an axis of `size`; what falls outside is padding. The first slice
    counts from `start`, so that it indexes an array that holds the outputs of that range only.
    """
    first = max(start, -(offset // stride))
    last = min(stop - 1, (size - 1 - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    return slice(first - start, last + 1 - start), slice(first * stride + offset, last * stride + offset + 1, stride)


def taps(
    size: Pair, rows: Pair, columns: int, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Iterator[tuple[int, int, tuple, tuple]]:
    """Every tap (i, j) of a window in row-major order, with the outputs that use it and the inputs these read.

    size: the input's (H, W). rows: the output rows start..stop asked for; columns: the output's width.
    Yields i, j and two indices of arrays (..., H, W): `y[outputs]` and `x[inputs]` are of one shape.
    """
    across = [reach(j * dilation[1] - padding[1], stride[1], size[1], 0, columns) for j in range(kernel_size[1])]
    for i in range(kernel_size[0]):
        out_rows, in_rows = reach(i * dilation[0] - padding[0], stride[0], size[0], *rows)
        for j, (out_columns, in_columns) in enumerate(across):
            yield i, j, (..., out_rows, out_columns), (..., in_rows, in_columns)


def first_taps(outputs: int, stride: int, padding: int, dilation: int) -> list[int]:
    """For every window along an axis, its first tap that is not padding."""
    return [max(0, -((o * stride - padding) // dilation)) for o in range(outputs)]


def window_lengths(
    size: int, outputs: int, kernel_size: int, stride: int, padding: int, count_padding: bool
) -> list[int]:
    """How many elements each window along an axis counts: those inside the input, or inside input and padding."""
    margin = padding if count_padding else 0
    starts = [o * stride - padding for o in range(outputs)]
    return [min(start + kernel_size, size + margin) - max(start, -margin) for start in starts]


def adaptive_windows(size: int, outputs: int) -> list[Pair]:
    """The windows (start, stop) that share an axis among `outputs`: floor(o * size / outputs) to the next's ceil."""
    return [(o * size // outputs, -(-(o + 1) * size // outputs)) for o in range(outputs)]


def nearest_sources(size: int, outputs: int, step: float, exact: bool) -> np.ndarray:
    """The input nearest to each output of a resized axis, `step` inputs apart: floor(o * step), in float32 as PyTorch.

    exact: from the middle of output o, floor((o + 0.5) * step), as Pillow and scikit-image do.
    """
    places = (np.arange(outputs, dtype=np.float32) + np.float32(0.5 if exact else 0)) * np.float32(step)
    return np.minimum(places.astype(np.int64), size - 1)


def linear_sources(
    size: int, outputs: int, step: float, align_corners: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two inputs between which each output of a resized axis lies, and the share of the second.

    Output o lies at (o + 0.5) * step - 0.5, as pixels are areas; with `align_corners` the middles of the first and of
    the last pixel coincide instead, and the step follows from that.
    """
    if align_corners:
        places = np.arange(outputs) * ((size - 1) / max(outputs - 1, 1))
    else:
        places = np.maximum((np.arange(outputs) + 0.5) * step - 0.5, 0)
    low = np.minimum(places.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), places - low
