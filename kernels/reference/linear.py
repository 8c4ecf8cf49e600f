"""The dense layer, one matrix product for all rows of all leading axes, and the products of matrices themselves."""

import numpy as np

from minidl.kernels.reference import activation


def matmul(x, y):
    return np.matmul(x, y)


def linear(x, weight, bias=None, *, relu=False):
    y = np.matmul(x, weight.T)
    if bias is not None:
        y += bias
    return activation.relu(y) if relu else y


def linear_grad_input(g, weight):
    return np.matmul(g, weight)


def linear_grad_weight(g, x):
    rows_g, rows_x = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])  # (rows, O), (rows, I)
    return rows_g.T @ rows_x
