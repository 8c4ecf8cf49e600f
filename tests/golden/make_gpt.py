"""Make gpt.npz: weights, scores and all gradients of a tiny GPT-2 by Hugging Face's transformers, in float64.

Run with PyTorch 2.13 and transformers 5 installed: `python tests/golden/make_gpt.py`. Its dense layers keep their
weights as (in, out); they are written as (out, in). tests/test_models_gpt.py only reads the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

DENSE = ("c_attn.weight", "c_proj.weight", "c_fc.weight")

if __name__ == "__main__":
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=13, n_positions=8, n_embd=12, n_layer=2, n_head=3, activation_function="gelu",
                        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, initializer_range=0.3)
    model = GPT2LMHeadModel(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    ids = torch.randint(0, 13, (2, 8))
    scores = model(ids).logits
    loss = torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    values = {"ids": ids.numpy(), "loss": loss.detach().numpy(), "scores": scores.detach().numpy()}
    for name, parameter in model.transformer.named_parameters():
        turn = (lambda x: x.T) if name.endswith(DENSE) else (lambda x: x)
        values[f"weight/{name}"] = np.ascontiguousarray(turn(parameter.detach().numpy()))
        values[f"gradient/{name}"] = np.ascontiguousarray(turn(parameter.grad.numpy()))
    path = Path(__file__).with_name("gpt.npz")
    np.savez_compressed(path, **values)
    print(f"{len(values)} arrays, {path.stat().st_size / 1e3:.0f} kB")
