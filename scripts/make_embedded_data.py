"""Make the subset of MNIST and Fashion-MNIST that comes with minidl, from the complete official files.

    python scripts/make_embedded_data.py FOLDER

FOLDER holds `mnist/` and `fashion_mnist/` with the four official idx files each. For every class 600 training and 100
test images are drawn with a fixed seed, kept in file order, and written as idx files of the same names and format,
gzipped, into minidl/data/embedded/. The same seed and files give the same images; `tests/test_data_vision.py` checks
that every embedded image is one of the official ones.
"""

from __future__ import annotations

import argparse
import gzip
import struct
from pathlib import Path

import numpy as np

from minidl.data.files import IDX_IMAGES, IDX_LABELS
from minidl.data.images import ImageDataset
from minidl.data.places import EMBEDDED
from minidl.data.vision import fashion_mnist, mnist

SEED = 20240
COUNTS = {"train": 6000, "test": 1000}
PREFIXES = {"train": "train", "test": "t10k"}


def write_idx(path: Path, magic: int, values: np.ndarray) -> None:
    """Write uint8 values as a gzipped idx file whose bytes do not depend on the time or the file's name."""
    header = struct.pack(f">{1 + values.ndim}I", magic, *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes(), 9, mtime=0))


def write_subset(dataset: ImageDataset, folder: Path, split: str) -> None:
    part = dataset.balanced(COUNTS[split], np.random.default_rng(SEED))
    folder.mkdir(parents=True, exist_ok=True)
    write_idx(folder / f"{PREFIXES[split]}-images-idx3-ubyte.gz", IDX_IMAGES, part.images[:, 0])
    write_idx(folder / f"{PREFIXES[split]}-labels-idx1-ubyte.gz", IDX_LABELS, part.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the image subset that comes with minidl.")
    parser.add_argument("folder", type=Path, help="the folder with mnist/ and fashion_mnist/")
    folder = parser.parse_args().folder
    for load in (mnist, fashion_mnist):
        for split in COUNTS:
            dataset = load(split, root=folder)
            if not dataset.complete:
                parser.error(f"{dataset} is not complete")
            write_subset(dataset, EMBEDDED / load.__name__, split)
    files = sorted(EMBEDDED.glob("*/*.gz"))
    print(f"{len(files)} files, {sum(file.stat().st_size for file in files):,} bytes in {EMBEDDED}")


if __name__ == "__main__":
    main()
