"""Attention: each query takes the mean of all values, weighed by how well their keys match it.

`scaled_dot_product_attention` takes PyTorch's layout, a matrix (L, E) for each sample and head. The other two take
what a projection gives, (N, L, H E), with the heads side by side: the kernels read either as it lies, so that the
second way needs no transposed copies. The formulas of the gradient stand in `kernels/reference/attention.py`.
"""

from __future__ import annotations

import math

import numpy as np

from minidl import kernels, random
from minidl.errors import ShapeError
from minidl.kernels.memory import empty
from minidl.ops.shared import once
from minidl.tensor import differentiable


@differentiable
def scaled_dot_product_attention(query, key, value, attn_mask=None, /, dropout_p=0.0, is_causal=False, scale=None,
                                 generator=None):
    """softmax(scale query key^T + attn_mask) value: (N, ..., L, V).

    query (N, ..., L, E), key (N, ..., S, E), value (N, ..., S, V); leading axes broadcast. scale: 1 / sqrt(E) if left
    out. attn_mask, which broadcasts to (N, ..., L, S): booleans, True for what takes part, or numbers that are added.
    is_causal: query i sees keys 0 … i only. dropout_p: probability that a weight is dropped, here and now (there is
    no `training`). A query that sees no key gives 0. Vaswani et al. 2017, "Attention is all you need".
    Raises ShapeError for shapes that do not fit together, TypeError for a mask of integers, ValueError for attn_mask
    together with is_causal.
    """
    name = "scaled_dot_product_attention"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ShapeError(f"{name}: query {query.shape}, key {key.shape} and value {value.shape} need at least 2 axes "
                         "each, (L, E), (S, E) and (S, V)")
    _check_pairs(name, query.shape, key.shape, value.shape)
    if is_causal and attn_mask is not None:
        raise ValueError(f"{name}: is_causal=True makes its own mask; leave out attn_mask, or put both into attn_mask")
    try:
        lead = np.broadcast_shapes(*(x.shape[:-2] for x in (query, key, value)))
    except ValueError:
        raise ShapeError(f"{name}: the leading axes of query {query.shape}, key {key.shape} and value {value.shape} "
                         "do not broadcast") from None
    query, key, value = same_dtype(query, key, value)
    shape = (*lead, query.shape[-2], key.shape[-2])
    check_mask(name, attn_mask, shape)
    samples, heads = math.prod(lead[:-1]), lead[-1] if lead else 1

    def rows(x):  # N, ..., L, E -> N, L, H, E
        return np.broadcast_to(x, (*lead, *x.shape[-2:])).reshape(samples, heads, *x.shape[-2:]).swapaxes(1, 2)

    mask = attn_mask
    if mask is not None and (len(lead) > 2 and mask.ndim > 2):
        mask = np.broadcast_to(mask, (*lead, *mask.shape[-2:])).reshape(samples, heads, *mask.shape[-2:])
    options = _options(name, query, scale, dropout_p, generator)
    causal = 0 if is_causal else None
    output, gradients, grad_mask = _attend(*map(rows, (query, key, value)), True, mask, causal, *options)

    def shaped(x, length):
        return x.swapaxes(1, 2).reshape(*lead, length, x.shape[-1])

    def all_gradients(g):
        g = g.reshape(samples, heads, *g.shape[-2:]).swapaxes(1, 2)
        return [shaped(grad, grad.shape[1]) for grad in gradients(g)]

    def gradient_of_mask(g):
        grad = grad_mask(g.reshape(samples, heads, *g.shape[-2:]).swapaxes(1, 2))
        return grad if mask is attn_mask else grad.reshape(*lead, *grad.shape[-2:])

    return shaped(output, query.shape[-2]), (*once(all_gradients, 3), gradient_of_mask)


@differentiable
def multi_head_attention(query, key, value, attn_mask=None, /, num_heads=1, dropout_p=0.0, is_causal=False, scale=None,
                         past=0, generator=None):
    """Attention of H = `num_heads` heads for query (N, L, H E), key (N, S, H E) and value (N, S, H V): (N, L, H V).

    The heads stand side by side on the last axis. The same as scaled_dot_product_attention on the transposed heads,
    without transposing. attn_mask broadcasts to (N, H, L, S), and may stand beside is_causal; then query i sees keys
    up to i + past: `past` keys come from before the first query, as in generation with a cache.
    Raises ShapeError for shapes that do not fit together or a width that num_heads does not divide.
    """
    name = "multi_head_attention"
    if not query.ndim == key.ndim == value.ndim == 3:
        raise ShapeError(f"{name}: query (N, L, H E), key (N, S, H E) and value (N, S, H V) are expected, not "
                         f"{query.shape}, {key.shape} and {value.shape}")
    if not len(query) == len(key) == len(value):
        raise ShapeError(f"{name}: query {query.shape}, key {key.shape} and value {value.shape} hold different numbers "
                         "of samples")
    _check_pairs(name, query.shape, key.shape, value.shape)
    query, key, value = (split_heads(name, x, num_heads) for x in same_dtype(query, key, value))
    check_mask(name, attn_mask, (len(query), num_heads, query.shape[1], key.shape[1]))
    options = _options(name, query, scale, dropout_p, generator)
    output, gradients, grad_mask = _attend(query, key, value, False, attn_mask, past if is_causal else None, *options)

    def all_gradients(g):
        return [join_heads(grad) for grad in gradients(g.reshape(output.shape))]

    return join_heads(output), (*once(all_gradients, 3), lambda g: grad_mask(g.reshape(output.shape)))


@differentiable
def packed_attention(qkv, attn_mask=None, /, num_heads=1, dropout_p=0.0, is_causal=False, scale=None, generator=None):
    """`multi_head_attention` of a sequence with itself, from one projection qkv (N, T, 3 H E): (N, T, H E).

    The queries of all heads come first on the last axis, then the keys, then the values; the gradient arrives in one
    array of that layout. Raises ShapeError as multi_head_attention does.
    """
    name = "packed_attention"
    if qkv.ndim != 3 or qkv.shape[2] % 3:
        raise ShapeError(f"{name}: qkv (N, T, 3 H E) is expected, queries, keys and values side by side, not "
                         f"{qkv.shape}")
    query, key, value = (split_heads(name, x, num_heads) for x in _thirds(qkv))
    samples, length, heads, _ = query.shape
    check_mask(name, attn_mask, (samples, heads, length, length))
    options = _options(name, query, scale, dropout_p, generator)
    output, gradients, grad_mask = _attend(query, key, value, False, attn_mask, 0 if is_causal else None, *options)

    def gradient(g):
        grad = empty(qkv.shape, qkv.dtype)
        gradients(g.reshape(output.shape), [split_heads(name, x, num_heads) for x in _thirds(grad)])
        return grad

    return join_heads(output), (gradient, lambda g: grad_mask(g.reshape(output.shape)))


def _attend(query, key, value, by_head, *arguments):
    """Output (N, L, H, V) for query (N, L, H, E), and the functions from its gradient to theirs and to the mask's.

    by_head: lay results out as (N, H, L, V), seen as (N, L, H, V). arguments: the kernels' from mask to seed.
    """
    def result(shape):
        samples, length, heads, width = shape
        if by_head:
            return empty((samples, heads, length, width), query.dtype).swapaxes(1, 2)
        return empty((samples, length, heads, width), query.dtype)

    output = result((*query.shape[:3], value.shape[3]))
    logsumexp = kernels.attention(output, query, key, value, *arguments)

    def gradients(g, into=None):
        grads = [result(x.shape) for x in (query, key, value)] if into is None else into
        kernels.attention_grad(*grads, g, query, key, value, output, logsumexp, *arguments)
        return grads

    def grad_mask(g):
        return kernels.attention_grad_mask(g, query, key, value, output, logsumexp, *arguments)

    return output, gradients, grad_mask


def split_heads(name, x, num_heads):
    """x (N, T, H E) as a view (N, T, H, E)."""
    if num_heads < 1 or x.shape[-1] % num_heads:
        raise ShapeError(f"{name}: a width of {x.shape[-1]} cannot be split into {num_heads} heads of equal width")
    return x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)


def join_heads(x):
    """x (N, T, H, E) as (N, T, H E)."""
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])


def check_mask(name, mask, shape):
    """Raise unless the mask broadcasts to `shape`, (N, ..., L, S), and holds booleans or floating-point numbers."""
    if mask is None:
        return
    if mask.dtype.kind not in "bf":
        raise TypeError(f"{name}: attn_mask holds booleans (True: takes part) or floating-point numbers (added to the "
                        f"scores), not {mask.dtype}; for 0 and 1, use mask.bool()")
    fits = mask.ndim <= len(shape) and all(m in (1, n) for m, n in zip(mask.shape[::-1], shape[::-1]))
    if not fits:
        hint = ""
        if mask.ndim == 2 and len(shape) == 4 and mask.shape == (shape[0], shape[3]):
            hint = "; a mask of keys per sample is needed as (N, 1, 1, S): mask[:, None, None, :]"
        raise ShapeError(f"{name}: attn_mask has shape {mask.shape}, which does not broadcast to {shape}, queries by "
                         f"keys{hint}")


def same_dtype(*arrays):
    dtype = np.result_type(*arrays)
    if dtype.kind != "f":
        raise TypeError(f"attention needs floating-point tensors, not {dtype}; use .float()")
    return [x.astype(dtype, copy=False) for x in arrays]


def _check_pairs(name, query, key, value):
    if query[-1] != key[-1]:
        raise ShapeError(f"{name}: query {query} and key {key} differ in their last axis, which is multiplied")
    if key[-2] != value[-2]:
        raise ShapeError(f"{name}: key {key} and value {value} differ in length: each key has one value")


def _options(name, query, scale, dropout_p, generator):
    """Scale, dropout probability and seed for the kernels."""
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"{name}: dropout_p is the probability of a weight to be dropped, between 0 and 1, not "
                         f"{dropout_p}")
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1]) if query.shape[-1] else 1.0
    seed = int(random.generator(generator).integers(2**63)) if dropout_p else 0
    return float(scale), float(dropout_p), seed


def _thirds(x):
    width = x.shape[-1] // 3
    return x[..., :width], x[..., width:2 * width], x[..., 2 * width:]
