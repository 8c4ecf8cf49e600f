"""What prepares and augments batches of images: flips, crops, normalisation. Computed in `../reference/image.py`.

Results have the same bits in every backend: numbers are copied, or divided one by one as they are defined.
"""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def flip_images(images, chosen, *, vertical):
    """images (N, C, H, W), those mirrored where chosen (N,) is True: left to right, or `vertical`, top to bottom."""


@kernel
def crop_images(images, top, left, *, size, padding, fill):
    """The window of `size` at (top, left), one each (N,), of images (N, C, H, W) padded on all sides with `fill`.

    Places count from the padding's corner; every window lies within it: (N, C, *size).
    """


@kernel
def normalize_images(images, mean, std):
    """(images - mean) / std for images (N, C, ...), with mean and std (C,) in the type of the images.

    Bytes are divided by 255 first, as by `scale_bytes`; their mean and std are float32.
    """


@kernel
def scale_bytes(images):
    """Bytes of any shape as float32 in [0, 1]: images / 255."""
