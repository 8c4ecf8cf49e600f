"""Data: sets and loaders (PyTorch's words), augmentation, and the real images and texts minidl learns from.

Read `datasets.py` (what a data set is), `loader.py` (batches), `transforms.py` (augmentation), then `vision.py`
(MNIST, Fashion-MNIST, CIFAR-10 from files), `text.py` (rt-polarity, SMS spam, tinyshakespeare) and `download.py`
(getting those files). Texts become batches in `tokenizer.py`, `subwords.py`, `vocabulary.py` and
`sequences.py`.
"""

from minidl.data.datasets import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from minidl.data.download import DownloadError, get
from minidl.data.images import ImageDataset
from minidl.data.loader import DataLoader, default_collate
from minidl.data.places import cache_folder
from minidl.data.sequences import BucketBatchSampler, SequenceDataset, length_mask, pad_sequences
from minidl.data.skipgram import SkipGrams
from minidl.data.subwords import BPETokenizer, SubwordTokenizer, WordPieceTokenizer
from minidl.data.text import rt_polarity, sms_spam, tinyshakespeare
from minidl.data.texts import Corpus, TextDataset
from minidl.data.tokenizer import CharTokenizer, WordTokenizer
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
from minidl.data.vocabulary import Vocabulary

__all__ = [
    "BPETokenizer",
    "BucketBatchSampler",
    "CharTokenizer",
    "Compose",
    "ConcatDataset",
    "Corpus",
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
    "SequenceDataset",
    "SkipGrams",
    "Standardize",
    "Subset",
    "SubwordTokenizer",
    "TensorDataset",
    "TextDataset",
    "Transform",
    "Vocabulary",
    "WordPieceTokenizer",
    "WordTokenizer",
    "cache_folder",
    "cifar10",
    "default_collate",
    "fashion_mnist",
    "get",
    "length_mask",
    "mnist",
    "one_hot",
    "pad_sequences",
    "random_split",
    "rotate",
    "rt_polarity",
    "sms_spam",
    "tinyshakespeare",
]
