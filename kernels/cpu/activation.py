"""Activation functions as compiled loops: polynomials and quotients of them, computed for a whole register at a time.

All follow from e^x, which `exponential.py` computes, but for erf and log(1 + u). Coefficients are least maximal error
fits made for their intervals; errors are at most three units in the last place, of erf five. Small arrays go to NumPy,
which takes less time to call.
"""

import math

import numpy as np
from numba import prange

from minidl.kernels.cpu.exponential import exp, exp_less_one
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, empty, fits, parallel
from minidl.kernels.reference import activation as reference

__all__ = ["elu", "elu_grad", "erf", "erf_grad", "gelu", "gelu_grad", "leaky_relu", "leaky_relu_grad", "relu",
           "relu_grad", "sigmoid", "sigmoid_grad", "silu", "silu_grad", "softplus", "softplus_grad", "tanh",
           "tanh_grad"]

FEW = 400  # elements from which a compiled loop is called
MANY = 30_000  # elements from which threads share it

F = np.float32
ZERO, HALF, ONE, TWO = F(0), F(0.5), F(1), F(2)
BEYOND = F(3.92)  # from where on erf(x) is 1 in float32
SQRT_HALF = F(math.sqrt(0.5))
SQRT_2_OVER_PI = F(math.sqrt(2 / math.pi))
DENSITY = F(1 / math.sqrt(2 * math.pi))
TWO_PER_SQRT_PI = F(2 / math.sqrt(math.pi))
CUBIC = F(0.044715)
THREE_CUBIC = F(3 * 0.044715)
STRAIGHT = F(10)

# Highest power first: atanh(s) / s in s^2; the two polynomials in x^2 whose quotient is erf(x) / x up to 4
A0, A1, A2, A3, A4 = F(0.122124501), F(0.106949815), F(0.143105209), F(0.199993391), F(0.333333397)
P0, P1, P2 = F(1.98673502e-06), F(0.000284567155), F(0.00388347963)
P3, P4, P5 = F(0.0531021692), F(0.193548486), F(1.12837911)
Q0, Q1, Q2, Q3, Q4 = F(3.74197443e-05), F(0.00118560041), F(0.0152075281), F(0.115351386), F(0.504860461)


@compiled(forceinline=True)
def hyperbolic_tangent(x):
    e = exp_less_one(-TWO * abs(x))
    t = -e / (TWO + e)
    return -t if x < ZERO else t


@compiled(forceinline=True)
def logistic(x):
    e = exp(-abs(x))
    return (e if x < ZERO else ONE) / (ONE + e)


@compiled(forceinline=True)
def log_of_one_plus(u):
    """log(1 + u) = 2 atanh(u / (2 + u)) for u from 0 to 1."""
    s = u / (TWO + u)
    q = s * s
    return TWO * s * (((((A0 * q + A1) * q + A2) * q + A3) * q + A4) * q + ONE)


@compiled(forceinline=True)
def error_function(x):
    a = abs(x)
    q = a * a
    above = ((((P0 * q + P1) * q + P2) * q + P3) * q + P4) * q + P5
    below = ((((Q0 * q + Q1) * q + Q2) * q + Q3) * q + Q4) * q + ONE
    y = a * above / below
    y = ONE if y > ONE else y
    y = ONE if a > BEYOND else y
    return -y if x < ZERO else y


@compiled_parallel
def relu_loop(x, y):
    for i in prange(x.size):
        y[i] = ZERO if x[i] <= ZERO else x[i]


@compiled_parallel
def relu_grad_loop(g, y, result):
    for i in prange(g.size):
        result[i] = g[i] if y[i] > ZERO else ZERO


@compiled_parallel
def sigmoid_loop(x, y):
    for i in prange(x.size):
        y[i] = logistic(x[i])


@compiled_parallel
def sigmoid_grad_loop(g, y, result):
    for i in prange(g.size):
        result[i] = g[i] * (y[i] * (ONE - y[i]))


@compiled_parallel
def tanh_loop(x, y):
    for i in prange(x.size):
        y[i] = hyperbolic_tangent(x[i])


@compiled_parallel
def tanh_grad_loop(g, y, result):
    for i in prange(g.size):
        result[i] = g[i] * (ONE - y[i] * y[i])


@compiled_parallel
def leaky_relu_loop(x, y, negative_slope):
    slope = F(negative_slope)
    for i in prange(x.size):
        y[i] = x[i] if x[i] > ZERO else x[i] * slope


@compiled_parallel
def leaky_relu_grad_loop(g, x, result, negative_slope):
    slope = F(negative_slope)
    for i in prange(g.size):
        result[i] = g[i] if x[i] > ZERO else g[i] * slope


@compiled_parallel
def elu_loop(x, y, alpha):
    scale = F(alpha)
    for i in prange(x.size):
        below = scale * exp_less_one(ZERO if x[i] > ZERO else x[i])
        y[i] = x[i] if x[i] > ZERO else below


@compiled_parallel
def elu_grad_loop(g, x, result, alpha):
    scale = F(alpha)
    for i in prange(g.size):
        below = g[i] * (scale * exp(x[i]))
        result[i] = g[i] if x[i] > ZERO else below


@compiled_parallel
def silu_loop(x, y):
    for i in prange(x.size):
        y[i] = x[i] * logistic(x[i])


@compiled_parallel
def silu_grad_loop(g, x, result):
    for i in prange(g.size):
        s = logistic(x[i])
        result[i] = g[i] * (s * (ONE + x[i] * (ONE - s)))


@compiled_parallel
def softplus_loop(x, y, beta, threshold):
    slope, straight = F(beta), F(threshold)
    for i in prange(x.size):
        z = slope * x[i]
        bent = ((z if z > ZERO else ZERO) + log_of_one_plus(exp(-abs(z)))) / slope
        y[i] = x[i] if z > straight else bent


@compiled_parallel
def softplus_grad_loop(g, x, result, beta, threshold):
    slope, straight = F(beta), F(threshold)
    for i in prange(g.size):
        z = slope * x[i]
        bent = g[i] * logistic(z)
        result[i] = g[i] if z > straight else bent


@compiled_parallel
def gelu_loop(x, y):
    for i in prange(x.size):
        y[i] = HALF * x[i] * (ONE + error_function(x[i] * SQRT_HALF))


@compiled_parallel
def gelu_grad_loop(g, x, result):
    for i in prange(g.size):
        density = exp(-HALF * x[i] * x[i]) * DENSITY
        result[i] = g[i] * (HALF * (ONE + error_function(x[i] * SQRT_HALF)) + x[i] * density)


@compiled_parallel
def gelu_tanh_loop(x, y):
    for i in prange(x.size):
        t = hyperbolic_tangent(SQRT_2_OVER_PI * (x[i] + CUBIC * x[i] * x[i] * x[i]))
        y[i] = HALF * x[i] * (ONE + t)


@compiled_parallel
def gelu_tanh_grad_loop(g, x, result):
    for i in prange(g.size):
        z = x[i]
        z = STRAIGHT if z > STRAIGHT else z  # the derivative is 1 there, 0 on the other side: Inf times 0 is avoided
        z = -STRAIGHT if z < -STRAIGHT else z
        t = hyperbolic_tangent(SQRT_2_OVER_PI * (z + CUBIC * z * z * z))
        slope = SQRT_2_OVER_PI * (ONE + THREE_CUBIC * z * z)
        result[i] = g[i] * (HALF * (ONE + t) + HALF * z * (ONE - t * t) * slope)


@compiled_parallel
def erf_loop(x, y):
    for i in prange(x.size):
        y[i] = error_function(x[i])


@compiled_parallel
def erf_grad_loop(g, x, result):
    for i in prange(g.size):
        result[i] = g[i] * (exp(-x[i] * x[i]) * TWO_PER_SQRT_PI)


def _of_one(loop, plain, x, *options):
    """Run `loop(x, result, *options)`, or `plain`, the reference, for what the loop does not take."""
    if x.size < FEW or not fits(x):
        return plain(x, *options)
    y = empty(x.shape)
    parallel(loop, x.reshape(-1), y.reshape(-1), *map(float, options), limit=1 if x.size < MANY else None)
    return y


def _of_two(loop, plain, g, x, *options):
    """The same for a gradient, `loop(g, x, result, *options)`."""
    if x.size < FEW or g.shape != x.shape or not fits(g, x):
        return plain(g, x, *options)
    y = empty(x.shape)
    parallel(loop, g.reshape(-1), x.reshape(-1), y.reshape(-1), *map(float, options),
             limit=1 if x.size < MANY else None)
    return y


def relu(x):
    return _of_one(relu_loop, reference.relu, x)


def relu_grad(g, y):
    return _of_two(relu_grad_loop, reference.relu_grad, g, y)


def sigmoid(x):
    return _of_one(sigmoid_loop, reference.sigmoid, x)


def sigmoid_grad(g, y):
    return _of_two(sigmoid_grad_loop, reference.sigmoid_grad, g, y)


def tanh(x):
    return _of_one(tanh_loop, reference.tanh, x)


def tanh_grad(g, y):
    return _of_two(tanh_grad_loop, reference.tanh_grad, g, y)


def leaky_relu(x, negative_slope):
    return _of_one(leaky_relu_loop, reference.leaky_relu, x, negative_slope)


def leaky_relu_grad(g, x, negative_slope):
    return _of_two(leaky_relu_grad_loop, reference.leaky_relu_grad, g, x, negative_slope)


def elu(x, alpha):
    return _of_one(elu_loop, reference.elu, x, alpha)


def elu_grad(g, x, alpha):
    return _of_two(elu_grad_loop, reference.elu_grad, g, x, alpha)


def silu(x):
    return _of_one(silu_loop, reference.silu, x)


def silu_grad(g, x):
    return _of_two(silu_grad_loop, reference.silu_grad, g, x)


def softplus(x, beta, threshold):
    return _of_one(softplus_loop, reference.softplus, x, beta, threshold)


def softplus_grad(g, x, beta, threshold):
    return _of_two(softplus_grad_loop, reference.softplus_grad, g, x, beta, threshold)


def gelu(x, approximate):
    if approximate == "tanh":
        return _of_one(gelu_tanh_loop, lambda x: reference.gelu(x, approximate), x)
    return _of_one(gelu_loop, lambda x: reference.gelu(x, approximate), x)


def gelu_grad(g, x, approximate):
    if approximate == "tanh":
        return _of_two(gelu_tanh_grad_loop, lambda g, x: reference.gelu_grad(g, x, approximate), g, x)
    return _of_two(gelu_grad_loop, lambda g, x: reference.gelu_grad(g, x, approximate), g, x)


def erf(x):
    return _of_one(erf_loop, reference.erf, x)


def erf_grad(g, x):
    return _of_two(erf_grad_loop, reference.erf_grad, g, x)
