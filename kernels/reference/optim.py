"""One optimiser step for a list of parameters, in place.

The state arrays have their parameter's shape and dtype and are updated in place too; the gradient is only read.
Which parameters are stepped, and with which options, is decided in `minidl/optim/`.
"""

from itertools import repeat

import numpy as np

__all__ = ["adam_step", "rmsprop_step", "sgd_step"]


def sgd_step(parameters, gradients, momentum_buffers=None, *, lr, momentum, dampening, weight_decay, nesterov,
             maximize):
    for arrays in zip(parameters, gradients, momentum_buffers or repeat(None)):
        _sgd(*arrays, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
             maximize=maximize)


def adam_step(parameters, gradients, exp_avgs, exp_avg_sqs, max_exp_avg_sqs=None, *, step, lr, beta1, beta2, eps,
              weight_decay, decoupled_weight_decay, maximize):
    for arrays in zip(parameters, gradients, exp_avgs, exp_avg_sqs, max_exp_avg_sqs or repeat(None)):
        _adam(*arrays, step=step, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay,
              decoupled_weight_decay=decoupled_weight_decay, maximize=maximize)


def rmsprop_step(parameters, gradients, square_avgs, momentum_buffers=None, grad_avgs=None, *, lr, alpha, eps, momentum,
                 weight_decay, maximize):
    lists = parameters, gradients, square_avgs, momentum_buffers or repeat(None), grad_avgs or repeat(None)
    for arrays in zip(*lists):
        _rmsprop(*arrays, lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay, maximize=maximize)


def _sgd(parameter, gradient, momentum_buffer, *, lr, momentum, dampening, weight_decay, nesterov, maximize):
    gradient = _towards_minimum(parameter, gradient, weight_decay, maximize)
    if momentum_buffer is not None:
        momentum_buffer *= momentum
        momentum_buffer += gradient if dampening == 0 else (1 - dampening) * gradient
        gradient = gradient + momentum * momentum_buffer if nesterov else momentum_buffer
    parameter -= lr * gradient


def _adam(parameter, gradient, exp_avg, exp_avg_sq, max_exp_avg_sq, *, step, lr, beta1, beta2, eps, weight_decay,
          decoupled_weight_decay, maximize):
    if decoupled_weight_decay:
        parameter *= 1 - lr * weight_decay
        weight_decay = 0
    gradient = _towards_minimum(parameter, gradient, weight_decay, maximize)
    exp_avg += (1 - beta1) * (gradient - exp_avg)
    exp_avg_sq *= beta2
    exp_avg_sq += (1 - beta2) * gradient * gradient
    if max_exp_avg_sq is not None:
        exp_avg_sq = np.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
    update = np.sqrt(exp_avg_sq, out=np.empty_like(parameter))
    update /= (1 - beta2**step) ** 0.5
    update += eps
    np.divide(exp_avg, update, out=update)
    update *= lr / (1 - beta1**step)
    parameter -= update


def _rmsprop(parameter, gradient, square_avg, momentum_buffer, grad_avg, *, lr, alpha, eps, momentum, weight_decay,
             maximize):
    gradient = _towards_minimum(parameter, gradient, weight_decay, maximize)
    square_avg *= alpha
    square_avg += (1 - alpha) * gradient * gradient
    spread = square_avg
    if grad_avg is not None:
        grad_avg += (1 - alpha) * (gradient - grad_avg)
        spread = np.maximum(square_avg - grad_avg * grad_avg, 0)  # rounding may leave a variance just below zero
    update = np.sqrt(spread, out=np.empty_like(parameter))
    update += eps
    np.divide(gradient, update, out=update)
    if momentum_buffer is not None:
        momentum_buffer *= momentum
        momentum_buffer += update
        update = momentum_buffer
    parameter -= lr * update


def _towards_minimum(parameter, gradient, weight_decay, maximize):
    """The gradient of what is minimised: turned round if the goal is a maximum, plus that of the L2 penalty."""
    if maximize:
        gradient = -gradient
    return gradient + weight_decay * parameter if weight_decay else gradient
