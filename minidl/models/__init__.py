"""Ready-made architectures, one family a file, each a function that returns a model with fresh weights.

`create_model` makes one by its name, with weights from a file if wanted; `registry.py` says how.
"""

from __future__ import annotations

from minidl.models.alexnet import AlexNet, alexnet
from minidl.models.cifar_resnet import CifarResNet, resnet20, resnet32, resnet44, resnet56, resnet110
from minidl.models.cnn import cifar_cnn, mnist_cnn
from minidl.models.efficientnet_lite import EfficientNetLite, efficientnet_lite0
from minidl.models.inception import Inception3, InceptionOutputs, inception_v3
from minidl.models.lenet import LeNet5, lenet5
from minidl.models.mobilenet import MobileNetV2, mobilenet_v2
from minidl.models.registry import create_model, list_models, register_model
from minidl.models.resnet import ResNet, resnet18, resnet34, resnet50, resnet101, resnet152
from minidl.models.vgg import VGG, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn

__all__ = [
    "AlexNet", "CifarResNet", "EfficientNetLite", "Inception3", "InceptionOutputs", "LeNet5", "MobileNetV2", "ResNet",
    "VGG", "alexnet", "cifar_cnn", "create_model", "efficientnet_lite0", "inception_v3", "lenet5", "list_models",
    "mnist_cnn", "mobilenet_v2", "register_model", "resnet101", "resnet110", "resnet152", "resnet18", "resnet20",
    "resnet32", "resnet34", "resnet44", "resnet50", "resnet56", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16",
    "vgg16_bn", "vgg19", "vgg19_bn",
]
