"""Upsample: the layer around `minidl.ops.interpolate`."""

from __future__ import annotations

from minidl import ops
from minidl.nn.module import Module
from minidl.tensor import Tensor


class Upsample(Module):
    """Resize x (N, C, H, W) or (N, C, L) to `size` or by `scale_factor`; see `minidl.ops.interpolate`."""

    def __init__(
        self, size: int | tuple[int, ...] | None = None, scale_factor: float | tuple[float, ...] | None = None,
        mode: str = "nearest", align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    ):
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, x: Tensor) -> Tensor:
        return ops.interpolate(
            x, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        target = f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}"
        return f"{target}, mode={self.mode!r}"
