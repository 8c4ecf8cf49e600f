"""Every operation on tensors, a family a file; `methods.py` puts the operators and methods on Tensor.

`OPS` (filled by `minidl.tensor.differentiable`) is the catalogue of the differentiable ones: the tests hold that each
has a case. Read `elementwise.py` first.
"""

from __future__ import annotations

from minidl.ops import methods  # noqa: F401  (puts the operators and methods on Tensor)
from minidl.ops.activation import (  # noqa: F401
    elu, erf, gelu, leaky_relu, logsigmoid, mish, prelu, relu, relu6, selu, sigmoid, silu, softplus, tanh,
)
from minidl.ops.attention import (  # noqa: F401
    multi_head_attention, packed_attention, scaled_dot_product_attention,
)
from minidl.ops.compare import (  # noqa: F401
    allclose, bitwise_and, bitwise_not, bitwise_or, bitwise_xor, eq, equal, ge, gt, isclose, isfinite, isinf, isnan,
    le, logical_and, logical_not, logical_or, logical_xor, lt, ne,
)
from minidl.ops.conv import conv1d, conv2d, conv_transpose1d, conv_transpose2d  # noqa: F401
from minidl.ops.dropout import dropout, feature_dropout  # noqa: F401
from minidl.ops.einsum import einsum  # noqa: F401
from minidl.ops.elementwise import (  # noqa: F401
    abs, add, cast, ceil, clip, clone, cos, div, exp, expm1, floor, floor_divide, log, log1p, log2, log10, maximum,
    minimum, mul, neg, pow, reciprocal, remainder, round, rsqrt, sign, sin, sqrt, square, sub, trunc, where,
)
from minidl.ops.embedding import embedding  # noqa: F401
from minidl.ops.extremes import amax, amin, argmax, argmin, argsort, max, min, sort, topk  # noqa: F401
from minidl.ops.index import (  # noqa: F401
    chunk, gather, getitem, index_select, masked_fill, masked_select, narrow, nonzero, scatter, select, split,
    take_along_dim, unbind,
)
from minidl.ops.loss_classification import (  # noqa: F401
    binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy, nll_loss,
)
from minidl.ops.loss_regression import huber_loss, kl_div, l1_loss, mse_loss, smooth_l1_loss  # noqa: F401
from minidl.ops.matmul import bmm, dot, linear, matmul, mm, mv, outer  # noqa: F401
from minidl.ops.norm import batch_norm, group_norm, layer_norm  # noqa: F401
from minidl.ops.padding import pad  # noqa: F401
from minidl.ops.pool import (  # noqa: F401
    adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_max_pool1d, adaptive_max_pool2d, avg_pool1d, avg_pool2d,
    max_pool1d, max_pool2d,
)
from minidl.ops.recurrent import gru, lstm, rnn  # noqa: F401
from minidl.ops.reduce import all, any, cumsum, mean, norm, prod, std, sum, var  # noqa: F401
from minidl.ops.resize import interpolate  # noqa: F401
from minidl.ops.sequence import place_rows  # noqa: F401
from minidl.ops.shape import (  # noqa: F401
    broadcast_to, cat, expand_as, flatten, flip, movedim, permute, repeat, reshape, roll, squeeze, stack, tile,
    transpose, tril, triu, unflatten, unsqueeze, view_as,
)
from minidl.ops.softmax import log_softmax, logsumexp, softmax  # noqa: F401
from minidl.tensor import OPS  # noqa: F401
