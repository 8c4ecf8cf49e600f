"""Losses with labels: cross_entropy and nll_loss for one of C classes, binary_cross_entropy for yes or no.

`cross_entropy` and `binary_cross_entropy_with_logits` take logits, the network's raw scores: softmax and sigmoid are
part of the loss, which is exact for scores of any size. Labels are checked, since a wrong one trains on nonsense; the
kernels do that on their way and know nothing of messages.
"""

from __future__ import annotations

import numpy as np

from minidl import kernels
from minidl.errors import ShapeError
from minidl.ops.shared import check_reduction, reduce_losses, reduce_total, unchanged
from minidl.tensor import differentiable


@differentiable
def cross_entropy(input, target, /, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """-weight[target] log softmax(input)[target] for logits (N, C), (N, C, d1, ...) or (C,).

    target: class indices (N,), (N, d1, ...) or (), of which those equal to `ignore_index` count nothing; or class
    probabilities of the shape of input, which may require a gradient: then -sum_c weight_c target_c log p_c.
    weight: (C,). label_smoothing s: the target becomes (1 - s) target + s / C (Szegedy et al. 2016, "Rethinking the
    inception architecture"). "mean" divides by the sum of the targets' weights (indices) or N d1 ... (probabilities);
    if every target is ignored the mean is nan.
    Raises IndexError for a label outside the classes, TypeError and ShapeError for targets of another kind or shape.
    """
    check_reduction("cross_entropy", reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must lie between 0 and 1, not {label_smoothing}")
    label_smoothing, weight = float(label_smoothing), _check_logits("cross_entropy", input, weight)
    if target.dtype.kind == "f" and target.shape == input.shape:
        if ignore_index >= 0:
            raise ValueError(f"cross_entropy: ignore_index={ignore_index} has no meaning where the targets are "
                             "probabilities; set all probabilities of a sample to 0 to ignore it")
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    _check_targets("cross_entropy", input, target)
    logits, labels = (input, target) if input.ndim > 1 else (input[None], target[None])  # N, C, d1, ...
    try:
        losses, normalizers, total, counted = kernels.cross_entropy(logits, labels, weight, ignore_index,
                                                                    label_smoothing)
    except IndexError as error:
        raise _outside("cross_entropy", input, target, ignore_index) from error
    result, each = _reduced(losses, target, total, counted, reduction)

    def grad_input(g):
        grad = kernels.cross_entropy_grad(each(g), logits, labels, normalizers, weight, ignore_index, label_smoothing)
        return grad.reshape(input.shape)

    return result, (grad_input, None)


def _reduced(losses, target, total, counted, reduction):
    """The result of a loss with labels, and the map from g to each loss's g, of the labels' shape or ()."""
    if reduction == "none":
        return losses.reshape(target.shape), lambda g: g if target.ndim else g[None]
    return reduce_total(total, reduction, counted)


def _soft_cross_entropy(input, target, weight, reduction, label_smoothing):
    logits, probabilities = (input, target) if input.ndim > 1 else (input[None], target[None])
    probabilities = probabilities.astype(input.dtype, copy=False)
    losses, log_p = kernels.soft_cross_entropy(logits, probabilities, weight, label_smoothing)
    shape = losses.shape
    result, each = reduce_losses(losses if input.ndim > 1 else losses[0], reduction)

    def grad_input(g):
        g = np.broadcast_to(each(g), shape)
        grad = kernels.soft_cross_entropy_grad_input(g, probabilities, log_p, weight, label_smoothing)
        return grad.reshape(input.shape)

    def grad_target(g):
        g = np.broadcast_to(each(g), shape)
        return kernels.soft_cross_entropy_grad_target(g, log_p, weight, label_smoothing).reshape(input.shape)

    return result, (grad_input, grad_target)


@differentiable
def nll_loss(input, target, /, weight=None, ignore_index=-100, reduction="mean"):
    """-weight[target] input[target] for log-probabilities (N, C), (N, C, d1, ...) or (C,), as log_softmax gives them.

    target, weight, ignore_index, the mean and the errors are those of cross_entropy with class indices.
    """
    check_reduction("nll_loss", reduction)
    weight = _check_logits("nll_loss", input, weight)
    _check_targets("nll_loss", input, target)
    log_p, labels = (input, target) if input.ndim > 1 else (input[None], target[None])
    try:
        losses, total, counted = kernels.nll_loss(log_p, labels, weight, ignore_index)
    except IndexError as error:
        raise _outside("nll_loss", input, target, ignore_index) from error
    result, each = _reduced(losses, target, total, counted, reduction)
    shape, classes = input.shape, log_p.shape[1]

    def grad_input(g):
        return kernels.nll_loss_grad(each(g), labels, classes, weight, ignore_index).reshape(shape)

    return result, (grad_input, None)


@differentiable
def binary_cross_entropy(input, target, /, weight=None, reduction="mean"):
    """-weight (t log p + (1 - t) log(1 - p)) for probabilities p = input and targets t in [0, 1] of the same shape.

    Logarithms are cut off at -100, as in PyTorch. From logits, binary_cross_entropy_with_logits is more exact.
    Raises ShapeError for different shapes, ValueError for an input outside [0, 1], TypeError for integer targets.
    """
    _check_binary("binary_cross_entropy", input, target, reduction)
    if (input < 0).any() or (input > 1).any():
        raise ValueError(f"binary_cross_entropy: the input holds probabilities, between 0 and 1, but reaches from "
                         f"{input.min():.4g} to {input.max():.4g}: apply sigmoid, or use "
                         "binary_cross_entropy_with_logits")
    x, t = input, target.astype(input.dtype, copy=False)
    weight = _check_factor("binary_cross_entropy", "weight", weight, x)
    losses = kernels.binary_cross_entropy(x, t, weight, total=reduction != "none")
    result, each = _of_elements(losses, reduction, x.size)
    return result, (
        lambda g: kernels.binary_cross_entropy_grad_input(each(g), x, t, weight),
        lambda g: kernels.binary_cross_entropy_grad_target(each(g), x, weight),
    )


@differentiable
def binary_cross_entropy_with_logits(input, target, /, weight=None, reduction="mean", pos_weight=None):
    """-weight (pos_weight t log s(x) + (1 - t) log(1 - s(x))), s = sigmoid, for logits x and targets t of one shape.

    weight and pos_weight broadcast against the input; pos_weight (C,) for an input (N, C) above 1 favours recall.
    Raises ShapeError for shapes that do not fit, TypeError for integer targets.
    """
    name = "binary_cross_entropy_with_logits"
    _check_binary(name, input, target, reduction)
    x, t = input, target.astype(input.dtype, copy=False)
    weight, pos_weight = _check_factor(name, "weight", weight, x), _check_factor(name, "pos_weight", pos_weight, x)
    losses = kernels.binary_cross_entropy_with_logits(x, t, weight, pos_weight, total=reduction != "none")
    result, each = _of_elements(losses, reduction, x.size)
    return result, (
        lambda g: kernels.binary_cross_entropy_with_logits_grad_input(each(g), x, t, weight, pos_weight),
        lambda g: kernels.binary_cross_entropy_with_logits_grad_target(each(g), x, weight, pos_weight),
    )


def _of_elements(losses, reduction, count):
    """The result, and the map from g to each loss's g, where the kernel has summed unless reduction is "none"."""
    return (losses, unchanged) if reduction == "none" else reduce_total(losses, reduction, count)


def _check_logits(name, input, weight):
    """The class weights in the dtype of the input, both checked."""
    if input.ndim == 0 or input.dtype.kind != "f":
        raise TypeError(f"{name}: the input holds a floating score for each class, (N, C, ...) or (C,); this one is "
                        f"{input.dtype} of shape {input.shape}")
    if weight is None:
        return None
    weight, classes = np.asarray(weight), input.shape[1 if input.ndim > 1 else 0]
    if weight.shape != (classes,):
        raise ShapeError(f"{name}: weight has shape {weight.shape}, one number for each of the {classes} classes of "
                         f"the input {input.shape} is needed")
    return weight.astype(input.dtype, copy=False)


def _check_targets(name, input, target):
    expected = input.shape[:1] + input.shape[2:] if input.ndim > 1 else ()
    if target.dtype.kind not in "iu":
        advice = (f", probabilities of shape {input.shape}" if name == "cross_entropy" else "")
        raise TypeError(f"{name}: targets are class indices, integers of shape {expected}{advice}; these are "
                        f"{target.dtype} of shape {target.shape}: use target.long() if they are indices")
    if target.shape != expected:
        if target.shape == input.shape and input.shape[1 if input.ndim > 1 else 0] > 1:
            raise TypeError(f"{name}: targets of shape {target.shape} and dtype {target.dtype} look one-hot: use "
                            f"target.argmax({1 if input.ndim > 1 else 0}) for class indices"
                            + (", or target.float() for probabilities" if name == "cross_entropy" else ""))
        squeezable = target.shape[:1] + target.shape[2:] == expected and target.shape[1:2] == (1,)
        raise ShapeError(f"{name}: targets have shape {target.shape}, the input {input.shape} needs {expected}"
                         + (": use target.squeeze(1)" if squeezable else _rows_hint(input, target)))


def _rows_hint(input, target):
    """What may have happened where the input has several rows for each target."""
    rows, labels = input.shape[0], target.shape[0] if target.ndim else 0
    if input.ndim == 2 and target.ndim == 1 and labels and rows > labels and rows % labels == 0:
        return (f": {rows // labels} rows for each target; did a view(-1, …) before a dense layer move features into "
                "the batch? x.flatten(1) keeps the samples apart")
    return ""


def _outside(name, input, target, ignore_index):
    """The error that tells which label lies outside the classes."""
    classes = input.shape[1 if input.ndim > 1 else 0]
    outside = ((target < 0) | (target >= classes)) & (target != ignore_index)
    position = tuple(np.argwhere(outside)[0].tolist())
    advice = ("; for one logit per sample use binary_cross_entropy_with_logits" if classes == 1 else
              "; do the labels start at 1?" if target.max() == classes and target.min() == 1 else "")
    return IndexError(f"{name}: label {target[position]} at position {position} lies outside the {classes} classes "
                      f"(0..{classes - 1}) of the input {input.shape}{advice}")


def _check_binary(name, input, target, reduction):
    check_reduction(name, reduction)
    if target.shape != input.shape:
        advice = ": use input.squeeze(1)" if input.shape == (*target.shape, 1) else ""
        advice = advice or (": use target.squeeze(1)" if target.shape == (*input.shape, 1) else "")
        if target.dtype.kind in "iu" and input.ndim == 2 and target.shape == input.shape[:1]:
            advice = (f": integers (N,) are class labels, which cross_entropy compares with one logit for each class, "
                      f"(N, classes); is {input.shape[1]} the number of classes?")
        raise ShapeError(f"{name}: input has shape {input.shape}, target {target.shape}; they must be the same{advice}")
    if target.dtype.kind != "f" or input.dtype.kind != "f":
        raise TypeError(f"{name}: input and target must be floating, these are {input.dtype} and {target.dtype}; "
                        "use target.float()")


def _check_factor(name, word, factor, x):
    """A factor of each element, in the shape and dtype of x."""
    if factor is None:
        return None
    factor = np.asarray(factor, x.dtype)
    try:
        return np.broadcast_to(factor, x.shape)
    except ValueError as error:
        raise ShapeError(f"{name}: {word} {factor.shape} does not broadcast against the input {x.shape}") from error
