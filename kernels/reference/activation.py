"""Activation functions and their gradients, element by element; none overflows for large |x|.

Gradients take what is cheapest to keep: the result y where it says enough (relu, sigmoid, tanh), else the input x.
"""

import math

import numpy as np

SQRT_HALF = math.sqrt(0.5)
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def relu(x):
    return np.maximum(x, 0)


def relu_grad(g, y):
    return g * (y > 0)


def sigmoid(x):
    small = np.exp(-np.abs(x))  # at most 1, so that nothing overflows
    return np.where(x >= 0, 1, small) / (1 + small)


def sigmoid_grad(g, y):
    return g * (y * (1 - y))


def tanh(x):
    return np.tanh(x)


def tanh_grad(g, y):
    return g * (1 - y * y)


def leaky_relu(x, negative_slope):
    return np.where(x > 0, x, x * negative_slope)


def leaky_relu_grad(g, x, negative_slope):
    return np.where(x > 0, g, g * negative_slope)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_grad(g, x, alpha):
    return np.where(x > 0, g, g * (alpha * np.exp(np.minimum(x, 0))))


def silu(x):
    return x * sigmoid(x)


def silu_grad(g, x):
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


def softplus(x, beta, threshold):
    z = beta * x
    return np.where(z > threshold, x, (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta)


def softplus_grad(g, x, beta, threshold):
    z = beta * x
    return np.where(z > threshold, g, g * sigmoid(z))


def gelu(x, approximate):
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + erf(x * SQRT_HALF))


def gelu_grad(g, x, approximate):
    if approximate == "tanh":
        t = np.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x))
        inner = SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x)
        return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner)
    density = np.exp(-0.5 * x * x) * (SQRT_2_OVER_PI / 2)
    return g * (0.5 * (1 + erf(x * SQRT_HALF)) + x * density)


# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), highest power first:
# erf(x) = x P(x^2) / Q(x^2) up to |x| = 0.46875, and erf(x) = 1 - exp(-x^2) R(x) / S(x) beyond.
ERF_P = (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
         3.20937758913846947e3)
ERF_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
ERF_R = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
         2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
         1.23033935479799725e3)
ERF_S = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
         3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3)


def polynomial(coefficients, x):
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= x
        value += coefficient
    return value


def erf(x):
    y = np.empty_like(x)
    size = np.abs(x)
    near = size <= 0.46875
    inner = x[near]
    square = inner * inner
    y[near] = inner * polynomial(ERF_P, square) / polynomial(ERF_Q, square)
    outer = x[~near]
    size = np.minimum(size[~near], 6)  # erf(6) is 1 to within 2e-17
    rest = np.exp(-size * size) * polynomial(ERF_R, size) / polynomial(ERF_S, size)
    y[~near] = np.copysign(1 - rest, outer)
    return y


def erf_grad(g, x):
    return g * (np.exp(-x * x) * (2 / math.sqrt(math.pi)))
