"""The kernels: numerical routines on arrays, which know nothing of gradients or modules.

`contract/` declares every kernel once, with its signature and what it must compute. The plain NumPy versions in
`reference/` specify the results and are written to be read; a faster backend implements the same names in files of
the same names. `dispatch.py` chooses among them at each call.
`_grad` kernels take the gradient `g` of the result first and return the gradient of what their name says.
"""

from __future__ import annotations

from minidl.kernels.contract.activation import *  # noqa: F403
from minidl.kernels.contract.attention import *  # noqa: F403
from minidl.kernels.contract.conv import *  # noqa: F403
from minidl.kernels.contract.dropout import *  # noqa: F403
from minidl.kernels.contract.embedding import *  # noqa: F403
from minidl.kernels.contract.image import *  # noqa: F403
from minidl.kernels.contract.linear import *  # noqa: F403
from minidl.kernels.contract.loss import *  # noqa: F403
from minidl.kernels.contract.loss_regression import *  # noqa: F403
from minidl.kernels.contract.norm import *  # noqa: F403
from minidl.kernels.contract.optim import *  # noqa: F403
from minidl.kernels.contract.pool import *  # noqa: F403
from minidl.kernels.contract.recurrent import *  # noqa: F403
from minidl.kernels.contract.resize import *  # noqa: F403
from minidl.kernels.contract.softmax import *  # noqa: F403
from minidl.kernels.dispatch import BACKENDS, CONTRACT, backend_module, get_backend, kernel, use_backend
from minidl.kernels.precision import get_precision, set_precision, use_precision
from minidl.kernels.threads import get_num_threads, set_num_threads

__all__ = ["BACKENDS", "CONTRACT", "backend_module", "get_backend", "get_num_threads", "get_precision", "kernel",
           "set_num_threads", "set_precision", "use_backend", "use_precision", *CONTRACT]
