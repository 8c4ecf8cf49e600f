"""Flips, crops and normalisation of a batch of images, each image in its own way where it was drawn so."""

import numpy as np


def flip_images(images, chosen, *, vertical):
    mirrored = images[:, :, ::-1] if vertical else images[..., ::-1]
    return np.where(chosen[:, None, None, None], mirrored, images)


def crop_images(images, top, left, *, size, padding, fill):
    edge = (padding, padding)
    padded = np.pad(images, ((0, 0), (0, 0), edge, edge), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(2, 3))  # N, C, places, h, w
    return windows[np.arange(len(images)), :, top, left]  # N, C, h, w


def normalize_images(images, mean, std):
    images = scale_bytes(images) if images.dtype == np.uint8 else images
    column = (-1,) + (1,) * (images.ndim - 2)  # C, 1, 1
    y = images - mean.reshape(column)
    y /= std.reshape(column)
    return y


def scale_bytes(images):
    y = images.astype(np.float32)
    y /= np.float32(255)
    return y
