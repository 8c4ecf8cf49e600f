"""The small convolutional networks of the lessons, each a plain Sequential of "features" and "classifier".

Cut at "features" for the flattened output of the convolutions (N, 1600); the head is "classifier.output", and
`minidl.transfer.headless` gives what it is given (N, hidden).
"""

from __future__ import annotations

from minidl import nn
from minidl.models.registry import register_model


def mnist_cnn(num_classes: int = 10, hidden: int = 64, in_channels: int = 1) -> nn.Sequential:
    """Two 3x3 convolutions (32, 64), each with ReLU and 2x2 pooling, then two dense layers.

    Shapes: (N, C, 28, 28) -> (N, 32, 26, 26) -> (N, 32, 13, 13) -> (N, 64, 11, 11) -> (N, 64, 5, 5) -> (N, 1600)
    -> (N, hidden) -> (N, num_classes).
    121,930 parameters for 10 classes and one channel; 225,034 with hidden=128.
    """
    return nn.Sequential({
        "features": nn.Sequential({
            "conv1": nn.Conv2d(in_channels, 32, 3),
            "relu1": nn.ReLU(),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(32, 64, 3),
            "relu2": nn.ReLU(),
            "pool2": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
        }),
        "classifier": _classifier(64 * 5 * 5, hidden, num_classes),
    })


def cifar_cnn(num_classes: int = 10, hidden: int = 64, in_channels: int = 3) -> nn.Sequential:
    """Three 3x3 convolutions (32, 64, 64) with ReLU, pooled after the first two, then two dense layers.

    Shapes: (N, C, 32, 32) -> (N, 32, 30, 30) -> (N, 32, 15, 15) -> (N, 64, 13, 13) -> (N, 64, 6, 6) -> (N, 64, 4, 4)
    -> (N, 1024) -> (N, hidden) -> (N, num_classes).
    122,570 parameters for 10 classes and three channels.
    """
    return nn.Sequential({
        "features": nn.Sequential({
            "conv1": nn.Conv2d(in_channels, 32, 3),
            "relu1": nn.ReLU(),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(32, 64, 3),
            "relu2": nn.ReLU(),
            "pool2": nn.MaxPool2d(2),
            "conv3": nn.Conv2d(64, 64, 3),
            "relu3": nn.ReLU(),
            "flatten": nn.Flatten(),
        }),
        "classifier": _classifier(64 * 4 * 4, hidden, num_classes),
    })


def _classifier(inputs: int, hidden: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential({
        "dense": nn.Linear(inputs, hidden),
        "relu": nn.ReLU(),
        "output": nn.Linear(hidden, num_classes),
    })


register_model("mnist_cnn", mnist_cnn)
register_model("cifar_cnn", cifar_cnn)
