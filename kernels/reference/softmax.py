"""Softmax and its relatives along one axis, with the largest value subtracted first so that exp cannot overflow.

For y = softmax(x): dy_i/dx_j = y_i (delta_ij - y_j), hence the two-term gradients below.
"""

import numpy as np


def softmax(x, dim):
    y = x - x.max(axis=dim, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=dim, keepdims=True)
    return y


def softmax_grad(g, y, dim):
    grad = g - (g * y).sum(axis=dim, keepdims=True)
    grad *= y
    return grad


def log_softmax(x, dim):
    y = x - x.max(axis=dim, keepdims=True)
    y -= np.log(np.exp(y).sum(axis=dim, keepdims=True))
    return y


def log_softmax_grad(g, y, dim):
    grad = np.exp(y)
    grad *= -g.sum(axis=dim, keepdims=True)
    grad += g
    return grad


def logsumexp(x, dim):
    peak = x.max(axis=dim, keepdims=True)
    peak = np.where(np.isfinite(peak), peak, 0)  # inf - inf would be nan
    with np.errstate(divide="ignore", over="ignore"):  # a row of -inf alone gives log(0), one with +inf is infinite
        total = np.exp(x - peak).sum(axis=dim, keepdims=True)
        return np.log(total, out=total) + peak


def logsumexp_grad(g, x, y):
    with np.errstate(invalid="ignore"):
        grad = x - np.where(y == -np.inf, 0, y)
    np.exp(grad, out=grad)
    grad *= g
    return grad
