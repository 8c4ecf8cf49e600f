"""Every kernel in plain NumPy, written to be read: what each result must be.

One file a family, under the same names as in the other backends.
"""

from minidl.kernels.reference.activation import *  # noqa: F403
from minidl.kernels.reference.attention import *  # noqa: F403
from minidl.kernels.reference.conv import *  # noqa: F403
from minidl.kernels.reference.dropout import *  # noqa: F403
from minidl.kernels.reference.embedding import *  # noqa: F403
from minidl.kernels.reference.image import *  # noqa: F403
from minidl.kernels.reference.linear import *  # noqa: F403
from minidl.kernels.reference.loss import *  # noqa: F403
from minidl.kernels.reference.loss_regression import *  # noqa: F403
from minidl.kernels.reference.norm import *  # noqa: F403
from minidl.kernels.reference.optim import *  # noqa: F403
from minidl.kernels.reference.pool import *  # noqa: F403
from minidl.kernels.reference.recurrent import *  # noqa: F403
from minidl.kernels.reference.resize import *  # noqa: F403
from minidl.kernels.reference.softmax import *  # noqa: F403
