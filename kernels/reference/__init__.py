"""Every kernel in plain NumPy, written to be read: what each result must be.

One file a family, under the same names as in the other backends.
"""

from minidl.kernels.reference.activation import *  # noqa: F403
from minidl.kernels.reference.linear import *  # noqa: F403
