"""Rows looked up in a table. Computed in `../reference/embedding.py`."""

from __future__ import annotations

from minidl.kernels.dispatch import kernel


@kernel
def embedding(weight, indices):
    """weight[indices] for a table weight (V, D) and integers (...): (..., D).

    Raises IndexError for an index outside 0..V-1.
    """


@kernel
def embedding_grad(g, indices, num_embeddings, padding_idx=None):
    """Row i of the result (num_embeddings, D) is the sum of the g[k] with indices[k] == i; 0 for padding_idx.

    g (..., D), indices (...). The order of summation is fixed, so the result is the same in every run.
    """
