"""How parameters start: each function fills a tensor in place and returns it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl import random
from minidl.tensor import Tensor


def fan_in_and_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs each output sums over, and how many outputs each input reaches, for a weight (O, I, *kernel)."""
    if tensor.ndim < 2:
        raise ValueError(f"fan in and fan out need a weight of at least 2 axes, this one has shape {tensor.shape}")
    receptive = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] * receptive


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: np.random.Generator | None = None) -> Tensor:
    """Uniform in [a, b)."""
    tensor.array[...] = random.generator(generator).uniform(a, b, tensor.shape)
    return tensor


def kaiming_uniform_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: np.random.Generator | None = None) -> Tensor:
    """Uniform in ±gain * sqrt(3 / fan) (He et al. 2015, "Delving deep into rectifiers")."""
    fan = fan_in_and_out(tensor)[mode == "fan_out"]
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3 / fan)
    return uniform_(tensor, -bound, bound, generator)


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """The factor that keeps the variance of activations through a nonlinearity."""
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2 / (1 + slope**2))
    gains = {"linear": 1.0, "sigmoid": 1.0, "conv1d": 1.0, "conv2d": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2),
             "selu": 0.75}
    if nonlinearity not in gains:
        raise ValueError(f"no gain known for '{nonlinearity}': one of {', '.join(gains)}, leaky_relu")
    return gains[nonlinearity]
