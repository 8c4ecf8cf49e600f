"""Adam and AdamW: steps of about the learning rate in every coordinate, whatever the size of its gradient."""

from __future__ import annotations

from typing import Any

from minidl import kernels
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor


class Adam(Optimizer):
    """m <- beta1 m + (1 - beta1) d, v <- beta2 v + (1 - beta2) d^2, p <- p - lr m' / (sqrt(v') + eps),

    where d is the gradient plus `weight_decay` p, and m' = m / (1 - beta1^t), v' = v / (1 - beta2^t) undo that m and v
    start at zero; t counts the steps of this parameter. `amsgrad` uses the largest v so far; `maximize` turns the
    gradient round; `decoupled_weight_decay` shrinks p by lr weight_decay instead of adding to d.
    Kingma and Ba, "Adam: a method for stochastic optimization" (2015); Reddi, Kale and Kumar, "On the convergence of
    Adam and beyond" (2018) for AMSGrad.
    foreach, fused, capturable: accepted for PyTorch's sake, without effect.

    Raises ValueError for a negative option and for betas outside [0, 1).
    """

    required_state = ("step", "exp_avg", "exp_avg_sq")
    optional_state = ("max_exp_avg_sq",)

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, capturable: bool = False, fused: bool | None = None,
                 decoupled_weight_decay: bool = False):
        self.decoupled_weight_decay = decoupled_weight_decay
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                                      maximize=maximize))

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        self._check_number(group, "eps")
        self._check_betas(group)

    def _update(self, group: dict[str, Any], ready: list[tuple[Tensor, Any]]) -> None:
        options = {name: float(group[name]) for name in ("lr", "eps", "weight_decay")}
        beta1, beta2 = (float(beta) for beta in group["betas"])
        names = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
        for step, together in self._by_step(ready, names).items():
            kernels.adam_step(*map(list, zip(*together)), step=step, beta1=beta1, beta2=beta2,
                              maximize=bool(group["maximize"]), decoupled_weight_decay=self.decoupled_weight_decay,
                              **options)

    def _by_step(self, ready: list[tuple[Tensor, Any]], names: tuple[str, ...]) -> dict[int, list[tuple]]:
        """The arrays of each parameter, by the number of the step that it takes now."""
        together: dict[int, list[tuple]] = {}
        for parameter, gradient in ready:
            state = self._state_of(parameter, *names)
            step = state["step"] = state.get("step", 0) + 1
            together.setdefault(step, []).append((parameter.array, gradient, *[state[name] for name in names]))
        return together


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter, p <- (1 - lr weight_decay) p, and does not enter the gradient.

    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019). See `Adam` for the rest.
    """

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, capturable: bool = False, fused: bool | None = None):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)
