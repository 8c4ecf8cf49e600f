"""Every operation, once or more, with the shapes and options it is tried with: the only list of what is tested.

From a case follow, in `test_operations.py`: a gradient check in float64, the comparison with PyTorch's values
(made by `golden/make_operations.py`) in float32 and float64, and the dtype of result and gradients. Inputs are drawn
from a generator seeded by the case's name, with float32 values, so that both sides see the same numbers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Spec:
    """How to draw one input: `kind` of numbers and shape."""

    kind: str
    shape: tuple
    high: int = 0

    def draw(self, random: np.random.Generator) -> np.ndarray:
        if self.kind == "integers":
            return random.integers(0, self.high, self.shape)
        if self.kind == "booleans":
            return random.random(self.shape) < 0.5
        values = random.standard_normal(self.shape)
        if self.kind == "positive":
            values = np.abs(values) + 0.5
        if self.kind == "unit":
            values = random.random(self.shape) * 0.9 + 0.05
        if self.kind == "probabilities":
            values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        if self.kind == "distinct":  # far apart, so that no maximum changes under a small step
            values = random.permutation(np.prod(self.shape, dtype=int)).reshape(self.shape) / 7.0 - 2.0
        return np.asarray(values).astype(np.float32)


def positive(*shape: int) -> Spec:
    return Spec("positive", shape)


def unit(*shape: int) -> Spec:
    return Spec("unit", shape)


def probabilities(*shape: int) -> Spec:
    return Spec("probabilities", shape)


def distinct(*shape: int) -> Spec:
    return Spec("distinct", shape)


def booleans(*shape: int) -> Spec:
    return Spec("booleans", shape)


def integers(high: int, *shape: int) -> Spec:
    return Spec("integers", shape, high)


@dataclass
class Case:
    """One operation with drawn inputs (passed by position) and options (passed by keyword)."""

    operation: str
    inputs: list
    options: dict[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        return f"{self.operation}-{self.label}"

    def arrays(self, dtype: Any = np.float64) -> list[np.ndarray]:
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        drawn = [(Spec("normal", s) if isinstance(s, tuple) else s).draw(random) for s in self.inputs]
        return [x.astype(dtype) if x.dtype.kind == "f" else x for x in drawn]


CASES: list[Case] = []


def case(operation: str, inputs: list, label: str = "", **options: Any) -> None:
    """Announce a case; `label` tells several of one operation apart (made from the options if left out)."""
    label = label or "-".join(f"{k}={v}" for k, v in options.items()) or "plain"
    made = Case(operation, inputs, options, label)
    if any(other.name == made.name for other in CASES):
        raise ValueError(f"two cases are called '{made.name}': give one a label")
    CASES.append(made)


case("add", [(3, 4), (3, 4)])
case("add", [(3, 4), (4,)], label="broadcast")
case("add", [(2, 1, 4), (3, 1)], label="broadcast-both")
case("sub", [(3, 4), (3, 1)])
case("mul", [(3, 4), (1, 4)])
case("div", [(3, 4), positive(4)])
case("neg", [(3, 4)])
case("abs", [(3, 4)])
case("pow", [positive(3, 4), (4,)])
case("exp", [(3, 4)])
case("expm1", [(3, 4)])
case("log", [positive(3, 4)])
case("log1p", [positive(3, 4)])
case("sqrt", [positive(3, 4)])
case("sin", [(3, 4)])
case("cos", [(3, 4)])
case("clip", [(3, 4)], min=-0.5, max=0.5)
case("clip", [(3, 4)], max=0.5)
case("maximum", [(3, 4), (3, 4)])
case("minimum", [(3, 4), (4,)])
case("where", [booleans(3, 4), (3, 4), (4,)])

case("add", [(3, 4), (3, 4)], alpha=-2.5)
case("sub", [(3, 4), (4,)], alpha=0.5)
case("div", [(3, 4), positive(4)], rounding_mode="floor")
case("remainder", [(3, 4), positive(3, 1)])
case("pow", [(3, 4), integers(4, 3, 4)], label="integer-exponents")
case("square", [(3, 4)])
case("reciprocal", [positive(3, 4)])
case("rsqrt", [positive(3, 4)])
case("log2", [positive(3, 4)])
case("log10", [positive(3, 4)])
case("sign", [(3, 4)])
case("floor", [(3, 4)])
case("ceil", [(3, 4)])
case("round", [(3, 4)])
case("round", [(3, 4)], decimals=1)
case("trunc", [(3, 4)])
case("clone", [(3, 4)])
case("cast", [(3, 4)], dtype="float64")

case("relu", [(3, 4)])
case("sigmoid", [(3, 4)])
case("tanh", [(3, 4)])
case("leaky_relu", [(3, 4)])
case("leaky_relu", [(3, 4)], negative_slope=0.3)
case("elu", [(3, 4)])
case("elu", [(3, 4)], alpha=0.7)
case("gelu", [(3, 4)])
case("gelu", [(3, 4)], approximate="tanh")
case("silu", [(3, 4)])
case("softplus", [(3, 4)])
case("softplus", [(3, 4)], beta=2.5, threshold=1.5)
case("erf", [(3, 4)])

case("sum", [(2, 3, 4)])
case("sum", [(2, 3, 4)], dim=-1)
case("sum", [(2, 3, 4)], dim=(0, 2), keepdim=True)
case("sum", [()], label="no-dims", dim=0)
case("mean", [(2, 3, 4)])
case("mean", [(2, 3, 4)], dim=1, keepdim=True)
case("mean", [(2, 3, 4)], dim=(-1, 0))
case("var", [(2, 3, 4)])
case("var", [(2, 3, 4)], dim=1, keepdim=True)
case("var", [(2, 3, 4)], dim=(0, -1), correction=0)
case("var", [(2, 3, 4)], dim=2, unbiased=False)
case("std", [(2, 3, 4)])
case("std", [(2, 3, 4)], dim=1, keepdim=True)
case("std", [(2, 3, 4)], dim=(0, -1), correction=2)
case("prod", [(2, 3, 4)])
case("prod", [(2, 3, 4)], dim=1)
case("prod", [(2, 3, 4)], dim=-1, keepdim=True)
case("cumsum", [(2, 3, 4)], dim=1)
case("cumsum", [(5,)], dim=-1)
case("norm", [(2, 3, 4)])
case("norm", [(2, 3, 4)], dim=1)
case("norm", [(2, 3, 4)], p=1, dim=(0, 2), keepdim=True)
case("norm", [(2, 3, 4)], p=float("inf"), dim=-1)
case("norm", [(2, 3, 4)], p=float("-inf"))
case("norm", [(2, 3, 4)], p=3, dim=1)
case("norm", [positive(2, 3, 4)], p=0.5, dim=1)
case("amax", [distinct(2, 3, 4)])
case("amax", [distinct(2, 3, 4)], dim=(0, 2))
case("amax", [distinct(2, 3, 4)], dim=1, keepdim=True)
case("amin", [distinct(2, 3, 4)])
case("amin", [distinct(2, 3, 4)], dim=-1)

case("reshape", [(2, 3, 4)], shape=(4, -1))
case("flatten", [(2, 3, 4)])
case("flatten", [(2, 3, 4, 2)], start_dim=1, end_dim=-2)
case("flatten", [()], label="no-dims")
case("permute", [(2, 3, 4)], dims=(2, 0, -2))
case("transpose", [(2, 3, 4)], dim0=0, dim1=-1)
case("squeeze", [(1, 3, 1)])
case("squeeze", [(1, 3, 1)], dim=-1)
case("squeeze", [(1, 3, 1)], dim=(0, 1))
case("unsqueeze", [(2, 3)], dim=-1)
case("unsqueeze", [(2, 3)], dim=1)
case("broadcast_to", [(3, 1)], size=(2, 3, 4))
case("broadcast_to", [(3, 1)], size=(2, -1, 4))
case("repeat", [(2, 3)], sizes=(2, 1, 3))
case("cat", [(2, 3), (2, 1), (2, 4)], dim=1)
case("cat", [(2, 3), (1, 3)])
case("stack", [(2, 3), (2, 3), (2, 3)])
case("stack", [(2, 3), (2, 3)], dim=-1)
case("flip", [(2, 3, 4)], dims=(0, -1))
case("roll", [(2, 3)], shifts=2)
case("roll", [(3, 4)], shifts=(1, -2), dims=(0, 1))
case("tril", [(2, 4, 3)], diagonal=1)
case("triu", [(3, 4)], diagonal=-1)
case("pad", [(2, 3, 4)], pad=(1, 2))
case("pad", [(2, 3, 4)], pad=(0, 1, 2, 0), value=1.5)
case("pad", [(2, 3, 4)], pad=(-1, 2, 0, -2))
case("pad", [(2, 3, 4)], pad=(3, 1), mode="reflect")
case("pad", [(1, 2, 3, 4)], pad=(1, 2, 2, 1), mode="reflect")
case("pad", [(1, 2, 3, 4)], pad=(1, 0, 3, 2), mode="replicate")
case("pad", [(2, 3, 4)], pad=(2, 4), mode="circular")

ROWS = np.array([[2, 0, 2, 1], [0, 0, 1, 2]])
case("getitem", [(3, 4)], label="integer", index=-1)
case("getitem", [(3, 4)], label="slices", index=(slice(None, None, 2), slice(1, 3)))
case("getitem", [(3, 4, 2)], label="none-and-ellipsis", index=(None, 1, Ellipsis, None))
case("getitem", [(3, 4)], label="rows", index=ROWS)
case("getitem", [(3, 4, 5)], label="separated-arrays", index=(np.array([2, 2, 0]), slice(1, 3), np.array([4, 4, 1])))
case("getitem", [(3, 4)], label="mask", index=ROWS[:, :3].T[:, [0, 1, 0, 1]] > 0)
case("getitem", [(3, 4)], label="mask-and-slice", index=(np.array([True, False, True]), slice(2)))
case("gather", [(3, 4)], label="dim-0", dim=0, index=ROWS)
case("gather", [(3, 4)], label="dim-1", dim=-1, index=ROWS)
case("masked_fill", [(3, 4)], mask=ROWS[0] > 0, value=-2.0, label="broadcast")
case("scatter", [(3, 4), (2, 4)], label="dim-0", dim=0, index=np.array([[2, 0, 1, 1], [0, 1, 2, 0]]))
case("scatter", [(3, 4), (3, 3)], label="larger-source", dim=1, index=np.array([[3, 0], [1, 2]]))

case("einsum", [(3, 4), (4, 5)], equation="ij,jk->ik")
case("einsum", [(2, 3, 4), (4, 5), (5,)], equation="bij,jk,k->bi")
case("einsum", [(2, 3), (4, 3)], equation="ij,kj")
case("einsum", [(3, 3)], equation="ii->i")
case("einsum", [(3, 3)], equation="ii")
case("einsum", [(2, 3, 3), (3, 4)], equation="bii,ij->bj")
case("einsum", [(2, 3, 4)], equation="abc->ca")
case("einsum", [(2, 3), (4,)], equation="ij,k->k")
case("einsum", [(2, 5, 3, 4), (5, 4, 2)], equation="...ij,...jk->...ik")
case("einsum", [(2, 1, 3), (5, 3)], equation="...i,...i")
case("einsum", [(2, 3), (2, 3)], equation="ij,ij->")
case("einsum", [(4, 2, 3)], equation="i...->...")

case("matmul", [(3, 4), (4, 5)])
case("matmul", [(2, 1, 3, 4), (5, 4, 2)], label="broadcast")
case("matmul", [(4,), (4,)], label="vectors")
case("matmul", [(2, 3, 4), (4,)], label="vector-right")
case("matmul", [(4,), (2, 4, 3)], label="vector-left")
case("linear", [(6, 5), (3, 5), (3,)])
case("linear", [(2, 4, 5), (3, 5)], label="no-bias-3d")

case("softmax", [(3, 5)], dim=1)
case("softmax", [(2, 5, 3)], dim=-2)
case("log_softmax", [(3, 5)], dim=-1)
case("log_softmax", [(2, 5, 3)], dim=0)
case("logsumexp", [(3, 5)], dim=1)
case("logsumexp", [(2, 5, 3)], dim=1, keepdim=True)
case("logsumexp", [(2, 5, 3)], dim=(0, 2))

SEEN = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 0, 0]], bool)
KEYS = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)[:, None, None, :]  # N, 1, 1, S
ATTENTION = [(2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 6)]
case("scaled_dot_product_attention", ATTENTION)
case("scaled_dot_product_attention", ATTENTION, label="causal", is_causal=True)
case("scaled_dot_product_attention", ATTENTION, label="scale", scale=0.7)
case("scaled_dot_product_attention", [*ATTENTION[:2], (2, 3, 5, 7), (4, 5)], label="float-mask")
case("scaled_dot_product_attention", [*ATTENTION, (2, 1, 1, 5)], label="broadcast-float-mask")
case("scaled_dot_product_attention", ATTENTION, label="bool-mask", attn_mask=SEEN)
case("scaled_dot_product_attention", ATTENTION, label="keys", attn_mask=KEYS)
case("scaled_dot_product_attention", [(4, 6), (5, 6), (5, 3)], label="matrices", is_causal=True)
case("scaled_dot_product_attention", [(3, 4, 6), (3, 5, 6), (3, 5, 6), (3, 4, 5)], label="three-axes")
case("scaled_dot_product_attention", [(2, 2, 3, 4, 6), (3, 5, 6), (1, 2, 1, 5, 6)], label="broadcast")
case("multi_head_attention", [(2, 4, 6), (2, 5, 6), (2, 5, 9)], num_heads=3)
case("multi_head_attention", [(2, 4, 6), (2, 5, 6), (2, 5, 6), (2, 1, 4, 5)], label="causal-mask", num_heads=2,
     is_causal=True)
case("multi_head_attention", [(2, 2, 6), (2, 5, 6), (2, 5, 6)], label="past", num_heads=2, is_causal=True, past=3)
case("multi_head_attention", [(2, 4, 6), (2, 5, 6), (2, 5, 6)], label="keys", num_heads=2, attn_mask=KEYS)
case("packed_attention", [(2, 5, 18)], num_heads=3)
case("packed_attention", [(2, 5, 12)], label="causal-keys", num_heads=2, is_causal=True, attn_mask=KEYS)

FOUR = np.array([0.5, 2.0, 1.25, 0.75], np.float32)
case("batch_norm", [(6, 4), (4,), (4,)], training=True)
case("batch_norm", [(3, 4, 5), (4,), (4,)], label="3d", training=True, eps=1e-2)
case("batch_norm", [(3, 4, 5, 2), (4,), (4,)], label="4d", training=True)
case("batch_norm", [(3, 4, 5, 2)], label="no-weight", training=True)
case("batch_norm", [(3, 4, 5, 2), (4,), (4,)], label="inference", running_mean=FOUR, running_var=FOUR)
case("batch_norm", [(6, 4)], label="inference-no-weight", running_mean=FOUR, running_var=FOUR)
case("layer_norm", [(3, 5), (5,), (5,)], normalized_shape=5)
case("layer_norm", [(2, 3, 4, 5), (4, 5), (4, 5)], normalized_shape=(4, 5), eps=1e-2)
case("layer_norm", [(2, 3, 5)], label="no-weight", normalized_shape=(5,))
case("group_norm", [(3, 4, 5, 2), (4,), (4,)], num_groups=2)
case("group_norm", [(3, 4, 7), (4,), (4,)], num_groups=4, eps=1e-2)
case("group_norm", [(3, 4)], label="no-weight", num_groups=1)

case("dropout", [(3, 4)], p=0.0)
case("dropout", [(3, 4)], p=1.0)
case("dropout", [(3, 4)], label="evaluation", training=False)
case("feature_dropout", [(2, 3, 4, 4)], p=1.0)
case("embedding", [integers(7, 5), (7, 3)])
case("embedding", [integers(4, 2, 6), (5, 3)], padding_idx=4)

STEPWISE = np.array([3, 2, 2, 1])  # rows of four, three and one steps, packed
RNN_WEIGHTS = [(5, 4), (5, 5), (5,), (5,)]
LSTM_WEIGHTS = [(20, 4), (20, 5), (20,), (20,)]
GRU_WEIGHTS = [(15, 4), (15, 5), (15,), (15,)]
case("rnn", [(3, 2, 4), (2, 5), *RNN_WEIGHTS])
case("rnn", [(3, 2, 4), (2, 5), *RNN_WEIGHTS[:2]], label="relu-no-bias", nonlinearity="relu")
case("rnn", [(8, 4), (3, 5), *RNN_WEIGHTS], label="packed-reverse", batch_sizes=STEPWISE, reverse=True)
case("lstm", [(3, 2, 4), (2, 5), (2, 5), *LSTM_WEIGHTS])
case("lstm", [(3, 2, 4), (2, 5), (2, 5), *LSTM_WEIGHTS[:2]], label="no-bias-reverse", reverse=True)
case("lstm", [(8, 4), (3, 5), (3, 5), *LSTM_WEIGHTS], label="packed", batch_sizes=STEPWISE)
case("gru", [(3, 2, 4), (2, 5), *GRU_WEIGHTS], reverse=True)
case("gru", [(3, 2, 4), (2, 5), *GRU_WEIGHTS[:2]], label="no-bias")
case("gru", [(8, 4), (3, 5), *GRU_WEIGHTS], label="packed-reverse", batch_sizes=STEPWISE, reverse=True)
case("place_rows", [(5, 3)], index=np.array([[3, -1, 0], [4, 1, -1]]), value=-2.0)
case("place_rows", [(5, 3)], label="all", index=np.array([3, 1, 4, 0, 2]))

case("cross_entropy", [(6, 4), integers(4, 6)])
case("cross_entropy", [(6, 4), integers(4, 6)], reduction="sum", label_smoothing=0.2)
case("cross_entropy", [(6, 4), integers(4, 6)], label="weighted", weight=FOUR)
case("cross_entropy", [(6, 4), integers(4, 6)], label="weighted-smooth", weight=FOUR, label_smoothing=0.1,
     ignore_index=2)
case("cross_entropy", [(3, 4, 5), integers(4, 3, 5)], label="3d", weight=FOUR, ignore_index=1)
case("cross_entropy", [(2, 4, 3, 2), integers(4, 2, 3, 2)], label="4d", weight=FOUR, reduction="none",
     label_smoothing=0.1)
case("cross_entropy", [(2, 4, 3, 2), integers(4, 2, 3, 2)], label="4d-mean", label_smoothing=0.1, ignore_index=0)
case("cross_entropy", [(4,), integers(4)], label="unbatched", weight=FOUR, label_smoothing=0.1)
case("cross_entropy", [(4,), integers(4)], label="unbatched-none", reduction="none")
case("cross_entropy", [(6, 4), probabilities(6, 4)], label="probabilities")
case("cross_entropy", [(6, 4), probabilities(6, 4)], label="probabilities-all", weight=FOUR, label_smoothing=0.3)
case("cross_entropy", [(3, 4, 5), probabilities(3, 4, 5)], label="probabilities-3d", weight=FOUR, reduction="none")
case("cross_entropy", [(4,), unit(4)], label="probabilities-unbatched", reduction="sum")
case("nll_loss", [(6, 4), integers(4, 6)])
case("nll_loss", [(6, 4), integers(4, 6)], label="weighted", weight=FOUR, ignore_index=2)
case("nll_loss", [(2, 4, 3, 2), integers(4, 2, 3, 2)], label="4d", weight=FOUR, reduction="none")
case("nll_loss", [(4,), integers(4)], label="unbatched", reduction="sum")
case("binary_cross_entropy", [unit(3, 4), unit(3, 4)])
case("binary_cross_entropy", [unit(3, 4), unit(3, 4)], label="weighted", weight=FOUR, reduction="none")
case("binary_cross_entropy_with_logits", [(3, 4), unit(3, 4)])
case("binary_cross_entropy_with_logits", [(3, 4), unit(3, 4)], label="weights", weight=FOUR,
     pos_weight=FOUR[::-1].copy())
case("binary_cross_entropy_with_logits", [(3, 4), unit(3, 4)], label="pos-weight", pos_weight=FOUR, reduction="none")
case("mse_loss", [(3, 4), (3, 4)])
case("mse_loss", [(3, 4), (4,)], label="broadcast")
case("mse_loss", [(3, 4), (3, 4)], reduction="none")
case("l1_loss", [(3, 4), (3, 4)])
case("l1_loss", [(3, 4), (3, 4)], reduction="sum")
case("smooth_l1_loss", [(3, 4), (3, 4)])
case("smooth_l1_loss", [(3, 4), (3, 4)], beta=0.0)
case("smooth_l1_loss", [(3, 4), (3, 4)], beta=0.7, reduction="none")
case("huber_loss", [(3, 4), (3, 4)])
case("huber_loss", [(3, 4), (3, 4)], delta=0.6, reduction="sum")
case("kl_div", [(3, 4), probabilities(3, 4)])
case("kl_div", [(3, 4), probabilities(3, 4)], reduction="batchmean")
case("kl_div", [(3, 4), (3, 4)], reduction="none", log_target=True)
case("kl_div", [(3, 4), (3, 4)], reduction="batchmean", log_target=True)

case("conv1d", [(2, 3, 9), (4, 3, 3), (4,)])
case("conv1d", [(2, 4, 11), (6, 2, 3), (6,)], stride=2, padding=3, dilation=2, groups=2)
case("conv1d", [(2, 3, 8), (4, 3, 4)], padding="same")
case("conv1d", [(3, 9), (4, 3, 2), (4,)], label="unbatched", stride=3)
case("conv2d", [(2, 3, 5, 6), (4, 3, 3, 3), (4,)])
case("conv2d", [(2, 3, 5, 6), (4, 3, 3, 2)], label="no-bias")
case("conv2d", [(2, 3, 7, 6), (4, 3, 3, 3), (4,)], stride=2, padding=1)
case("conv2d", [(2, 3, 8, 7), (4, 3, 3, 2), (4,)], stride=(3, 2), padding=(2, 1), dilation=(2, 3))
case("conv2d", [(2, 4, 5, 6), (6, 2, 3, 3), (6,)], groups=2, padding=1)
case("conv2d", [(2, 4, 5, 6), (8, 1, 3, 3), (8,)], groups=4, stride=2)
case("conv2d", [(2, 4, 5, 6), (4, 1, 3, 3)], label="depthwise", groups=4, padding=1)
case("conv2d", [(2, 3, 4, 5), (5, 3, 1, 1), (5,)], label="pointwise")
case("conv2d", [(2, 4, 4, 5), (6, 2, 1, 1)], label="pointwise-groups", groups=2)
case("conv2d", [(2, 3, 4, 5), (4, 3, 1, 1), (4,)], label="pointwise-stride", stride=2, padding=1)
case("conv2d", [(2, 3, 5, 6), (4, 3, 3, 5), (4,)], padding="same")
case("conv2d", [(2, 3, 5, 6), (4, 3, 2, 4), (4,)], label="same-even", padding="same")
case("conv2d", [(2, 3, 5, 6), (4, 3, 2, 4)], label="same-even-dilation", padding="same", dilation=(3, 2))
case("conv2d", [(2, 3, 5, 6), (4, 3, 3, 3)], padding="valid")
case("conv2d", [(3, 5, 6), (4, 3, 3, 3), (4,)], label="unbatched", padding=1)
case("conv2d", [(2, 2, 3, 2), (3, 2, 5, 4), (3,)], label="mostly-padding", padding=(3, 2))
case("conv_transpose1d", [(2, 3, 5), (3, 4, 3), (4,)], stride=2, padding=1, output_padding=1)
case("conv_transpose1d", [(3, 5), (3, 2, 4)], label="unbatched")
case("conv_transpose2d", [(2, 3, 4, 5), (3, 4, 3, 3), (4,)])
case("conv_transpose2d", [(2, 3, 4, 5), (3, 4, 3, 2), (4,)], stride=(2, 3), padding=(1, 0), output_padding=(1, 2))
case("conv_transpose2d", [(2, 4, 3, 4), (4, 3, 3, 3), (6,)], stride=2, padding=1, output_padding=1, groups=2)
case("conv_transpose2d", [(2, 3, 4, 3), (3, 2, 3, 3)], dilation=2, output_padding=1)
case("conv_transpose2d", [(2, 3, 4, 5), (3, 4, 1, 1), (4,)], label="pointwise")
case("conv_transpose2d", [(2, 3, 4, 5), (3, 4, 1, 1)], label="pointwise-dilation", dilation=2, output_padding=1)
case("conv_transpose2d", [(3, 4, 5), (3, 4, 3, 3), (4,)], label="unbatched", stride=2)

case("max_pool1d", [distinct(2, 3, 9)], kernel_size=2)
case("max_pool1d", [distinct(3, 9)], label="unbatched", kernel_size=3, stride=2, padding=1, dilation=2)
case("max_pool2d", [distinct(2, 3, 6, 7)], kernel_size=2)
case("max_pool2d", [distinct(2, 3, 6, 7)], kernel_size=3, stride=2, padding=1)
case("max_pool2d", [distinct(2, 3, 6, 7)], kernel_size=(3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 3))
case("max_pool2d", [distinct(2, 3, 6, 8)], kernel_size=3, stride=2, ceil_mode=True)
case("max_pool2d", [distinct(2, 2, 5, 5)], kernel_size=2, stride=2, padding=1, ceil_mode=True)
case("max_pool2d", [distinct(3, 5, 5)], label="unbatched-overlapping", kernel_size=3, stride=1)
case("avg_pool1d", [(2, 3, 9)], kernel_size=2)
case("avg_pool1d", [(2, 3, 9)], kernel_size=4, stride=3, padding=2, ceil_mode=True, count_include_pad=False)
case("avg_pool2d", [(2, 3, 6, 7)], kernel_size=2)
case("avg_pool2d", [(2, 3, 6, 7)], kernel_size=3, stride=2, padding=1)
case("avg_pool2d", [(2, 3, 6, 7)], kernel_size=(3, 2), stride=(1, 2), padding=(1, 0), count_include_pad=False)
case("avg_pool2d", [(2, 3, 6, 8)], kernel_size=3, stride=2, padding=1, ceil_mode=True)
case("avg_pool2d", [(2, 3, 6, 8)], kernel_size=3, stride=2, ceil_mode=True, count_include_pad=False)
case("avg_pool2d", [(3, 6, 7)], label="unbatched-divisor", kernel_size=2, divisor_override=3)
case("adaptive_avg_pool1d", [(2, 3, 7)], output_size=3)
case("adaptive_avg_pool2d", [(2, 3, 5, 4)], output_size=1)
case("adaptive_avg_pool2d", [(2, 3, 7, 5)], output_size=(3, 2))
case("adaptive_avg_pool2d", [(3, 3, 4)], label="unbatched-enlarging", output_size=(None, 6))
case("adaptive_max_pool1d", [distinct(2, 3, 7)], output_size=3)
case("adaptive_max_pool2d", [distinct(2, 3, 7, 5)], output_size=(3, 2))
case("adaptive_max_pool2d", [distinct(3, 3, 4)], label="unbatched-enlarging", output_size=(5, None))
case("interpolate", [(2, 3, 4, 5)], scale_factor=2)
case("interpolate", [(2, 3, 4, 5)], size=(7, 3))
case("interpolate", [(2, 3, 4, 5)], scale_factor=(1.7, 0.6))
case("interpolate", [(2, 3, 4, 5)], mode="nearest-exact", size=(7, 3))
case("interpolate", [(2, 3, 5)], label="signal", size=8)
case("interpolate", [(2, 3, 5)], mode="linear", size=8)
case("interpolate", [(2, 3, 4, 5)], mode="bilinear", scale_factor=2)
case("interpolate", [(2, 3, 4, 5)], mode="bilinear", size=(3, 9), align_corners=False)
case("interpolate", [(2, 3, 4, 5)], mode="bilinear", size=(7, 1), align_corners=True)
case("interpolate", [(2, 3, 4, 5)], mode="bilinear", scale_factor=1.7)
case("interpolate", [(2, 3, 4, 5)], mode="bilinear", scale_factor=1.7, recompute_scale_factor=True)
