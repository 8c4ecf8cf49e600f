"""Convolution layers over signals (N, C, L) and images (N, C, H, W).

One class holds what Conv1d and Conv2d share, one what their transposes share; the layers say how many axes they slide
over and which operation they call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl import ops
from minidl.errors import ShapeError
from minidl.kernels.shapes import conv_transpose_output_size, same_padding
from minidl.nn import init
from minidl.nn.module import Module, Parameter
from minidl.ops.spatial import integers
from minidl.tensor import Tensor

Sizes = int | tuple[int, ...]  # one for all axes, or one for each
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    dims = 0
    operation: Callable

    def _start(self, options: dict[str, Any], bias: bool, dtype: Any) -> None:
        """Check and keep the constructor's arguments, and make the parameters."""
        name = type(self).__name__
        for key in ("in_channels", "out_channels", "groups"):
            (options[key],) = integers(name, key, options[key], 1, 1)
        for key in ("in_channels", "out_channels"):
            if options[key] % options["groups"]:
                raise ValueError(f"{name}: {key} = {options[key]} cannot be cut into groups = {options['groups']}")
        for key, least in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("output_padding", 0), ("dilation", 1)):
            if key in options and not isinstance(options[key], str):
                options[key] = integers(name, key, options[key], self.dims, least)
        if isinstance(options["padding"], str):
            if options["padding"] not in ("same", "valid"):
                raise ValueError(f"{name}: padding is 'same', 'valid' or in numbers, not {options['padding']!r}")
            if options["padding"] == "same" and max(options["stride"]) > 1:
                raise ValueError(f"{name}: padding='same' needs stride 1, not {options['stride']}")
        if options["padding_mode"] not in PADDING_MODES:
            raise ValueError(f"{name}: padding_mode is one of {PADDING_MODES}, not {options['padding_mode']!r}")
        for key, value in options.items():
            setattr(self, key, value)
        self.weight = Parameter(np.empty((*self._channels(), *self.kernel_size), dtype or np.float32))
        self.bias = Parameter(np.empty(self.out_channels, dtype or np.float32)) if bias else None
        self.reset_parameters()

    def _channels(self) -> tuple[int, int]:
        """The first two axes of the weight."""
        return self.out_channels, self.in_channels // self.groups

    def reset_parameters(self) -> None:
        init.kaiming_uniform_(self.weight, a=5**0.5)
        if self.bias is not None:
            bound = init.fan_in_and_out(self.weight)[0] ** -0.5
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding not in ((0,) * self.dims, "valid"):
            text += f", padding={self.padding}"
        if max(self.dilation) > 1:
            text += f", dilation={self.dilation}"
        if max(getattr(self, "output_padding", (0,))) > 0:
            text += f", output_padding={self.output_padding}"
        if self.groups > 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text + (f", padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else "")


class _Conv(_Convolution):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes | str = 0,
        dilation: Sizes = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
        dtype: Any = None,
    ):
        options = {
            "in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size, "stride": stride,
            "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": padding_mode,
        }
        self._start(options, bias, dtype)

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        if self.padding_mode == "zeros":
            return self._apply(x, self.padding, relu)
        if self.padding == "same":
            edges = [same_padding(k, d) for k, d in zip(self.kernel_size, self.dilation)]
        else:
            edges = [(0, 0) if self.padding == "valid" else (p, p) for p in self.padding]
        sizes = [size for before_and_after in reversed(edges) for size in before_and_after]  # last dim first
        return self._apply(ops.pad(x, sizes, mode=self.padding_mode), 0, relu)

    def _apply(self, x: Tensor, padding: Any, relu: bool) -> Tensor:
        return type(self).operation(
            x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups, relu=relu
        )


class Conv1d(_Conv):
    """Slides out_channels filters over x (N, C, L) or (C, L): (N, out_channels, L'); see `minidl.ops.conv1d`.

    weight (out_channels, in_channels / groups, k) and bias start uniform in ±1/sqrt(k in_channels / groups).
    padding: a number, "same" or "valid"; padding_mode: "zeros", "reflect", "replicate" or "circular".
    """

    dims = 1
    operation = ops.conv1d


class Conv2d(_Conv):
    """Slides out_channels filters over x (N, C, H, W) or (C, H, W): (N, out_channels, H', W'); see `minidl.ops.conv2d`.

    weight (out_channels, in_channels / groups, kh, kw) and bias start uniform in ±1/sqrt(kh kw in_channels / groups).
    Options are one integer or (rows, columns); padding may be "same" or "valid"; padding_mode: "zeros", "reflect",
    "replicate" or "circular".
    """

    dims = 2
    operation = ops.conv2d


class _ConvTranspose(_Convolution):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes = 0,
        output_padding: Sizes = 0, groups: int = 1, bias: bool = True, dilation: Sizes = 1, padding_mode: str = "zeros",
        device: Any = None, dtype: Any = None,
    ):
        if padding_mode != "zeros" or isinstance(padding, str):
            raise ValueError(f"{type(self).__name__}: padding must be in numbers and padding_mode 'zeros', not "
                             f"{padding!r} and {padding_mode!r}")
        options = {
            "in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size, "stride": stride,
            "padding": padding, "output_padding": output_padding, "groups": groups, "dilation": dilation,
            "padding_mode": padding_mode,
        }
        self._start(options, bias, dtype)

    def _channels(self) -> tuple[int, int]:
        return self.in_channels, self.out_channels // self.groups

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        additional = self.output_padding if output_size is None else self._padding_for(x, output_size)
        return type(self).operation(
            x, self.weight, self.bias, self.stride, self.padding, additional, self.groups, self.dilation
        )

    def _padding_for(self, x: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output padding that leads to `output_size`, of which only the spatial axes count."""
        if not isinstance(output_size, (tuple, list)):
            raise TypeError(f"output_size must be a sequence of sizes, not {output_size!r}")
        if len(output_size) not in (self.dims, x.ndim):
            raise ShapeError(f"output_size {output_size} must have {self.dims} or {x.ndim} numbers")
        axes = zip(x.shape[-self.dims:], self.kernel_size, self.stride, self.padding, (0,) * self.dims, self.dilation)
        smallest = [conv_transpose_output_size(*axis) for axis in axes]
        wanted = tuple(output_size[-self.dims:])
        if not all(low <= n < low + s for n, low, s in zip(wanted, smallest, self.stride)):
            largest = [low + s - 1 for low, s in zip(smallest, self.stride)]
            raise ShapeError(f"output_size {wanted} cannot be reached from an input of shape {x.shape}: it must lie "
                             f"between {tuple(smallest)} and {tuple(largest)}")
        return tuple([n - low for n, low in zip(wanted, smallest)])


class ConvTranspose1d(_ConvTranspose):
    """The transpose of Conv1d: x (N, C, L) or (C, L) to (N, out_channels, L'); see `minidl.ops.conv_transpose1d`.

    weight (in_channels, out_channels / groups, k). `forward(x, output_size)` chooses the output padding by the result.
    """

    dims = 1
    operation = ops.conv_transpose1d


class ConvTranspose2d(_ConvTranspose):
    """The transpose of Conv2d: x (N, C, H, W) to (N, out_channels, H', W'); see `minidl.ops.conv_transpose2d`.

    weight (in_channels, out_channels / groups, kh, kw). `forward(x, output_size)` chooses the output padding by the
    result.
    """

    dims = 2
    operation = ops.conv_transpose2d
