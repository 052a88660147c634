"""Textures for simulated anomalies: made up, cut from other training images, or read from a folder.

The paper takes photographs of textures (DTD). What it needs of them is variety, since the discriminative
network must not learn what an anomaly looks like; a generator gives that without a data set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.nn import functional as F

from thfr.errors import InputError
from thfr.io import list_images, read_resized
from thfr.methods.draem.noise import perlin_noise, random_gradients, uniform
from thfr.random_streams import integer

_Pattern = Callable[[int, torch.Generator], Tensor]


class TextureSource:
    """Draws textures of the images' size.

    With a ``folder``, all are images of it and of its sub-folders; without, they are patterns of
    :data:`PATTERNS` in random colours or pieces of ``images``. All are changed in light and colour by three
    random operations, as in the paper (section 3.3).

    Raises InputError for a folder that is none or holds no image; ``draw`` for an image that cannot be read.
    """

    def __init__(
        self,
        images: Tensor,  # uint8 [N,3,H,W]
        folder: str | None = None,
    ) -> None:
        self.images, self.size = images, (images.shape[2], images.shape[3])
        self.files: list[Path] = []
        if folder is not None:
            self.files = list_images(folder, recursive=True)
            if not self.files:
                raise InputError(f"draem: textures: the folder {folder} holds no image")

    def draw(self, rng: torch.Generator) -> Tensor:
        """One texture, fp32 [3,H,W] in [0,1]; a function of the generator's state alone."""
        if self.files:
            picture = read_resized(self.files[integer(rng, 0, len(self.files) - 1)], self.size)
        else:
            kinds = list(PATTERNS.values())
            kind = integer(rng, 0, len(kinds))
            drawn = self._pattern(kinds[kind], rng) if kind < len(kinds) else self._piece(rng)
            picture = drawn.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        changed = _changed(Image.fromarray(np.ascontiguousarray(picture)), rng)
        return torch.from_numpy(np.asarray(changed, dtype=np.float32) / 255).permute(2, 0, 1)

    def _pattern(self, kind: _Pattern, rng: torch.Generator) -> Tensor:
        """A generated pattern: of a square, cut to size."""
        return _coloured(kind(max(self.size), rng), rng)[:, : self.size[0], : self.size[1]]

    def _piece(self, rng: torch.Generator) -> Tensor:
        """A training image turned, magnified or diminished (mirrored beyond its edge), its colours mixed."""
        image = self.images[integer(rng, 0, len(self.images) - 1)].float().div(255)
        angle, scale = uniform(rng, 0, 2 * math.pi), 2 ** uniform(rng, -2, 1)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        affine = torch.tensor([[cos, -sin, uniform(rng, -1, 1)], [sin, cos, uniform(rng, -1, 1)]])
        grid = F.affine_grid(affine[None], [1, 3, *self.size], align_corners=False)
        piece = F.grid_sample(image[None], grid, padding_mode="reflection", align_corners=False)[0]
        piece = piece[torch.randperm(3, generator=rng)]
        return 1 - piece if integer(rng, 0, 1) else piece


def _coloured(
    pattern: Tensor,  # [S,S] in [0,1]
    rng: torch.Generator,
) -> Tensor:  # [3,S,S]
    """The pattern through a ramp of two to four random colours."""
    colours = torch.rand(integer(rng, 2, 4), 3, generator=rng)
    positions = pattern.clamp(0, 1) * (len(colours) - 1)
    lower = positions.floor().long().clamp(max=len(colours) - 2)
    return torch.lerp(colours[lower], colours[lower + 1], (positions - lower)[..., None]).permute(2, 0, 1)


def _changed(picture: Image.Image, rng: torch.Generator) -> Image.Image:
    """Three different ones of the paper's seven operations on light and colour."""
    operations: list[Callable[[Image.Image], Image.Image]] = [
        lambda image: ImageOps.posterize(image, integer(rng, 3, 6)),
        lambda image: ImageOps.solarize(image, integer(rng, 32, 224)),
        ImageOps.equalize,
        ImageOps.autocontrast,
        lambda image: ImageEnhance.Sharpness(image).enhance(uniform(rng, 0.5, 4)),
        lambda image: ImageEnhance.Brightness(image).enhance(uniform(rng, 0.5, 1.5)),
        lambda image: ImageEnhance.Color(image).enhance(uniform(rng, 0, 3)),
    ]
    for chosen in torch.randperm(len(operations), generator=rng)[:3].tolist():
        picture = operations[chosen](picture)
    return picture


def _stretched(values: Tensor) -> Tensor:
    """Shifted and scaled to [0,1]."""
    low, high = values.aminmax()
    return (values - low) / (high - low).clamp(min=1e-6)


def _noise(size: int, rng: torch.Generator, rows: int, columns: int) -> Tensor:
    return perlin_noise(random_gradients(rows, columns, rng), (size, size))


def _octaves(size: int, rng: torch.Generator) -> Tensor:
    """Clouds: noise of halving scale, each octave weaker than the one before."""
    cells, weaker = 2 ** integer(rng, 0, 3), uniform(rng, 0.4, 0.9)
    layers = [weaker**octave * _noise(size, rng, cells << octave, cells << octave) for octave in range(4)]
    return _stretched(torch.stack(layers).sum(dim=0))


def _wave(size: int, rng: torch.Generator) -> Tensor:
    """Parallel waves of any direction, somewhat bent, [S,S] in [-1,1]."""
    angle, waves = uniform(rng, 0, math.pi), 2 ** uniform(rng, 1, 5)
    positions = torch.arange(size) / size
    along = positions[:, None] * math.sin(angle) + positions[None] * math.cos(angle)
    bent = uniform(rng, 0, 0.5) * _noise(size, rng, 2, 2)
    return torch.sin(2 * math.pi * (waves * along + bent))


def _stripes(size: int, rng: torch.Generator) -> Tensor:
    """Soft or sharp stripes."""
    return (_wave(size, rng) * 2 ** uniform(rng, 0, 4)).clamp(-1, 1) * 0.5 + 0.5


def _checks(size: int, rng: torch.Generator) -> Tensor:
    """Two sets of stripes across each other."""
    return (_wave(size, rng) * _wave(size, rng) * 2 ** uniform(rng, 0, 4)).clamp(-1, 1) * 0.5 + 0.5


def _blobs(size: int, rng: torch.Generator) -> Tensor:
    """Spots: noise, cut off sharply."""
    cells = 2 ** integer(rng, 2, 5)
    return ((_noise(size, rng, cells, cells) - uniform(rng, -0.2, 0.4)) * 8).sigmoid()


def _fibres(size: int, rng: torch.Generator) -> Tensor:
    """Wood or brushed metal: noise much longer than wide."""
    long, short = 2 ** integer(rng, 0, 2), 2 ** integer(rng, 4, 6)
    noise = _noise(size, rng, long, short) + 0.5 * _noise(size, rng, 2 * long, 2 * short)
    return _stretched(noise.T if integer(rng, 0, 1) else noise)


def _cells(size: int, rng: torch.Generator) -> Tensor:
    """Stones: each pixel has the value of the nearest of some random points, darker towards the joints."""
    points = torch.rand(integer(rng, 8, 128), 2, generator=rng)
    positions = (torch.arange(size) + 0.5) / size
    squared = (positions[:, None, None] - points[:, 0]) ** 2 + (positions[None, :, None] - points[:, 1]) ** 2
    nearest, own = squared.topk(2, dim=2, largest=False)
    gap = nearest[..., 1].sqrt() - nearest[..., 0].sqrt()
    inside = (gap * math.sqrt(len(points)) / uniform(rng, 0.05, 0.6)).clamp(max=1)
    return torch.rand(len(points), generator=rng)[own[..., 0]] * inside


def _speckle(size: int, rng: torch.Generator) -> Tensor:
    """Grain: independent pixels, more or less blurred."""
    grain = torch.rand(1, 1, size, size, generator=rng)
    width = 1 + 2 * integer(rng, 0, 2)
    return _stretched(F.avg_pool2d(grain, width, stride=1, padding=width // 2, count_include_pad=False)[0, 0])


PATTERNS: dict[str, _Pattern] = {
    "octaves": _octaves,
    "stripes": _stripes,
    "checks": _checks,
    "blobs": _blobs,
    "fibres": _fibres,
    "cells": _cells,
    "speckle": _speckle,
}
"""Generated patterns [S,S] in [0,1]."""
