"""The loss over the tokens of sequences, of which padding and other masked places count nothing.

It is `cross_entropy` with the classes last, (N, T, C), as language models give their scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.errors import ShapeError
from minidl.nn.loss import _WeightedLoss, cross_entropy
from minidl.tensor import Tensor, as_array


def masked_cross_entropy(input: Tensor, target: Any, mask: Any = None, weight: Any = None, ignore_index: int = -100,
                         reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(input)[target] over the tokens that count, for logits (N, T, C) and ids (N, T).

    Any other axes in place of N, T will do, as long as the classes are the last one.
    mask: True (or 1) where a token counts, of the target's shape: `minidl.data.length_mask(lengths)` for padded ones.
    ignore_index: targets of this value do not count either.
    "mean" divides by the number of tokens that count, so a batch's padding does not change it; "none" gives 0 for what
    does not count. weight, label_smoothing and further errors as in `cross_entropy`.
    Raises ShapeError for a mask or target of another shape, TypeError for a mask of floats, ValueError for the mean of
    no token at all.
    """
    logits, ids = input, as_array(target)
    if logits.ndim < 2 or ids.shape != logits.shape[:-1]:
        axes = f", as {ids.shape} and (N, C, T) do: use input.transpose(1, 2)" if (
            logits.ndim == 3 and ids.shape == logits.shape[:1] + logits.shape[2:]) else ""
        raise ShapeError(f"masked_cross_entropy: logits (N, T, C) need targets (N, T); {logits.shape} and {ids.shape} "
                         f"do not fit{axes}")
    if mask is not None:
        ids = np.where(_checked(mask, ids.shape), ids, ignore_index)
    if reduction == "mean" and not (ids != ignore_index).any():
        raise ValueError(f"masked_cross_entropy: none of the {ids.size} targets counts, all are masked or equal to "
                         f"ignore_index={ignore_index}, so there is no mean")
    flat = ops.reshape(logits, (-1, logits.shape[-1]))  # N T, C
    losses = cross_entropy(flat, Tensor(ids.reshape(-1)), weight, ignore_index, reduction, label_smoothing)
    return ops.reshape(losses, ids.shape) if reduction == "none" else losses


def _checked(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = as_array(mask)
    if array.shape != shape:
        raise ShapeError(f"masked_cross_entropy: the mask has shape {array.shape}, the targets {shape}; one entry for "
                         "each target is needed")
    if array.dtype.kind not in "biu":
        raise TypeError(f"masked_cross_entropy: the mask says True (or 1) where a token counts; this one is "
                        f"{array.dtype}: use mask > 0")
    return array.astype(bool)


class MaskedCrossEntropyLoss(_WeightedLoss):
    """`masked_cross_entropy` as a layer: logits (N, T, C), ids (N, T) and, where needed, a mask (N, T).

    In a Trainer, which knows no mask, mark what does not count by `ignore_index` in the targets.
    """

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0):
        super().__init__(weight, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Tensor, target: Any, mask: Any = None) -> Tensor:
        return masked_cross_entropy(input, target, mask, self.weight, self.ignore_index, self.reduction,
                                    self.label_smoothing)
