"""RMSprop: the gradient divided by a running average of its size."""

from __future__ import annotations

from typing import Any

from minidl import kernels
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor


class RMSprop(Optimizer):
    """v <- alpha v + (1 - alpha) d^2, p <- p - lr d / (sqrt(v) + eps), where d is the gradient plus `weight_decay` p.

    `momentum` steps along a running sum, b <- momentum b + d / (sqrt(v) + eps). `centered` takes the square of the
    average gradient off v, which makes it a variance. `maximize` turns the gradient round.
    Tieleman and Hinton, "Lecture 6.5: rmsprop", Neural networks for machine learning (2012); Graves, "Generating
    sequences with recurrent neural networks" (2013) for `centered`.
    foreach, capturable: accepted for PyTorch's sake, without effect.

    Raises ValueError for a negative option and for alpha outside [0, 1].
    """

    required_state = ("square_avg",)
    optional_state = ("momentum_buffer", "grad_avg")

    def __init__(self, params: Any, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
                 momentum: float = 0, centered: bool = False, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False):
        super().__init__(params, dict(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                                      centered=centered, maximize=maximize))

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        for option in ("eps", "momentum", "alpha"):
            self._check_number(group, option)
        if float(group["alpha"]) > 1:
            raise ValueError(f"RMSprop: alpha must be at most 1, got {group['alpha']!r}")

    def _update(self, group: dict[str, Any], ready: list[tuple[Tensor, Any]]) -> None:
        options = {name: float(group[name]) for name in ("lr", "alpha", "eps", "momentum", "weight_decay")}
        wanted = {"momentum_buffer": options["momentum"] > 0, "grad_avg": group["centered"]}
        names = [name for name, used in wanted.items() if used]
        states = [self._state_of(parameter, "square_avg", *names) for parameter, _ in ready]
        used = {name + "s": [state[name] for state in states] for name in names}
        kernels.rmsprop_step([parameter.array for parameter, _ in ready], [gradient for _, gradient in ready],
                             [state["square_avg"] for state in states], **used, maximize=bool(group["maximize"]),
                             **options)
