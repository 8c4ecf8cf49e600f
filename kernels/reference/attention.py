"""Attention with all scores at once: each query takes the mean of the values, weighed by how well their keys match.

For weights P = softmax(Z) with Z = scale Q K^T + mask and output O = P V, the gradients are dV = P^T dO, and
dZ = P (dP - D) with dP = dO V^T and D = the sum of dO O over a row, since the sum of P dP over a row is that, too.
Vaswani et al. 2017, "Attention is all you need". `../cpu/attention.py` never holds more than a block of Z.
"""

import numpy as np


def attention(output, query, key, value, mask, causal, scale, p, seed):
    scores = _scores(query, key, mask, causal, scale)
    peak = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    peak[np.isneginf(peak)] = 0  # a query that sees no key: all of its weights become e^-inf
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.exp(scores - peak)
        total = weights.sum(axis=-1, keepdims=True)
        logsumexp = (np.log(total) + peak)[..., 0]
    weights /= np.where(total == 0, 1, total)
    output[...] = (_dropped(weights, p, seed) @ _by_head(value)).swapaxes(1, 2)
    return logsumexp


def attention_grad(grad_query, grad_key, grad_value, g, query, key, value, output, logsumexp, mask, causal, scale, p,
                   seed):
    weights = _weights(query, key, logsumexp, mask, causal, scale)
    grad_value[...] = (_dropped(weights, p, seed).swapaxes(-1, -2) @ _by_head(g)).swapaxes(1, 2)
    grad_scores = _grad_scores(weights, g, value, output, p, seed)
    grad_scores *= scale
    grad_query[...] = (grad_scores @ _by_head(key)).swapaxes(1, 2)
    grad_key[...] = (grad_scores.swapaxes(-1, -2) @ _by_head(query)).swapaxes(1, 2)


def attention_grad_mask(g, query, key, value, output, logsumexp, mask, causal, scale, p, seed):
    weights = _weights(query, key, logsumexp, mask, causal, scale)
    grad = _grad_scores(weights, g, value, output, p, seed)
    missing = grad.ndim - mask.ndim
    repeated = [axis for axis in range(grad.ndim) if axis < missing or mask.shape[axis - missing] == 1]
    return grad.sum(axis=tuple(repeated), keepdims=True).reshape(mask.shape).astype(mask.dtype, copy=False)


def attention_dropout_mask(shape, p, seed):
    n, h, queries, keys = shape
    rows = _mixed(np.uint64(seed) + np.arange(n * h * queries, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    low, high = (rows & np.uint64(0xFFFFFFFF)).astype(np.uint32), (rows >> np.uint64(32)).astype(np.uint32)
    x = (low[:, None] + np.arange(keys, dtype=np.uint32)) * np.uint32(0x9E3779B1)
    x ^= (x >> np.uint32(16)) ^ high[:, None]
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return (x >> np.uint32(8) >= np.uint32(round(p * 2**24))).reshape(shape)


def _mixed(x):
    """64 bits, each of which depends on all bits of x (Steele, Lea and Flood 2014, SplitMix)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _by_head(x):
    return x.swapaxes(1, 2)  # N, T, H, E -> N, H, T, E


def _scores(query, key, mask, causal, scale):
    scores = _by_head(query) @ _by_head(key).swapaxes(-1, -2)  # N, H, L, S
    scores *= scale
    if mask is not None:
        scores += np.where(mask, 0, -np.inf) if mask.dtype == np.bool_ else mask
    if causal is not None:
        seen = np.tri(*scores.shape[-2:], causal, dtype=np.bool_)
        scores[..., ~seen] = -np.inf
    return scores


def _weights(query, key, logsumexp, mask, causal, scale):
    scores = _scores(query, key, mask, causal, scale)
    scores -= np.where(np.isneginf(logsumexp), 0, logsumexp)[..., None]
    return np.exp(scores, out=scores)


def _dropped(weights, p, seed):
    if p == 0:
        return weights
    kept = attention_dropout_mask(weights.shape, p, seed)
    return weights * kept * np.asarray(1 / (1 - p) if p < 1 else 0, weights.dtype)


def _grad_scores(weights, g, value, output, p, seed):
    grad_weights = _dropped(_by_head(g) @ _by_head(value).swapaxes(-1, -2), p, seed)
    grad_weights -= (_by_head(g) * _by_head(output)).sum(axis=-1)[..., None]
    grad_weights *= weights
    return grad_weights
