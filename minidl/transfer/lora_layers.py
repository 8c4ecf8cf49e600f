"""Layers with a low-rank adapter beside their weight W: they compute with W + (alpha / rank) B A.

Each is a subclass of the layer that it stands for, with the same parameters under the same names and two small layers
more, `lora_A` and `lora_B`, called as in peft. B starts at zero, so that the layer first computes what it did before.
`lora.py` puts them into a network.
Hu et al. 2021, "LoRA: low-rank adaptation of large language models".
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from minidl import nn, ops
from minidl.nn import init
from minidl.nn.conv import Sizes
from minidl.nn.module import Module
from minidl.tensor import Tensor
from minidl.transfer.structure import register

Layer = TypeVar("Layer", bound=Module)


class Adapted(Module):
    """What the layers with an adapter share: `rank`, `alpha`, and the product of the two small layers."""

    plain: type[Module]  # the class of the layer without its adapter
    adapted = "weight"  # the parameter that the adapter stands beside
    OWN = ("rank", "alpha", "lora_dropout", "lora_A", "lora_B")
    rank: int
    alpha: float
    lora_A: Module
    lora_B: Module
    lora_dropout: nn.Dropout | None

    @property
    def scaling(self) -> float:
        return self.alpha / self.rank

    @property
    def base(self) -> nn.Parameter:
        """The parameter W."""
        return getattr(self, self.adapted)

    def _attach(self, rank: int, alpha: float, dropout: float, generator: np.random.Generator | None = None) -> None:
        """Make A as a fresh layer starts and B zero, of the weight's dtype."""
        problem = unfit(self, rank, dropout)
        if problem:
            raise ValueError(f"{type(self).__name__}: {problem}")
        self.rank, self.alpha = rank, alpha
        self.lora_dropout = nn.Dropout(dropout, generator=generator) if dropout else None
        with init.skipped():
            self.lora_A, self.lora_B = self._pair(rank)
        init.kaiming_uniform_(self.lora_A.weight, a=5**0.5, generator=generator)
        self.lora_B.weight.array[...] = 0

    def _pair(self, rank: int) -> tuple[Module, Module]:
        outputs, inputs = self.base.shape
        return (nn.Linear(inputs, rank, bias=False, dtype=self.base.dtype),
                nn.Linear(rank, outputs, bias=False, dtype=self.base.dtype))

    def _low_rank(self, x: Tensor) -> Tensor:
        """(alpha / rank) B A x: scaled where it is small."""
        x = x if self.lora_dropout is None else self.lora_dropout(x)
        return self.lora_B(ops.mul(self.lora_A(x), self.scaling))

    def delta(self) -> np.ndarray:
        """(alpha / rank) B A as float64, in the shape of W."""
        a, b = (layer.weight.array.astype(np.float64) for layer in (self.lora_A, self.lora_B))
        product = b.reshape(len(b), self.rank) @ a.reshape(self.rank, -1)
        return (self.scaling * product).reshape(self.base.shape)

    def merged(self) -> np.ndarray:
        """W + (alpha / rank) B A, summed in float64 and rounded once to W's dtype."""
        return (self.base.array.astype(np.float64) + self.delta()).astype(self.base.dtype)

    def config(self) -> dict[str, Any]:
        dropout = 0.0 if self.lora_dropout is None else self.lora_dropout.p
        values = {name: value for name, value in self.without_adapter().config().items() if name != "groups"}
        return {**values, "rank": self.rank, "alpha": self.alpha, "lora_dropout": dropout}

    def without_adapter(self) -> Module:
        """The plain layer with the same parameters."""
        layer = as_class(self, self.plain)
        for name in Adapted.OWN:
            vars(layer).pop(name, None)
        return layer

    def extra_repr(self) -> str:
        return f"{self.without_adapter().extra_repr()}, rank={self.rank}, alpha={self.alpha:g}"

    def __repr__(self) -> str:
        dropout = "" if self.lora_dropout is None else f", lora_dropout={self.lora_dropout.p:g}"
        return f"{type(self).__name__}({self.extra_repr()}{dropout})"


@register
class LoRALinear(Adapted, nn.Linear):
    """y = x W^T + b + (alpha / rank) D(x) A^T B^T for x (..., I): (..., O).

    weight W (O, I), bias b (O,), lora_A.weight (rank, I), lora_B.weight (O, rank); D is dropout, in training.
    Raises ValueError for a rank that is below 1 or above O or I.
    """

    plain = nn.Linear

    def __init__(self, in_features: int, out_features: int, bias: bool = True, rank: int = 8, alpha: float = 16.0,
                 lora_dropout: float = 0.0, device: Any = None, dtype: Any = None):
        nn.Linear.__init__(self, in_features, out_features, bias, dtype=dtype)
        self._attach(rank, alpha, lora_dropout)

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        y = ops.add(ops.linear(x, self.weight, self.bias), self._low_rank(x))
        return ops.relu(y) if relu else y


@register
class LoRAConv2d(Adapted, nn.Conv2d):
    """conv2d(x, W) + b + (alpha / rank) conv2d(conv2d(D(x), A), B) for x (N, C, H, W).

    lora_A is a convolution to `rank` channels with the layer's kernel, stride, padding and dilation, lora_B one with a
    1x1 kernel from there; together a convolution whose weight is sum_r B[o, r] A[r, i, kh, kw]. Without groups.
    """

    plain = nn.Conv2d

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1,
                 padding: Sizes | str = 0, dilation: Sizes = 1, bias: bool = True, padding_mode: str = "zeros",
                 rank: int = 8, alpha: float = 16.0, lora_dropout: float = 0.0, device: Any = None, dtype: Any = None):
        nn.Conv2d.__init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, 1, bias,
                           padding_mode, dtype=dtype)
        self._attach(rank, alpha, lora_dropout)

    def _pair(self, rank: int) -> tuple[Module, Module]:
        return (nn.Conv2d(self.in_channels, rank, self.kernel_size, self.stride, self.padding, self.dilation,
                          bias=False, padding_mode=self.padding_mode, dtype=self.weight.dtype),
                nn.Conv2d(rank, self.out_channels, 1, bias=False, dtype=self.weight.dtype))

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        y = ops.add(nn.Conv2d.forward(self, x), self._low_rank(x))
        return ops.relu(y) if relu else y


@register
class LoRAMultiheadAttention(Adapted, nn.MultiheadAttention):
    """MultiheadAttention with W = in_proj_weight (3 E, E), the projections of query, key and value in one matrix.

    lora_A.weight (rank, E), lora_B.weight (3 E, rank). The sum W + (alpha / rank) B A is made in each forward, which
    leaves no input to drop elements of: there is no lora_dropout. out_proj is a Linear and gets an adapter of its own.
    """

    plain = nn.MultiheadAttention
    adapted = "in_proj_weight"

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
                 batch_first: bool = False, rank: int = 8, alpha: float = 16.0, device: Any = None, dtype: Any = None):
        nn.MultiheadAttention.__init__(self, embed_dim, num_heads, dropout, bias, batch_first=batch_first, dtype=dtype)
        self._attach(rank, alpha, 0.0)

    def forward(self, *args: Any, **options: Any) -> Any:
        product = ops.matmul(ops.mul(self.lora_B.weight, self.scaling), self.lora_A.weight)
        summed = as_class(self, LoRAMultiheadAttention)
        vars(summed)["in_proj_weight"] = ops.add(self.in_proj_weight, product)
        return nn.MultiheadAttention.forward(summed, *args, **options)

    def config(self) -> dict[str, Any]:
        names = ("embed_dim", "num_heads", "dropout", "bias", "batch_first")
        plain = self.without_adapter().config()
        return {**{name: plain[name] for name in names}, "rank": self.rank, "alpha": self.alpha}


ADAPTED: dict[type, type[Adapted]] = {kind.plain: kind for kind in (LoRALinear, LoRAConv2d, LoRAMultiheadAttention)}


def as_class(layer: Module, kind: type[Layer]) -> Layer:
    """A module of this class with all that `layer` holds: its parameters and children themselves, no copies."""
    twin = object.__new__(kind)
    vars(twin).update(vars(layer))
    return twin


def with_adapter(layer: Module, rank: int, alpha: float, dropout: float,
                 generator: np.random.Generator | None) -> Adapted:
    """The layer's counterpart with a fresh adapter, sharing its parameters; `unfit` has nothing against it."""
    twin = as_class(layer, ADAPTED[type(layer)])
    twin._attach(rank, alpha, 0.0 if isinstance(twin, LoRAMultiheadAttention) else dropout, generator)
    return twin


def unfit(layer: Module, rank: int, dropout: float) -> str:
    """Why the layer cannot have an adapter of this rank, '' if it can."""
    if isinstance(rank, bool) or not isinstance(rank, (int, np.integer)) or rank < 1:
        return f"rank must be a whole number from 1, not {rank!r}"
    if getattr(layer, "groups", 1) > 1:
        return (f"its {layer.groups} groups see different channels, which no product of two small convolutions does; "
                "leave it out with exclude=")
    if isinstance(layer, nn.MultiheadAttention):
        if layer.in_proj_weight is None:
            return ("its projections are kept apart, as kdim or vdim differ from embed_dim; leave it out with exclude=")
        if dropout:
            return "dropout is not possible beside its in_proj_weight; use dropout=0 or leave it out with exclude="
    weight: Any = layer.in_proj_weight if isinstance(layer, nn.MultiheadAttention) else layer.weight
    largest = min(len(weight), math.prod(weight.shape[1:]))
    if rank > largest:
        return (f"rank {rank} is more than its weight {weight.shape} can have, {largest}; choose a smaller rank, or "
                "leave it out with exclude=")
    return ""
