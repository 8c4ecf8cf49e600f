"""Cross-entropy of logits (N, C) against class indices, fused with the softmax before it; its loops lie in softmax.py.

Weights, label smoothing, more axes and the other losses are the reference's.
"""

from __future__ import annotations

import numpy as np

from minidl.kernels import reference
from minidl.kernels.cpu.runtime import empty, fits, parallel
from minidl.kernels.cpu.softmax import (
    SMALL,
    cross_entropy_grad_rows,
    cross_entropy_grad_rows_parallel,
    cross_entropy_rows,
    cross_entropy_rows_parallel,
)

__all__ = ["cross_entropy", "cross_entropy_grad"]


def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    if not _plain(logits, target, weight, label_smoothing):
        return reference.cross_entropy(logits, target, weight, ignore_index, label_smoothing)
    labels, ignored = _labels(target, ignore_index)
    losses, peak, log_sum = empty(len(logits)), empty((len(logits), 1)), empty((len(logits), 1))
    _rows(logits, cross_entropy_rows, cross_entropy_rows_parallel, logits, labels, losses, peak.reshape(-1),
          log_sum.reshape(-1))
    if ignored is not None:
        losses[ignored] = 0
    return losses, peak, log_sum


def cross_entropy_grad(g, logits, target, peak, log_sum, weight=None, ignore_index=-100, label_smoothing=0.0):
    if not _plain(logits, target, weight, label_smoothing) or g.dtype != np.float32 or not fits(peak, log_sum):
        return reference.cross_entropy_grad(g, logits, target, peak, log_sum, weight, ignore_index, label_smoothing)
    labels, ignored = _labels(target, ignore_index)
    grad = empty(logits.shape)
    slopes = np.array(g)  # g is often one number seen N times
    if ignored is not None:
        slopes[ignored] = 0
    _rows(logits, cross_entropy_grad_rows, cross_entropy_grad_rows_parallel, slopes, logits, labels, peak.reshape(-1),
          log_sum.reshape(-1), grad)
    return grad


def _plain(logits, target, weight, label_smoothing) -> bool:
    return weight is None and not label_smoothing and logits.ndim == 2 and fits(logits) and target.dtype.kind in "iu"


def _labels(target, ignore_index):
    """The classes as int64, class 0 where they are to be ignored, and where that is; None if nowhere."""
    labels = np.ascontiguousarray(target, np.int64)
    ignored = labels == ignore_index
    if not ignored.any():
        return labels if labels.flags.writeable else labels.copy(), None
    return np.where(ignored, 0, labels), ignored


def _rows(logits, serial, several, *arguments):
    if logits.size < SMALL:
        serial(*arguments)
    else:
        parallel(several, *arguments)
