"""Images for the tests of methods."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def clouds(count: int, seed: int, size: int = 64) -> Tensor:
    """Smooth random colours: uint8 [N,3,S,S]."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=rng) * 255
    return F.interpolate(coarse, size, mode="bilinear").to(torch.uint8)


def discs(count: int, seed: int, size: int, spread: float) -> Tensor:
    """A bright disc, ``spread`` pixels from the middle, on a grey gradient with some noise: uint8
    [N,3,S,S].
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    images = np.empty((count, 3, size, size), dtype=np.uint8)
    for image in images:
        centre = size / 2 + rng.normal(0, spread, 2)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (size / 3) ** 2
        for channel, colour in zip(image, (200, 150, 90), strict=True):
            channel[:] = np.where(disc, colour, 40 + y // 2) + rng.normal(0, 4, (size, size))
    return torch.from_numpy(images)
