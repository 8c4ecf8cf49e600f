"""Write golden values for the losses of tokens: PyTorch's cross-entropy with ignored targets, and its gradient.

    python tests/golden/make_token_losses.py

Needs PyTorch (2.13 was used). Inputs are kept beside the results in token_losses.npz.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

N, T, C = 3, 5, 7
LENGTHS = np.array([5, 2, 3])


def main():
    generator = np.random.default_rng(11)
    logits = 2 * generator.standard_normal((N, T, C))
    target = generator.integers(0, C, (N, T))
    weight = generator.random(C) + 0.5
    mask = np.arange(T) < LENGTHS[:, None]
    found = {"logits": logits, "target": target, "mask": mask, "weight": weight}
    for name, options in {"mean": {}, "sum": {"reduction": "sum"}, "none": {"reduction": "none"},
                          "smooth": {"label_smoothing": 0.1}, "weighted": {"weight": torch.tensor(weight)}}.items():
        x = torch.tensor(logits, requires_grad=True)
        ids = torch.tensor(np.where(mask, target, -100))
        loss = F.cross_entropy(x.transpose(1, 2), ids, ignore_index=-100, **options)
        loss.sum().backward()
        found |= {f"{name}/loss": loss.detach().numpy(), f"{name}/grad": x.grad.numpy()}
    found["perplexity"] = np.exp(found["mean/loss"])
    np.savez_compressed(Path(__file__).with_name("token_losses.npz"), **found)


if __name__ == "__main__":
    main()
