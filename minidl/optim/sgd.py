"""Stochastic gradient descent, with momentum: the shortest optimiser and the form that the others follow."""

from __future__ import annotations

from typing import Any

from minidl import kernels
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor


class SGD(Optimizer):
    """p <- p - lr d, where d is the gradient plus `weight_decay` p, or with momentum a running sum of it:

    b <- momentum b + (1 - dampening) d at every step but the first, where b is d itself; then d is b, or with
    `nesterov` d + momentum b. `maximize` turns the gradient round.
    Polyak, "Some methods of speeding up the convergence of iteration methods" (1964); Sutskever et al., "On the
    importance of initialization and momentum in deep learning" (2013).
    foreach, fused: accepted for PyTorch's sake, without effect.

    Raises ValueError for a negative option, and for nesterov without momentum or with dampening.
    """

    optional_state = ("momentum_buffer",)

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, fused: bool | None = None):
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                                      nesterov=nesterov, maximize=maximize))

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        self._check_number(group, "momentum")
        if group["nesterov"] and (float(group["momentum"]) <= 0 or float(group["dampening"]) != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and dampening 0, got momentum "
                             f"{group['momentum']} and dampening {group['dampening']}")

    def _update(self, group: dict[str, Any], ready: list[tuple[Tensor, Any]]) -> None:
        options = {name: float(group[name]) for name in ("lr", "momentum", "weight_decay")}
        options |= {name: bool(group[name]) for name in ("nesterov", "maximize")}
        if not options["momentum"]:
            parameters, gradients = zip(*[(parameter.array, gradient) for parameter, gradient in ready])
            kernels.sgd_step(list(parameters), list(gradients), dampening=0.0, **options)
            return
        fresh = [(p, gradient) for p, gradient in ready if p not in self.state]
        others = [(p, gradient) for p, gradient in ready if p in self.state]
        # at the first step the buffer starts as the gradient, undamped
        for some, dampening in ((fresh, 0.0), (others, float(group["dampening"]))):
            if some:
                lists = zip(*[(p.array, gradient, self._state_of(p, "momentum_buffer")["momentum_buffer"])
                              for p, gradient in some])
                kernels.sgd_step(*map(list, lists), dampening=dampening, **options)
