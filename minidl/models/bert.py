"""BERT: a stack of attention layers that reads a sentence in both directions at once and gives a vector for each token.

`BertModel` is the encoder, under the names that Hugging Face gives its parts and arguments, so that its checkpoints
fit by name (`bert_files.py` loads them). `bert_heads.py` puts something on top: a vector for a sentence, a guess for
a hidden word.
Shapes: N sentences, T tokens each (padded), D = hidden_size, H heads, L layers.
Devlin, Chang, Lee and Toutanova 2019, "BERT: pre-training of deep bidirectional transformers".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minidl import nn, transfer
from minidl.errors import ShapeError
from minidl.nn import functional as F
from minidl.nn import init
from minidl.tensor import Tensor


class BertOutput(NamedTuple):
    """What `BertModel` returns: (N, T, D), (N, D) or None without a pooler, and L + 1 times (N, T, D) if asked for."""

    last_hidden_state: Tensor
    pooler_output: Tensor | None
    hidden_states: tuple[Tensor, ...] | None


@transfer.register
class BertEmbeddings(nn.Module):
    """LayerNorm(word + position + token type), each looked up in a table: (N, T) token ids become (N, T, D)."""

    def __init__(self, vocab_size: int, hidden_size: int, max_position_embeddings: int, type_vocab_size: int,
                 layer_norm_eps: float, hidden_dropout_prob: float, pad_token_id: int | None):
        self.vocab_size, self.hidden_size, self.pad_token_id = vocab_size, hidden_size, pad_token_id
        self.max_position_embeddings, self.type_vocab_size = max_position_embeddings, type_vocab_size
        self.layer_norm_eps, self.hidden_dropout_prob = layer_norm_eps, hidden_dropout_prob
        self.word_embeddings = nn.Embedding(vocab_size, hidden_size, padding_idx=pad_token_id)
        self.position_embeddings = nn.Embedding(max_position_embeddings, hidden_size)
        self.token_type_embeddings = nn.Embedding(type_vocab_size, hidden_size)
        self.LayerNorm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(hidden_dropout_prob)

    def forward(self, input_ids: Any, token_type_ids: Any = None) -> Tensor:
        length = input_ids.shape[1]
        if length > self.max_position_embeddings:
            raise ShapeError(f"input_ids {input_ids.shape} are {length} tokens long, the position table has "
                             f"{self.max_position_embeddings} rows; cut the sentences to at most "
                             f"{self.max_position_embeddings} tokens, for instance with truncation in the tokeniser")
        if token_type_ids is None:
            types = self.token_type_embeddings(np.zeros(1, np.int64))  # 1, D: the first sentence's type everywhere
        else:
            types = self.token_type_embeddings(token_type_ids)
        positions = self.position_embeddings(np.arange(length))  # T, D
        x = self.word_embeddings(input_ids) + (positions + types)
        return self.dropout(self.LayerNorm(x))


@transfer.register
class BertSelfAttention(nn.Module):
    """Each token asks all others: softmax(q k^T / sqrt(D / H)) v for each of H heads, side by side in (N, T, D)."""

    def __init__(self, hidden_size: int, num_attention_heads: int, attention_probs_dropout_prob: float):
        if hidden_size % num_attention_heads:
            raise ValueError(f"BertSelfAttention: hidden_size {hidden_size} cannot be split among "
                             f"{num_attention_heads} attention heads")
        self.hidden_size, self.num_attention_heads = hidden_size, num_attention_heads
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, mask: Any) -> Tensor:
        dropout = self.attention_probs_dropout_prob if self.training else 0.0
        return F.multi_head_attention(self.query(x), self.key(x), self.value(x), mask,
                                      num_heads=self.num_attention_heads, dropout_p=dropout)


@transfer.register
class BertOutputLayer(nn.Module):
    """LayerNorm(x + dense(y)): what follows the attention and the feed-forward part alike ("post-norm")."""

    def __init__(self, in_features: int, hidden_size: int, layer_norm_eps: float, hidden_dropout_prob: float):
        self.in_features, self.hidden_size = in_features, hidden_size
        self.layer_norm_eps, self.hidden_dropout_prob = layer_norm_eps, hidden_dropout_prob
        self.dense = nn.Linear(in_features, hidden_size)
        self.LayerNorm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(hidden_dropout_prob)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(y)) + x)


@transfer.register
class BertAttention(nn.Module):
    """Self-attention and what follows it."""

    def __init__(self, hidden_size: int, num_attention_heads: int, layer_norm_eps: float, hidden_dropout_prob: float,
                 attention_probs_dropout_prob: float):
        self.hidden_size, self.num_attention_heads = hidden_size, num_attention_heads
        self.layer_norm_eps, self.hidden_dropout_prob = layer_norm_eps, hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.self = BertSelfAttention(hidden_size, num_attention_heads, attention_probs_dropout_prob)
        self.output = BertOutputLayer(hidden_size, hidden_size, layer_norm_eps, hidden_dropout_prob)

    def forward(self, x: Tensor, mask: Any) -> Tensor:
        return self.output(self.self(x, mask), x)


@transfer.register
class BertIntermediate(nn.Module):
    """gelu(dense(x)): the widening half of the feed-forward part."""

    def __init__(self, hidden_size: int, intermediate_size: int):
        self.hidden_size, self.intermediate_size = hidden_size, intermediate_size
        self.dense = nn.Linear(hidden_size, intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


@transfer.register
class BertLayer(nn.Module):
    """One layer of the encoder: attention among the tokens, then a small network for each token alone."""

    def __init__(self, hidden_size: int, num_attention_heads: int, intermediate_size: int, layer_norm_eps: float,
                 hidden_dropout_prob: float, attention_probs_dropout_prob: float):
        self.hidden_size, self.num_attention_heads = hidden_size, num_attention_heads
        self.intermediate_size, self.layer_norm_eps = intermediate_size, layer_norm_eps
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.attention = BertAttention(hidden_size, num_attention_heads, layer_norm_eps, hidden_dropout_prob,
                                       attention_probs_dropout_prob)
        self.intermediate = BertIntermediate(hidden_size, intermediate_size)
        self.output = BertOutputLayer(intermediate_size, hidden_size, layer_norm_eps, hidden_dropout_prob)

    def forward(self, x: Tensor, mask: Any) -> Tensor:
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


@transfer.register
class BertEncoder(nn.Module):
    """The layers, one after the other."""

    def __init__(self, num_hidden_layers: int, hidden_size: int, num_attention_heads: int, intermediate_size: int,
                 layer_norm_eps: float, hidden_dropout_prob: float, attention_probs_dropout_prob: float):
        self.num_hidden_layers, self.hidden_size = num_hidden_layers, hidden_size
        self.num_attention_heads, self.intermediate_size = num_attention_heads, intermediate_size
        self.layer_norm_eps = layer_norm_eps
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.layer = nn.ModuleList(
            BertLayer(hidden_size, num_attention_heads, intermediate_size, layer_norm_eps, hidden_dropout_prob,
                      attention_probs_dropout_prob) for _ in range(num_hidden_layers))

    def forward(self, x: Tensor, mask: Any) -> list[Tensor]:
        """What goes into the first layer and what comes out of each."""
        states = [x]
        for layer in self.layer:
            states.append(layer(states[-1], mask))
        return states


@transfer.register
class BertPooler(nn.Module):
    """tanh(dense(the first token's vector)): BERT's own vector for the whole sentence, (N, D)."""

    def __init__(self, hidden_size: int):
        self.hidden_size = hidden_size
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(self.dense(x[:, 0]))


@transfer.register
class BertModel(nn.Module):
    """The encoder: token ids (N, T) to a vector for each token, (N, T, D).

    The arguments are those of Hugging Face's config.json; the defaults make BERT base. Weights start normal with
    standard deviation initializer_range, biases at zero. add_pooling_layer=False leaves the pooler out.
    Raises ValueError where hidden_size cannot be split among the heads.
    """

    def __init__(self, vocab_size: int = 30522, hidden_size: int = 768, num_hidden_layers: int = 12,
                 num_attention_heads: int = 12, intermediate_size: int = 3072, hidden_dropout_prob: float = 0.1,
                 attention_probs_dropout_prob: float = 0.1, max_position_embeddings: int = 512,
                 type_vocab_size: int = 2, initializer_range: float = 0.02, layer_norm_eps: float = 1e-12,
                 pad_token_id: int | None = 0, add_pooling_layer: bool = True):
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.num_attention_heads, self.intermediate_size = num_attention_heads, intermediate_size
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.max_position_embeddings, self.type_vocab_size = max_position_embeddings, type_vocab_size
        self.initializer_range, self.layer_norm_eps = initializer_range, layer_norm_eps
        self.pad_token_id, self.add_pooling_layer = pad_token_id, add_pooling_layer
        self.embeddings = BertEmbeddings(vocab_size, hidden_size, max_position_embeddings, type_vocab_size,
                                         layer_norm_eps, hidden_dropout_prob, pad_token_id)
        self.encoder = BertEncoder(num_hidden_layers, hidden_size, num_attention_heads, intermediate_size,
                                   layer_norm_eps, hidden_dropout_prob, attention_probs_dropout_prob)
        self.pooler = BertPooler(hidden_size) if add_pooling_layer else None
        initialise(self, initializer_range)

    def forward(self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None,
                output_hidden_states: bool = False) -> BertOutput:
        """attention_mask (N, T): 1 where a token may be looked at, 0 at padding; left out, every token may.

        token_type_ids (N, T): 0 in a first and 1 in a second sentence; left out, 0.
        Raises ShapeError for other shapes and for sentences longer than the position table, IndexError for ids outside
        the tables, ValueError for a mask of other numbers and for a sentence of which nothing is to be seen.
        """
        input_ids = as_ids(input_ids)
        mask = as_mask(attention_mask, input_ids.shape)
        if token_type_ids is not None:
            token_type_ids = _of_same_shape("token_type_ids", _plain(token_type_ids), input_ids.shape)
        x = self.embeddings(input_ids, token_type_ids)
        states = self.encoder(x, None if mask is None or mask.all() else mask[:, None, None])  # N, 1, 1, T
        pooled = None if self.pooler is None else self.pooler(states[-1])
        return BertOutput(states[-1], pooled, tuple(states) if output_hidden_states else None)


def initialise(model: nn.Module, std: float) -> None:
    """BERT's initial weights: normal with this standard deviation, biases and the row of the padding zero."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            init.normal_(module.weight, 0.0, std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight.array[module.padding_idx] = 0


def as_ids(input_ids: Any) -> np.ndarray:
    """Token ids as an array (N, T) of integers. Raises ShapeError and TypeError for anything else."""
    ids = _plain(input_ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"input_ids must be integers, these are {ids.dtype}; use .long()")
    if ids.ndim != 2 or not ids.size:
        raise ShapeError(f"input_ids (N, T), N sentences of T token ids, are needed, these have shape {ids.shape}")
    return ids


def as_mask(attention_mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """A mask of zeros and ones as booleans (N, T), None as None. Raises as `BertModel.forward` says."""
    if attention_mask is None:
        return None
    numbers = _of_same_shape("attention_mask", _plain(attention_mask), shape)
    mask = numbers.astype(bool)
    if not (mask == numbers).all():
        raise ValueError(f"attention_mask must be 1 (look at it) or 0 (padding) everywhere, it holds "
                         f"{numbers[mask != numbers].flat[0]}")
    seen = mask.any(axis=1)
    if not seen.all():
        raise ValueError(f"attention_mask is 0 for all {shape[1]} tokens of sentence {int(np.argmin(seen))} of "
                         f"{shape[0]}: there is nothing to look at")
    return mask


def _plain(values: Any) -> np.ndarray:
    return values.array if isinstance(values, Tensor) else np.asanyarray(values)


def _of_same_shape(name: str, array: Any, shape: tuple[int, ...]) -> Any:
    if array.shape != shape:
        raise ShapeError(f"{name} has shape {array.shape}, input_ids have {shape}; they must be equal")
    return array
