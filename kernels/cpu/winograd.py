"""When a convolution is computed by Winograd's F(4x4, 3x3), and how: forward and both gradients.

For 3x3 filters without stride or dilation. Values round a little more than in plain sums, within 1e-4 of the results'
standard deviation; a NaN or an infinity spreads over its tile of 4x4 outputs. `set_precision("strict")` turns it off.
Read winograd_forward.py next.
"""

from __future__ import annotations

from minidl.kernels.cpu.kept import kept
from minidl.kernels.cpu.microkernel import COLUMNS
from minidl.kernels.cpu.winograd_filters import transformed_weights
from minidl.kernels.cpu.winograd_forward import tile_product
from minidl.kernels.cpu.winograd_matrices import OUTPUTS, PRODUCTS, TAPS
from minidl.kernels.cpu.winograd_weights import filter_sums
from minidl.kernels.precision import get_precision

MANY = 128  # tiles that share a filter: its transform takes a fifth of the time of its products
SMALL = 5 << 19  # numbers of transformed filters that are kept anyway


def suits(samples, channels, outputs, size, kernel, stride, padding, dilation, *, sums=False) -> bool:
    """Whether Winograd computes `outputs` maps of `size` from `channels` maps faster than the plain sums, and may.

    sums: whether it is about the gradient of the weights.
    """
    if kernel != (TAPS, TAPS) or stride != (1, 1) or dilation != (1, 1) or not 0 <= min(padding) <= max(padding) < TAPS:
        return False
    return get_precision() == "fast" and pays(samples, channels, outputs, size, sums)


def pays(samples, channels, outputs, size, sums) -> bool:
    """Whether it is faster: by measuring both on maps of 4 to 56 pixels, 1 to 64 samples and 1 to 512 channels.

    Few channels leave too few products for each transformed number; small maps fill their tiles badly. The filters
    are transformed at each step of a training: there must be enough pixels to share that, and tiles to fill a panel,
    save in the gradient of the weights, whose other way costs as much.
    """
    pixels, tiles = samples * size[0] * size[1], samples * -(-size[0] // OUTPUTS) * -(-size[1] // OUTPUTS)
    filled, taken = pixels / (tiles * OUTPUTS**2), tiles / (-(-tiles // COLUMNS) * COLUMNS)
    if min(channels, outputs) < 16 or filled < 0.35:
        return False
    if sums:
        return channels >= 32 or filled >= 0.5
    if taken * pixels < 0.75 * (channels * outputs) ** 0.5:
        return False
    return pixels >= 196 and pixels * min(channels, outputs) >= 196 * 64


def forward(x, weight, bias, y, padding, groups, relu):
    """Fill y with conv2d's result."""
    outputs, channels = weight.shape[0] // groups, weight.shape[1]
    for group in range(groups):
        filters = _filters(weight, group * outputs, outputs, y, turned=False)
        tile_product(x, filters, y, channels=(group * channels, channels), outputs=(group * outputs, outputs),
                     padding=padding, bias=bias, relu=relu)


def grad_input(g, weight, grad, padding, groups):
    """Fill grad with conv2d's input gradient: g convolved with the filters turned round."""
    outputs, channels = weight.shape[0] // groups, weight.shape[1]
    for group in range(groups):
        filters = _filters(weight, group * outputs, outputs, grad, turned=True)
        tile_product(g, filters, grad, channels=(group * outputs, outputs), outputs=(group * channels, channels),
                     padding=(TAPS - 1 - padding[0], TAPS - 1 - padding[1]))


def grad_weight(g, x, grad, padding, groups):
    """Fill grad with conv2d's weight gradient."""
    outputs, channels = grad.shape[0] // groups, grad.shape[1]
    for group in range(groups):
        filter_sums(g, x, grad, channels=(group * channels, channels), outputs=(group * outputs, outputs),
                    padding=padding)


def _filters(weight, first, outputs, y, turned):
    """The transformed filters for the maps y, kept where they are small, or where to transform them takes long.

    They are four times as large as weights. Measured, a filter takes as long as 30 tiles are multiplied by it.
    """
    def make():
        return transformed_weights(weight, first, outputs, turned=turned)

    tiles = len(y) * -(-y.shape[2] // OUTPUTS) * -(-y.shape[3] // OUTPUTS)
    if tiles >= MANY and PRODUCTS * outputs * weight.shape[1] > SMALL:
        return make()
    return kept(weight, ("winograd", first, outputs, turned), make)
