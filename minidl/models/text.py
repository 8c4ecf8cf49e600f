"""A classifier of texts: word vectors, a recurrent layer over them, one vector a text, and a linear head."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import nn, ops
from minidl.errors import ShapeError
from minidl.tensor import Tensor, as_array
from minidl.transfer.structure import register

RECURRENT = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
POOLS = ("mean", "max", "last")
SPREAD = 0.25  # standard deviation of fresh word vectors; with Embedding's own, 1, training takes several times as long


@register
class RecurrentClassifier(nn.Module):
    """Logits (N, num_classes) for token ids (N, T) of sequences of the given lengths (N,).

    Embedding, dropout, `recurrent` layer ("lstm", "gru" or "rnn", in both directions if `bidirectional`), its states
    made into one vector a text by `pool` ("mean" or "max" over the steps, or the "last" state of each direction),
    dropout, linear head. Padding changes nothing: each text is as if it were alone. Word vectors start normal with
    standard deviation 0.25, or as `load_embeddings` sets them.
    padding_idx: the id of padding, whose vector stays 0; None if there is none.
    Raises ValueError for unknown words; IndexError for ids outside the vocabulary and what the recurrent layers raise.
    """

    def __init__(self, num_embeddings: int, num_classes: int, embedding_dim: int = 100, hidden_size: int = 100,
                 num_layers: int = 1, recurrent: str = "lstm", bidirectional: bool = True, pool: str = "max",
                 dropout: float = 0.5, padding_idx: int | None = 0):
        if recurrent not in RECURRENT or pool not in POOLS:
            raise ValueError(f"RecurrentClassifier: recurrent is one of {', '.join(RECURRENT)}, pool one of "
                             f"{', '.join(POOLS)}; got {recurrent!r} and {pool!r}")
        self.kind, self.pool = recurrent, pool
        self.embedding = nn.Embedding(num_embeddings, embedding_dim, padding_idx)
        self.embedding.weight.array[...] *= SPREAD
        self.dropout = nn.Dropout(dropout)
        self.recurrent = RECURRENT[recurrent](embedding_dim, hidden_size, num_layers, batch_first=True,
                                              dropout=dropout if num_layers > 1 else 0.0, bidirectional=bidirectional)
        self.output = nn.Linear(hidden_size * (2 if bidirectional else 1), num_classes)

    def config(self) -> dict[str, Any]:
        table, layer = self.embedding, self.recurrent
        return {"num_embeddings": table.num_embeddings, "num_classes": self.output.out_features,
                "embedding_dim": table.embedding_dim, "hidden_size": layer.hidden_size, "num_layers": layer.num_layers,
                "recurrent": self.kind, "bidirectional": layer.bidirectional, "pool": self.pool,
                "dropout": self.dropout.p, "padding_idx": table.padding_idx}

    def forward(self, ids: Tensor, lengths: Any) -> Tensor:
        x = self.dropout(self.embedding(ids))  # N, T, embedding_dim
        states, last = self.recurrent(x, None, lengths)  # N, T, H
        return self.output(self.dropout(self._pooled(states, last, as_array(lengths))))

    def _pooled(self, states: Tensor, last: Any, lengths: np.ndarray) -> Tensor:
        """One vector (N, H) of the states (N, T, H), of which those behind a text's end are 0."""
        if self.pool == "last":
            h = last[0] if isinstance(last, tuple) else last  # layers x directions, N, H
            return ops.cat([h[-2], h[-1]], dim=1) if self.recurrent.bidirectional else h[-1]
        if self.pool == "mean":
            return ops.sum(states, 1) / Tensor(lengths[:, None].astype(states.dtype))
        behind = np.arange(states.shape[1]) >= lengths[:, None]  # N, T
        return ops.amax(ops.masked_fill(states, Tensor(behind[:, :, None]), -np.inf), 1)

    def load_embeddings(self, vectors: Any) -> None:
        """Start from these word vectors (V, D) instead of random ones. Raises ShapeError if they do not fit."""
        table, weight = as_array(vectors), self.embedding.weight
        if table.shape != weight.shape:
            raise ShapeError(f"embedding: vectors of shape {table.shape} do not fit the weight {weight.shape}, one row "
                             "for each token of the vocabulary; were they learnt with another vocabulary or size?")
        weight.array[...] = table
        if self.embedding.padding_idx is not None:
            weight.array[self.embedding.padding_idx] = 0
