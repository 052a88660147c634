"""Scrambled images: what a visualization network has to see so that it does not heal anomalies itself."""

from __future__ import annotations

import torch
from torch import Tensor

from thfr.random_streams import Stream, generator

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

        def draw(most: int, rng: torch.Generator = rng) -> int:
            return int(torch.randint(0, most + 1, (1,), generator=rng))

        for _ in range(_PATCHES):
            height, width = low + draw(high - low), low + draw(high - low)
            y, x, v, u = (
                draw(rows - height),
                draw(columns - width),
                draw(rows - height),
                draw(columns - width),
            )
            patch = images[draw(len(images) - 1), :, v : v + height, u : u + width]
            mirrored = [axis for axis in (1, 2) if draw(1)]
            gain = 0.5 + torch.rand(3, 1, 1, generator=rng)
            coloured = (patch.flip(mirrored).float() * gain).clamp(0, 255)
            result[index, :, y : y + height, x : x + width] = coloured.to(torch.uint8)
    return result
