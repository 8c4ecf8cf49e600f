"""The image sets: what is known of the official data, the embedded subset, where files are searched, subsets."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from data_builders import cifar_binary, cifar_python, cifar_shard, some_images, tar_gz, write_idx_set

import minidl.data.places
from minidl.data import (
    Compose,
    DataLoader,
    ImageDataset,
    Normalize,
    RandomHorizontalFlip,
    cache_folder,
    cifar10,
    fashion_mnist,
    mnist,
)
from minidl.errors import DataNotFoundError, FileFormatError, ShapeError

OFFICIAL = os.environ.get("MINIDL_DATA")
EMBEDDED = Path(minidl.data.places.__file__).parent / "embedded"
needs_official = pytest.mark.skipif(not OFFICIAL, reason="MINIDL_DATA is not set")

# Per set: the loader, the split, images, label counts, channel means and deviations, the first labels.
DIGITS_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
DIGITS_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
FACTS = [
    (mnist, "train", 60000, DIGITS_TRAIN, [0.1307], [0.3081], [5, 0, 4, 1, 9, 2, 1, 3]),
    (mnist, "test", 10000, DIGITS_TEST, [0.1325], [0.3105], [7, 2, 1, 0]),
    (fashion_mnist, "train", 60000, [6000] * 10, [0.2860], [0.3530], [9, 0, 0, 3, 0, 2, 7, 2]),
    (fashion_mnist, "test", 10000, [1000] * 10, [0.2868], [0.3524], [9, 2, 1, 1]),
    (cifar10, "train", 50000, [5000] * 10, [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616], []),
    (cifar10, "test", 10000, [1000] * 10, [0.4942, 0.4851, 0.4504], None, []),
]


@needs_official
@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact[0].__name__}-{fact[1]}")
def test_the_official_data_is_what_is_known_of_it(fact):
    load, split, count, per_class, means, deviations, first = fact
    dataset = load(split)
    assert dataset.complete and len(dataset) == count
    assert dataset.images.dtype == np.uint8 and dataset.labels.dtype == np.int64
    assert np.bincount(dataset.labels).tolist() == per_class
    if load is not cifar10 or not Path(OFFICIAL, "cifar10", "train_1.npz").exists():
        assert dataset.labels[: len(first)].tolist() == first
    pixels = dataset.images
    np.testing.assert_allclose(pixels.mean((0, 2, 3)) / 255, means, atol=6e-5)
    if deviations:
        np.testing.assert_allclose(pixels.std((0, 2, 3)) / 255, deviations, atol=6e-5)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No MINIDL_DATA and an empty cache folder."""
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_the_embedded_subset_is_balanced_and_says_what_it_is(nowhere, load):
    for split, count in (("train", 6000), ("test", 1000)):
        dataset = load(split)
        assert not dataset.complete and "embedded subset" in dataset.source
        assert dataset.images.shape == (count, 1, 28, 28)
        assert np.bincount(dataset.labels).tolist() == [count // 10] * 10
        assert len(np.unique(dataset.images.reshape(count, -1), axis=0)) >= count - 1
    mean = {mnist: 0.1307, fashion_mnist: 0.2860}[load]
    assert load("train").images.mean() / 255 == pytest.approx(mean, abs=0.003)


@needs_official
@pytest.mark.parametrize("load", [mnist, fashion_mnist])
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_embedded_image_is_an_official_one_with_its_label(monkeypatch, tmp_path, load, split):
    official = load(split)
    known = {(image.tobytes(), label) for image, label in zip(official.images, official.labels.tolist())}
    monkeypatch.delenv("MINIDL_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    embedded = load(split)
    assert "embedded" in embedded.source
    assert all((image.tobytes(), label) in known for image, label in zip(embedded.images, embedded.labels.tolist()))


def test_the_embedded_files_are_small_and_licensed():
    files = list(EMBEDDED.rglob("*.gz"))
    assert len(files) == 12 and sum(file.stat().st_size for file in files) < 6e6
    text = (EMBEDDED / "LICENSES.md").read_text(encoding="utf-8")
    for phrase in ("CC BY-SA 3.0", "Yann LeCun", "2017 Zalando SE", "WITHOUT WARRANTY OF ANY KIND",
                   "CC BY 4.0", "Bo Pang and Lillian Lee", "Tiago A. Almeida", "public domain"):
        assert phrase in text


def test_places_are_searched_in_order(nowhere, monkeypatch):
    counts = {"root": 11, "variable": 12, "cache/minidl": 13}
    for place, count in counts.items():
        write_idx_set(nowhere / place / "mnist", "train", count)
    root = nowhere / "root"
    monkeypatch.setenv("MINIDL_DATA", str(nowhere / "variable"))
    assert len(mnist(root=root)) == 11 and mnist(root=root).source.startswith("root: ")
    assert len(mnist(root=nowhere / "nothing")) == 12
    assert len(mnist()) == 12 and mnist().source.startswith("MINIDL_DATA: ")
    monkeypatch.delenv("MINIDL_DATA")
    assert len(mnist()) == 13 and mnist().source.startswith("cache folder: ")
    assert not mnist().complete
    assert len(mnist("test")) == 1000, "the embedded subset, split by split"


def test_nothing_found_names_the_places_and_the_command(nowhere, monkeypatch):
    monkeypatch.setenv("MINIDL_DATA", str(nowhere / "data"))
    with pytest.raises(DataNotFoundError) as raised:
        cifar10("test", root=nowhere / "root")
    for phrase in ("cifar10: no test files", str(nowhere / "root" / "cifar10"), str(nowhere / "data" / "cifar10"),
                   str(nowhere / "cache" / "minidl" / "cifar10"), "minidl data get cifar10"):
        assert phrase in str(raised.value)


def test_the_embedded_subset_does_not_stand_in_for_a_root_that_was_asked_for(nowhere):
    with pytest.raises(DataNotFoundError, match="minidl data get mnist"):
        mnist(root=nowhere)


def test_a_variable_that_points_nowhere_is_warned_about(nowhere, monkeypatch):
    monkeypatch.setenv("MINIDL_DATA", str(nowhere / "typo"))
    with pytest.warns(UserWarning, match="typo has no folder 'mnist' with the train files; using the embedded subset"):
        assert len(mnist()) == 6000


def test_the_cache_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/minidl")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == Path("/home/someone/.cache/minidl")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path("/home/someone/Library/Caches/minidl")


@pytest.mark.parametrize("compress", [True, False])
def test_idx_files_are_read_compressed_and_plain(tmp_path, compress):
    images, labels = write_idx_set(tmp_path / "mnist", "test", 30, compress=compress)
    dataset = mnist("test", root=tmp_path)
    np.testing.assert_array_equal(dataset.images, images[:, None])
    np.testing.assert_array_equal(dataset.labels, labels)


def test_a_set_with_a_file_missing_or_of_another_set(tmp_path):
    write_idx_set(tmp_path / "mnist", "train", 30)
    labels = tmp_path / "mnist" / "train-labels-idx1-ubyte.gz"
    write_idx_set(tmp_path / "other", "train", 20)
    labels.write_bytes((tmp_path / "other" / labels.name).read_bytes())
    with pytest.raises(FileFormatError, match="20 labels for 30 images; the files do not belong together"):
        mnist(root=tmp_path)
    labels.unlink()
    with pytest.raises(DataNotFoundError, match="has train-images-idx3-ubyte.gz but not train-labels-idx1-ubyte"):
        mnist(root=tmp_path)


def test_every_form_of_cifar_is_found_and_gives_the_same_images(tmp_path):
    images, labels = some_images(10000, 3, 32)
    forms = {
        "cifar-10-batches-bin/test_batch.bin": cifar_binary(images, labels),
        "cifar-10-binary.tar.gz": tar_gz({"cifar-10-batches-bin/test_batch.bin": cifar_binary(images, labels)}),
        "cifar-10-batches-py/test_batch": cifar_python(images, labels),
        "cifar-10-python.tar.gz": tar_gz({"cifar-10-batches-py/test_batch": cifar_python(images, labels)}),
        "test.npz": cifar_shard(images, labels),
    }
    for number, (name, content) in enumerate(forms.items()):
        path = tmp_path / str(number) / "cifar10" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        dataset = cifar10("test", root=tmp_path / str(number))
        assert dataset.complete and Path(name).name in dataset.source
        np.testing.assert_array_equal(dataset.images, images)
        np.testing.assert_array_equal(dataset.labels, labels)


def test_cifar_shards_may_be_some_of_the_five_but_batches_must_be_all(tmp_path):
    folder = tmp_path / "cifar10"
    folder.mkdir()
    for number in (2, 4):
        (folder / f"train_{number}.npz").write_bytes(cifar_shard(*some_images(20, 3, 32, seed=number)))
    dataset = cifar10(root=tmp_path)
    assert len(dataset) == 40 and not dataset.complete and "train_2.npz, train_4.npz" in dataset.source
    other = tmp_path / "other" / "cifar10" / "cifar-10-batches-bin"
    other.mkdir(parents=True)
    (other / "data_batch_2.bin").write_bytes(b"")
    with pytest.raises(DataNotFoundError, match="lacks data_batch_1.bin, data_batch_3.bin"):
        cifar10(root=tmp_path / "other")


def test_an_unknown_split(nowhere):
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'valid'"):
        mnist("valid")


def uneven():
    """90 images of three classes with 60, 20 and 10 members, in mixed order."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [60, 20, 10]))
    return ImageDataset(np.arange(90, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3), np.uint8), labels,
                        ["cat", "dog", "owl"], name="animals")


def test_items_and_batches_are_the_same_floats():
    dataset = uneven()
    image, label = dataset[4]
    assert image.dtype == np.float32 and image.shape == (1, 2, 3) and type(label) is int
    np.testing.assert_array_equal(image, np.full((1, 2, 3), np.float32(4) / np.float32(255)))
    x, y = next(iter(DataLoader(dataset, 90)))
    assert x.dtype == np.float32 and y.dtype == np.int64
    np.testing.assert_array_equal(x.array, np.stack([item for item, _ in dataset]))
    np.testing.assert_array_equal(y.array, [label for _, label in dataset])
    everything, labels = dataset.arrays()
    np.testing.assert_array_equal(everything, x.array)
    np.testing.assert_array_equal(labels, y.array)
    assert everything.min() == 0 and ImageDataset(dataset.images + 165, dataset.labels, "abc").arrays()[0].max() < 1
    with pytest.raises(IndexError):
        dataset[90]


def test_transforms_are_applied_to_batches_or_image_by_image():
    dataset = uneven()
    plain = dataset.arrays()[0]
    dataset.transform = Normalize(0.5, 0.25)
    assert not dataset.random
    np.testing.assert_allclose(next(iter(DataLoader(dataset, 90)))[0].array, (plain - 0.5) / 0.25, rtol=1e-6)
    np.testing.assert_allclose(dataset[7][0], (plain[7] - 0.5) / 0.25, rtol=1e-6)
    np.testing.assert_array_equal(dataset.arrays()[0], plain)
    shapes = []
    dataset.transform = lambda image: shapes.append(image.shape) or image[:, ::-1]
    np.testing.assert_array_equal(next(iter(DataLoader(dataset, 5)))[0].array, plain[:5, :, ::-1])
    assert shapes == [(1, 2, 3)] * 5
    dataset.transform = Compose([RandomHorizontalFlip(), Normalize(0, 1)])
    assert dataset.random


def test_balanced_subsets_for_few_labels():
    dataset = uneven()
    drawn = dataset.balanced(11, np.random.default_rng(1))
    assert np.bincount(drawn.labels).tolist() == [4, 4, 3]
    again = dataset.balanced(11, np.random.default_rng(1))
    np.testing.assert_array_equal(again.images, drawn.images)
    assert (dataset.balanced(11, np.random.default_rng(2)).images != drawn.images).any()
    assert not drawn.complete and drawn.classes == dataset.classes and drawn.name == "animals"
    order = drawn.images[:, 0, 0, 0]
    assert (np.diff(order.astype(int)) > 0).all(), "file order, without repeats"
    np.testing.assert_array_equal(drawn.labels, dataset.labels[order])
    assert np.bincount(dataset.balanced(0.1).labels).tolist() == [6, 2, 1]
    assert np.bincount(dataset.balanced(0.01).labels).tolist() == [1, 1, 1]
    assert len(dataset.balanced(1.0)) == 90 and dataset.balanced(1.0).complete


def test_the_first_of_each_class_are_always_the_same(nowhere):
    dataset = uneven()
    first = dataset.first(6)
    for label in range(3):
        members = np.flatnonzero(dataset.labels == label)[:2]
        assert set(members) <= set(first.images[:, 0, 0, 0])
    part = mnist(subset=50)
    np.testing.assert_array_equal(part.images, mnist().first(50).images)
    assert np.bincount(part.labels).tolist() == [5] * 10
    drawn = mnist(subset=0.01, generator=np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.images, mnist().balanced(0.01, np.random.default_rng(0)).images)
    assert len(drawn) == 60 and (drawn.images != mnist(subset=0.01).images).any()


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (33, r"33 balanced images need 11 of class 2 \(owl\), which has 10; at most 30 can be balanced"),
        (2, "at least 3, one image per class"),
        (True, "at least 3"),
        (1.5, "above 0 and at most 1, got 1.5; for a number of images give an integer"),
        (0.0, "above 0"),
    ],
)
def test_subsets_that_cannot_be(count, message):
    with pytest.raises(ValueError, match=message):
        uneven().balanced(count)


def test_a_split_keeps_the_classes_shares():
    dataset = uneven()
    training, validation = dataset.split(0.3, np.random.default_rng(0))
    assert np.bincount(validation.labels).tolist() == [18, 6, 3]
    values = np.concatenate([training.images, validation.images])[:, 0, 0, 0]
    assert sorted(values) == list(range(90))
    other = dataset.split(0.3, np.random.default_rng(1))[1]
    assert (other.images != validation.images).any()
    for fraction in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            dataset.split(fraction)
    with pytest.raises(ValueError, match="leaves a part empty"):
        dataset.split(0.001)


def test_images_and_labels_that_do_not_fit():
    images = np.zeros((3, 1, 2, 2), np.uint8)
    with pytest.raises(ShapeError, match=r"uint8 \(N, C, H, W\), got uint8 \(3, 2, 2\); grey images need a channel"):
        ImageDataset(images[:, 0], [0, 1, 2], "abc")
    with pytest.raises(ShapeError, match="got float32"):
        ImageDataset(images.astype(np.float32), [0, 1, 2], "abc")
    with pytest.raises(ShapeError, match=r"3 images need labels of shape \(3,\), got \(2,\)"):
        ImageDataset(images, [0, 1], "abc")
    with pytest.raises(ValueError, match="label 3 of image 1 is outside 0..2"):
        ImageDataset(images, [0, 3, 1], "abc")
    with pytest.raises(TypeError, match="labels must be integers, got float64"):
        ImageDataset(images, [0.0, 1.0, 2.0], "abc")


def test_the_description_names_the_source(nowhere):
    text = repr(mnist("test"))
    assert "mnist test: 1,000 images 1x28x28, a part, from embedded subset: " in text
