"""Inception v3: modules of parallel branches, whose results are laid side by side as channels.

27,161,264 parameters, 23,834,568 of them without the auxiliary head. Parameters have torchvision's names, BatchNorm's
eps is 0.001. The long kernels are split (7x7 into 1x7 and 7x1). C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and
Z. Wojna 2016, "Rethinking the Inception architecture for computer vision".
"""

from __future__ import annotations

from typing import NamedTuple

import minidl.nn.functional as F
from minidl import nn, ops
from minidl.models.registry import register_model
from minidl.nn.conv import Sizes
from minidl.tensor import Tensor
from minidl.transfer.structure import register


class InceptionOutputs(NamedTuple):
    """What Inception v3 returns in training: the scores, and those of the auxiliary head."""

    logits: Tensor
    aux_logits: Tensor


@register
class BasicConv2d(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes = 0):
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding = stride, padding
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


@register
class InceptionA(nn.Module):
    """Branches 1x1, 5x5, double 3x3 and pool: (N, in_channels, H, W) -> (N, 224 + pool_features, H, W)."""

    def __init__(self, in_channels: int, pool_features: int):
        self.in_channels, self.pool_features = in_channels, pool_features
        self.branch1x1 = BasicConv2d(in_channels, 64, 1)
        self.branch5x5_1 = BasicConv2d(in_channels, 48, 1)
        self.branch5x5_2 = BasicConv2d(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, padding=1)
        self.branch_pool = BasicConv2d(in_channels, pool_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return ops.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double,
                        self.branch_pool(_average(x))], 1)


@register
class InceptionB(nn.Module):
    """Halves the image by branches 3x3, double 3x3 and pool: (N, in_channels, H, W) -> (N, 480 + in_channels, …)."""

    def __init__(self, in_channels: int):
        self.in_channels = in_channels
        self.branch3x3 = BasicConv2d(in_channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return ops.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


@register
class InceptionC(nn.Module):
    """Branches 1x1, 7x7, double 7x7 and pool: (N, in_channels, H, W) -> (N, 768, H, W)."""

    def __init__(self, in_channels: int, channels_7x7: int):
        self.in_channels, self.channels_7x7 = in_channels, channels_7x7
        row, column = {"kernel_size": (1, 7), "padding": (0, 3)}, {"kernel_size": (7, 1), "padding": (3, 0)}
        self.branch1x1 = BasicConv2d(in_channels, 192, 1)
        self.branch7x7_1 = BasicConv2d(in_channels, channels_7x7, 1)
        self.branch7x7_2 = BasicConv2d(channels_7x7, channels_7x7, **row)
        self.branch7x7_3 = BasicConv2d(channels_7x7, 192, **column)
        self.branch7x7dbl_1 = BasicConv2d(in_channels, channels_7x7, 1)
        self.branch7x7dbl_2 = BasicConv2d(channels_7x7, channels_7x7, **column)
        self.branch7x7dbl_3 = BasicConv2d(channels_7x7, channels_7x7, **row)
        self.branch7x7dbl_4 = BasicConv2d(channels_7x7, channels_7x7, **column)
        self.branch7x7dbl_5 = BasicConv2d(channels_7x7, 192, **row)
        self.branch_pool = BasicConv2d(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return ops.cat([self.branch1x1(x), single, double, self.branch_pool(_average(x))], 1)


@register
class InceptionD(nn.Module):
    """Halves the image by branches 3x3, 7x7 with 3x3 and pool: (N, in_channels, H, W) -> (N, 512 + in_channels, …)."""

    def __init__(self, in_channels: int):
        self.in_channels = in_channels
        self.branch3x3_1 = BasicConv2d(in_channels, 192, 1)
        self.branch3x3_2 = BasicConv2d(192, 320, 3, stride=2)
        self.branch7x7x3_1 = BasicConv2d(in_channels, 192, 1)
        self.branch7x7x3_2 = BasicConv2d(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = BasicConv2d(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = BasicConv2d(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_2(self.branch3x3_1(x))
        double = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return ops.cat([single, double, F.max_pool2d(x, 3, 2)], 1)


@register
class InceptionE(nn.Module):
    """Branches 1x1, split 3x3, double split 3x3 and pool: (N, in_channels, H, W) -> (N, 2048, H, W)."""

    def __init__(self, in_channels: int):
        self.in_channels = in_channels
        row, column = {"kernel_size": (1, 3), "padding": (0, 1)}, {"kernel_size": (3, 1), "padding": (1, 0)}
        self.branch1x1 = BasicConv2d(in_channels, 320, 1)
        self.branch3x3_1 = BasicConv2d(in_channels, 384, 1)
        self.branch3x3_2a = BasicConv2d(384, 384, **row)
        self.branch3x3_2b = BasicConv2d(384, 384, **column)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 448, 1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = BasicConv2d(384, 384, **row)
        self.branch3x3dbl_3b = BasicConv2d(384, 384, **column)
        self.branch_pool = BasicConv2d(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return ops.cat([
            self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(_average(x)),
        ], 1)


@register
class InceptionAux(nn.Module):
    """The auxiliary head, which brings a gradient into the middle: (N, in_channels, 17, 17) -> (N, num_classes)."""

    def __init__(self, in_channels: int, num_classes: int):
        self.in_channels, self.num_classes = in_channels, num_classes
        self.conv0 = BasicConv2d(in_channels, 128, 1)
        self.conv1 = BasicConv2d(128, 768, 5)
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(self.conv0(F.avg_pool2d(x, 5, 3)))  # N, 768, 1, 1
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1)


@register
class Inception3(nn.Module):
    """Scores (N, num_classes) of images (N, 3, 299, 299); without the auxiliary head 75 pixels a side are enough.

    In training with aux_logits it returns `InceptionOutputs(logits, aux_logits)`, whose losses are added with weights 1
    and 0.3 or so. transform_input: the images are normalised by ImageNet's means and deviations, while the weights
    expect (x - 0.5) / 0.5, as Google's do.
    """

    auxiliary_heads = ("AuxLogits.fc",)

    def __init__(self, num_classes: int = 1000, aux_logits: bool = True, transform_input: bool = False,
                 dropout: float = 0.5):
        self.num_classes, self.aux_logits, self.transform_input = num_classes, aux_logits, transform_input
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128)
        self.Mixed_6c = InceptionC(768, 160)
        self.Mixed_6d = InceptionC(768, 160)
        self.Mixed_6e = InceptionC(768, 192)
        self.AuxLogits = InceptionAux(768, num_classes) if aux_logits else None
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280)
        self.Mixed_7c = InceptionE(2048)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, num_classes)
        for name, module in self.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.001 if name == "AuxLogits.fc" else 0.1)

    def config(self) -> dict:
        return {"num_classes": self.num_classes, "aux_logits": self.AuxLogits is not None,
                "transform_input": self.transform_input, "dropout": self.dropout.p}

    def forward(self, x: Tensor) -> Tensor | InceptionOutputs:
        if self.transform_input:
            x = self._transform(x)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # N, 64, 147, 147
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.maxpool1(x)))  # N, 192, 71, 71
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(self.maxpool2(x))))  # N, 288, 35, 35
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # N, 768, 17, 17
        auxiliary = self.AuxLogits(x) if self.training and self.AuxLogits is not None else None
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # N, 2048, 8, 8
        x = self.fc(self.dropout(self.avgpool(x)).flatten(1))
        return x if auxiliary is None else InceptionOutputs(x, auxiliary)

    def _transform(self, x: Tensor) -> Tensor:
        mean, std = (ops.reshape(Tensor(values), (3, 1, 1)).to(x.dtype) for values in (_MEAN, _STD))
        return (x * std + mean - 0.5) / 0.5


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images

inception_v3 = register_model("inception_v3", Inception3)
