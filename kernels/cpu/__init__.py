"""Kernels compiled by Numba for float32 arrays in C order, the family's files as in `../reference/`.

Each kernel hands over to the reference what its loops do not take: float64, strided or empty arrays. A kernel
that is missing here runs in the reference too. Read `runtime.py` first.
"""

from minidl.kernels.cpu.activation import *  # noqa: F403
from minidl.kernels.cpu.attention import *  # noqa: F403
from minidl.kernels.cpu.conv import *  # noqa: F403
from minidl.kernels.cpu.dropout import *  # noqa: F403
from minidl.kernels.cpu.embedding import *  # noqa: F403
from minidl.kernels.cpu.image import *  # noqa: F403
from minidl.kernels.cpu.linear import *  # noqa: F403
from minidl.kernels.cpu.loss import *  # noqa: F403
from minidl.kernels.cpu.loss_elements import *  # noqa: F403
from minidl.kernels.cpu.norm import *  # noqa: F403
from minidl.kernels.cpu.optim import *  # noqa: F403
from minidl.kernels.cpu.pool import *  # noqa: F403
from minidl.kernels.cpu.recurrent import *  # noqa: F403
from minidl.kernels.cpu.resize import *  # noqa: F403
from minidl.kernels.cpu.softmax import *  # noqa: F403
