"""Ready-made architectures, one family a file; each is a function that returns a model with fresh weights."""

from __future__ import annotations

from minidl.models.cnn import cifar_cnn, mnist_cnn

__all__ = ["cifar_cnn", "mnist_cnn"]
