"""Flips, crops and normalisation of a batch: one pass over the images, which the threads share.

Divisions are true ones, not products with a reciprocal as elsewhere: the bits are the reference's.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minidl.kernels import reference
from minidl.kernels.cpu.runtime import FLAGS, compiled, compiled_parallel, empty, fits, parallel

__all__ = ["crop_images", "flip_images", "normalize_images", "scale_bytes"]

FEW, MANY = 400, 30_000  # elements from which a compiled loop is called, and threads share it
SHORT = 16  # elements of a channel from which a loop over each is worth its call
PART = 16384  # bytes that a thread takes at a time
EXACT = {*FLAGS} - {"arcp", "nsz"}
WHITE = np.float32(255)


def flip_images(images, chosen, *, vertical):
    if images.ndim != 4 or images.size < FEW or not fits(images) or chosen.dtype != np.bool_:
        return reference.flip_images(images, chosen, vertical=vertical)
    y = empty(images.shape)
    _run(flip_loop, y.size, images, np.array(chosen), bool(vertical), y)
    return y


def crop_images(images, top, left, *, size, padding, fill):
    if images.ndim != 4 or images.size < FEW or not fits(images) or not (len(images) and size[0] and size[1]):
        return reference.crop_images(images, top, left, size=size, padding=padding, fill=fill)
    y = empty((*images.shape[:2], *size))
    places = [np.array(place, np.int64) - padding for place in (top, left)]
    _run(crop_loop, y.size, images, *places, float(np.float32(fill)), y)
    return y


def normalize_images(images, mean, std):
    planes, of_bytes = images.shape[0] * images.shape[1], _bytes(images)
    if images.size < max(FEW, SHORT * planes) or not (of_bytes or fits(images)) or not fits(mean, std):
        return reference.normalize_images(images, mean, std)
    y = empty(images.shape)
    _run(normalize_bytes_loop if of_bytes else normalize_loop, y.size, images.reshape(planes, -1), mean, std,
         y.reshape(planes, -1))
    return y


def scale_bytes(images):
    if images.size < FEW or not _bytes(images):
        return reference.scale_bytes(images)
    y = empty(images.shape)
    _run(scale_loop, y.size, images.reshape(-1), y.reshape(-1))
    return y


def _bytes(images) -> bool:
    return images.dtype == np.uint8 and images.flags.carray


def _run(loop, work, *arguments):
    parallel(loop, *arguments, limit=1 if work < MANY else None)


@compiled
def copy(x, y):
    for i in range(y.size):
        y[i] = x[i]


@compiled
def copy_reversed(x, y):
    last = y.size - 1
    for i in range(y.size):
        y[i] = x[last - i]


@compiled
def flip(x, vertical, y):
    """Mirror one image (C, H, W)."""
    channels, height, _ = x.shape
    for c in range(channels):
        for row in range(height):
            if vertical:
                copy(x[c, height - 1 - row], y[c, row])
            else:
                copy_reversed(x[c, row], y[c, row])


@compiled_parallel
def flip_loop(images, chosen, vertical, y):
    for n in prange(len(images)):
        if chosen[n]:
            flip(images[n], vertical, y[n])
        else:
            copy(images[n].reshape(-1), y[n].reshape(-1))


@compiled
def crop(x, top, left, fill, y):
    """The window of one image (C, H, W) at (top, left), which may lie partly beside it."""
    channels, height, width = x.shape
    rows, columns = y.shape[1:]
    first = min(max(-left, 0), columns)
    last = max(min(width - left, columns), first)
    for c in range(channels):
        for row in range(rows):
            target = y[c, row]
            if top + row < 0 or top + row >= height:
                target[:] = fill
                continue
            target[:first] = fill
            copy(x[c, top + row][left + first:left + last], target[first:last])
            target[last:] = fill


@compiled_parallel
def crop_loop(images, tops, lefts, fill, y):
    for n in prange(len(images)):
        crop(images[n], tops[n], lefts[n], np.float32(fill), y[n])


@compiled(fastmath=EXACT)
def normalize(x, mean, std, y):
    for i in range(x.size):
        y[i] = (x[i] - mean) / std


@compiled_parallel
def normalize_loop(planes, mean, std, y):
    for plane in prange(len(planes)):
        c = plane % len(mean)
        normalize(planes[plane], mean[c], std[c], y[plane])


@compiled(fastmath=EXACT)
def normalize_bytes(x, mean, std, y):
    for i in range(x.size):
        y[i] = (np.float32(x[i]) / WHITE - mean) / std


@compiled_parallel
def normalize_bytes_loop(planes, mean, std, y):
    for plane in prange(len(planes)):
        c = plane % len(mean)
        normalize_bytes(planes[plane], mean[c], std[c], y[plane])


@compiled(fastmath=EXACT)
def scale(x, y):
    for i in range(x.size):
        y[i] = np.float32(x[i]) / WHITE


@compiled_parallel
def scale_loop(x, y):
    for part in prange(-(-x.size // PART)):
        scale(x[part * PART:(part + 1) * PART], y[part * PART:(part + 1) * PART])
