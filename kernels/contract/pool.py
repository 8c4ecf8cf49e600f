"""The largest or the mean element of every window. Computed in `../reference/pool.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def max_pool2d(x, *, kernel_size, stride, padding, dilation, ceil_mode):
    """The largest element of every window of x (N, C, H, W), and which it was: two arrays (N, C, H', W').

    The second counts the taps of the window, i kw + j, in the smallest unsigned type that holds them. The first of
    equal elements wins, a NaN wins over all numbers (the last one, if there are several), padding never does: where
    dilation leaves a window with nothing but padding, y is the type's lowest number, and a tap in the padding stands.
    Options are pairs, as in conv2d; the size of y is `shapes.pool_output_size`.
    """


@kernel
def max_pool2d_grad(g, winners, size, *, kernel_size, stride, padding, dilation):
    """The gradient of max_pool2d's x of size = (H, W): each g goes to its window's winner, unless that is padding."""


@kernel
def avg_pool2d(x, *, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """The mean of every window of x (N, C, H, W): its sum over the elements it counts, `shapes.window_lengths`.

    Padding counts with count_include_pad; divisor_override, if not None, is what all sums are divided by.
    """


@kernel
def avg_pool2d_grad(g, size, *, kernel_size, stride, padding, count_include_pad, divisor_override):
    """The gradient of avg_pool2d's x of size = (H, W)."""


@kernel
def adaptive_avg_pool2d(x, *, output_size):
    """The means of output_size windows that cover x (N, C, H, W), as `shapes.adaptive_windows` cuts them."""


@kernel
def adaptive_avg_pool2d_grad(g, size):
    """The gradient of adaptive_avg_pool2d's x of size = (H, W)."""


@kernel
def adaptive_max_pool2d(x, *, output_size):
    """The largest elements of output_size windows that cover x (N, C, H, W), and their places row W + column.

    The first of equal elements wins, and a NaN wins over all numbers (the first one).
    """


@kernel
def adaptive_max_pool2d_grad(g, winners, size):
    """The gradient of adaptive_max_pool2d's x of size = (H, W)."""
