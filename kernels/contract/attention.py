"""Scaled dot-product attention. Computed in `../reference/attention.py`.

Letters: N samples, H heads, L queries, S keys, E numbers of a query or key, V of a value. Arrays may be strided views
of any kind: of one (N, T, 3 H E) projection, for instance, so that nothing is transposed. `mask` is None, booleans
(True: takes part) or numbers that are added to the scores, and broadcasts to (N, H, L, S). `causal` is None, or the
number of keys that stand before the first query: query i sees keys up to i + causal. With `p` above 0, weights are
dropped as `attention_dropout_mask` says.
"""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def attention(output, query, key, value, mask, causal, scale, p, seed):
    """Fill output (N, L, H, V) with softmax(scale query key^T + mask) value; return log sum exp of the scores.

    query (N, L, H, E), key (N, S, H, E), value (N, S, H, V); the log sum exp is (N, H, L), and -inf for a query that
    may see no key, whose output is 0.
    """


@kernel
def attention_grad(grad_query, grad_key, grad_value, g, query, key, value, output, logsumexp, mask, causal, scale, p,
                   seed):
    """Fill the first three with the gradients of query, key and value; output, logsumexp: what `attention` gave."""


@kernel
def attention_grad_mask(g, query, key, value, output, logsumexp, mask, causal, scale, p, seed):
    """The gradient of a mask that is added, in the mask's shape."""


@kernel
def attention_dropout_mask(shape, p, seed):
    """Booleans (N, H, L, S) that are False with probability p each: a hash of seed and place, so that none is kept."""
