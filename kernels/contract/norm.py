"""Batch, layer and group normalisation. Computed in `../reference/norm.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def batch_norm(x, weight, bias, eps):
    """Normalise each channel of x (N, C, ...) by its own mean and variance: (y, mean (C,), variance (C,)).

    y = (x - mean) / sqrt(variance + eps) * weight + bias; weight and bias (C,) may be None. The variance is the biased
    one, divided by the number of values per channel.
    """


@kernel
def batch_norm_grad(g, x, weight, mean, variance, eps):
    """The gradients of x, weight and bias of batch_norm; mean and variance are what it returned."""


@kernel
def batch_norm_inference(x, weight, bias, mean, variance, eps):
    """As batch_norm, by a given mean (C,) and variance (C,): only y."""


@kernel
def batch_norm_inference_grad_input(g, weight, variance, eps):
    """g weight / sqrt(variance + eps), per channel."""


@kernel
def batch_norm_inference_grad_weight(g, x, mean, variance, eps):
    """The sum of g (x - mean) / sqrt(variance + eps) per channel: (C,)."""


@kernel
def layer_norm(x, weight, bias, eps):
    """Normalise each row of x (R, M) by its own mean and variance: (y, mean (R,), variance (R,)).

    y = (x - mean) / sqrt(variance + eps) * weight + bias; weight and bias (M,) may be None.
    """


@kernel
def layer_norm_grad(g, x, weight, mean, variance, eps):
    """The gradients of x, weight and bias of layer_norm; mean and variance are what it returned."""


@kernel
def group_norm(x, num_groups, weight, bias, eps):
    """Normalise each group of C / num_groups channels of each sample of x (N, C, ...): (y, mean, variance).

    mean and variance have shape (N num_groups,); weight and bias (C,) may be None.
    """


@kernel
def group_norm_grad(g, x, num_groups, weight, mean, variance, eps):
    """The gradients of x, weight and bias of group_norm; mean and variance are what it returned."""
