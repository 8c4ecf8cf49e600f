"""One step of an optimiser on one parameter, in place. Computed in `../reference/optim.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def sgd_step(parameter, gradient, momentum_buffer=None, *, lr, momentum, dampening, weight_decay, nesterov, maximize):
    """One step of stochastic gradient descent, in place on parameter and momentum_buffer b (all of one shape).

    d = ±gradient + weight_decay parameter (minus to maximise); with a buffer: b <- momentum b + (1 - dampening) d
    and d <- d + momentum b (nesterov) or b; then parameter <- parameter - lr d.
    """


@kernel
def adam_step(parameter, gradient, exp_avg, exp_avg_sq, max_exp_avg_sq=None, *, step, lr, beta1, beta2, eps,
              weight_decay, decoupled_weight_decay, maximize):
    """One step of Adam, the step-th (from 1), in place on parameter, averages m, v and largest v (AMSGrad).

    d = ±gradient + weight_decay parameter; decoupled: parameter <- (1 - lr weight_decay) parameter instead.
    m <- beta1 m + (1 - beta1) d; v <- beta2 v + (1 - beta2) d^2; with a largest v: that <- max(it, v), used for v;
    parameter <- parameter - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).
    """


@kernel
def rmsprop_step(parameter, gradient, square_avg, momentum_buffer=None, grad_avg=None, *, lr, alpha, eps, momentum,
                 weight_decay, maximize):
    """One step of RMSprop, in place on parameter, square_avg v, momentum_buffer b and grad_avg m.

    d = ±gradient + weight_decay parameter; v <- alpha v + (1 - alpha) d^2; with m: m <- alpha m + (1 - alpha) d and
    v - m^2 is used for v; u = d / (sqrt(v) + eps); with a buffer: b <- momentum b + u, and b is used for u;
    parameter <- parameter - lr u.
    """
