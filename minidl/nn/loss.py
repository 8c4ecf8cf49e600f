"""Losses as functions and as layers. The functions add to the operations of `minidl.ops` what only shows before them:

warnings for what is legal but surely wrong, such as softmax output fed into a loss that takes logits. The layers keep
the options and call the functions of the same meaning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.errors import warn_caller
from minidl.nn.module import Module
from minidl.tensor import Tensor, as_array


def cross_entropy(input: Tensor, target: Tensor, weight: Any = None, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """See `minidl.ops.cross_entropy`. Warns if `input` is the result of softmax: this loss takes logits."""
    _warn_about(input, "softmax", "cross_entropy takes logits and applies softmax itself, but its input is the result "
                "of softmax already; the gradients of this double softmax are weak: leave the softmax out")
    return ops.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def nll_loss(input: Tensor, target: Tensor, weight: Any = None, ignore_index: int = -100,
             reduction: str = "mean") -> Tensor:
    """See `minidl.ops.nll_loss`. Warns if `input` is the result of softmax: this loss takes its logarithm."""
    _warn_about(input, "softmax", "nll_loss takes log-probabilities, but its input is the result of softmax: use "
                "log_softmax, or cross_entropy on the logits")
    return ops.nll_loss(input, target, weight, ignore_index, reduction)


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Any = None, reduction: str = "mean") -> Tensor:
    """See `minidl.ops.binary_cross_entropy`. Warns about targets outside [0, 1]."""
    loss = ops.binary_cross_entropy(input, target, weight, reduction)
    _warn_about_targets("binary_cross_entropy", target)
    return loss


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Any = None, reduction: str = "mean",
                                     pos_weight: Any = None) -> Tensor:
    """See `minidl.ops.binary_cross_entropy_with_logits`. Warns if `input` is the result of sigmoid, and about targets
    outside [0, 1]."""
    _warn_about(input, "sigmoid", "binary_cross_entropy_with_logits takes logits and applies sigmoid itself, but its "
                "input is the result of sigmoid already: leave the sigmoid out")
    loss = ops.binary_cross_entropy_with_logits(input, target, weight, reduction, pos_weight)
    _warn_about_targets("binary_cross_entropy_with_logits", target)
    return loss


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """See `minidl.ops.mse_loss`. Warns if input and target have different shapes."""
    loss = ops.mse_loss(input, target, reduction)
    _warn_about_shapes("mse_loss", input, target)
    return loss


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """See `minidl.ops.l1_loss`. Warns if input and target have different shapes."""
    loss = ops.l1_loss(input, target, reduction)
    _warn_about_shapes("l1_loss", input, target)
    return loss


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """See `minidl.ops.smooth_l1_loss`. Warns if input and target have different shapes."""
    loss = ops.smooth_l1_loss(input, target, reduction, beta)
    _warn_about_shapes("smooth_l1_loss", input, target)
    return loss


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """See `minidl.ops.huber_loss`. Warns if input and target have different shapes."""
    loss = ops.huber_loss(input, target, reduction, delta)
    _warn_about_shapes("huber_loss", input, target)
    return loss


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """See `minidl.ops.kl_div`. Warns about "mean", which divides by the classes too, and about softmax as input."""
    _warn_about(input, "softmax", "kl_div takes log-probabilities as its input, but was given the result of softmax: "
                "use log_softmax")
    if reduction == "mean":
        warn_caller("kl_div: reduction='mean' divides by the number of elements, not of samples; the divergence per "
                    "sample is reduction='batchmean'")
    return ops.kl_div(input, target, reduction, log_target)


def _warn_about(input: Tensor, operation: str, message: str) -> None:
    if isinstance(input, Tensor) and input.grad_fn is not None and input.grad_fn.name == operation:
        warn_caller(message)


def _warn_about_shapes(name: str, input: Any, target: Any) -> None:
    shapes = np.shape(as_array(input)), np.shape(as_array(target))
    if shapes[0] != shapes[1]:
        warn_caller(f"{name}: input has shape {shapes[0]} and target {shapes[1]}: broadcasting them compares every "
                    "pair, which is seldom meant; give both the same shape")


def _warn_about_targets(name: str, target: Any) -> None:
    array = as_array(target)
    if (array < 0).any() or (array > 1).any():
        warn_caller(f"{name}: targets are probabilities, between 0 and 1, but these reach from {array.min():.4g} to "
                    f"{array.max():.4g}")


class _Loss(Module):
    """What all losses share: `reduction` is "mean", "sum" or "none"."""

    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction


class _WeightedLoss(_Loss):
    """A loss with fixed weights, kept as buffers: they are saved and moved with the module, not trained."""

    def __init__(self, weight: Any = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.register_buffer("weight", None if weight is None else Tensor(as_array(weight)))


class CrossEntropyLoss(_WeightedLoss):
    """-log softmax(input)[target], averaged, for logits (N, C, d1, ...) and class indices (N, d1, ...).

    Class probabilities (N, C, d1, ...) are taken as targets too. The network must end in logits, without softmax.
    See `minidl.ops.cross_entropy` for weight (C,), ignore_index, label_smoothing and the errors.
    """

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0):
        super().__init__(weight, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class NLLLoss(_WeightedLoss):
    """-input[target], averaged, for log-probabilities (N, C, d1, ...) and class indices (N, d1, ...)."""

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class BCELoss(_WeightedLoss):
    """-(t log p + (1 - t) log(1 - p)), averaged, for probabilities p and targets t of one shape."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """BCELoss of sigmoid(input), computed from the logits; pos_weight (C,) multiplies the loss of positives."""

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None):
        super().__init__(weight, reduction)
        self.register_buffer("pos_weight", None if pos_weight is None else Tensor(as_array(pos_weight)))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class MSELoss(_Loss):
    """(input - target)^2, averaged."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """|input - target|, averaged."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return l1_loss(input, target, self.reduction)


class SmoothL1Loss(_Loss):
    """A parabola where |input - target| < beta and a straight line beyond, averaged."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return smooth_l1_loss(input, target, self.reduction, self.beta)


class HuberLoss(_Loss):
    """As SmoothL1Loss, times delta: the parabola d^2 / 2 itself is the same for every delta. Averaged."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return huber_loss(input, target, self.reduction, self.delta)


class KLDivLoss(_Loss):
    """target (log target - input) for log-probabilities `input`; reduction "batchmean" gives KL per sample."""

    def __init__(self, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return kl_div(input, target, self.reduction, self.log_target)
