"""Losses of the difference between two arrays: its square, its size, and what is a square near zero only."""

import numpy as np


def mse_loss(x, y, total=False):
    d = x - y
    return _or_total(d * d, total)


def mse_loss_grad(g, x, y):
    return g * (2 * (x - y))


def l1_loss(x, y, total=False):
    return _or_total(np.abs(x - y), total)


def l1_loss_grad(g, x, y):
    return g * np.sign(x - y)


def smooth_l1_loss(x, y, beta, total=False):
    d = x - y
    size = np.abs(d)
    return _or_total(np.where(size < beta, d * d * (0.5 / beta), size - 0.5 * beta), total)


def smooth_l1_loss_grad(g, x, y, beta):
    return g * np.clip((x - y) / beta, -1, 1)


def huber_loss(x, y, delta, total=False):
    d = x - y
    size = np.abs(d)
    return _or_total(np.where(size < delta, 0.5 * d * d, delta * (size - 0.5 * delta)), total)


def huber_loss_grad(g, x, y, delta):
    return g * np.clip(x - y, -delta, delta)


def _or_total(losses, total):
    return losses.sum() if total else losses
