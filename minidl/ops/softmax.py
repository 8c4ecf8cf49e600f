"""Softmax, its logarithm, and the logarithm of a sum of exponentials, along one axis.

Scores of any size are safe: the largest is subtracted before exp. `loss_classification.py` fuses them with the loss.
"""

from __future__ import annotations

from minidl import kernels
from minidl.ops.dims import all_dims, one_dim
from minidl.ops.elementwise import as_floating
from minidl.tensor import differentiable


@differentiable
def softmax(x, /, dim):
    """e^x / sum(e^x) along `dim`: positive numbers that add up to 1 there. Integers are taken as float32.

    A slice of -inf alone gives nan. Raises IndexError if there is no such dim.
    """
    dim = one_dim("softmax", dim, x.shape)
    y = kernels.softmax(as_floating(x), dim)
    return y, (lambda g: kernels.softmax_grad(g, y, dim),)


@differentiable
def log_softmax(x, /, dim):
    """log(softmax(x)) along `dim`, exact where softmax would round to 0 or 1.

    Raises IndexError if there is no such dim.
    """
    dim = one_dim("log_softmax", dim, x.shape)
    y = kernels.log_softmax(as_floating(x), dim)
    return y, (lambda g: kernels.log_softmax_grad(g, y, dim),)


@differentiable
def logsumexp(x, /, dim, keepdim=False):
    """log(sum(e^x)) over one or several `dim`, without overflow.

    Raises IndexError if there is no such dim.
    """
    dims = all_dims("logsumexp", dim, x.shape)
    x = as_floating(x)
    y = kernels.logsumexp(x, dims)
    kept = y.shape
    result = y if keepdim else y.squeeze(dims)
    return result, (lambda g: kernels.logsumexp_grad(g.reshape(kept), x, y),)
