"""What a memory of patches usually gives for good images, patch by patch of the memory.

A thread of a screw differs from all threads of other screws by more than plain metal ever does from plain
metal. So each patch of the memory knows how far good patches that it is near to, of images that the memory
does not hold, lie from the memory, and a difference counts in proportion to that.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_PRIOR = 5.0  # good patches, as the whole memory has them, that each patch has seen beforehand
_FLOOR = 0.25  # share of the usual difference of the whole memory that is added to each patch's own


class Found(NamedTuple):
    """What a memory finds for each location: the nearest patches, and how much each of them says about it."""

    difference: Tensor  # fp32 [B,H,W], 1 - cosine similarity of the nearest
    patches: Tensor  # int64 [B*H*W,k]
    shares: Tensor  # fp32 [B*H*W,k], of each location 1 together


class Usual:
    """Sums over good images: ``squares``, fp32 [M], of their differences near each patch of the memory, and
    ``counts``, fp32 [M], how many they were; all 0 while nothing is known.
    """

    def __init__(self, squares: Tensor, counts: Tensor) -> None:
        self.squares, self.counts = squares, counts
        self.known = bool((counts > 0).any())
        mean = squares.sum() / counts.sum().clamp_min(1e-12)
        self._whole = float(mean.clamp_min(1e-12).sqrt())
        self._each = ((squares + _PRIOR * mean) / (counts + _PRIOR)).clamp_min(0).sqrt()

    @classmethod
    def unknown(
        cls,
        patches: Tensor,  # [M,D]
    ) -> Usual:
        """Of a memory that has seen no good image."""
        return cls(*torch.zeros(2, len(patches), device=patches.device))

    def with_image(self, found: Found, times: int = 1) -> Usual:
        """Having seen a good image more; with ``times`` -1 without one that it has seen."""
        added = found.difference.flatten().square()[:, None] * found.shares
        squares, counts = self.squares.clone(), self.counts.clone()
        squares.index_add_(0, found.patches.flatten(), times * added.flatten())
        counts.index_add_(0, found.patches.flatten(), times * found.shares.flatten())
        return Usual(squares.clamp_min(0), counts.clamp_min(0))

    def proportion(self, found: Found) -> Tensor:  # fp32 [B,H,W]
        """The differences, each over what is usual there, in units of what is usual in the whole memory."""
        if not self.known:
            return found.difference
        here = (self._each[found.patches] * found.shares).sum(1).view(found.difference.shape)
        return found.difference * ((1 + _FLOOR) * self._whole) / (here + _FLOOR * self._whole)

    def to(self, device: torch.device | str) -> Usual:
        """The same on another device."""
        return Usual(self.squares.to(device), self.counts.to(device))
