"""Compiled flips, crops and normalisation have the reference's bits: any size and type, edges, NaN, threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threads import assert_same_bits

from minidl.data import ImageDataset, Normalize
from minidl.kernels import backend_module, use_backend

CPU, REFERENCE = backend_module("cpu"), backend_module("reference")
KINDS = [lambda x: x, lambda x: (x * 40).astype(np.uint8), lambda x: x.astype(np.float64), lambda x: x[:, :, ::-1],
         lambda x: x[:0], lambda x: np.broadcast_to(x[:1], x.shape)]
NAMES = ["float32", "bytes", "float64", "reversed", "empty", "read-only"]


def draw(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def same(ours, theirs):
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.flags.c_contiguous
    assert ours.tobytes() == np.ascontiguousarray(theirs).tobytes()


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
@pytest.mark.parametrize("shape", [(6, 3, 9, 7), (3, 1, 40, 33)], ids=str)
@pytest.mark.parametrize("vertical", [False, True])
def test_flips(shape, kind, vertical):
    images = kind(draw(shape))
    chosen = np.random.default_rng(1).random(len(images)) < 0.5
    same(CPU.flip_images(images, chosen, vertical=vertical), REFERENCE.flip_images(images, chosen, vertical=vertical))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.integers(0, 5), st.data())
def test_crops(channels, height, width, padding, data):
    """Windows of every place, also such that miss the image."""
    images = draw((4, channels, height, width))
    size = data.draw(st.integers(1, height + 2 * padding)), data.draw(st.integers(1, width + 2 * padding))
    spare = np.array((height, width)) + 2 * padding - size
    top, left = np.random.default_rng(1).integers(0, spare[:, None] + 1, (2, 4))
    options = {"size": size, "padding": padding, "fill": 0.1}
    same(CPU.crop_images(images, top, left, **options), REFERENCE.crop_images(images, top, left, **options))


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_crops_of_other_arrays(kind):
    images = kind(draw((6, 3, 12, 11)))
    top, left = np.random.default_rng(1).integers(0, 4, (2, len(images)))
    options = {"size": (10, 9), "padding": 1, "fill": 2}
    same(CPU.crop_images(images, top, left, **options), REFERENCE.crop_images(images, top, left, **options))


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
@pytest.mark.parametrize("shape", [(6, 3, 9, 7), (40, 3), (5, 2, 100), (64, 3, 32, 32)], ids=str)
def test_normalisation_divides_truly(shape, kind):
    images = kind(draw(shape)) if len(shape) > 2 else draw(shape)
    dtype = np.float64 if images.dtype == np.float64 else np.float32
    mean, std = draw(shape[1], 1).astype(dtype), np.abs(draw(shape[1], 2)).astype(dtype) + dtype(0.3)
    same(CPU.normalize_images(images, mean, std), REFERENCE.normalize_images(images, mean, std))


def test_every_byte_is_scaled_as_numpy_does():
    images = np.tile(np.arange(256, dtype=np.uint8), 200)
    same(CPU.scale_bytes(images), images.astype(np.float32) / np.float32(255))
    same(CPU.scale_bytes(images[::-1]), REFERENCE.scale_bytes(images[::-1]))


def test_nan_and_the_sign_of_zero_stay():
    images = draw((2, 1, 20, 20))
    images[0, 0, 3, 3], images[0, 0, 4, 4], images[1, 0, 0, 0] = np.nan, np.inf, -0.0
    ones, zeros = np.ones(1, np.float32), np.zeros(1, np.float32)
    same(CPU.normalize_images(images, zeros, ones), REFERENCE.normalize_images(images, zeros, ones))


def test_a_normalised_data_set_is_what_its_transform_makes_of_floats():
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8)).astype(np.uint8)
    normalize = Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.1])
    data = ImageDataset(images, np.arange(30) % 2, ["a", "b"], transform=normalize)
    batch, _ = data.__getitems__(np.arange(20))
    floats = images[:20].astype(np.float32) / np.float32(255)
    with use_backend("reference"):
        same(batch, normalize(floats))
    same(data[3][0], batch[3])


def test_same_bits_for_any_number_of_threads():
    images, chosen = draw((70, 3, 33, 31)), np.arange(70) % 3 == 0
    top, left = np.random.default_rng(1).integers(0, 9, (2, 70))
    mean = draw(3, 1)

    def compute():
        return {"flip": CPU.flip_images(images, chosen, vertical=False),
                "crop": CPU.crop_images(images, top, left, size=(33, 31), padding=4, fill=0.0),
                "normalize": CPU.normalize_images(images, mean, mean),
                "bytes": CPU.normalize_images(images.astype(np.uint8), mean, mean),
                "scale": CPU.scale_bytes(images.astype(np.uint8))}

    assert_same_bits(compute)
