"""The contract of the kernels: every numerical routine once, with its signature and what it must compute.

Arrays in, arrays out; nothing here knows of gradients or modules. The plain NumPy versions in `reference/` specify
the results and are written to be read; a faster backend implements the same names. `dispatch.py` chooses.
`_grad` kernels take the gradient `g` of the result first and return the gradient of what their name says.
"""

from __future__ import annotations

from minidl.kernels.dispatch import BACKENDS, CONTRACT, backend_module, kernel, use_backend

__all__ = ["BACKENDS", "CONTRACT", "backend_module", "kernel", "use_backend"]


@kernel
def relu(x):
    """max(x, 0) at every element."""


@kernel
def relu_grad(g, y):
    """g where the result y = relu(x) is positive, else 0."""


@kernel
def linear(x, weight, bias=None):
    """x @ weight^T + bias for x (..., I), weight (O, I), bias (O,): (..., O)."""


@kernel
def linear_grad_weight(g, x):
    """g^T @ x summed over all leading axes, for g (..., O) and x (..., I): (O, I)."""
