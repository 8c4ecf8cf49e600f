"""Classification losses, fused with the softmax or sigmoid before them. Computed in `../reference/loss.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """Cross-entropy of logits (N, C, ...) against class indices (N, ...): (losses (N, ...), peak, log_sum).

    -log softmax(logits)[target] weight[target], and 0 where target == ignore_index. With label smoothing s:
    (1 - s) times that, plus s / C times the sum of the same loss over all classes.
    log softmax(logits) = logits - peak - log_sum, both (N, 1, ...), which the gradient needs.
    """


@kernel
def cross_entropy_grad(g, logits, target, peak, log_sum, weight=None, ignore_index=-100, label_smoothing=0.0):
    """The gradient of the logits (N, C, ...) for g (N, ...); peak and log_sum are what cross_entropy returned."""


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
    """-log_p[target] weight[target] for log_p (N, C, ...), 0 where target == ignore_index: (N, ...)."""


@kernel
def nll_loss_grad(g, target, num_classes, weight=None, ignore_index=-100):
    """The gradient of the log-probabilities (N, C, ...) for g (N, ...)."""


@kernel
def binary_cross_entropy_with_logits(x, target, pos_weight=None):
    """-(pos_weight t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))) at every element, without overflow."""


@kernel
def binary_cross_entropy_with_logits_grad_input(g, x, target, pos_weight=None):
    """g times the derivative by x: sigmoid(x) - t if there is no pos_weight."""


@kernel
def binary_cross_entropy_with_logits_grad_target(g, x, pos_weight=None):
    """g times the derivative by the target: -x if there is no pos_weight."""
