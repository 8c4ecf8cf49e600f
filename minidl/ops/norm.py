"""Batch, layer and group normalisation: activations brought to mean 0 and variance 1, then scaled and shifted.

They differ in what the mean is taken over: the batch, per channel; the last axes of each sample; a group of channels
of each sample. The formula of the gradient stands in `kernels/reference/norm.py`. Only the input, the means and the
variances are kept for it.
"""

from __future__ import annotations

import math

import numpy as np

from minidl import kernels
from minidl.errors import ShapeError
from minidl.ops.shared import once
from minidl.tensor import differentiable


@differentiable
def batch_norm(x, weight=None, bias=None, /, running_mean=None, running_var=None, training=False, momentum=0.1,
               eps=1e-5):
    """(x - mean) / sqrt(variance + eps) * weight + bias per channel of x (N, C) or (N, C, ...): the shape of x.

    training: by the batch's own mean and biased variance, and the running ones (C,), if given, move in place:
    running = (1 - momentum) running + momentum batch, where the variance counts as unbiased. Otherwise by the running
    ones, which stay as they are. Ioffe and Szegedy 2015, "Batch normalization".
    Raises ShapeError where a vector is not (C,), ValueError for a single value per channel in training.
    """
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: the input (N, C, ...) needs at least 2 axes, this one has shape {x.shape}")
    vectors = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    _check_vectors("batch_norm", x.shape, vectors, x.shape[1:2], "channels of the input")
    weight, bias = _as_dtype(weight, x), _as_dtype(bias, x)
    if not training:
        return _batch_norm_inference(x, weight, bias, running_mean, running_var, eps)
    count = math.prod(x.shape) // max(x.shape[1], 1)
    if count < 2:
        raise ValueError(f"batch_norm: a mean and variance need more than 1 value per channel, the input has shape "
                         f"{x.shape}: train with larger batches (drop_last=True drops a last one of 1), or call eval()")
    y, mean, variance = kernels.batch_norm(x, weight, bias, eps)
    if running_mean is not None:
        running_mean *= 1 - momentum
        running_mean += momentum * mean
    if running_var is not None:
        running_var *= 1 - momentum
        running_var += (momentum * count / (count - 1)) * variance
    return y, once(lambda g: kernels.batch_norm_grad(g, x, weight, mean, variance, eps), 3)


def _batch_norm_inference(x, weight, bias, running_mean, running_var, eps):
    if running_mean is None or running_var is None:
        raise ValueError("batch_norm: outside training it needs running_mean and running_var")
    # copies: the backward pass must see the statistics of now, even if a training pass moves them in between
    mean, variance = running_mean.astype(x.dtype), running_var.astype(x.dtype)
    return kernels.batch_norm_inference(x, weight, bias, mean, variance, eps), (
        lambda g: kernels.batch_norm_inference_grad_input(g, weight, variance, eps),
        lambda g: kernels.batch_norm_inference_grad_weight(g, x, mean, variance, eps),
        lambda g: g.sum(axis=(0, *range(2, g.ndim))),
    )


@differentiable
def layer_norm(x, weight=None, bias=None, /, normalized_shape=None, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) * weight + bias, each mean over the last axes, of shape `normalized_shape`.

    normalized_shape: a number or a tuple, the shape of weight and bias if there are any; left out, it is weight's.
    The variance is the biased one. Ba, Kiros and Hinton 2016, "Layer normalization".
    Raises ShapeError where the last axes of x, weight or bias have another shape.
    """
    if normalized_shape is None and weight is not None:
        normalized_shape = weight.shape
    shape = _as_tuple(normalized_shape)
    if not shape or x.shape[-len(shape):] != shape:
        raise ShapeError(f"layer_norm: the last axes of the input {x.shape} are not normalized_shape {shape}")
    _check_vectors("layer_norm", x.shape, {"weight": weight, "bias": bias}, shape, "last axes of the input")
    rows = x.reshape(-1, math.prod(shape))  # R, M
    scale, shift = (None if v is None else _as_dtype(v, x).reshape(-1) for v in (weight, bias))
    y, mean, variance = kernels.layer_norm(rows, scale, shift, eps)

    def gradients(g):
        g_rows = g.reshape(rows.shape)
        grad_x, grad_weight, grad_bias = kernels.layer_norm_grad(g_rows, rows, scale, mean, variance, eps)
        return grad_x.reshape(g.shape), grad_weight.reshape(shape), grad_bias.reshape(shape)

    return y.reshape(x.shape), once(gradients, 3)


@differentiable
def group_norm(x, weight=None, bias=None, /, num_groups=1, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) * weight + bias for x (N, C, ...), each mean over one group of C / num_groups
    channels of one sample; weight and bias (C,).

    The variance is the biased one. Wu and He 2018, "Group normalization".
    Raises ShapeError if num_groups does not divide C, or a vector is not (C,).
    """
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ShapeError(f"group_norm: the channels (axis 1) of the input {x.shape} cannot be split into {num_groups} "
                         "groups of equal size")
    _check_vectors("group_norm", x.shape, {"weight": weight, "bias": bias}, x.shape[1:2], "channels of the input")
    weight, bias = _as_dtype(weight, x), _as_dtype(bias, x)
    y, mean, variance = kernels.group_norm(x, num_groups, weight, bias, eps)
    return y, once(lambda g: kernels.group_norm_grad(g, x, num_groups, weight, mean, variance, eps), 3)


def _as_tuple(shape):
    if shape is None:
        return ()
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape)


def _as_dtype(vector, x):
    return None if vector is None else vector.astype(x.dtype, copy=False)


def _check_vectors(name, input_shape, vectors, shape, meaning):
    for word, vector in vectors.items():
        if vector is not None and vector.shape != shape:
            raise ShapeError(f"{name}: {word} has shape {vector.shape}, the {meaning} {input_shape} need {shape}")
