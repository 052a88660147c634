"""Made-up images for the tests of methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
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


SPOT = (slice(26, 40), slice(34, 48))
"""Where :func:`spotted` puts its defect, rows and columns."""


def products(count: int, seed: int, size: int = 64) -> Tensor:
    """Good products: a disc that always lies near the middle; uint8 [N,3,S,S]."""
    return discs(count, seed, size, 1)


def spotted(count: int, seed: int, size: int = 64) -> Tensor:
    """Products with a blue spot on the disc, at :data:`SPOT`; uint8 [N,3,S,S]."""
    images = products(count, seed, size)
    images[(..., *SPOT)] = torch.tensor([30, 90, 220], dtype=torch.uint8)[:, None, None]
    return images


def write_images(folder: Path, images: Tensor) -> list[Path]:
    """The images as PNG files, in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03d}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return paths


def smooth_map(
    distances: Tensor,  # [B,h,w]
    size: int,
) -> Tensor:  # fp32 [B,size,size]
    """Bilinear up-sampling and SciPy's Gaussian blur of 4 pixels, in fp64."""
    sampled = F.interpolate(distances[:, None].double(), (size, size), mode="bilinear")[:, 0]
    return torch.from_numpy(gaussian_filter(sampled.numpy(), (0, 4, 4))).float()
