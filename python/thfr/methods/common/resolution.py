"""Changing the resolution of maps whose edges need not be even."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def doubled(
    x: Tensor,  # [B,C,h,w]
    size: tuple[int, ...],  # (H, W), of 2h or 2h - 1 and so on
) -> Tensor:  # [B,C,H,W]
    """Twice the resolution, nearest neighbour: the way back from a halving that rounded up."""
    return cut(F.interpolate(x, scale_factor=2.0, mode="nearest"), size)


def cut(
    x: Tensor,  # [B,C,h,w], h >= H and w >= W
    size: tuple[int, ...],  # (H, W)
) -> Tensor:  # [B,C,H,W]
    """Without the last rows and columns that are too many."""
    return x if x.shape[2:] == size else x[:, :, : size[0], : size[1]]


def power_of_two(stride: int) -> int:
    """The power of two nearest to a stride: that at which convolutions of stride 2 stand in for it."""
    lower = 1 << (stride.bit_length() - 1)
    return lower if stride * stride < 2 * lower * lower else 2 * lower
