"""Data: sets and loaders (PyTorch's words), augmentation, and the real image sets minidl learns from.

Read `datasets.py` (what a data set is), `loader.py` (batches), `transforms.py` (augmentation), then `vision.py`
(MNIST, Fashion-MNIST, CIFAR-10 from files) and `download.py` (getting those files).
"""

from minidl.data.datasets import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from minidl.data.download import DownloadError, get
from minidl.data.images import ImageDataset
from minidl.data.loader import DataLoader, default_collate
from minidl.data.places import cache_folder
from minidl.data.transforms import (
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
from minidl.data.vision import cifar10, fashion_mnist, mnist

__all__ = [
    "Compose",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DownloadError",
    "ImageDataset",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomTransform",
    "RandomVerticalFlip",
    "Standardize",
    "Subset",
    "TensorDataset",
    "Transform",
    "cache_folder",
    "cifar10",
    "default_collate",
    "fashion_mnist",
    "get",
    "mnist",
    "one_hot",
    "random_split",
    "rotate",
]
