"""Cross-entropy of logits (N, C) against class indices, fused with the softmax before it; its loops lie in softmax.py.

Weights, label smoothing, more axes and the other losses are the reference's.
"""

from __future__ import annotations

import numpy as np

from minidl.kernels import reference
from minidl.kernels.cpu.runtime import empty, fits
from minidl.kernels.cpu.softmax import cross_entropy_grad_rows, cross_entropy_rows, run

__all__ = ["cross_entropy", "cross_entropy_grad"]


def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    if not _plain(logits, target, weight, label_smoothing):
        return reference.cross_entropy(logits, target, weight, ignore_index, label_smoothing)
    losses, peak, log_sum = results = empty((3, len(logits)))
    run(cross_entropy_rows, logits.size, logits, _labels(target), ignore_index, *results)
    return losses, peak[:, None], log_sum[:, None]


def cross_entropy_grad(g, logits, target, peak, log_sum, weight=None, ignore_index=-100, label_smoothing=0.0):
    if not _plain(logits, target, weight, label_smoothing) or g.dtype != np.float32 or not fits(peak, log_sum):
        return reference.cross_entropy_grad(g, logits, target, peak, log_sum, weight, ignore_index, label_smoothing)
    grad = empty(logits.shape)
    one = g.strides == (0,)  # the gradient of a mean or a sum: one number, seen N times
    slopes = np.array(g[:1] if one else g)
    run(cross_entropy_grad_rows, logits.size, slopes, 0 if one else 1, logits, _labels(target), ignore_index,
        peak.reshape(-1), log_sum.reshape(-1), grad)
    return grad


def _plain(logits, target, weight, label_smoothing) -> bool:
    return weight is None and not label_smoothing and logits.ndim == 2 and fits(logits) and target.dtype.kind in "iu"


def _labels(target):
    """The classes as one kind of array: int64, in a row, writable."""
    labels = np.ascontiguousarray(target, np.int64)
    return labels if labels.flags.writeable else labels.copy()
