"""GPT: a stack of attention layers that reads from left to right and says, at each token, which comes next.

The decoder of GPT-2 under its names: LayerNorm before attention and before the feed-forward part ("pre-norm"), learned
positions, GELU. `generate` writes on, one token at a time, and keeps the keys and values of what was read.
Shapes: N texts, T tokens each, D = n_embd, V = vocab_size.
Radford, Wu, Child, Luan, Amodei and Sutskever 2019, "Language models are unsupervised multitask learners".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import nn, random, transfer
from minidl.errors import ShapeError
from minidl.nn import functional as F
from minidl.nn import init
from minidl.tensor import Tensor, no_grad


@transfer.register
class CausalSelfAttention(nn.Module):
    """Each token asks those before it, and itself, for what they know; (N, T, D) to (N, T, D)."""

    def __init__(self, n_embd: int, n_head: int, dropout: float = 0.0, bias: bool = True):
        if n_embd % n_head:
            raise ValueError(f"CausalSelfAttention: a width of {n_embd} cannot be split among {n_head} heads")
        self.n_embd, self.n_head, self.dropout, self.bias = n_embd, n_head, dropout, bias or None
        self.c_attn = nn.Linear(n_embd, 3 * n_embd, bias=bias)  # queries, keys and values in one product
        self.c_proj = nn.Linear(n_embd, n_embd, bias=bias)
        self.resid_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
        qkv = self.c_attn(x)  # N, T, 3 D
        if cache is None:
            dropout = self.dropout if self.training else 0.0
            y = F.packed_attention(qkv, None, num_heads=self.n_head, dropout_p=dropout, is_causal=True)
        else:
            past, (query, key, value) = cache.length, qkv.split(self.n_embd, dim=-1)
            key, value = cache.append(key, value)
            y = F.multi_head_attention(query, key, value, None, num_heads=self.n_head, is_causal=True, past=past)
        return self.resid_dropout(self.c_proj(y))


@transfer.register
class GPTMLP(nn.Module):
    """c_proj(gelu(c_fc(x))): a network of its own for each token, four times as wide inside."""

    def __init__(self, n_embd: int, dropout: float = 0.0, bias: bool = True):
        self.n_embd, self.bias = n_embd, bias or None
        self.c_fc = nn.Linear(n_embd, 4 * n_embd, bias=bias)
        self.c_proj = nn.Linear(4 * n_embd, n_embd, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def config(self) -> dict[str, Any]:
        return {"n_embd": self.n_embd, "dropout": self.dropout.p, "bias": self.bias is not None}

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x))))


@transfer.register
class GPTBlock(nn.Module):
    """x + attention(LayerNorm(x)), then x + mlp(LayerNorm(x)): what is added never blocks what passes by."""

    def __init__(self, n_embd: int, n_head: int, dropout: float = 0.0, bias: bool = True):
        self.n_embd, self.n_head, self.dropout, self.bias = n_embd, n_head, dropout, bias or None
        self.ln_1 = nn.LayerNorm(n_embd, bias=bias)
        self.attn = CausalSelfAttention(n_embd, n_head, dropout, bias)
        self.ln_2 = nn.LayerNorm(n_embd, bias=bias)
        self.mlp = GPTMLP(n_embd, dropout, bias)

    def forward(self, x: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


@transfer.register
class GPT(nn.Module):
    """Token ids (N, T) to scores of the next token at each place, (N, T, V).

    tied=True uses the table of token embeddings as the last layer, too, as GPT-2 does (Press and Wolf 2017, "Using the
    output embedding to improve language models"); tied=False gives the head weights of its own. bias=False leaves out
    all biases. Weights start normal with standard deviation 0.02, those that end a branch with 0.02 / sqrt(2 n_layer).
    Raises ShapeError for texts longer than block_size, IndexError for ids outside the vocabulary.
    """

    def __init__(self, vocab_size: int, block_size: int, n_layer: int = 12, n_head: int = 12, n_embd: int = 768,
                 dropout: float = 0.0, bias: bool = True, tied: bool = True):
        self.vocab_size, self.block_size, self.n_layer, self.n_head = vocab_size, block_size, n_layer, n_head
        self.n_embd, self.dropout, self.bias, self.tied = n_embd, dropout, bias or None, tied
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.wpe = nn.Embedding(block_size, n_embd)
        self.drop = nn.Dropout(dropout)
        self.h = nn.ModuleList(GPTBlock(n_embd, n_head, dropout, bias) for _ in range(n_layer))
        self.ln_f = nn.LayerNorm(n_embd, bias=bias)
        self.lm_head = None if tied else nn.Linear(n_embd, vocab_size, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for path, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                init.normal_(module.weight, 0.0, 0.02 * (2 * self.n_layer) ** (-0.5 if path.endswith("c_proj") else 0))
            if isinstance(module, nn.Linear) and module.bias is not None:
                init.zeros_(module.bias)

    def forward(self, ids: Any, cache: list[nn.KeyValueCache] | None = None) -> Tensor:
        """cache: of `new_cache`; ids then are what follows on what it holds, and their keys and values are added.

        What is kept has no gradient, so this is for use under `no_grad`.
        """
        ids = ids.array if isinstance(ids, Tensor) else np.asarray(ids)
        if ids.ndim != 2 or not ids.size:
            raise ShapeError(f"token ids (N, T) are needed, N texts of T tokens, these have shape {ids.shape}")
        start = 0 if cache is None else cache[0].length
        end = start + ids.shape[1]
        if end > self.block_size:
            before = f" after the {start} in the cache" if start else ""
            raise ShapeError(f"ids {ids.shape} are {ids.shape[1]} tokens{before}, the position table has "
                             f"{self.block_size} rows (block_size); cut the texts to {self.block_size} tokens")
        x = self.drop(self.wte(ids) + self.wpe(np.arange(start, end)))  # N, T, D
        for layer, block in enumerate(self.h):
            x = block(x, None if cache is None else cache[layer])
        if cache is not None:
            x = x[:, -1:]
        x = self.ln_f(x)
        return F.linear(x, self.wte.weight) if self.lm_head is None else self.lm_head(x)

    def new_cache(self, texts: int = 1) -> list[nn.KeyValueCache]:
        """An empty cache for so many texts; with one, `forward` returns the scores of the last token only."""
        dtype = self.wte.weight.dtype
        return [nn.KeyValueCache(texts, self.block_size, self.n_embd, dtype) for _ in range(self.n_layer)]

    def generate(self, ids: Any, max_new_tokens: int, temperature: float = 1.0, top_k: int | None = None,
                 generator: np.random.Generator | None = None) -> np.ndarray:
        """Continue texts (N, T) by so many tokens: ids (N, T + max_new_tokens).

        Each is drawn from softmax(scores / temperature), among the top_k likeliest only if given; temperature=0 takes
        the likeliest. It follows from the block_size tokens before it: up to there one token costs one step through
        the network, thanks to the cache. Beyond, every token's position changes, and the block is read anew.
        In evaluation mode, without gradients. Raises ValueError for a temperature below 0, a top_k outside 1..V, no
        token to begin with.
        """
        ids = np.asarray(ids.array if isinstance(ids, Tensor) else ids)
        if ids.ndim != 2 or not ids.size:
            raise ShapeError(f"generate: begin with ids (N, T) of at least one token each, not {ids.shape}")
        if not temperature >= 0:
            raise ValueError(f"generate: temperature must be a number from 0, not {temperature}")
        if top_k is not None and not 1 <= top_k <= self.vocab_size:
            raise ValueError(f"generate: top_k must be between 1 and {self.vocab_size}, the tokens there are, not "
                             f"{top_k}")
        source, mode = random.generator(generator), self._mode
        cache, fresh = self.new_cache(len(ids)), ids[:, -self.block_size:]
        self.eval()
        try:
            with no_grad():
                for _ in range(max_new_tokens):
                    if cache[0].length + fresh.shape[1] > self.block_size:
                        cache, fresh = self.new_cache(len(ids)), ids[:, -self.block_size:]
                    scores = self(fresh, cache).array[:, -1]  # N, V
                    fresh = _draw(scores, temperature, top_k, source)[:, None]
                    ids = np.concatenate([ids, fresh], axis=1)
        finally:
            self.train(mode)
        return ids


def _draw(scores: np.ndarray, temperature: float, top_k: int | None, generator: np.random.Generator) -> np.ndarray:
    """One token for each row of scores (N, V): (N,)."""
    if temperature == 0:
        return scores.argmax(axis=1)
    scores = scores.astype(np.float64) / temperature
    if top_k is not None:
        least = np.partition(scores, -top_k, axis=1)[:, -top_k, None]
        scores = np.where(scores < least, -np.inf, scores)
    # adding Gumbel noise to logarithms of odds and taking the largest is a draw from the softmax
    return (scores + generator.gumbel(size=scores.shape)).argmax(axis=1)
