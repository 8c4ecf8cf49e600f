"""Classification losses, fused with the softmax or sigmoid before them. Computed in `../reference/loss.py`.

`g` of a gradient is one number, (), for all losses, as it is below a sum or a mean, or one for each.
"""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """Cross-entropy of logits (N, C, ...) against class indices (N, ...): (losses, normalizers, total, counted).

    losses (N, ...): -log softmax(logits)[target] weight[target], and 0 where target == ignore_index. With label
    smoothing s: (1 - s) times that, plus s / C times the sum of the same loss over all classes.
    normalizers (2, N, ...), which the gradient needs: log softmax(logits) = logits - normalizers[0] - normalizers[1].
    total: the sum of the losses. counted: the sum of weight[target] over the targets that are not ignored.
    Raises IndexError for a target outside 0..C-1 that is not ignored.
    """


@kernel
def cross_entropy_grad(g, logits, target, normalizers, weight=None, ignore_index=-100, label_smoothing=0.0):
    """The gradient of the logits (N, C, ...); normalizers are what cross_entropy returned."""


@kernel
def soft_cross_entropy(logits, target, weight=None, label_smoothing=0.0):
    """-sum over c of weight_c t_c log_p_c, with t = (1 - s) target + s / C: (losses (N, ...), log_p (N, C, ...)).

    log_p = log_softmax(logits); target (N, C, ...) holds class probabilities.
    """


@kernel
def soft_cross_entropy_grad_input(g, target, log_p, weight=None, label_smoothing=0.0):
    """The gradient of the logits (N, C, ...) for g (N, ...)."""


@kernel
def soft_cross_entropy_grad_target(g, log_p, weight=None, label_smoothing=0.0):
    """The gradient of the target probabilities (N, C, ...) for g (N, ...)."""


@kernel
def nll_loss(log_p, target, weight=None, ignore_index=-100):
    """-log_p[target] weight[target] for log_p (N, C, ...), 0 where target == ignore_index: (losses, total, counted).

    losses (N, ...), their sum, and the sum of weight[target] over the targets that are not ignored.
    Raises IndexError as cross_entropy.
    """


@kernel
def nll_loss_grad(g, target, num_classes, weight=None, ignore_index=-100):
    """The gradient of the log-probabilities (N, C, ...)."""


@kernel
def binary_cross_entropy(p, target, weight=None, total=False):
    """-weight (t log p + (1 - t) log(1 - p)) at every element, with logarithms of at least -100; or their total.

    weight is of the shape of p, as is pos_weight below.
    """


@kernel
def binary_cross_entropy_grad_input(g, p, target, weight=None):
    """g weight times the derivative by p, (p - t) / (p (1 - p)), with a divisor of at least 1e-12."""


@kernel
def binary_cross_entropy_grad_target(g, p, weight=None):
    """g weight times the derivative by the target, log(1 - p) - log(p)."""


@kernel
def binary_cross_entropy_with_logits(x, target, weight=None, pos_weight=None, total=False):
    """-weight (pos_weight t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))) at every element, without overflow.

    Or their total.
    """


@kernel
def binary_cross_entropy_with_logits_grad_input(g, x, target, weight=None, pos_weight=None):
    """g weight times the derivative by x: sigmoid(x) - t if there is no pos_weight."""


@kernel
def binary_cross_entropy_with_logits_grad_target(g, x, weight=None, pos_weight=None):
    """g weight times the derivative by the target: -x if there is no pos_weight."""
