"""Losses of the difference d = x - y at every element; or, if `total`, the sum of these.

`g` of a gradient is one number, (), for all losses, as it is below a sum or a mean, or one for each. Gradients are
those of x; that of y is the opposite. Computed in `../reference/loss_regression.py`.
"""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def mse_loss(x, y, total=False):
    """d^2."""


@kernel
def mse_loss_grad(g, x, y):
    """2 g d."""


@kernel
def l1_loss(x, y, total=False):
    """|d|."""


@kernel
def l1_loss_grad(g, x, y):
    """g sign(d), which is 0 where d is."""


@kernel
def smooth_l1_loss(x, y, beta, total=False):
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2; beta > 0."""


@kernel
def smooth_l1_loss_grad(g, x, y, beta):
    """g d / beta, between -g and g."""


@kernel
def huber_loss(x, y, delta, total=False):
    """d^2 / 2 where |d| < delta, else delta (|d| - delta / 2)."""


@kernel
def huber_loss_grad(g, x, y, delta):
    """g d, between -g delta and g delta."""
