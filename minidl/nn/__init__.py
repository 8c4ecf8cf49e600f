"""Layers, containers and losses under PyTorch's names; `module.py` is the one to read first."""

from __future__ import annotations

from typing import Any

from minidl.nn import functional, init, utils
from minidl.nn.activation import (
    ELU, GELU, SELU, LeakyReLU, LogSigmoid, LogSoftmax, Mish, PReLU, ReLU, ReLU6, Sigmoid, SiLU, Softmax, Softplus,
    Tanh,
)
from minidl.nn.attention import KeyValueCache, MultiheadAttention
from minidl.nn.cells import GRUCell, LSTMCell, RNNCell
from minidl.nn.container import ModuleDict, ModuleList, Sequential
from minidl.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from minidl.nn.dropout import Dropout, Dropout2d
from minidl.nn.embedding import Embedding
from minidl.nn.hints import missing_layer
from minidl.nn.linear import Identity, Linear
from minidl.nn.loss import (
    BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, KLDivLoss, L1Loss, MSELoss, NLLLoss, SmoothL1Loss,
)
from minidl.nn.module import Module, Parameter
from minidl.nn.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from minidl.nn.pool import (
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AvgPool1d, AvgPool2d, MaxPool1d,
    MaxPool2d,
)
from minidl.nn.position import LearnedPosition, SinusoidalPosition
from minidl.nn.recurrent import GRU, LSTM, RNN
from minidl.nn.resize import Upsample
from minidl.nn.sequence_loss import MaskedCrossEntropyLoss
from minidl.nn.shape import Flatten, Unflatten
from minidl.nn.transformer import TransformerEncoder, TransformerEncoderLayer

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AvgPool1d", "AvgPool2d",
    "BCELoss", "BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d", "Conv1d", "Conv2d", "ConvTranspose1d",
    "ConvTranspose2d", "CrossEntropyLoss", "Dropout", "Dropout2d", "ELU", "Embedding", "Flatten", "GELU", "GRU",
    "GRUCell", "GroupNorm", "HuberLoss", "Identity", "KLDivLoss", "KeyValueCache", "L1Loss", "LSTM", "LSTMCell",
    "LayerNorm", "LeakyReLU", "LearnedPosition", "Linear", "LogSigmoid", "LogSoftmax", "MSELoss",
    "MaskedCrossEntropyLoss", "MaxPool1d", "MaxPool2d", "Mish", "Module", "ModuleDict", "ModuleList",
    "MultiheadAttention", "NLLLoss", "PReLU", "Parameter", "RNN", "RNNCell", "ReLU", "ReLU6", "SELU", "Sequential",
    "SiLU", "Sigmoid", "SinusoidalPosition", "SmoothL1Loss", "Softmax", "Softplus", "Tanh", "TransformerEncoder",
    "TransformerEncoderLayer", "Unflatten", "Upsample", "functional", "init", "utils",
]


def __getattr__(name: str) -> Any:
    raise missing_layer(__name__, name, __all__)
