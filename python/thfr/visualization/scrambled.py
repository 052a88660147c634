"""Scrambled images: what a visualization network has to see so that it does not heal anomalies itself."""

from __future__ import annotations

import torch
from torch import Tensor

from thfr.random_streams import Stream, generator, integer

_PATCHES = 4


def scrambled(
    images: Tensor,  # uint8 [N,3,H,W]
    seed: int,
) -> Tensor:  # uint8 [N,3,H,W]
    """The images with four patches each of other images pasted in: anywhere, mirrored, with other colours.

    A network that has seen good products only may draw a good product whatever the features say. From
    scrambled ones it learns to draw parts where they are. Patches are a tenth to half of the shorter edge
    wide and high; each image's depend on the seed and its number alone.
    """
    result = images.clone()
    rows, columns = images.shape[2:]
    edge = min(rows, columns)
    low, high = max(edge // 10, 1), max(edge // 2, 1)
    for index in range(len(images)):
        rng = generator(seed, Stream.SCRAMBLING, index)
        for _ in range(_PATCHES):
            height, width = (integer(rng, low, high) for _ in range(2))
            y, x, v, u = (integer(rng, 0, free) for free in 2 * (rows - height, columns - width))
            patch = images[integer(rng, 0, len(images) - 1), :, v : v + height, u : u + width]
            mirrored = [axis for axis in (1, 2) if integer(rng, 0, 1)]
            gain = 0.5 + torch.rand(3, 1, 1, generator=rng)
            coloured = (patch.flip(mirrored).float() * gain).clamp(0, 255)
            result[index, :, y : y + height, x : x + width] = coloured.to(torch.uint8)
    return result
