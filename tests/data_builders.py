"""Small data files in the original formats, written by hand, for the tests of `minidl.data`.

The formats: idx (MNIST), CIFAR-10's binary and python batches, .tar.gz of those, and compact .npz shards.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile

import numpy as np


def some_images(count, channels, size, seed=0):
    """Images uint8 (N, C, H, W) that compress well but are all different, and labels (N,) that cover 0..9."""
    generator = np.random.default_rng(seed)
    images = np.zeros((count, channels, size, size), np.uint8)
    images[:, :, 0, :8] = generator.integers(0, 256, (count, channels, 8))
    return images, (np.arange(count) % 10).astype(np.uint8)


def idx(values, magic=None):
    magic = {1: 2049, 3: 2051}[values.ndim] if magic is None else magic
    return struct.pack(f">{1 + values.ndim}I", magic, *values.shape) + values.tobytes()


def write_idx_set(folder, split, count, seed=0, compress=True):
    """A data set of `count` 28x28 images under the official names; returns its images (N, 28, 28) and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = some_images(count, 1, 28, seed)
    prefix = {"train": "train", "test": "t10k"}[split]
    for name, values in ((f"{prefix}-images-idx3-ubyte", images[:, 0]), (f"{prefix}-labels-idx1-ubyte", labels)):
        raw = idx(values)
        (folder / (name + ".gz" * compress)).write_bytes(gzip.compress(raw, 1) if compress else raw)
    return images[:, 0], labels


def cifar_binary(images, labels):
    return np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1).astype(np.uint8).tobytes()


def cifar_python(images, labels):
    """The bytes that Python 2 wrote for {'data': array, 'labels': list, ...} in protocol 2."""

    def text(value):
        if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        return b"T" + struct.pack("<i", len(value)) + value

    def number(value):
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    count = len(labels)
    dtype = b"cnumpy\ndtype\nq\x05" + text(b"u1") + number(0) + number(1) + b"\x87R(" + number(3) + text(b"|") + b"NNN"
    dtype += b"J\xff\xff\xff\xffJ\xff\xff\xff\xff" + number(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04" + number(0) + b"\x85" + text(b"b")
    array += b"\x87R(" + number(1) + number(count) + number(3072) + b"\x86" + dtype + b"\x89"
    array += text(images.reshape(count, -1).tobytes()) + b"tb"
    listed = b"](" + b"".join(number(int(label)) for label in labels) + b"e"
    names = b"](" + b"".join(text(b"image_%d.png" % index) for index in range(count)) + b"e"
    return (b"\x80\x02}q\x01(" + text(b"batch_label") + text(b"testing batch 1 of 1") + text(b"labels") + listed
            + text(b"data") + array + text(b"filenames") + names + b"u.")


def cifar_shard(images, labels):
    """A compact .npz shard: pixels as differences modulo 256, the way the shards were made."""
    planes = images.transpose(1, 0, 2, 3).copy()  # 3, N, 32, 32
    planes[0] -= planes[1]
    planes[2] -= planes[1]
    for axis in (3, 2):
        planes = np.diff(planes, axis=axis, prepend=np.zeros_like(planes.take([0], axis=axis)))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, labels=labels, residual=planes)
    return buffer.getvalue()


def tar_gz(files):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as packed:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
