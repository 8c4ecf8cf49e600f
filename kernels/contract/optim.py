"""One step of an optimiser, in place, for a list of parameters. Computed in `../reference/optim.py`.

Each argument before `*` is a list with an array for each parameter, of its shape; the formulas are those of one.
"""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def sgd_step(parameters, gradients, momentum_buffers=None, *, lr, momentum, dampening, weight_decay, nesterov,
             maximize):
    """One step of stochastic gradient descent, in place on parameters and momentum buffers b.

    d = ±gradient + weight_decay parameter (minus to maximise); with a buffer: b <- momentum b + (1 - dampening) d
    and d <- d + momentum b (nesterov) or b; then parameter <- parameter - lr d.
    """


@kernel
def adam_step(parameters, gradients, exp_avgs, exp_avg_sqs, max_exp_avg_sqs=None, *, step, lr, beta1, beta2, eps,
              weight_decay, decoupled_weight_decay, maximize):
    """One step of Adam, the step-th (from 1), in place on parameters, averages m, v and largest v (AMSGrad).

    d = ±gradient + weight_decay parameter; decoupled: parameter <- (1 - lr weight_decay) parameter instead.
    m <- beta1 m + (1 - beta1) d; v <- beta2 v + (1 - beta2) d^2; with a largest v: that <- max(it, v), used for v;
    parameter <- parameter - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).
    """


@kernel
def rmsprop_step(parameters, gradients, square_avgs, momentum_buffers=None, grad_avgs=None, *, lr, alpha, eps, momentum,
                 weight_decay, maximize):
    """One step of RMSprop, in place on parameters, averages v of squares, momentum buffers b and averages m.

    d = ±gradient + weight_decay parameter; v <- alpha v + (1 - alpha) d^2; with m: m <- alpha m + (1 - alpha) d and
    v - m^2 is used for v; u = d / (sqrt(v) + eps); with a buffer: b <- momentum b + u, and b is used for u;
    parameter <- parameter - lr u.
    """
