"""Losses of the difference between input and target (mse, l1, smooth_l1, huber), and the divergence kl_div.

All are differentiable in both tensors, which broadcast. reduction: "none" gives every element's loss, "sum" and "mean"
one number. Read `loss_classification.py` for the losses with labels.
"""

from __future__ import annotations

import math

import numpy as np

from minidl import kernels
from minidl.errors import ShapeError
from minidl.ops.elementwise import promote
from minidl.ops.shared import REDUCTIONS, check_reduction, reduce_losses, reduce_total, unchanged
from minidl.tensor import differentiable


@differentiable
def mse_loss(input, target, /, reduction="mean"):
    """(input - target)^2, averaged. Raises ShapeError if the shapes do not broadcast."""
    return _difference_loss("mse_loss", input, target, reduction, kernels.mse_loss, kernels.mse_loss_grad)


@differentiable
def l1_loss(input, target, /, reduction="mean"):
    """|input - target|, averaged; its gradient is 0 where they are equal. Raises ShapeError as mse_loss."""
    return _difference_loss("l1_loss", input, target, reduction, kernels.l1_loss, kernels.l1_loss_grad)


@differentiable
def smooth_l1_loss(input, target, /, reduction="mean", beta=1.0):
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, for d = input - target, averaged. beta = 0: l1_loss.

    Girshick 2015, "Fast R-CNN". Raises ShapeError as mse_loss, ValueError for a negative beta.
    """
    beta = float(beta)
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta is the width of the parabola and cannot be negative ({beta})")
    if beta == 0:
        return _difference_loss("smooth_l1_loss", input, target, reduction, kernels.l1_loss, kernels.l1_loss_grad)
    return _difference_loss("smooth_l1_loss", input, target, reduction, kernels.smooth_l1_loss,
                            kernels.smooth_l1_loss_grad, beta)


@differentiable
def huber_loss(input, target, /, reduction="mean", delta=1.0):
    """d^2 / 2 where |d| < delta, else delta (|d| - delta / 2), for d = input - target, averaged.

    Huber 1964, "Robust estimation of a location parameter". Raises ShapeError as mse_loss, ValueError unless delta > 0.
    """
    delta = float(delta)
    if not delta > 0:
        raise ValueError(f"huber_loss: delta, where the parabola ends, must be positive, not {delta}")
    return _difference_loss("huber_loss", input, target, reduction, kernels.huber_loss, kernels.huber_loss_grad, delta)


@differentiable
def kl_div(input, target, /, reduction="mean", log_target=False):
    """target (log(target) - input) at every element: sums to KL(target || e^input) for log-probabilities `input`.

    target: probabilities, or their logarithms with `log_target`. "batchmean" divides the sum by the length of axis 0,
    which is the divergence per sample; "mean" divides by the number of elements. 0 log 0 counts as 0.
    Raises ShapeError if the shapes do not broadcast.
    """
    check_reduction("kl_div", reduction, (*REDUCTIONS, "batchmean"))
    x, t = promote(input, target)
    _check_broadcast("kl_div", x, t)
    probabilities = np.exp(t) if log_target else t
    # where t = 0 its logarithm is taken as 0: the loss is 0 there, and the target's gradient stays finite
    difference = (t if log_target else np.log(np.where(t == 0, 1, t))) - x
    losses = probabilities * difference
    divisor = x.shape[0] if reduction == "batchmean" and x.ndim else None
    result, each = reduce_losses(losses, "mean" if reduction == "batchmean" else reduction, divisor)

    def grad_target(g):
        return each(g) * (probabilities * (difference + 1) if log_target else difference + 1)

    return result, (lambda g: -each(g) * probabilities, grad_target)


def _difference_loss(name, x, y, reduction, loss, loss_grad, *options):
    """loss(x, y), reduced; loss_grad is the kernel that gives the gradient of x."""
    check_reduction(name, reduction)
    x, y = promote(x, y)
    count = math.prod(_check_broadcast(name, x, y))
    losses = loss(x, y, *options, total=reduction != "none")
    result, each = (losses, unchanged) if reduction == "none" else reduce_total(losses, reduction, count)
    return result, (lambda g: loss_grad(each(g), x, y, *options), lambda g: -loss_grad(each(g), x, y, *options))


def _check_broadcast(name, x, y):
    """The shape of the losses."""
    if x.shape == y.shape:
        return x.shape
    try:
        return np.broadcast_shapes(x.shape, y.shape)
    except ValueError as error:
        raise ShapeError(f"{name}: input {x.shape} and target {y.shape} do not fit together: they should have the same "
                         "shape") from error
