"""Make attention.npz: outputs and all gradients of PyTorch's MultiheadAttention and TransformerEncoder, in float64.

Run with PyTorch 2.13 installed: `python tests/golden/make_attention.py`. tests/test_attention.py only reads the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from attention_cases import ATTENTIONS, ENCODERS, HEADS, E, L, S, inputs, masks, numbers, parameters  # noqa: E402


def as_tensors(arrays):
    return {name: torch.tensor(array) for name, array in arrays.items()}


def filled(name, layer):
    """The layer with the case's weights."""
    shapes = {key: tuple(value.shape) for key, value in layer.state_dict().items()}
    layer.load_state_dict(as_tensors(parameters(name, shapes)))
    return layer


def gradients(layer, arrays, output):
    output.backward(torch.tensor(numbers("gradient", 0, tuple(output.shape))))
    values = {f"input{index}": x.grad.numpy() for index, x in enumerate(arrays)}
    return values | {key: value.grad.numpy() for key, value in layer.named_parameters()}


def attention(name):
    options, which, call = ATTENTIONS[name]
    layer = filled(name, nn.MultiheadAttention(E, HEADS, dtype=torch.float64, **options))
    arrays = [torch.tensor(x, requires_grad=True) for x in inputs(name, options)]
    keys = L if len(arrays) == 1 else S
    query, key, value = arrays * 3 if len(arrays) == 1 else arrays
    output, weights = layer(query, key, value, **as_tensors(masks(name, which, keys)), **call)
    values = {"output": output.detach().numpy()}
    if weights is not None:
        values["weights"] = weights.detach().numpy()
    return values | gradients(layer, arrays, output)


def encoder(name):
    options, which = ENCODERS[name]
    layer = nn.TransformerEncoderLayer(E, HEADS, 12, dropout=0.0, dtype=torch.float64, **options)
    norm = nn.LayerNorm(E, dtype=torch.float64) if options.get("norm_first") else None
    stack = filled(name, nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False))
    arrays = [torch.tensor(x, requires_grad=True) for x in inputs(name, options)]
    found = as_tensors(masks(name, which, L))
    output = stack(arrays[0], found.get("attn_mask"), found.get("key_padding_mask"))
    return {"output": output.detach().numpy()} | gradients(stack, arrays, output)


if __name__ == "__main__":
    made = {f"attention/{name}": attention(name) for name in ATTENTIONS}
    made |= {f"encoder/{name}": encoder(name) for name in ENCODERS}
    values = {f"{case}/{key}": value for case, found in made.items() for key, value in found.items()}
    path = Path(__file__).with_name("attention.npz")
    np.savez_compressed(path, **values)
    print(f"{len(made)} cases, {len(values)} arrays, {path.stat().st_size / 1e3:.0f} kB")
