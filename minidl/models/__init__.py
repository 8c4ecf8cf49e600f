"""Ready-made architectures, one family a file: functions and classes that make a model with fresh weights."""

from __future__ import annotations

from minidl.models.cnn import cifar_cnn, mnist_cnn
from minidl.models.text import RecurrentClassifier
from minidl.models.word2vec import SkipGram, nearest

__all__ = ["RecurrentClassifier", "SkipGram", "cifar_cnn", "mnist_cnn", "nearest"]
