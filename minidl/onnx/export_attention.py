"""Emitters for attention, written out as the two matrix products and the softmax between them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.onnx.export_graph import Graph, Value
from minidl.onnx.export_table import emitter


@emitter()
def scaled_dot_product_attention(g: Graph, query: Value, key: Value, value: Value, attn_mask: Value | None,
                                 dropout_p: float, is_causal: bool, scale: float | None, generator: Any) -> Value:
    query, key, value = [g.cast(x, g.result_dtype) for x in (query, key, value)]
    return _attend(g, query, key, value, attn_mask, dropout_p, 0 if is_causal else None, scale)


@emitter()
def multi_head_attention(g: Graph, query: Value, key: Value, value: Value, attn_mask: Value | None, num_heads: int,
                         dropout_p: float, is_causal: bool, scale: float | None, past: Any, generator: Any) -> Value:
    query, key, value = [_split_heads(g, g.cast(x, g.result_dtype), num_heads) for x in (query, key, value)]
    return _join_heads(g, _attend(g, query, key, value, attn_mask, dropout_p, past if is_causal else None, scale))


@emitter()
def packed_attention(g: Graph, qkv: Value, attn_mask: Value | None, num_heads: int, dropout_p: float, is_causal: bool,
                     scale: float | None, generator: Any) -> Value:
    width = g.fixed(qkv.shape[-1:], "the width")[0] // 3
    parts = g.node("Split", [qkv, np.array([width] * 3)], outputs=3, axis=2, shape=(*qkv.shape[:2], width))
    query, key, value = [_split_heads(g, x, num_heads) for x in parts]
    return _join_heads(g, _attend(g, query, key, value, attn_mask, dropout_p, 0 if is_causal else None, scale))


def _split_heads(g: Graph, x: Value, num_heads: int) -> Value:
    """(N, T, H E) as (N, H, T, E)."""
    width = g.fixed(x.shape[-1:], "the width")[0]
    return g.transpose(g.reshape(x, (*x.shape[:2], num_heads, width // num_heads)), (0, 2, 1, 3))


def _join_heads(g: Graph, x: Value) -> Value:
    """(N, H, T, E) as (N, T, H E)."""
    y = g.transpose(x, (0, 2, 1, 3))
    return g.reshape(y, (*y.shape[:2], y.shape[2] * y.shape[3]))


def _attend(g: Graph, query: Value, key: Value, value: Value, mask: Value | None, dropout_p: float, past: Any,
            scale: float | None) -> Value:
    """softmax(scale query key^T + mask) value for query (..., L, E); keys up to i + past for query i unless None."""
    if dropout_p:
        raise g.refuse("it drops weights at random although the model is in evaluation mode: give dropout_p only while "
                       "self.training")
    width = g.fixed(query.shape[-1:], "the width")[0]
    factor = (1 / math.sqrt(width) if width else 1.0) if scale is None else scale
    order = [*range(key.ndim - 2), key.ndim - 1, key.ndim - 2]
    scaled = g.node("Mul", [query, g.scalar(factor, query.dtype)], shape=query.shape)
    scores = g.node("MatMul", [scaled, g.transpose(key, order)])
    seen = None
    if mask is not None and mask.dtype == np.bool_:
        seen = mask
    elif mask is not None:
        mask = g.cast(mask, query.dtype)
        scores = g.node("Add", [scores, mask])
        seen = g.node("Greater", [mask, g.scalar(-np.inf, mask.dtype)], dtype=np.bool_)
    if past is not None:
        earlier = _causal(g, query.shape[-2], key.shape[-2], past)
        seen = earlier if seen is None else g.node("And", [seen, earlier])
    if seen is None:
        return _weighted(g, g.node("Softmax", [scores], axis=-1), value, query)
    # what is not seen gets the lowest score and then weight 0, so that a query that sees nothing gives 0 and not NaN
    scores = g.node("Where", [seen, scores, g.scalar(np.finfo(query.dtype).min, query.dtype)], dtype=query.dtype)
    weights = g.node("Softmax", [scores], axis=-1)
    if past is None or mask is not None:
        weights = g.node("Where", [seen, weights, g.scalar(0, query.dtype)], dtype=query.dtype)
    return _weighted(g, weights, value, query)


def _weighted(g: Graph, weights: Value, value: Value, query: Value) -> Value:
    return g.node("MatMul", [weights, value], shape=(*query.shape[:-1], value.shape[-1]), dtype=query.dtype)


def _causal(g: Graph, queries: Any, keys: Any, past: Any) -> Value:
    """Booleans (L, S), True where the key is not later than the query."""
    if all(isinstance(size, int) for size in (queries, keys, past)):
        return g.constant(np.tri(queries, keys, past, dtype=np.bool_))
    zero, one = g.scalar(0, np.int64), g.scalar(1, np.int64)
    rows, columns = [g.node("Range", [zero, g.squeeze(g.length(size), [0]), one], shape=(size,), dtype=np.int64)
                     for size in (queries, keys)]
    latest = g.node("Add", [g.unsqueeze(rows, [1]), g.operand(past, np.int64)], dtype=np.int64)
    return g.node("LessOrEqual", [columns, latest], dtype=np.bool_)
