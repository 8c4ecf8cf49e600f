"""Multi-head attention as a layer, and the cache that lets it generate a sequence one step at a time.

The projections stay as they come out of the matrix product, heads side by side; `minidl/ops/attention.py` reads them
there. `transformer.py` builds the encoder on this layer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl import ops
from minidl.errors import ShapeError
from minidl.nn import init
from minidl.nn.linear import Linear
from minidl.nn.module import Module, Parameter
from minidl.tensor import Tensor, as_array, is_grad_enabled


class KeyValueCache:
    """Keys and values of the steps so far, (N, max_length, E) each, in memory that is taken once.

    Give it to a causal MultiheadAttention (`cache=`) with each next piece of the sequence, under `no_grad`; an encoder
    takes a list of them, one for each layer. `length` says how many steps are held; `reset()` begins a new sequence.
    """

    def __init__(self, batch_size: int, max_length: int, embed_dim: int, dtype: Any = None):
        self.keys = np.zeros((batch_size, max_length, embed_dim), dtype or np.float32)
        self.values = np.zeros_like(self.keys)
        self.length = 0

    @property
    def max_length(self) -> int:
        return self.keys.shape[1]

    def reset(self) -> None:
        self.length = 0

    def append(self, key: Any, value: Any) -> tuple[Tensor, Tensor]:
        """Add the keys and values (N, T, E) of T steps; returns those of all steps, (N, length, E), without a copy.

        Raises ShapeError where the steps do not fit, RuntimeError where gradients would be lost.
        """
        if is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in (key, value)):
            raise RuntimeError("KeyValueCache: what is kept has no gradient; generate under minidl.no_grad()")
        samples, length, width = self.keys.shape
        for name, array in (("key", as_array(key)), ("value", as_array(value))):
            if array.ndim != 3 or array.shape[0] != samples or array.shape[2] != width:
                raise ShapeError(f"KeyValueCache: {name} has shape {array.shape}, (N, T, E) with N = {samples} and "
                                 f"E = {width} is expected")
            if self.length + array.shape[1] > length:
                raise ShapeError(f"KeyValueCache: {self.length} steps are held, {array.shape[1]} more do not fit into "
                                 f"max_length = {length}")
        end = self.length + as_array(key).shape[1]
        self.keys[:, self.length:end], self.values[:, self.length:end] = as_array(key), as_array(value)
        self.length = end
        return Tensor(self.keys[:, :end]), Tensor(self.values[:, :end])


class MultiheadAttention(Module):
    """softmax(q k^T / sqrt(E / H)) v for H heads, between projections: query (L, N, E), key (S, N, kdim), value
    (S, N, vdim) to (L, N, E); with batch_first, N comes first. Without a batch, (L, E) to (L, E).

    in_proj_weight (3 E, E) holds the projections of query, key and value one below the other (q_proj_weight,
    k_proj_weight and v_proj_weight if kdim or vdim differ from E); they start as xavier_uniform_, biases at 0.
    dropout: of the attention weights, in training. add_bias_kv and add_zero_attn are not supported.
    Vaswani et al. 2017, "Attention is all you need". Raises ValueError if num_heads does not divide embed_dim.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
                 add_bias_kv: bool = False, add_zero_attn: bool = False, kdim: int | None = None,
                 vdim: int | None = None, batch_first: bool = False, device: Any = None, dtype: Any = None):
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: embed_dim {embed_dim} cannot be split into num_heads {num_heads} "
                             "heads of equal width")
        if add_bias_kv or add_zero_attn:
            raise NotImplementedError("MultiheadAttention: add_bias_kv and add_zero_attn are not supported; append a "
                                      "key and a value to the inputs instead")
        if not 0 <= dropout <= 1:
            raise ValueError(f"MultiheadAttention: dropout is a probability, between 0 and 1, not {dropout}")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.add_bias_kv, self.add_zero_attn = add_bias_kv, add_zero_attn
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self.head_dim = embed_dim // num_heads

        def weight(rows: int, columns: int) -> Parameter:
            return Parameter(np.empty((rows, columns), dtype or np.float32))

        together = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = weight(3 * embed_dim, embed_dim) if together else None
        self.q_proj_weight = None if together else weight(embed_dim, embed_dim)
        self.k_proj_weight = None if together else weight(embed_dim, self.kdim)
        self.v_proj_weight = None if together else weight(embed_dim, self.vdim)
        self.in_proj_bias = Parameter(np.empty(3 * embed_dim, dtype or np.float32)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype=dtype)
        self.reset_parameters()

    @property
    def bias(self) -> Parameter | None:
        return self.in_proj_bias

    def reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        self.out_proj.reset_parameters()
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Any = None,
                need_weights: bool = True, attn_mask: Any = None, average_attn_weights: bool = True,
                is_causal: bool = False, cache: KeyValueCache | None = None) -> tuple[Tensor, Tensor | None]:
        """The output, and the weights (N, L, S), means over the heads; (N, H, L, S) if not average_attn_weights.

        need_weights=False returns None for them and is much faster: nothing of size L S is kept.
        key_padding_mask (N, S): True for keys that are left out. attn_mask (L, S) or (N H, L, S): True for pairs that
        are left out (scaled_dot_product_attention has it the other way round, as in PyTorch). Masks of numbers are
        added to the scores. is_causal: query i sees keys up to i, with or without attn_mask.
        cache: for generation; query, key and value are the next steps, which see those in the cache.
        """
        batched = query.ndim == 3
        if batched != (key.ndim == 3) or batched != (value.ndim == 3) or query.ndim not in (2, 3):
            raise ShapeError(f"query {query.shape}, key {key.shape} and value {value.shape} must all have 3 axes, or 2 "
                             "without a batch")
        turned = batched and not self.batch_first
        same = query is key is value
        query, key, value = (self._batch_first(x, batched, turned) for x in (query, key, value))
        self._check(query, key, value)
        past = 0 if cache is None else cache.length
        mask = self._mask(key_padding_mask, attn_mask, len(query), query.shape[1], key.shape[1] + past, batched)
        weights = None
        options = dict(num_heads=self.num_heads, dropout_p=self.dropout if self.training else 0.0, is_causal=is_causal)
        if same and cache is None and not need_weights and self.in_proj_weight is not None:
            qkv = ops.linear(query, self.in_proj_weight, self.in_proj_bias)
            y = ops.packed_attention(qkv, mask, **options)
        else:
            query, key, value = self._project(query, key, value, same)
            if cache is not None:
                key, value = cache.append(key, value)
            if need_weights:
                y, weights = self._with_weights(query, key, value, mask, past if is_causal else None)
                weights = ops.mean(weights, dim=1) if average_attn_weights else weights
            else:
                y = ops.multi_head_attention(query, key, value, mask, past=past, **options)
        y = self.out_proj(y)
        if not batched:
            return ops.squeeze(y, dim=0), None if weights is None else ops.squeeze(weights, dim=0)
        return ops.transpose(y, 0, 1) if turned else y, weights

    def _batch_first(self, x: Tensor, batched: bool, turned: bool) -> Tensor:
        if not batched:
            return ops.unsqueeze(x, 0)
        return ops.transpose(x, 0, 1) if turned else x

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        for name, x, width in (("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim)):
            if x.shape[2] != width:
                raise ShapeError(f"{name} has {x.shape[2]} features, {width} are expected")
        if not len(query) == len(key) == len(value):
            raise ShapeError(f"query, key and value hold {len(query)}, {len(key)} and {len(value)} samples (axis "
                             f"{0 if self.batch_first else 1}, as batch_first={self.batch_first})")
        if key.shape[1] != value.shape[1]:
            raise ShapeError(f"there are {key.shape[1]} keys and {value.shape[1]} values: each key needs one value")

    def _project(self, query: Tensor, key: Tensor, value: Tensor, same: bool) -> list[Tensor]:
        width = self.embed_dim
        if same and self.in_proj_weight is not None:
            return ops.chunk(ops.linear(query, self.in_proj_weight, self.in_proj_bias), 3, dim=2)
        if self.in_proj_weight is None:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        else:
            weights = ops.chunk(self.in_proj_weight, 3)
        biases = [None] * 3 if self.in_proj_bias is None else ops.split(self.in_proj_bias, width)
        return [ops.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases)]

    def _with_weights(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
                      causal: int | None) -> tuple[Tensor, Tensor]:
        """Attention with the weights (N, H, L, S) made, for those who want to see them."""
        heads = [ops.transpose(ops.unflatten(x, 2, (self.num_heads, -1)), 1, 2) for x in (query, key, value)]
        query, key, value = heads  # N, H, T, E / H
        scores = ops.matmul(ops.mul(query, 1 / math.sqrt(self.head_dim)), ops.transpose(key, 2, 3))
        if causal is not None:
            later = ~np.tri(query.shape[2], key.shape[2], causal, dtype=np.bool_)
            scores = ops.masked_fill(scores, later, -math.inf)
        if mask is not None:
            scores = ops.masked_fill(scores, ~mask.array, -math.inf) if _boolean(mask) else ops.add(scores, mask)
        weights = ops.softmax(scores, dim=-1)
        weights = ops.dropout(weights, self.dropout, self.training)
        return ops.flatten(ops.transpose(ops.matmul(weights, value), 1, 2), 2), weights

    def _mask(self, key_padding_mask: Any, attn_mask: Any, samples: int, queries: int, keys: int,
              batched: bool) -> Tensor | None:
        """Both masks as one that broadcasts to (N, H, L, S), in which True takes part."""
        masks = []
        if key_padding_mask is not None:
            expected = (samples, keys) if batched else (keys,)
            mask = _checked("key_padding_mask", key_padding_mask, [expected])
            masks.append(ops.reshape(mask, (samples, 1, 1, keys)))
        if attn_mask is not None:
            pairs = (queries, keys)
            mask = _checked("attn_mask", attn_mask, [pairs, (samples * self.num_heads, *pairs)])
            masks.append(ops.reshape(mask, (samples, self.num_heads, *pairs) if mask.ndim == 3 else (1, 1, *pairs)))
        if len(masks) < 2 or all(map(_boolean, masks)):
            kept = [Tensor(~mask.array) if _boolean(mask) else mask for mask in masks]
            return None if not kept else kept[0] if len(kept) == 1 else Tensor(kept[0].array & kept[1].array)
        return ops.add(*(Tensor(np.where(mask.array, -np.inf, 0).astype(self.out_proj.weight.dtype))
                         if _boolean(mask) else mask for mask in masks))

    def extra_repr(self) -> str:
        return (f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, dropout={self.dropout}, "
                f"bias={self.in_proj_bias is not None}, kdim={self.kdim}, vdim={self.vdim}, "
                f"batch_first={self.batch_first}")

    def __repr__(self) -> str:  # says more than its one child would
        return f"{type(self).__name__}({self.extra_repr()})"


def _boolean(mask: Tensor) -> bool:
    return mask.dtype == np.bool_


def _checked(name: str, mask: Any, shapes: list[tuple[int, ...]]) -> Tensor:
    mask = mask if isinstance(mask, Tensor) else Tensor(as_array(mask))
    if mask.dtype.kind not in "bf":
        raise TypeError(f"{name} holds booleans (True: left out) or floating-point numbers (added to the scores), not "
                        f"{mask.dtype}; for 0 and 1, use mask.bool()")
    if mask.shape not in shapes:
        raise ShapeError(f"{name} has shape {mask.shape}, {' or '.join(map(str, shapes))} is expected")
    return mask
