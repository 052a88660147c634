"""Pillow's anti-aliased bilinear resize as part of a graph, to the last bit, for images of any size.

Pillow weighs in fixed point of 22 bits, first across, then down, and rounds each pass to 8 bits. The weights
are ratios of small integers here; split into two halves of 11 bits, a matrix product in fp32 sums them
without rounding, and integers put the halves together.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from thfr.errors import InputError
from thfr.io import EIGHT_BITS
from thfr.methods.base import Detector

_BITS = 22
_HALF = 1 << (_BITS // 2)


class NativeInput(nn.Module):
    """A graph that takes images at their native size, uint8 [B,H,W,3], before one that takes them at ``size``
    (height, width).
    """

    def __init__(self, graph: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.graph, self.size = graph, size

    def forward(self, image: Tensor) -> Any:  # uint8 [B,H,W,3]
        return self.graph(resized(image, self.size))


def resized(
    image: Tensor,  # uint8 [B,H,W,3]
    size: tuple[int, int],
) -> Tensor:  # uint8 [B,h,w,3]
    """As :func:`thfr.io.resize_for_model`."""
    planes = image.permute(0, 3, 1, 2).float()
    across = _pass(planes, size[1])
    down = _pass(across.transpose(2, 3), size[0]).transpose(2, 3)
    return down.permute(0, 2, 3, 1).to(torch.uint8)


def largest_edge(size: tuple[int, int]) -> int:
    """Pixels a side of the largest image whose weights 32-bit integers hold."""
    return min(8192, math.isqrt((1 << 17) * min(size)))


def require_plain(detector: Detector[Any]) -> None:
    """Check that all that happens to an image before the input is a resize.

    Raises:
        InputError: it is something else.
    """
    options = detector.inputs.options
    for what, there in (
        ("letterboxes its images", options.fit != "stretch"),
        ("has a region of interest", options.region is not None),
        ("scales its pixels to 8 bits", detector.inputs.range != EIGHT_BITS),
    ):
        if there:
            raise InputError(f"export: --input native: expected a run that only resizes, this one {what}")


def _pass(
    planes: Tensor,  # fp32 [...,n], whole numbers
    size: int,
) -> Tensor:  # fp32 [...,size], whole numbers
    high, low = _weights(planes.shape[-1], size)
    total = (planes @ high).to(torch.int32) * _HALF + (planes @ low).to(torch.int32)
    return ((total + (1 << (_BITS - 1))) // (1 << _BITS)).float()


def _weights(edge: int, size: int) -> tuple[Tensor, Tensor]:  # fp32 [edge,size] each
    """Upper and lower half of the fixed-point weight of each input for each output."""
    at, wanted = torch.arange(edge)[:, None], torch.arange(size)[None]
    away = ((2 * at + 1) * size - (2 * wanted + 1) * edge).abs()
    # the triangle is as wide as an output pixel where the image shrinks, else as an input pixel
    share = (2 * (at[-1:] + 1).clamp_min(size) - away).clamp_min(0)
    total = share.sum(0, keepdim=True)
    high = share * _HALF // total
    low = ((share * _HALF - high * total) * (2 * _HALF) + total) // (2 * total)
    return high.float(), low.float()
