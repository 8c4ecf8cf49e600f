"""word2vec: a vector for each word, learnt from the words around it. `minidl/data/skipgram.py` makes the pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import nn, ops
from minidl.errors import ShapeError
from minidl.nn import functional as F
from minidl.tensor import Tensor, as_array
from minidl.transfer.structure import register


@register
class SkipGram(nn.Module):
    """Skip-gram with negative sampling: words that stand near each other get vectors with a large inner product.

    forward(center (B,), words (B, 1 + K)) is the loss -log s(u v_0) - sum_k log s(-u v_k), the mean over the batch,
    where s is the sigmoid, u = center_vectors[center], v_0 belongs to the word near it and v_1 .. v_K to drawn ones.
    `center_vectors` start uniform in ±0.5 / embedding_dim, `context_vectors` at 0.
    Raises IndexError for a word outside the `num_embeddings`, ShapeError for words of another shape.
    Mikolov et al. 2013, "Distributed representations of words and phrases and their compositionality".
    """

    def __init__(self, num_embeddings: int, embedding_dim: int):
        self.center_vectors = nn.Embedding(num_embeddings, embedding_dim)
        self.context_vectors = nn.Embedding(num_embeddings, embedding_dim)
        nn.init.uniform_(self.center_vectors.weight, -0.5 / embedding_dim, 0.5 / embedding_dim)
        nn.init.zeros_(self.context_vectors.weight)

    def config(self) -> dict[str, Any]:
        return {"num_embeddings": self.center_vectors.num_embeddings,
                "embedding_dim": self.center_vectors.embedding_dim}

    def forward(self, center: Tensor, words: Tensor) -> Tensor:
        if words.ndim != 2 or center.shape != words.shape[:1]:
            raise ShapeError(f"centers (B,) and words (B, 1 + K) are expected, got {center.shape} and {words.shape}")
        u = self.center_vectors(center)  # B, D
        v = self.context_vectors(words)  # B, 1 + K, D
        scores = ops.squeeze(ops.matmul(v, ops.unsqueeze(u, 2)), 2)  # B, 1 + K
        near = np.zeros(scores.shape, scores.dtype)
        near[:, 0] = 1
        return F.binary_cross_entropy_with_logits(scores, Tensor(near)) * scores.shape[1]


def nearest(vectors: Any, number: int, count: int = 5) -> list[tuple[int, float]]:
    """The `count` rows of `vectors` (V, D) whose angle to row `number` is smallest, with the cosines, nearest first.

    Rows of zeros, such as that of padding, are near to nothing.
    """
    table = as_array(vectors)
    if table.ndim != 2:
        raise ShapeError(f"nearest: vectors (V, D), a row for each word, are needed, got shape {table.shape}")
    if not -len(table) <= number < len(table):
        raise IndexError(f"nearest: there is no row {number} among {len(table)} vectors; "
                         "vocabulary[word] gives the number of a word")
    lengths = np.linalg.norm(table, axis=1)
    cosines = table @ table[number] / np.maximum(lengths * lengths[number], 1e-12)
    cosines[number] = -np.inf
    best = np.argsort(-cosines, kind="stable")[:count]
    return [(int(row), float(cosines[row])) for row in best]
