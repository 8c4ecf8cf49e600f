"""Depthwise convolution: every output sees one channel, so that there is no product of matrices to be made.

Each number is used a few times only: memory is the ceiling, if the sums do not cost more. 3 x 3 and 5 x 5 windows, one
or two apart, are summed from x to y in registers by the steps of `conv_rows.py`; the gradient of the input is the same
convolution with the weights turned round or, for windows two apart, a step of its own. All others take the loops of
`conv_fields.py`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels.cpu import conv_fields
from minidl.kernels.cpu.activation import relu as rectified
from minidl.kernels.cpu.conv_rows import KINDS, convolve_rows, correlate_row, correlate_rows, spread_rows, sum_lanes
from minidl.kernels.cpu.conv_tiles import workspace, zero_lanes
from minidl.kernels.cpu.microkernel import LANES, address
from minidl.kernels.cpu.runtime import compiled, compiled_parallel, get_num_threads, parallel

NUMBERS = {(kind.kernel, kind.stride): number for number, kind in enumerate(KINDS)}
GROUP = 16  # outputs whose weights' gradients are summed at a time: their planes are side by side in memory
ZEROS = np.zeros(4 * LANES, np.float32)


def kind_of(kernel_size, stride, dilation) -> int | None:
    """The index in KINDS of the step for these windows, if there is one."""
    if kernel_size[0] != kernel_size[1] or stride[0] != stride[1] or dilation != (1, 1):
        return None
    return NUMBERS.get((kernel_size[0], stride[0]))


def threads_for(planes) -> int:
    return min(get_num_threads(), planes.shape[0] * planes.shape[1])


def depthwise(x, weight, bias, y, stride, padding, dilation, relu):
    """Fill y (N, C m, H', W') with the convolution of x (N, C, H, W) with weight (C m, 1, kh, kw), and return it."""
    kind = kind_of(weight.shape[2:], stride, dilation)
    if kind is None:
        conv_fields.depthwise(x, weight, bias, y, stride, padding, dilation)
        return rectified(y) if relu else y
    flat = weight.reshape(-1)
    parallel(convolve_planes, x, flat, flat if bias is None else bias, int(bias is not None),
             np.float32(0 if relu else -np.inf), ZEROS, y, threads_for(y),
             (kind, KINDS[kind].rows, stride[0], *padding, KINDS[kind].kernel**2, 1, y.shape[1] // x.shape[1]))
    return y


def depthwise_grad_input(g, weight, grad, stride, padding, dilation):
    """Fill grad (N, C, H, W) for g (N, C m, H', W')."""
    kind, multiplier = kind_of(weight.shape[2:], stride, dilation), g.shape[1] // grad.shape[1]
    if kind is None:
        conv_fields.depthwise_grad_input(g, weight, grad, stride, padding, dilation)
    elif stride == (1, 1):
        turned = np.ascontiguousarray(weight.reshape(len(weight), -1)[:, ::-1]).reshape(-1)
        last = KINDS[kind].kernel - 1
        parallel(convolve_planes, g, turned, turned, 0, np.float32(-np.inf), ZEROS, grad, threads_for(grad),
                 (kind, KINDS[kind].rows, 1, last - padding[0], last - padding[1], (last + 1)**2, multiplier, 1))
    else:
        parallel(spread_planes, g, weight.reshape(-1), ZEROS, grad, threads_for(grad),
                 (kind, KINDS[kind].rows, *padding, KINDS[kind].kernel**2, multiplier))


def depthwise_grad_weight(g, x, grad, stride, padding, dilation):
    """Fill grad (C m, 1, kh, kw) for g (N, C m, H', W') and x (N, C, H, W)."""
    kind = kind_of(grad.shape[2:], stride, dilation)
    if kind is None:
        conv_fields.depthwise_grad_weight(g, x, grad, stride, padding, dilation)
        return
    block, rows = KINDS[kind].rows, g.shape[2]
    sums = workspace(min(get_num_threads(), g.shape[1]), GROUP * KINDS[kind].kernel**2 * LANES)
    parallel(correlate_planes, g, x, ZEROS, grad.reshape(len(grad), -1), sums,
             (kind, block, rows - rows % block, stride[0], *padding, g.shape[1] // x.shape[1]))


@compiled_parallel
def convolve_planes(x, weight, bias, has_bias, least, zeros, y, threads, geometry):
    planes = y.shape[0] * y.shape[1]
    for thread in prange(threads):
        convolve_some(x, weight, bias, has_bias, least, zeros, y, geometry,
                      planes * thread // threads, planes * (thread + 1) // threads)


@compiled
def convolve_some(x, weight, bias, has_bias, least, zeros, y, geometry, start, stop):
    """Fill planes of y, each from `terms` planes of x; `share` planes of y see the same of x."""
    kind, block, stride, top, left, taps, terms, share = geometry
    height, width, rows, columns = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    n, o = start // y.shape[1], start % y.shape[1]
    for plane in range(start, stop):
        first, channel = bias[o] if has_bias else np.float32(0), o // share if share > 1 else o * terms
        for k in range(terms):
            source = address(x, (n * x.shape[1] + channel + k) * height * width)
            factors = address(weight, (o * terms + k) * taps)
            for r in range(0, rows, block):
                for s in range(0, columns, LANES):
                    convolve_rows(
                        kind, source, height, width, r * stride - top, s * stride - left, address(zeros, 0), factors,
                        first, least, address(y, (plane * rows + r) * columns + s), columns, rows - r, columns - s, k,
                    )
        o += 1
        if o == y.shape[1]:
            n, o = n + 1, 0


@compiled_parallel
def spread_planes(g, weight, zeros, grad, threads, geometry):
    planes = grad.shape[0] * grad.shape[1]
    for thread in prange(threads):
        spread_some(g, weight, zeros, grad, geometry, planes * thread // threads, planes * (thread + 1) // threads)


@compiled
def spread_some(g, weight, zeros, grad, geometry, start, stop):
    """Fill planes of the input's gradient, for windows two apart, from the planes of g that saw them."""
    kind, block, top, left, taps, multiplier = geometry
    rows, columns, height, width = g.shape[2], g.shape[3], grad.shape[2], grad.shape[3]
    c = start % grad.shape[1]
    for plane in range(start, stop):
        target = address(grad, plane * height * width)
        for k in range(multiplier):
            source = address(g, (plane * multiplier + k) * rows * columns)
            factors = address(weight, (c * multiplier + k) * taps)
            for r in range(top // 2, (height - 1 + top) // 2 + 1, block):
                for s in range(left // 2, (width - 1 + left) // 2 + 1, LANES):
                    spread_rows(kind, source, rows, columns, r, s, address(zeros, 0), factors, target, height, width,
                                2 * r - top, 2 * s - left, k)
        c = c + 1 if c + 1 < grad.shape[1] else 0


@compiled_parallel
def correlate_planes(g, x, zeros, grad, sums, geometry):
    threads, outputs = sums.shape[0], g.shape[1]
    for thread in prange(threads):
        for o in range(outputs * thread // threads, outputs * (thread + 1) // threads, GROUP):
            stop = min(o + GROUP, outputs * (thread + 1) // threads)
            correlate_group(g, x, zeros, grad, sums, thread * sums.shape[1], geometry, o, stop)


@compiled
def correlate_group(g, x, zeros, grad, sums, place, geometry, start, stop):
    """The gradients of the weights of some outputs: for each tap a register of sums over all samples."""
    kind, block, whole, stride, top, left, share = geometry
    height, width, rows, columns, size = x.shape[2], x.shape[3], g.shape[2], g.shape[3], grad.shape[1] * LANES
    for k in range(0, (stop - start) * size, LANES):
        zero_lanes(address(sums, place + k))
    for n in range(g.shape[0]):
        for o in range(start, stop):
            source = address(x, (n * x.shape[1] + (o // share if share > 1 else o)) * height * width)
            seen, totals = (n * g.shape[1] + o) * rows * columns, address(sums, place + (o - start) * size)
            for r in range(0, whole, block):
                for s in range(0, columns, LANES):
                    correlate_rows(kind, source, height, width, r * stride - top, s * stride - left, address(zeros, 0),
                                   address(g, seen + r * columns + s), columns, columns - s, totals)
            for r in range(whole, rows):
                for s in range(0, columns, LANES):
                    correlate_row(kind, source, height, width, r * stride - top, s * stride - left, address(zeros, 0),
                                  address(g, seen + r * columns + s), columns, columns - s, totals)
    for o in range(start, stop):
        for t in range(grad.shape[1]):
            grad[o, t] = sum_lanes(address(sums, place + (o - start) * size + t * LANES))
