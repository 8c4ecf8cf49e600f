"""GPT and BERT in plain `torch.nn`, under the parameter names of `minidl.models`, so that weights are carried by name.

Written as a PyTorch user would: attention by `F.scaled_dot_product_attention`, which picks the fused kernel itself.
Read next: transformers.py.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np


def torch_gpt(model: Any) -> Any:
    """The twin of minidl's GPT `model`, with its weights."""
    torch = import_module("torch")
    nn, F = torch.nn, torch.nn.functional
    width, heads, bias = model.n_embd, model.n_head, bool(model.bias)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c_attn = nn.Linear(width, 3 * width, bias=bias)
            self.c_proj = nn.Linear(width, width, bias=bias)

        def forward(self, x: Any) -> Any:
            n, t, _ = x.shape
            q, k, v = (part.view(n, t, heads, width // heads).transpose(1, 2)
                       for part in self.c_attn(x).split(width, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.c_proj(y.transpose(1, 2).reshape(n, t, width))

    class MLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c_fc = nn.Linear(width, 4 * width, bias=bias)
            self.c_proj = nn.Linear(4 * width, width, bias=bias)

        def forward(self, x: Any) -> Any:
            return self.c_proj(F.gelu(self.c_fc(x)))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.attn = nn.LayerNorm(width, bias=bias), Attention()
            self.ln_2, self.mlp = nn.LayerNorm(width, bias=bias), MLP()

        def forward(self, x: Any) -> Any:
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(model.vocab_size, width)
            self.wpe = nn.Embedding(model.block_size, width)
            self.h = nn.ModuleList(Block() for _ in range(model.n_layer))
            self.ln_f = nn.LayerNorm(width, bias=bias)

        def forward(self, ids: Any) -> Any:
            x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
            for block in self.h:
                x = block(x)
            return F.linear(self.ln_f(x), self.wte.weight)

    with torch.device("meta"):  # no memory for weights that are replaced
        twin = GPT()
    return _with_weights_of(model, twin)


def torch_bert(model: Any) -> Any:
    """The twin of minidl's BertModel `model` without a pooler: (input_ids, mask) to the last hidden state."""
    torch = import_module("torch")
    nn, F = torch.nn, torch.nn.functional
    width, heads, inner = model.hidden_size, model.num_attention_heads, model.intermediate_size
    eps = model.layer_norm_eps
    p, p_attention = model.hidden_dropout_prob, model.attention_probs_dropout_prob

    class Embeddings(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.word_embeddings = nn.Embedding(model.vocab_size, width, padding_idx=model.pad_token_id)
            self.position_embeddings = nn.Embedding(model.max_position_embeddings, width)
            self.token_type_embeddings = nn.Embedding(model.type_vocab_size, width)
            self.LayerNorm, self.dropout = nn.LayerNorm(width, eps), nn.Dropout(p)

        def forward(self, ids: Any) -> Any:
            x = self.word_embeddings(ids) + self.token_type_embeddings(torch.zeros_like(ids))
            return self.dropout(self.LayerNorm(x + self.position_embeddings(torch.arange(ids.shape[1]))))

    class SelfAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

        def forward(self, x: Any, mask: Any) -> Any:
            n, t, _ = x.shape
            q, k, v = (part(x).view(n, t, heads, width // heads).transpose(1, 2)
                       for part in (self.query, self.key, self.value))
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p_attention if self.training else 0.0)
            return y.transpose(1, 2).reshape(n, t, width)

    class Output(nn.Module):
        def __init__(self, inputs: int):
            super().__init__()
            self.dense, self.LayerNorm, self.dropout = nn.Linear(inputs, width), nn.LayerNorm(width, eps), nn.Dropout(p)

        def forward(self, y: Any, x: Any) -> Any:
            return self.LayerNorm(self.dropout(self.dense(y)) + x)

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.ModuleDict({"self": SelfAttention(), "output": Output(width)})
            self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
            self.output = Output(inner)

        def forward(self, x: Any, mask: Any) -> Any:
            x = self.attention["output"](self.attention["self"](x, mask), x)
            return self.output(F.gelu(self.intermediate["dense"](x)), x)

    class Bert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = Embeddings()
            layers = nn.ModuleList(Layer() for _ in range(model.num_hidden_layers))
            self.encoder = nn.ModuleDict({"layer": layers})

        def forward(self, ids: Any, mask: Any = None) -> Any:
            x, mask = self.embeddings(ids), None if mask is None else mask[:, None, None]  # N, 1, 1, T
            for layer in self.encoder["layer"]:
                x = layer(x, mask)
            return x

    with torch.device("meta"):
        twin = Bert()
    return _with_weights_of(model, twin)


def torch_classifier(model: Any) -> Any:
    """The twin of `nn.Sequential({"encoder": SentenceEncoder(bert), "head": nn.Linear(D, classes)})`."""
    torch = import_module("torch")
    nn = torch.nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = torch_bert(model.encoder.bert)

        def forward(self, ids: Any) -> Any:
            mask = ids != model.encoder.bert.pad_token_id
            x = self.bert(ids, None if mask.all() else mask)
            weights = mask[..., None].to(x.dtype)
            return (x * weights).sum(1) / weights.sum(1)

    with torch.device("meta"):
        head = nn.Linear(model.head.in_features, model.head.out_features)
    twin = nn.Sequential()
    twin.add_module("encoder", Encoder())
    twin.add_module("head", _with_weights_of(model.head, head))
    return twin


def _with_weights_of(model: Any, twin: Any) -> Any:
    """The twin with the model's weights; each is let go when it is copied, so that peak memory counts one of them."""
    torch = import_module("torch")
    state = {}
    for name, parameter in model.named_parameters():
        state[name] = torch.from_numpy(parameter.numpy().copy())
        parameter.data = np.empty(0, np.float32)
    twin.load_state_dict(state, assign=True)
    return twin
