"""Classification losses fused with the softmax or sigmoid before them; the class axis is axis 1 throughout.

With p = softmax(x), the loss -log p_t has the gradient p - onehot(t): no probability is divided by, so confident
predictions keep their gradient. Log-probabilities are x - peak - log_sum, exact for logits of any size.
"""

import numpy as np


def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    ignored, labels = _labels(target, ignore_index, logits.shape[1])
    peak = logits.max(axis=1, keepdims=True)
    shifted = logits - peak
    losses = -np.take_along_axis(shifted, labels, axis=1)
    if label_smoothing:
        smooth = -_over_classes(weight, shifted).sum(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted, out=shifted).sum(axis=1, keepdims=True))
    losses += log_sum
    if weight is not None:
        losses *= weight[labels]
    if label_smoothing:
        classes = logits.shape[1]
        smooth += log_sum * (classes if weight is None else weight.sum())
        losses = losses * (1 - label_smoothing) + smooth * (label_smoothing / classes)
    losses[ignored] = 0
    normalizers = np.concatenate([peak, log_sum], axis=1).swapaxes(0, 1)
    return losses[:, 0], normalizers, losses.sum(), _counted(ignored, labels, weight)


def cross_entropy_grad(g, logits, target, normalizers, weight=None, ignore_index=-100, label_smoothing=0.0):
    ignored, labels = _labels(target, ignore_index, logits.shape[1])
    peak, log_sum = normalizers[:, :, None]  # N, 1, ...
    g = np.where(ignored, 0, np.broadcast_to(g, target.shape)[:, None])
    hard = g * (1 - label_smoothing)
    if weight is not None:
        hard = hard * weight[labels]
    grad = logits - peak
    grad -= log_sum
    np.exp(grad, out=grad)
    if label_smoothing:
        classes = logits.shape[1]
        soft = g * (label_smoothing / classes)
        grad *= hard + soft * (classes if weight is None else weight.sum())
        grad -= _over_classes(weight, soft)
    else:
        grad *= hard
    np.put_along_axis(grad, labels, np.take_along_axis(grad, labels, axis=1) - hard, axis=1)
    return grad


def soft_cross_entropy(logits, target, weight=None, label_smoothing=0.0):
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    products = log_p * _smoothed(target, weight, label_smoothing)
    return -products.sum(axis=1), log_p


def soft_cross_entropy_grad_input(g, target, log_p, weight=None, label_smoothing=0.0):
    target = _smoothed(target, weight, label_smoothing)
    grad = np.exp(log_p)
    grad *= target.sum(axis=1, keepdims=True)
    grad -= target
    grad *= g[:, None]
    return grad


def soft_cross_entropy_grad_target(g, log_p, weight=None, label_smoothing=0.0):
    grad = _over_classes(weight, log_p) * g[:, None]
    grad *= label_smoothing - 1
    return grad


def nll_loss(log_p, target, weight=None, ignore_index=-100):
    ignored, labels = _labels(target, ignore_index, log_p.shape[1])
    losses = -np.take_along_axis(log_p, labels, axis=1)
    if weight is not None:
        losses *= weight[labels]
    losses[ignored] = 0
    return losses[:, 0], losses.sum(), _counted(ignored, labels, weight)


def nll_loss_grad(g, target, num_classes, weight=None, ignore_index=-100):
    ignored, labels = _labels(target, ignore_index, num_classes)
    slopes = np.where(ignored, 0, -np.broadcast_to(g, target.shape)[:, None])
    if weight is not None:
        slopes = slopes * weight[labels]
    grad = np.zeros((target.shape[0], num_classes, *target.shape[1:]), g.dtype)
    np.put_along_axis(grad, labels, slopes, axis=1)
    return grad


def binary_cross_entropy(p, target, weight=None, total=False):
    log_p, log_q = _logarithms(p)
    losses = -(target * log_p + (1 - target) * log_q)
    return _weighted(losses, weight, total)


def binary_cross_entropy_grad_input(g, p, target, weight=None):
    grad = (p - target) / np.maximum(p * (1 - p), 1e-12)
    return g * _weighted(grad, weight)


def binary_cross_entropy_grad_target(g, p, weight=None):
    log_p, log_q = _logarithms(p)
    return g * _weighted(log_q - log_p, weight)


def binary_cross_entropy_with_logits(x, target, weight=None, pos_weight=None, total=False):
    losses = _softplus(-x)  # -log(sigmoid(x))
    if pos_weight is not None:
        losses *= 1 + (pos_weight - 1) * target
    losses += (1 - target) * x
    return _weighted(losses, weight, total)


def binary_cross_entropy_with_logits_grad_input(g, x, target, weight=None, pos_weight=None):
    grad = np.exp(-_softplus(-x))  # sigmoid(x)
    if pos_weight is not None:
        grad *= 1 + (pos_weight - 1) * target
        target = pos_weight * target
    grad -= target
    return g * _weighted(grad, weight)


def binary_cross_entropy_with_logits_grad_target(g, x, weight=None, pos_weight=None):
    return g * _weighted(-x if pos_weight is None else (pos_weight - 1) * _softplus(-x) - x, weight)


def _labels(target, ignore_index, classes):
    """Where the target is to be ignored, and the target with class 0 there, both as (N, 1, ...)."""
    target = target[:, None]
    ignored = target == ignore_index
    labels = np.where(ignored, 0, target)
    if ((labels < 0) | (labels >= classes)).any():
        raise IndexError(f"a target lies outside the {classes} classes")
    return ignored, labels


def _counted(ignored, labels, weight):
    """The sum of the weights of the targets that are not ignored; without weights, their number."""
    return int(np.count_nonzero(~ignored)) if weight is None else weight[labels[~ignored]].sum()


def _weighted(values, weight, total=False):
    values = values if weight is None else values * weight
    return values.sum() if total else values


def _logarithms(p):
    """log(p) and log(1 - p), not below -100."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)


def _over_classes(weight, values):
    """values (N, C or 1, ...) times weight (C,) along axis 1."""
    return values if weight is None else values * weight.reshape(-1, *(1,) * (values.ndim - 2))


def _smoothed(target, weight, label_smoothing):
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / target.shape[1]
    return _over_classes(weight, target)


def _softplus(x):
    """log(1 + e^x) without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
