"""Make averaging.npz: PyTorch's averages of weights, from torch.optim.swa_utils.

Run with PyTorch 2.13 installed: `python tests/golden/make_averaging.py`. tests/test_transfer_averaging.py only reads
the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

sys.path.insert(0, str(Path(__file__).parents[1]))
from averaging_cases import DECAYS, SHAPES, batches, snapshots  # noqa: E402


def averaged(use_buffers: bool, **options) -> AveragedModel:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    result = AveragedModel(model, use_buffers=use_buffers, **options)
    for weights in snapshots():
        model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()}, strict=False)
        result.update_parameters(model)
    return result


if __name__ == "__main__":
    values: dict[str, np.ndarray] = {}
    for decay in DECAYS:
        for use_buffers in (False, True):
            state = averaged(use_buffers, multi_avg_fn=get_ema_multi_avg_fn(decay)).module.state_dict()
            values |= {f"{decay}/{use_buffers}/{name}": state[name].numpy() for name in SHAPES}
    mean = averaged(True)
    values |= {f"mean/{name}": mean.module.state_dict()[name].numpy().copy() for name in SHAPES}
    update_bn([torch.tensor(batch) for batch in batches()], mean)
    values |= {f"update_bn/{name}": tensor.numpy() for name, tensor in mean.module.named_buffers()}
    path = Path(__file__).with_name("averaging.npz")
    np.savez_compressed(path, **values)
    print(f"{len(values)} arrays, {path.stat().st_size / 1e3:.0f} kB")
