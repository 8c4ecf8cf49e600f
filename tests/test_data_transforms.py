"""Augmentation and preprocessing: against SciPy and scikit-learn's definition, by hand, seeded, batch and single."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl.data import (
    Compose,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    RandomTransform,
    RandomVerticalFlip,
    Standardize,
    Transform,
    one_hot,
    rotate,
)
from minidl.errors import ShapeError

GOLDEN = np.load(Path(__file__).parent / "golden" / "rotation.npz")


def some_images(count=6, channels=2, height=7, width=5, seed=0):
    return np.random.default_rng(seed).random((count, channels, height, width), np.float32)


RANDOM = {
    "flip": lambda generator=None: RandomHorizontalFlip(generator=generator),
    "vertical flip": lambda generator=None: RandomVerticalFlip(generator=generator),
    "crop": lambda generator=None: RandomCrop((6, 5), padding=2, generator=generator),
    "rotation": lambda generator=None: RandomRotation(40, generator=generator),
    "all": lambda generator=None: Compose([make(generator) for name, make in RANDOM.items() if name != "all"]),
}


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_seed_gives_the_same_images_and_the_input_is_left_alone(name):
    images = some_images(20)
    kept = images.copy()
    first = RANDOM[name](np.random.default_rng(3))(images)
    second = RANDOM[name](np.random.default_rng(3))(images)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(images, kept)
    assert (RANDOM[name](np.random.default_rng(4))(images) != first).any()
    assert first.dtype == np.float32 and first.flags.c_contiguous
    assert first.shape[:2] == images.shape[:2]


@pytest.mark.parametrize("name", RANDOM)
def test_a_single_image_is_taken_too(name):
    transform = RANDOM[name](np.random.default_rng(0))
    batch = RANDOM[name](np.random.default_rng(0))
    image = some_images(1)
    np.testing.assert_array_equal(transform(image[0]), batch(image)[0])


@pytest.mark.parametrize("name", RANDOM)
def test_each_image_of_a_batch_gets_its_own_draw(name):
    same = np.repeat(some_images(1), 30, axis=0)
    changed = RANDOM[name](np.random.default_rng(0))(same)
    assert (changed != changed[:1]).any()


@pytest.mark.parametrize("name", RANDOM)
def test_a_missing_channel_axis_is_explained(name):
    with pytest.raises(ShapeError, match=r"got shape \(28, 28\); a grey image needs its channel axis"):
        RANDOM[name]()(np.zeros((28, 28), np.float32))


def test_flip_mirrors_left_and_right_with_the_given_probability():
    images = some_images(2000, 1, 1, 3)
    np.testing.assert_array_equal(RandomHorizontalFlip(1.0)(images), images[..., ::-1])
    np.testing.assert_array_equal(RandomHorizontalFlip(0.0)(images), images)
    np.testing.assert_array_equal(RandomHorizontalFlip(1.0)(RandomHorizontalFlip(1.0)(images)), images)
    np.testing.assert_array_equal(RandomVerticalFlip(1.0)(images), images[..., ::-1, :])
    np.testing.assert_array_equal(RandomVerticalFlip(0.0)(images), images)
    flipped = RandomHorizontalFlip(0.3, np.random.default_rng(0))(images)
    changed = (flipped != images).any((1, 2, 3))
    np.testing.assert_array_equal(flipped[changed], images[changed][..., ::-1])
    assert 0.26 < changed.mean() < 0.34
    with pytest.raises(ValueError, match="p is a probability, got 1.5"):
        RandomHorizontalFlip(1.5)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 8), width=st.integers(1, 8), padding=st.integers(0, 3), data=st.data())
def test_a_crop_is_a_window_of_the_padded_image(height, width, padding, data):
    images = some_images(3, 2, height, width)
    size = (data.draw(st.integers(1, height + 2 * padding)), data.draw(st.integers(1, width + 2 * padding)))
    seed = data.draw(st.integers(0, 99))
    cropped = RandomCrop(size, padding, fill=7.0, generator=np.random.default_rng(seed))(images)
    assert cropped.shape == (3, 2, *size)
    padded = np.pad(images, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2), constant_values=7.0)
    for image, window in zip(padded, cropped):
        places = [
            (top, left)
            for top in range(padded.shape[2] - size[0] + 1)
            for left in range(padded.shape[3] - size[1] + 1)
            if (image[:, top : top + size[0], left : left + size[1]] == window).all()
        ]
        assert places


def test_a_crop_reaches_every_place():
    image = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    corners = RandomCrop(3, generator=np.random.default_rng(0))(np.repeat(image, 100, axis=0))[:, 0, 0, 0]
    assert set(corners) == {0, 1, 4, 5}
    assert RandomCrop(4)(image.astype(np.uint8)).dtype == np.uint8
    with pytest.raises(ShapeError, match=r"a window of \(9, 9\) does not fit images of \(4, 4\) padded by 2"):
        RandomCrop(9, padding=2)(image)
    for size, padding in ((0, 0), (3, -1)):
        with pytest.raises(ValueError, match="size must be positive and padding not negative"):
            RandomCrop(size, padding)


def test_rotation_is_scipys():
    turned = rotate(GOLDEN["images"], GOLDEN["angles"], float(GOLDEN["fill"]))
    np.testing.assert_allclose(turned, GOLDEN["turned"], atol=1e-12)
    single = rotate(GOLDEN["images"].astype(np.float32), GOLDEN["angles"], float(GOLDEN["fill"]))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, GOLDEN["turned"], atol=1e-5)


def test_quarter_turns_are_exact_and_counter_clockwise():
    images = some_images(3, 2, 6, 6)
    np.testing.assert_allclose(rotate(images, 90.0), np.rot90(images, axes=(2, 3)), atol=1e-6)
    np.testing.assert_array_equal(rotate(images, 0.0), images)


def test_random_angles_stay_in_their_range():
    image = np.zeros((1, 1, 41, 41), np.float32)
    image[0, 0, 20, 30] = 1.0  # a point to the right of the centre shows the angle it was turned by
    for degrees, low, high in ((30, -30, 30), ((10, 20), 10, 20)):
        turned = RandomRotation(degrees, generator=np.random.default_rng(0))(np.repeat(image, 200, axis=0))[:, 0]
        weights = turned / turned.sum((1, 2), keepdims=True)
        y = 20 - (weights.sum(2) * np.arange(41)).sum(1)
        x = (weights.sum(1) * np.arange(41)).sum(1) - 20
        angles = np.rad2deg(np.arctan2(y, x))
        assert low - 2 <= angles.min() < low + 4 and high - 4 < angles.max() <= high + 2
    with pytest.raises(ValueError, match="degrees must be a positive number"):
        RandomRotation(-5)
    with pytest.raises(TypeError, match="expected floating-point data, got uint8"):
        rotate(np.zeros((1, 1, 3, 3), np.uint8), 10.0)


def test_normalize_per_channel():
    images = some_images(4, 3)
    expected = (images - np.array([0.1, 0.2, 0.3], np.float32)[:, None, None]) / np.float32(0.5)
    normalized = Normalize([0.1, 0.2, 0.3], 0.5)(images)
    np.testing.assert_allclose(normalized, expected, rtol=1e-6)
    assert normalized.dtype == np.float32
    np.testing.assert_array_equal(Normalize([0.1, 0.2, 0.3], 0.5)(images[0]), normalized[0])
    assert not Normalize(0.1, 1.0).random
    with pytest.raises(ValueError, match=r"every std must be positive, got \[1.0, 0.0\]"):
        Normalize([0, 0], [1, 0])
    with pytest.raises(ShapeError, match="the data has 3 channels, mean has 2 numbers and std 1"):
        Normalize([0, 0], 1)(images)
    with pytest.raises(TypeError, match="got uint8; for images in 0..255 use"):
        Normalize(0, 1)(np.zeros((1, 1, 2, 2), np.uint8))


@pytest.mark.parametrize("shape", [(50, 3), (50, 3, 4), (50, 3, 4, 5)])
def test_standardize_brings_each_channel_to_mean_0_and_deviation_1(shape):
    samples = np.random.default_rng(0).normal(5.0, 3.0, shape).astype(np.float32)
    samples[:, 1] *= 10
    transform = Standardize().fit(samples)
    scaled = transform(samples)
    axes = tuple(axis for axis in range(samples.ndim) if axis != 1)
    np.testing.assert_allclose(scaled.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axes), 1, rtol=1e-5)
    np.testing.assert_allclose(transform.mean, samples.astype(np.float64).mean(axes))
    np.testing.assert_array_equal(transform(samples[7]), scaled[7])
    fresh = np.ones((2, *shape[1:]), np.float32)
    column = (1, 3) + (1,) * (len(shape) - 2)
    by_hand = (1 - transform.mean.reshape(column)) / transform.std.reshape(column)
    np.testing.assert_allclose(transform(fresh), np.broadcast_to(by_hand, fresh.shape), rtol=1e-5)


def test_standardize_needs_training_data_that_varies():
    constant = np.full((30, 2, 3, 3), 0.1, np.float32)
    constant[:, 1] = some_images(30, 1, 3, 3)[:, 0]
    scaled = Standardize().fit(constant)(constant)
    np.testing.assert_allclose(scaled[:, 0], 0, atol=1e-6)
    assert scaled[:, 1].std() == pytest.approx(1, rel=1e-4)
    with pytest.raises(RuntimeError, match=r"call fit\(training_data\) first"):
        Standardize()(constant)
    with pytest.raises(TypeError, match="got uint8"):
        Standardize().fit(np.zeros((3, 1, 2, 2), np.uint8))
    with pytest.raises(ShapeError, match=r"got \(0, 3\)"):
        Standardize().fit(np.zeros((0, 3)))
    with pytest.raises(ShapeError, match=r"fitted on 4 axes.*got shape \(3, 3\)"):
        Standardize().fit(constant)(np.zeros((3, 3)))
    with pytest.raises(ShapeError, match="the data has 1 channels, mean has 2 numbers"):
        Standardize().fit(constant)(constant[:, :1])


def test_compose_says_whether_it_draws_and_takes_batches():
    assert Compose([Normalize(0, 1), RandomCrop(3)]).random
    assert not Compose([Normalize(0, 1), Standardize()]).random
    assert Compose([Normalize(0, 1), lambda image: image]).random, "a function may draw, so it counts as random"
    assert Compose([Normalize(0, 1), RandomCrop(3)]).batched
    assert not Compose([Normalize(0, 1), lambda image: image]).batched
    images = some_images()
    both = Compose([Normalize(0.5, 0.5), lambda x: x * 2])(images)
    np.testing.assert_array_equal(both, Normalize(0.5, 0.5)(images) * 2)
    assert "RandomCrop(size=(3, 3), padding=1)" in repr(Compose([RandomCrop(3, 1)]))


def test_one_hot():
    rows = one_hot([2, 0, 1], 3)
    np.testing.assert_array_equal(rows, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert rows.dtype == np.float32
    labels = np.random.default_rng(0).integers(0, 5, (4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(one_hot(labels, 5), np.eye(5, dtype=np.float32)[labels])
    assert one_hot(np.zeros(0, int), 4).shape == (0, 4)
    with pytest.raises(ValueError, match=r"label 3 at position 1 is outside 0..2 \(as are 2 of 4 labels\)"):
        one_hot([0, 3, 2, -1], 3)
    with pytest.raises(TypeError, match="labels must be integers, these are float64"):
        one_hot([0.0, 1.0], 2)


def test_a_transform_must_say_what_it_does():
    with pytest.raises(NotImplementedError, match="must define __call__"):
        Transform()(some_images())
    with pytest.raises(NotImplementedError, match="must define augment"):
        RandomTransform()(some_images())
    with pytest.raises(TypeError, match="RandomCrop: generator must be a numpy.random.Generator"):
        RandomCrop(3, generator=1)
