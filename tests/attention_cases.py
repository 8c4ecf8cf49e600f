"""The attention layers and inputs that golden/make_attention.py gives to PyTorch and test_attention.py to minidl."""

from __future__ import annotations

from typing import Any

import numpy as np

N, L, S, E, HEADS = 3, 5, 6, 8, 2  # samples, queries, keys, width, heads

# name -> constructor's options, which masks forward gets, forward's options
ATTENTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...], dict[str, Any]]] = {
    "self": ({"batch_first": True}, (), {"need_weights": False}),
    "self-length-first": ({}, ("padding",), {"need_weights": False}),
    "self-causal-padding": ({"batch_first": True}, ("causal", "padding"), {"need_weights": False}),
    "self-no-bias": ({"batch_first": True, "bias": False}, ("numbers",), {"need_weights": False}),
    "self-weights": ({"batch_first": True}, ("numbers-per-head", "padding"), {}),
    "cross": ({"batch_first": True}, ("padding",), {"need_weights": False}),
    "cross-length-first": ({}, ("pairs",), {"need_weights": False}),
    "cross-weights-per-head": ({}, ("pairs", "padding"), {"average_attn_weights": False}),
    "cross-other-widths": ({"batch_first": True, "kdim": 7, "vdim": 4}, ("pairs-per-head",), {"need_weights": False}),
    "cross-other-widths-no-bias": ({"kdim": 7, "bias": False}, (), {}),
    "unbatched": ({"bias": False}, ("padding", "causal"), {}),
}

ENCODERS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {  # name -> the layer's options, masks
    "relu": ({}, ()),
    "relu-padding": ({"batch_first": True}, ("padding",)),
    "gelu-causal": ({"activation": "gelu", "batch_first": True}, ("causal",)),
    "norm-first": ({"norm_first": True, "layer_norm_eps": 1e-3}, ("causal", "padding")),
    "norm-first-gelu-no-bias": ({"norm_first": True, "activation": "gelu", "bias": False, "batch_first": True}, ()),
}


def numbers(name: str, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers that are the same in float32 and float64."""
    seed = sum(name.encode()) * 100 + index
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(np.float64)


def parameters(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights of a size that a trained layer has, for each name in a state_dict."""
    return {key: numbers(name + key, 7, shape) / 2 for key, shape in shapes.items()}


def inputs(name: str, options: dict[str, Any]) -> list[np.ndarray]:
    """Query, key and value; one array for a layer that attends to its own input."""
    widths = [E, options.get("kdim", E), options.get("vdim", E)]
    shapes = [(L, N, E), (S, N, widths[1]), (S, N, widths[2])]
    if name == "unbatched":
        shapes = [(L, E)]
    elif name.startswith("self") or name in ENCODERS:
        shapes = [(L, N, E)]
    if options.get("batch_first"):
        shapes = [(shape[1], shape[0], shape[2]) for shape in shapes]
    return [numbers(name, index, shape) for index, shape in enumerate(shapes)]


def masks(name: str, which: tuple[str, ...], keys: int) -> dict[str, np.ndarray]:
    """Arguments attn_mask and key_padding_mask of MultiheadAttention."""
    later, found = ~np.tri(L, keys, dtype=bool), {}
    pairs = numbers(name, 3, (N * HEADS, L, keys)) > 0.5
    pairs[:, :, 0] = False  # every query sees something
    if "causal" in which:
        found["attn_mask"] = later
    if "pairs" in which:
        found["attn_mask"] = pairs[0]
    if "pairs-per-head" in which:
        found["attn_mask"] = pairs
    if "numbers" in which:
        found["attn_mask"] = numbers(name, 4, (L, keys))
    if "numbers-per-head" in which:
        found["attn_mask"] = numbers(name, 4, (N * HEADS, L, keys))
    if "padding" in which:
        found["key_padding_mask"] = np.arange(keys) >= np.array([[keys], [keys - 2], [1]])
        if name == "unbatched":
            found["key_padding_mask"] = found["key_padding_mask"][1]
    return found
