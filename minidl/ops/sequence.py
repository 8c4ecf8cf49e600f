"""Rows moved between padded and packed sequences; what is packed, and for whom, `kernels/steps.py` says."""

from __future__ import annotations

import numpy as np

from minidl.tensor import differentiable


@differentiable
def place_rows(x, /, index, value=0.0):
    """x[index] for rows x (R, ...) and integers `index` (...), which name each row once at most; `value` where -1.

    What `index_select` would do, with a gradient that need not add up, because no row is read twice.
    """
    filled = index >= 0
    whole = filled.all()
    y = x[index]
    if not whole:
        y[~filled] = value

    def grad_x(g):
        grad = np.zeros(x.shape, g.dtype)
        if whole:
            grad[index] = g
        else:
            grad[index[filled]] = g[filled]
        return grad

    return y, (grad_x,)
