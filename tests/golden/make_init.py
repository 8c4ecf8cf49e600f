"""Make init.json: the bounds and standard deviations that PyTorch's initialisers draw with.

Run with PyTorch 2.13 installed: `python tests/golden/make_init.py`. tests/test_init.py only reads the file.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch.nn import init

SHAPES = [(60, 40), (24, 36, 5), (48, 16, 3, 5)]
CALLS = [
    ("xavier_uniform_", {}), ("xavier_uniform_", {"gain": 0.5}), ("xavier_normal_", {}),
    ("xavier_normal_", {"gain": 2}),
    *((f"kaiming_{kind}_", options) for kind in ("uniform", "normal") for options in (
        {}, {"a": 5**0.5}, {"mode": "fan_out"}, {"nonlinearity": "relu"}, {"nonlinearity": "tanh", "mode": "fan_out"},
        {"nonlinearity": "selu"}, {"nonlinearity": "conv_transpose2d"})),
]


class Recorder(torch.Tensor):
    """A tensor that notes what it is asked to be filled with: the bound of a uniform, the deviation of a normal."""

    def uniform_(self, a, b, generator=None):
        self.drawn = b
        return self

    def normal_(self, mean, std, generator=None):
        self.drawn = std
        return self


if __name__ == "__main__":
    rows = []
    for shape in SHAPES:
        for name, options in CALLS:
            tensor = torch.empty(shape).as_subclass(Recorder)
            getattr(init, name)(tensor, **options)
            rows.append({"name": name, "shape": shape, "options": options, "drawn": tensor.drawn})
    gains = {name: init.calculate_gain(name) for name in (
        "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid",
        "tanh", "relu", "leaky_relu", "selu")}
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    text = f'{{"gains": {json.dumps(gains)},\n "calls": [\n  {lines}\n]}}\n'
    Path(__file__).with_name("init.json").write_text(text)
    print(f"{len(rows)} calls")
