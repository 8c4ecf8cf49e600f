"""Pooling layers: each keeps its options and calls the operation of its name in `minidl/ops/pool.py`."""

from __future__ import annotations

from minidl import ops
from minidl.nn.module import Module
from minidl.tensor import Tensor

Sizes = int | tuple[int, ...]  # one for all axes, or one for each


class _MaxPool(Module):
    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ):
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def _options(self) -> tuple:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
                f"dilation={self.dilation}, ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPool):
    """The largest element of every window of x (N, C, L) or (C, L); see `minidl.ops.max_pool1d`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool1d(x, *self._options())


class MaxPool2d(_MaxPool):
    """The largest element of every window of x (N, C, H, W) or (C, H, W); see `minidl.ops.max_pool2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, *self._options())


class AvgPool1d(Module):
    """The mean of every window of x (N, C, L) or (C, L); see `minidl.ops.avg_pool1d`."""

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool1d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of every window of x (N, C, H, W) or (C, H, W); see `minidl.ops.avg_pool2d`."""

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ):
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AdaptivePool(Module):
    def __init__(self, output_size: int | tuple[int | None, ...] | None):
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """The means of output_size windows that cover x (N, C, L) or (C, L); see `minidl.ops.adaptive_avg_pool1d`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool1d(x, self.output_size)


class AdaptiveAvgPool2d(_AdaptivePool):
    """The means of output_size windows that cover x (N, C, H, W); see `minidl.ops.adaptive_avg_pool2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.output_size)


class AdaptiveMaxPool1d(_AdaptivePool):
    """The largest elements of output_size windows that cover x (N, C, L); see `minidl.ops.adaptive_max_pool1d`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_max_pool1d(x, self.output_size)


class AdaptiveMaxPool2d(_AdaptivePool):
    """The largest elements of output_size windows that cover x (N, C, H, W); see `minidl.ops.adaptive_max_pool2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_max_pool2d(x, self.output_size)
