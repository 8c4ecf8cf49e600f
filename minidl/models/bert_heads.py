"""What is put on top of a BERT: one vector for a sentence, or a guess for each hidden word.

`SentenceEncoder` is what one fine-tunes or freezes, `BertForMaskedLM` what pre-training trains. Read `bert.py` first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl import nn, transfer
from minidl.models.bert import BertModel, as_ids, as_mask, initialise
from minidl.nn import functional as F
from minidl.ops import cat
from minidl.tensor import Tensor, no_grad


def _check_bert(name: str, bert: object) -> None:
    if bert is not None and not isinstance(bert, nn.Module):
        raise TypeError(f"{name}: a BertModel is needed, got {type(bert).__name__}; "
                        "bert_from_pretrained(folder) reads one")


@transfer.register
class SentenceEncoder(nn.Module):
    """The mean of a BERT's token vectors over the tokens of each sentence: token ids (N, T) to (N, D).

    A sentence's tokens are those that the mask shows, or, without a mask, those that are not the padding token.
    normalize=True gives vectors of length 1, whose products are cosines of the angles between them. all_layers=True
    puts the means of the embeddings and of each layer side by side, (N, (L + 1) D): a frozen network says more about a
    sentence than its last layer does. Reimers and Gurevych 2019, "Sentence-BERT".
    """

    def __init__(self, bert: BertModel | None = None, normalize: bool = False, all_layers: bool = False):
        _check_bert("SentenceEncoder", bert)
        self.bert: Any = bert
        self.normalize, self.all_layers = normalize, all_layers

    def config(self) -> dict[str, Any]:
        return {"normalize": self.normalize, "all_layers": self.all_layers}  # the encoder is written down as a child

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Tensor:
        """Raises ValueError for a sentence without tokens, and what `BertModel` raises."""
        ids = as_ids(input_ids)
        mask = as_mask(ids != self.bert.pad_token_id if attention_mask is None else attention_mask, ids.shape)
        output = self.bert(ids, mask, output_hidden_states=self.all_layers)
        states = output.hidden_states if self.all_layers else (output.last_hidden_state,)
        pooled = cat([mean_pooling(state, mask) for state in states], dim=1)
        return F.normalize(pooled) if self.normalize else pooled

    def embed(self, sequences: Sequence[Sequence[int]], batch_size: int = 32) -> np.ndarray:
        """The vectors, a row each, of N lists of token ids, in evaluation mode and without gradients.

        Sentences of similar length are read together, so that little is padded; the order of the result is theirs.
        Raises ValueError for an empty list.
        """
        lengths = np.array([len(sequence) for sequence in sequences], np.int64)
        if not lengths.all():
            raise ValueError(f"embed: sentence {int(np.argmin(lengths))} of {len(lengths)} has no tokens")
        width = self.bert.hidden_size * (self.bert.num_hidden_layers + 1 if self.all_layers else 1)
        vectors = np.empty((len(lengths), width), self.bert.embeddings.word_embeddings.weight.dtype)
        order, modes = np.argsort(-lengths, kind="stable"), [(module, module._mode) for module in self.modules()]
        self.eval()
        try:
            with no_grad():
                for start in range(0, len(order), batch_size):
                    chosen = order[start:start + batch_size]
                    mask = np.arange(lengths[chosen[0]]) < lengths[chosen][:, None]  # N, T
                    ids = np.zeros(mask.shape, np.int64)
                    ids[mask] = np.concatenate([sequences[number] for number in chosen])
                    vectors[chosen] = self(ids, mask).array
        finally:
            for module, mode in modes:
                module.training = mode
        return vectors


def mean_pooling(vectors: Tensor, mask: np.ndarray) -> Tensor:
    """The mean of vectors (N, T, D) over the places where mask (N, T) is true: (N, D)."""
    weights = mask / mask.sum(axis=1, keepdims=True)  # N, T
    weights = Tensor(weights[:, None].astype(vectors.dtype))  # N, 1, T
    return (weights @ vectors).squeeze(1)


@transfer.register
class BertPredictionHead(nn.Module):
    """Scores of all words of the vocabulary, (P, D) to (P, V), through the table of word embeddings itself."""

    def __init__(self, vocab_size: int, hidden_size: int, layer_norm_eps: float):
        self.vocab_size, self.hidden_size, self.layer_norm_eps = vocab_size, hidden_size, layer_norm_eps
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.LayerNorm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.word_bias = nn.Parameter(np.zeros(vocab_size, np.float32))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        return F.linear(self.LayerNorm(F.gelu(self.dense(x))), table, self.word_bias)


@transfer.register
class BertForMaskedLM(nn.Module):
    """A BERT that guesses the words at given places of the sentences, where a mask token stands instead of them."""

    def __init__(self, bert: BertModel | None = None):
        _check_bert("BertForMaskedLM", bert)
        self.bert: Any = bert
        if bert is not None:
            self.cls = BertPredictionHead(bert.vocab_size, bert.hidden_size, bert.layer_norm_eps)
            initialise(self.cls, bert.initializer_range)

    def config(self) -> dict[str, Any]:
        return {}

    def forward(self, input_ids: Any, attention_mask: Any, places: np.ndarray) -> Tensor:
        """Scores (P, V) of all words at the places that places (N, T) marks with True, in the order of reading.

        Only these places meet the large product with the table: a seventh of all, as pre-training masks them.
        """
        vectors = self.bert(input_ids, attention_mask).last_hidden_state
        return self.cls(vectors[np.asarray(places, bool)], self.bert.embeddings.word_embeddings.weight)
