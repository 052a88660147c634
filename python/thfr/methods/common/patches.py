"""One vector a location, made of several levels of a backbone: what the memory methods compare."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def averaged(
    levels: Sequence[Tensor],  # three [B,C_l,H_l,W_l], at ``strides``
    strides: Sequence[int],
    stride: int,
) -> list[Tensor]:
    """The levels that are finer than ``stride`` averaged to it, or as near as whole locations come to it; the
    others as they are.
    """
    return [
        F.avg_pool2d(level, stride // own) if own < stride else level
        for level, own in zip(levels, strides, strict=True)
    ]


def averaged_grids(
    grids: Sequence[tuple[int, int]], strides: Sequence[int], stride: int
) -> list[tuple[int, int]]:
    """Height and width of the levels that :func:`averaged` gives."""
    factors = [max(1, stride // own) for own in strides]
    return [(height // f, width // f) for (height, width), f in zip(grids, factors, strict=True)]


def concatenated(
    levels: Sequence[Tensor],  # [B,C_l,H_l,W_l], the finest first
    mode: str = "bilinear",
) -> Tensor:  # [B,sum of C_l,H,W]
    """All levels at the size of the first, up-sampled by ``mode``: "bilinear" or "nearest"."""
    size = levels[0].shape[2:]
    corners = False if mode == "bilinear" else None
    return torch.cat(
        [
            level
            if level.shape[2:] == size
            else F.interpolate(level, size=size, mode=mode, align_corners=corners)
            for level in levels
        ],
        1,
    )


def location_vectors(
    features: Tensor,  # [B,C,H,W]
) -> Tensor:  # [B*H*W,C]
    """The vectors of all locations, image by image, row by row."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)
