"""Convolution; a transposed one is its input gradient. Computed in `../reference/conv.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def conv2d(x, weight, bias=None, *, stride, padding, dilation, groups, relu=False):
    """Cross-correlate x (N, C, H, W) with weight (O, C/G, kh, kw), and add bias (O,): (N, O, H', W').

    y[n, o, r, s] = bias[o] + sum over c, i, j of weight[o, c, i, j] x[n, c', r sh + i dh - ph, s sw + j dw - pw], where
    c' counts from the first of the C/G channels of o's group and x is 0 outside. stride, padding and dilation are
    pairs (rows, columns), groups = G; the size of y is `shapes.conv_output_size`. With relu, negative results become 0.
    """


@kernel
def conv2d_grad_input(g, weight, size, *, stride, padding, dilation, groups):
    """The gradient (N, C, H, W) of conv2d's x of size = (H, W), for g (N, O, H', W').

    g says how many windows there are: the last may run over the end of x, or x go on where no window reaches.
    """


@kernel
def conv2d_grad_weight(g, x, kernel_size, *, stride, padding, dilation, groups):
    """The gradient (O, C/G, kh, kw) of conv2d's weight; g says how many windows there are, as in conv2d_grad_input."""


@kernel
def conv2d_grad_bias(g):
    """The sum over samples and pixels of g (N, O, H, W): (O,)."""
