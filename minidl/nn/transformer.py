"""The encoder of the Transformer: attention and a small dense network in turn, each beside a path that skips it.

Vaswani et al. 2017, "Attention is all you need". Causal, it is the decoder of a language model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from minidl import ops
from minidl.nn.attention import KeyValueCache, MultiheadAttention
from minidl.nn.container import ModuleList
from minidl.nn.dropout import Dropout
from minidl.nn.linear import Linear
from minidl.nn.module import Module
from minidl.nn.norm import LayerNorm
from minidl.tensor import Tensor, as_array

ACTIVATIONS: dict[str, Callable] = {"relu": ops.relu, "gelu": ops.gelu}


class TransformerEncoderLayer(Module):
    """x = norm1(x + attention(x)), then norm2(x + linear2(activation(linear1(x)))); for x (T, N, E), (N, T, E) with
    batch_first, or (T, E).

    norm_first: x + attention(norm1(x)), then x + network(norm2(x)), which is easier to train when deep (Xiong et al.
    2020, "On layer normalization in the Transformer architecture"). activation: "relu", "gelu" or a function.
    Raises ValueError for another activation and a d_model that nhead does not divide.
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: str | Callable[[Tensor], Tensor] = "relu", layer_norm_eps: float = 1e-5,
                 batch_first: bool = False, norm_first: bool = False, bias: bool = True, device: Any = None,
                 dtype: Any = None):
        if isinstance(activation, str) and activation not in ACTIVATIONS:
            raise ValueError(f"TransformerEncoderLayer: activation is 'relu', 'gelu' or a function, not {activation!r}")
        self.d_model, self.nhead, self.dim_feedforward, self.layer_norm_eps = (
            d_model, nhead, dim_feedforward, layer_norm_eps)
        self.batch_first, self.norm_first, self.activation = batch_first, norm_first, activation
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def forward(self, src: Tensor, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False,
                cache: KeyValueCache | None = None) -> Tensor:
        """Masks as those of MultiheadAttention: True for what is left out. cache: for generation, see there."""
        def attend(x: Tensor) -> Tensor:
            y, _ = self.self_attn(x, x, x, key_padding_mask=src_key_padding_mask, need_weights=False,
                                  attn_mask=src_mask, is_causal=is_causal, cache=cache)
            return self.dropout1(y)

        if self.norm_first:
            x = src + attend(self.norm1(src))
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(src + attend(src))
        return self.norm2(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        if self.activation in ("relu", ops.relu):
            x = self.linear1(x, relu=True)
        else:
            activation = ACTIVATIONS[self.activation] if isinstance(self.activation, str) else self.activation
            x = activation(self.linear1(x))
        return self.dropout2(self.linear2(self.dropout(x)))

    def config(self) -> dict[str, Any]:
        names = ("d_model", "nhead", "dim_feedforward", "activation", "layer_norm_eps", "batch_first", "norm_first")
        values = {name: getattr(self, name) for name in names}
        return {**values, "dropout": self.dropout.p, "bias": self.linear1.bias is not None}


class TransformerEncoder(Module):
    """`num_layers` copies of a layer, one after the other, then `norm` if there is one.

    The copies start alike, as in PyTorch. enable_nested_tensor and mask_check are accepted and change nothing.
    """

    def __init__(self, encoder_layer: Module | None = None, num_layers: int = 0, norm: Module | None = None,
                 enable_nested_tensor: bool = True, mask_check: bool = True):
        if encoder_layer is None and norm is not None:
            raise TypeError("TransformerEncoder: an encoder_layer is needed, such as nn.TransformerEncoderLayer(64, 4)")
        self.num_layers, self.enable_nested_tensor, self.mask_check = num_layers, enable_nested_tensor, mask_check
        # without a layer it is empty: `transfer.build` puts the layers of a file into it
        self.layers = ModuleList([] if encoder_layer is None else [deepcopy(encoder_layer) for _ in range(num_layers)])
        self.norm = norm

    def forward(self, src: Tensor, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None,
                cache: Sequence[KeyValueCache] | None = None) -> Tensor:
        """mask (T, T): True, or -inf, for pairs that are left out. is_causal: unless given, whether mask says so.

        cache: one for each layer.
        """
        if cache is not None and len(cache) != len(self.layers):
            raise ValueError(f"{len(cache)} caches for {len(self.layers)} layers: each layer needs its own")
        if mask is not None and not is_causal and is_causal_mask(mask):
            mask, is_causal = None, True
        x = src
        for number, layer in enumerate(self.layers):
            options = {} if cache is None else {"cache": cache[number]}
            x = layer(x, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal), **options)
        return x if self.norm is None else self.norm(x)

    def config(self) -> dict[str, Any]:
        names = ("num_layers", "enable_nested_tensor", "mask_check")
        return {name: getattr(self, name) for name in names}


def is_causal_mask(mask: Any) -> bool:
    """Whether a mask (T, T) leaves out, by True or -inf, just what is later than the query, and adds nothing else."""
    array = as_array(mask)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or isinstance(mask, Tensor) and mask.requires_grad:
        return False
    later = ~np.tri(len(array), dtype=np.bool_)
    if array.dtype == np.bool_:
        return bool((array == later).all())
    return bool((np.isneginf(array) == later).all() and (array[~later] == 0).all())
