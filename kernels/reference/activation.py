"""Activation functions and their gradients, element by element."""

import numpy as np


def relu(x):
    return np.maximum(x, 0)


def relu_grad(g, y):
    return g * (y > 0)
