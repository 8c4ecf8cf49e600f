"""Ready-made architectures, one family a file: networks with fresh weights, and those with weights of a checkpoint.

`create_model` makes an image classifier by its name, with weights from a file if wanted; `registry.py` says how.
"""

from __future__ import annotations

from minidl.models.alexnet import AlexNet, alexnet
from minidl.models.bert import BertModel, BertOutput
from minidl.models.bert_files import bert_folder, bert_from_pretrained
from minidl.models.bert_heads import BertForMaskedLM, SentenceEncoder
from minidl.models.cifar_resnet import CifarResNet, resnet20, resnet32, resnet44, resnet56, resnet110
from minidl.models.cnn import cifar_cnn, mnist_cnn
from minidl.models.efficientnet_lite import EfficientNetLite, efficientnet_lite0
from minidl.models.gpt import GPT
from minidl.models.inception import Inception3, InceptionOutputs, inception_v3
from minidl.models.lenet import LeNet5, lenet5
from minidl.models.mobilenet import MobileNetV2, mobilenet_v2
from minidl.models.registry import create_model, list_models, register_model
from minidl.models.resnet import ResNet, resnet18, resnet34, resnet50, resnet101, resnet152
from minidl.models.text import RecurrentClassifier
from minidl.models.vgg import VGG, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn
from minidl.models.word2vec import SkipGram, nearest

__all__ = [
    "AlexNet", "BertForMaskedLM", "BertModel", "BertOutput", "CifarResNet", "EfficientNetLite", "GPT", "Inception3",
    "InceptionOutputs", "LeNet5", "MobileNetV2", "RecurrentClassifier", "ResNet", "SentenceEncoder", "SkipGram",
    "VGG", "alexnet", "bert_folder", "bert_from_pretrained", "cifar_cnn", "create_model", "efficientnet_lite0",
    "inception_v3", "lenet5", "list_models", "mnist_cnn", "mobilenet_v2", "nearest", "register_model", "resnet101",
    "resnet110", "resnet152", "resnet18", "resnet20", "resnet32", "resnet34", "resnet44", "resnet50", "resnet56",
    "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
]
