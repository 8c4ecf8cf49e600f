"""Dropout: in training, elements (or whole channels) become 0 at random, so that no unit relies on a single other one.

Those that stay are divided by 1 - p, so that the expected value is the input, and evaluation needs no change.
"""

from __future__ import annotations

from minidl import kernels, random
from minidl.tensor import differentiable


@differentiable
def dropout(x, /, p=0.5, training=True, inplace=False, generator=None):
    """x / (1 - p) with probability 1 - p, else 0, drawn for each element; x itself outside training.

    inplace is accepted as in PyTorch and changes nothing. Srivastava et al. 2014, "Dropout".
    Raises ValueError if p is not in [0, 1].
    """
    return _drop("dropout", x, x.shape, p, training, generator)


@differentiable
def feature_dropout(x, /, p=0.5, training=True, inplace=False, generator=None):
    """As dropout, drawn once for each channel of each sample of x (N, C, ...): whole feature maps go.

    Neighbours in a feature map are alike, so that dropping single elements would take little away.
    Tompson et al. 2015, "Efficient object localization". Raises ValueError if p is not in [0, 1] or x has 1 axis.
    """
    if x.ndim < 2:
        raise ValueError(f"feature_dropout: an input (N, C, ...) is needed, this one has shape {x.shape}")
    return _drop("feature_dropout", x, x.shape[:2] + (1,) * (x.ndim - 2), p, training, generator)


def _drop(name, x, mask_shape, p, training, generator):
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p is the probability of an element to be dropped, between 0 and 1, not {p}")
    if not training or p == 0:
        return x, (lambda g: g,)
    mask = kernels.dropout_mask(mask_shape, p, random.generator(generator))
    return kernels.dropout(x, mask, p), (lambda g: kernels.dropout(g, mask, p),)
