"""Cross-entropy of logits against class indices, fused with the softmax before it, and nll_loss.

Logits (N, C) go a row at a time, as in softmax.py. With more axes, (N, C, ...), the numbers of a class lie side by
side: strips of WIDTH neighbours are taken together, and the loop over classes is the outer one. A few short rows are
turned into such columns. Labels are looked at first, so that no loop reads by a wrong one.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.exponential import exp
from minidl.kernels.cpu.logarithm import log
from minidl.kernels.cpu.runtime import FLAGS, compiled, compiled_parallel, empty, fits
from minidl.kernels.cpu.softmax import SMALL, largest_of, run, shares, sum_of, sum_of_exponentials

__all__ = ["cross_entropy", "cross_entropy_grad", "nll_loss", "nll_loss_grad"]

WIDTH = 256  # neighbours whose classes are walked together
SHORT = 32  # classes up to which a row fills too little of its vectors
BLOCK = 1024  # losses whose sum is float32

SUMS = {*FLAGS, "reassoc"}  # sums in as many parts as a vector has lanes; in the same ones every time

F = np.float32
ZERO, ONE = F(0), F(1)
NO_WEIGHT = np.empty(0, np.float32)


def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    if not _fit(logits, target, weight):
        return reference.cross_entropy(logits, target, weight, ignore_index, label_smoothing)
    results = empty((3, *target.shape))
    if logits.ndim == 2:
        arguments = logits, _labels(target), ignore_index, _weights(weight), label_smoothing, results
        total, counted = _told(cross_entropy_few(*arguments) if _few(logits) else
                               run(cross_entropy_rows, logits.size, *arguments))
    else:
        total, counted = _told(run(cross_entropy_planes, logits.size, _planes(logits), _rows(_labels(target)),
                                   ignore_index, _weights(weight), label_smoothing, results.reshape(3, -1)))
    return results[0], results[1:], total, counted


def cross_entropy_grad(g, logits, target, normalizers, weight=None, ignore_index=-100, label_smoothing=0.0):
    if not _fit(logits, target, weight) or not fits(normalizers):
        return reference.cross_entropy_grad(g, logits, target, normalizers, weight, ignore_index, label_smoothing)
    grad, g, labels = empty(logits.shape), _slopes(g, target), _labels(target)
    if logits.ndim == 2:
        arguments = g, logits, labels, normalizers, ignore_index, _weights(weight), label_smoothing, grad
        if _few(logits):
            cross_entropy_grad_few(*arguments)
        else:
            run(cross_entropy_grad_rows, logits.size, *arguments)
    else:
        run(cross_entropy_grad_planes, logits.size, g, _planes(logits), _rows(labels), normalizers.reshape(2, -1),
            ignore_index, _weights(weight), label_smoothing, _planes(grad))
    return grad


def nll_loss(log_p, target, weight=None, ignore_index=-100):
    if not _fit(log_p, target, weight):
        return reference.nll_loss(log_p, target, weight, ignore_index)
    losses = empty(target.shape)
    total, counted = _told(run(nll_loop, target.size, _planes(log_p), _labels(target).reshape(-1), ignore_index,
                               _weights(weight), losses.reshape(-1)))
    return losses, total, counted


def nll_loss_grad(g, target, num_classes, weight=None, ignore_index=-100):
    shape = (target.shape[0], num_classes, *target.shape[1:])
    if not target.size or not num_classes or g.dtype != np.float32 or not _labelled(target, weight):
        return reference.nll_loss_grad(g, target, num_classes, weight, ignore_index)
    grad = empty(shape)
    run(nll_grad_loop, grad.size, _slopes(g, target), _rows(_labels(target)), ignore_index, _weights(weight),
        _planes(grad))
    return grad


def _fit(logits, target, weight) -> bool:
    return fits(logits) and _labelled(target, weight)


def _labelled(target, weight) -> bool:
    return target.dtype.kind in "iu" and (weight is None or fits(weight))


def _few(logits) -> bool:
    """Whether rows are so short and so few that it pays to turn them into columns, on this thread."""
    return logits.size < SMALL and logits.shape[1] <= SHORT


def _labels(target):
    """The classes as one kind of array: int64, in C order, writable."""
    labels = np.ascontiguousarray(target, np.int64)
    return labels if labels.flags.writeable else labels.copy()


def _weights(weight):
    return NO_WEIGHT if weight is None else weight


def _slopes(g, target):
    """The gradient of each loss as a vector, of one number if it is the same for all."""
    return np.array(g, np.float32).reshape(-1)


def _planes(array):
    return array.reshape(array.shape[0], array.shape[1], -1)  # N, C, what lies behind


def _rows(labels):
    return labels.reshape(len(labels), -1)


def _told(results):
    """(total, counted), as the loops return them."""
    right, total, counted = results
    if not right:
        raise IndexError("a target lies outside the classes")
    return total, counted


@compiled
def slope_of(i, g):
    return g[i] if g.size > 1 else g[0]


@compiled
def weight_of(label, weight):
    return weight[label] if weight.size else ONE


@compiled
def sum_of_weights(weight, classes):
    return sum_of(weight) if weight.size else F(classes)


@compiled
def wrong_labels(target, classes, ignore_index):
    """How many labels lie outside the classes. The loops look first, and read no weight and no logit by such a one."""
    wrong = 0
    for i in range(target.size):
        wrong += target[i] != ignore_index and (target[i] < 0 or target[i] >= classes)
    return wrong


@compiled
def sums(losses, target, ignore_index, weight):
    """True (the labels were right), the sum of the losses, and that of the weights of targets that are not ignored."""
    total, counted, kept = 0.0, 0.0, 0
    for start in range(0, losses.size, BLOCK):
        total += sum_of(losses[start:start + BLOCK])
    if weight.size:
        for i in range(target.size):
            counted += 0.0 if target[i] == ignore_index else weight[target[i]]
        return True, total, counted
    for i in range(target.size):
        kept += target[i] != ignore_index
    return True, total, float(kept)


@compiled(fastmath=SUMS)
def sum_of_distances(x, peak):
    total = ZERO
    for i in range(x.size):
        total += x[i] - peak
    return total


@compiled(fastmath=SUMS)
def weighted_sum_of_distances(x, peak, weight):
    total = ZERO
    for i in range(x.size):
        total += weight[i] * (x[i] - peak)
    return total


@compiled
def smooth_sum(x, peak, weight):
    """What label smoothing adds of a row, without log_sum: its distances from the peak, weighted."""
    return weighted_sum_of_distances(x, peak, weight) if weight.size else sum_of_distances(x, peak)


@compiled
def row_loss(row, x, target, ignore_index, weight, all_weights, smoothing, results):
    """Write the loss of one row, its peak and log_sum."""
    label = target[row]
    peak = largest_of(x[row])
    log_sum = np.log(sum_of_exponentials(x[row], peak))
    results[1, row], results[2, row] = peak, log_sum
    if label == ignore_index:
        results[0, row] = ZERO
        return
    loss = (log_sum - (x[row, label] - peak)) * weight_of(label, weight)
    if smoothing > ZERO:
        smooth = log_sum * all_weights - smooth_sum(x[row], peak, weight)
        loss = loss * (ONE - smoothing) + smooth * (smoothing / F(x.shape[1]))
    results[0, row] = loss


@compiled_parallel
def cross_entropy_rows(x, target, ignore_index, weight, label_smoothing, results):
    if wrong_labels(target, x.shape[1], ignore_index):
        return False, 0.0, 0.0
    smoothing, all_weights = F(label_smoothing), sum_of_weights(weight, x.shape[1])
    for row in prange(len(x)):
        row_loss(row, x, target, ignore_index, weight, all_weights, smoothing, results)
    return sums(results[0], target, ignore_index, weight)


@compiled
def row_gradient(row, slope, x, label, normalizers, weight, all_weights, smoothing, grad):
    hard, soft = slope * (ONE - smoothing) * weight_of(label, weight), slope * (smoothing / F(x.size))
    shares(x, normalizers[0, row], normalizers[1, row], hard + soft * all_weights, grad)
    if smoothing > ZERO:
        for i in range(x.size):
            grad[i] -= soft * weight_of(i, weight)
    grad[label] -= hard


@compiled_parallel
def cross_entropy_grad_rows(g, x, target, normalizers, ignore_index, weight, label_smoothing, grad):
    smoothing, all_weights = F(label_smoothing), sum_of_weights(weight, x.shape[1])
    for row in prange(len(x)):
        ignored = target[row] == ignore_index
        slope = ZERO if ignored else slope_of(row, g)
        row_gradient(row, slope, x[row], 0 if ignored else target[row], normalizers, weight, all_weights, smoothing,
                     grad[row])


@compiled
def raise_peaks(x, peaks):
    for i in range(x.size):
        peaks[i] = x[i] if x[i] > peaks[i] else peaks[i]


@compiled
def add_exponentials(x, peaks, totals):
    for i in range(x.size):
        totals[i] += exp(x[i] - peaks[i])


@compiled
def add_distances(x, peaks, share, totals):
    for i in range(x.size):
        totals[i] += share * (x[i] - peaks[i])


@compiled
def take_logarithms(x):
    for i in range(x.size):
        x[i] = log(x[i])


@compiled
def strip_losses(x, target, first, last, ignore_index, weight, all_weights, smoothing, losses, peaks, log_sums):
    """Write the losses of the columns first..last of x (C, P), and their normalizers."""
    peaks[:], log_sums[:], losses[:] = x[0][first:last], ZERO, ZERO
    for c in range(1, len(x)):
        raise_peaks(x[c][first:last], peaks)
    for c in range(len(x)):
        add_exponentials(x[c][first:last], peaks, log_sums)
        if smoothing > ZERO:
            add_distances(x[c][first:last], peaks, weight_of(c, weight), losses)
    take_logarithms(log_sums)
    for i in range(losses.size):
        label = target[first + i]
        if label == ignore_index:
            losses[i] = ZERO
            continue
        loss = (log_sums[i] - (x[label, first + i] - peaks[i])) * weight_of(label, weight)
        if smoothing > ZERO:
            loss = loss * (ONE - smoothing) + (log_sums[i] * all_weights - losses[i]) * (smoothing / F(len(x)))
        losses[i] = loss


@compiled_parallel
def cross_entropy_planes(x, target, ignore_index, weight, label_smoothing, results):
    if wrong_labels(target.reshape(-1), x.shape[1], ignore_index):
        return False, 0.0, 0.0
    smoothing, all_weights = F(label_smoothing), sum_of_weights(weight, x.shape[1])
    size = x.shape[2]
    strips = -(-size // WIDTH)
    for strip in prange(len(x) * strips):
        n, first = strip // strips, strip % strips * WIDTH
        last = min(first + WIDTH, size)
        start, stop = n * size + first, n * size + last
        strip_losses(x[n], target[n], first, last, ignore_index, weight, all_weights, smoothing,
                     results[0][start:stop], results[1][start:stop], results[2][start:stop])
    return sums(results[0], target.reshape(-1), ignore_index, weight)


@compiled
def turned(x):
    y = np.empty((x.shape[1], x.shape[0]), np.float32)
    for i in range(len(x)):
        for j in range(len(y)):
            y[j, i] = x[i, j]
    return y


@compiled
def cross_entropy_few(x, target, ignore_index, weight, label_smoothing, results):
    """As cross_entropy_rows, without the time that a parallel loop takes to begin."""
    if wrong_labels(target, x.shape[1], ignore_index):
        return False, 0.0, 0.0
    strip_losses(turned(x), target, 0, len(x), ignore_index, weight, sum_of_weights(weight, x.shape[1]),
                 F(label_smoothing), results[0], results[1], results[2])
    return sums(results[0], target, ignore_index, weight)


@compiled
def column_shares(x, peaks, log_sums, factors, offsets, share, grad):
    """grad = factors e^(x - peak - log_sum) - share offsets, one of each a column."""
    for i in range(x.size):
        grad[i] = factors[i] * exp(x[i] - peaks[i] - log_sums[i]) - share * offsets[i]


@compiled
def strip_gradient(g, x, target, first, last, ignore_index, peaks, log_sums, weight, all_weights, smoothing, grad):
    size = last - first
    hard, soft, factors = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    for i in range(size):
        label = target[first + i]
        if label != ignore_index:
            slope = slope_of(i, g)
            hard[i] = slope * (ONE - smoothing) * weight_of(label, weight)
            soft[i] = slope * (smoothing / F(len(x)))
            factors[i] = hard[i] + soft[i] * all_weights
    for c in range(len(x)):
        column_shares(x[c][first:last], peaks, log_sums, factors, soft, weight_of(c, weight), grad[c][first:last])
    for i in range(size):
        if target[first + i] != ignore_index:
            grad[target[first + i], first + i] -= hard[i]


@compiled
def cross_entropy_grad_few(g, x, target, normalizers, ignore_index, weight, label_smoothing, grad):
    columns = np.empty((x.shape[1], x.shape[0]), np.float32)
    strip_gradient(g, turned(x), target, 0, len(x), ignore_index, normalizers[0], normalizers[1], weight,
                   sum_of_weights(weight, x.shape[1]), F(label_smoothing), columns)
    for i in range(len(x)):
        for c in range(len(columns)):
            grad[i, c] = columns[c, i]


@compiled_parallel
def cross_entropy_grad_planes(g, x, target, normalizers, ignore_index, weight, label_smoothing, grad):
    smoothing, all_weights = F(label_smoothing), sum_of_weights(weight, x.shape[1])
    size = x.shape[2]
    strips = -(-size // WIDTH)
    for strip in prange(len(x) * strips):
        n, first = strip // strips, strip % strips * WIDTH
        last = min(first + WIDTH, size)
        start, stop = n * size + first, n * size + last
        strip_gradient(g[start:stop] if g.size > 1 else g, x[n], target[n], first, last, ignore_index,
                       normalizers[0][start:stop], normalizers[1][start:stop], weight, all_weights, smoothing, grad[n])


@compiled_parallel
def nll_loop(log_p, target, ignore_index, weight, losses):
    _, classes, size = log_p.shape
    if wrong_labels(target, classes, ignore_index):
        return False, 0.0, 0.0
    for i in prange(target.size):
        label = target[i]
        if label == ignore_index:
            losses[i] = ZERO
        else:
            losses[i] = -log_p[i // size, label, i % size] * weight_of(label, weight)
    return sums(losses, target, ignore_index, weight)


@compiled_parallel
def nll_grad_loop(g, target, ignore_index, weight, grad):
    size = grad.shape[2]
    for n in prange(len(grad)):
        grad[n] = ZERO
        for i in range(size):
            label = target[n, i]
            if label != ignore_index:
                grad[n, label, i] = -slope_of(n * size + i, g) * weight_of(label, weight)
