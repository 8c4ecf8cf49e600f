"""Normalisation layers. BatchNorm keeps running statistics, which training moves and evaluation uses.

A frozen BatchNorm (`frozen`, set by `minidl.transfer.freeze`) uses the stored statistics and leaves them as they are,
also inside a network that trains.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.errors import ShapeError
from minidl.nn import init
from minidl.nn.module import Module, Parameter
from minidl.tensor import Tensor


def _affine(module: Module, shape: Any, affine: bool, bias: bool, dtype: Any) -> None:
    """Give the module `weight` and `bias` of that shape, or None where they are not wanted."""
    module.weight = Parameter(np.empty(shape, dtype or np.float32)) if affine else None
    module.bias = Parameter(np.empty(shape, dtype or np.float32)) if affine and bias else None


def _reset_affine(module: Module) -> None:
    if module.weight is not None:
        init.ones_(module.weight)
    if module.bias is not None:
        init.zeros_(module.bias)


class _BatchNorm(Module):
    dims: tuple[int, ...] = ()  # how many axes an input may have
    layout = ""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True):
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        _affine(self, num_features, affine, bias, dtype)
        statistics: dict[str, Any] = dict.fromkeys(("running_mean", "running_var", "num_batches_tracked"))
        if track_running_stats:
            statistics["running_mean"] = Tensor(np.zeros(num_features, dtype or np.float32))
            statistics["running_var"] = Tensor(np.ones(num_features, dtype or np.float32))
            statistics["num_batches_tracked"] = Tensor(np.zeros((), np.int64))
        for name, tensor in statistics.items():
            self.register_buffer(name, tensor)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget the batches seen: mean 0, variance 1."""
        if self.track_running_stats:
            self.running_mean.array[...] = 0
            self.running_var.array[...] = 1
            self.num_batches_tracked.array[...] = 0

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        _reset_affine(self)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in self.dims or x.shape[1] != self.num_features:
            raise ShapeError(f"an input {self.layout} with C = {self.num_features} is expected, not {x.shape}")
        if not self.track_running_stats:
            return ops.batch_norm(x, self.weight, self.bias, training=True, eps=self.eps)
        momentum = self.momentum
        if momentum is None:  # the plain average of all batches so far
            momentum = 1 / (self.num_batches_tracked.item() + 1)
        y = ops.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, self.training, momentum,
                           self.eps)
        if self.training:
            self.num_batches_tracked.array += 1
        return y

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")


class BatchNorm1d(_BatchNorm):
    """(x - mean) / sqrt(variance + eps) * weight + bias per channel, for x (N, C) or (N, C, L).

    In training by the batch's mean and biased variance; the running ones move by
    running = (1 - momentum) running + momentum batch (variance unbiased), and are used in evaluation.
    momentum=None averages all batches alike; track_running_stats=False uses the batch in evaluation too.
    Raises ShapeError for another number of axes or channels, ValueError for one value per channel in training.
    Ioffe and Szegedy 2015, "Batch normalization".
    """

    dims, layout = (2, 3), "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """As BatchNorm1d, for images x (N, C, H, W)."""

    dims, layout = (4,), "(N, C, H, W)"


class LayerNorm(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the last axes, of shape `normalized_shape`.

    The same in training and evaluation. Raises ShapeError where x does not end in that shape.
    Ba, Kiros and Hinton 2016, "Layer normalization".
    """

    def __init__(self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
                 device: Any = None, dtype: Any = None):
        whole = isinstance(normalized_shape, (int, np.integer))
        self.normalized_shape = (int(normalized_shape),) if whole else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        _affine(self, self.normalized_shape, elementwise_affine, bias, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _reset_affine(self)

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias, self.normalized_shape, self.eps)

    def extra_repr(self) -> str:
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")


class GroupNorm(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias for x (N, C, ...), over each of `num_groups` channel groups.

    The same in training and evaluation, whatever the batch size. Raises ValueError if num_groups does not divide
    num_channels, ShapeError for an input with another number of channels. Wu and He 2018, "Group normalization".
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device: Any = None,
                 dtype: Any = None, *, bias: bool = True):
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: {num_channels} channels cannot be split into {num_groups} equal groups")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        _affine(self, num_channels, affine, bias, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _reset_affine(self)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(f"an input (N, C, ...) with C = {self.num_channels} is expected, not {x.shape}")
        return ops.group_norm(x, self.weight, self.bias, self.num_groups, self.eps)

    def extra_repr(self) -> str:
        return (f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
                f"bias={self.bias is not None}")
