"""Simulated anomalies (DRAEM, section 3.3): a random texture blended into an image where noise is high."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from thfr.methods.draem.noise import perlin_noise, random_gradients, uniform
from thfr.methods.draem.textures import TextureSource
from thfr.random_streams import integer

_THRESHOLD = 0.5
_LARGEST_EXPONENT = 5  # of two: lattices of 1 to 32 cells an edge


def anomaly_mask(size: tuple[int, int], rng: torch.Generator) -> Tensor:
    """Where the anomaly is: noise over a lattice of random fineness and direction, above 0.5; bool
    [H,W] of that size, may be empty.
    """
    rows, columns = (2 ** integer(rng, 0, _LARGEST_EXPONENT) for _ in range(2))
    noise = perlin_noise(random_gradients(rows, columns, rng), size)
    return turned(noise[None], 90, rng, "reflection")[0] > _THRESHOLD


def simulate(
    image: Tensor,  # [3,H,W] in [0,1]
    textures: TextureSource,
    share: float,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:  # [3,H,W] and bool [H,W]
    """With probability ``share`` a copy of ``image`` with an anomaly, and where it is; else the image itself
    and an empty mask. The texture's opacity is anything from 0.1 to 1.
    """
    if uniform(rng) >= share:
        return image, torch.zeros(image.shape[1:], dtype=torch.bool)
    mask = anomaly_mask((image.shape[1], image.shape[2]), rng)
    blended = torch.lerp(image, textures.draw(rng), uniform(rng, 0.1, 1.0))
    return torch.where(mask, blended, image), mask


def turned(
    image: Tensor,  # [C,H,W]
    largest: float,
    rng: torch.Generator,
    padding: Literal["border", "reflection"] = "border",
) -> Tensor:  # [C,H,W]
    """The image turned by up to ``largest`` degrees either way; ``padding``: what comes into view."""
    angle = math.radians(uniform(rng, -largest, largest))
    cos, sin = math.cos(angle), math.sin(angle)
    aspect = image.shape[1] / image.shape[2]  # the grid's edges both are 2
    grid = F.affine_grid(
        torch.tensor([[[cos, -sin * aspect, 0.0], [sin / aspect, cos, 0.0]]]),
        [1, *image.shape],
        align_corners=False,
    )
    return F.grid_sample(image[None], grid, padding_mode=padding, align_corners=False)[0]
