"""Normalisation: over the batch (per channel), over the last axes (per sample), over groups of channels.

All three compute x^ = (x - mean) / sqrt(variance + eps) and y = x^ * weight + bias; they differ in what the mean is
taken over. With h = g * weight the gradient of x is (h - mean(h) - x^ mean(h x^)) / sqrt(variance + eps), means over
the same axes. Variances here are the biased ones, divided by the number of values.
"""

import numpy as np


def batch_norm(x, weight, bias, eps):
    mean = x.mean(axis=_all_but_channel(x))
    y = x - _per_channel(mean, x)
    variance = _channel_dot(y, y) / (x.size // x.shape[1])
    scale = 1 / np.sqrt(variance + eps)
    y *= _per_channel(scale if weight is None else scale * weight, x)
    if bias is not None:
        y += _per_channel(bias, x)
    return y, mean, variance


def batch_norm_grad(g, x, weight, mean, variance, eps):
    count = x.size // x.shape[1]
    scale = 1 / np.sqrt(variance + eps)
    grad_x = x - _per_channel(mean, x)
    grad_weight = _channel_dot(g, grad_x) * scale
    grad_bias = g.sum(axis=_all_but_channel(x))
    grad_x *= _per_channel(grad_weight * scale / -count, x)
    grad_x += g
    grad_x -= _per_channel(grad_bias / count, x)
    grad_x *= _per_channel(scale if weight is None else scale * weight, x)
    return grad_x, grad_weight, grad_bias


def batch_norm_inference(x, weight, bias, mean, variance, eps):
    scale = 1 / np.sqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    if bias is not None:
        shift += bias
    y = x * _per_channel(scale, x)
    y += _per_channel(shift, x)
    return y


def batch_norm_inference_grad_input(g, weight, variance, eps):
    scale = 1 / np.sqrt(variance + eps)
    return g * _per_channel(scale if weight is None else scale * weight, g)


def batch_norm_inference_grad_weight(g, x, mean, variance, eps):
    return _channel_dot(g, x - _per_channel(mean, x)) / np.sqrt(variance + eps)


def layer_norm(x, weight, bias, eps):
    y, mean, variance = _normalise(x, eps)
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y, mean, variance


def layer_norm_grad(g, x, weight, mean, variance, eps):
    normalised, scale = _normalised_again(x, mean, variance, eps)
    grad_weight = np.einsum("rm,rm->m", g, normalised)
    grad_bias = g.sum(axis=0)
    h = g.copy() if weight is None else g * weight
    return _normalise_grad(h, normalised, scale), grad_weight, grad_bias


def group_norm(x, num_groups, weight, bias, eps):
    y, mean, variance = _normalise(_groups(x, num_groups), eps)
    y = y.reshape(x.shape)
    if weight is not None:
        y *= _per_channel(weight, x)
    if bias is not None:
        y += _per_channel(bias, x)
    return y, mean, variance


def group_norm_grad(g, x, num_groups, weight, mean, variance, eps):
    normalised, scale = _normalised_again(_groups(x, num_groups), mean, variance, eps)
    grad_weight = _channel_dot(g, normalised.reshape(x.shape))
    grad_bias = g.sum(axis=_all_but_channel(x))
    h = g.copy() if weight is None else g * _per_channel(weight, x)
    return _normalise_grad(_groups(h, num_groups), normalised, scale).reshape(x.shape), grad_weight, grad_bias


def _all_but_channel(x):
    return (0, *range(2, x.ndim))


def _per_channel(values, x):
    return values.reshape(-1, *(1,) * (x.ndim - 2))  # C, 1, 1: broadcasts against N, C, H, W


def _channel_dot(a, b):
    """Sum of a * b per channel, without an array for the product."""
    axes = list(range(a.ndim))
    return np.einsum(a, axes, b, axes, [1])


def _groups(x, num_groups):
    return x.reshape(x.shape[0] * num_groups, -1)  # N * groups, (C / groups) * H * W


def _normalise(rows, eps):
    """Each row of (R, M) with mean 0 and variance 1, and the means and variances (R,) it had."""
    mean = rows.mean(axis=1)
    y = rows - mean[:, None]
    variance = np.einsum("rm,rm->r", y, y) / rows.shape[1]
    y *= (1 / np.sqrt(variance + eps))[:, None]
    return y, mean, variance


def _normalised_again(rows, mean, variance, eps):
    scale = 1 / np.sqrt(variance + eps)
    y = rows - mean[:, None]
    y *= scale[:, None]
    return y, scale


def _normalise_grad(h, normalised, scale):
    """The gradient of the rows, in the memory of h; `normalised` is overwritten too."""
    projection = np.einsum("rm,rm->r", h, normalised) / h.shape[1]
    h -= h.mean(axis=1)[:, None]
    normalised *= projection[:, None]
    h -= normalised
    h *= scale[:, None]
    return h
