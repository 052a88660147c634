"""Slightly moved, turned and lit copies of the training images, made before features are computed."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from thfr.data.parallel import parallel_map
from thfr.random_streams import Stream

TURN, MOVE, SCALE, LIGHT = 3.0, 0.02, 0.03, 0.06
"""Largest turn in degrees, and largest shift, change of size and of brightness and contrast as shares."""


def augmented(
    images: Tensor,  # uint8 [N,3,H,W]
    copies: int,
    seed: int,
) -> list[Tensor]:  # copies times uint8 [N,3,H,W]
    """``copies`` versions of all images, a function of ``seed`` alone; what comes into view is the edge."""
    made = []
    for copy in range(copies):
        result = torch.empty_like(images)

        def fill(index: int, copy: int = copy, result: Tensor = result) -> None:
            rng = np.random.default_rng([seed, Stream.AUGMENTATION, copy, index])
            picture = _moved(images[index].permute(1, 2, 0).numpy(), rng)
            result[index] = torch.from_numpy(_lit(picture, rng)).permute(2, 0, 1)

        parallel_map(fill, range(len(images)), progress=False, description="augment")
        made.append(result)
    return made


def _moved(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    margin = max(height, width) // 8  # more than anything moves
    padded = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    angle = np.deg2rad(rng.uniform(-TURN, TURN))
    scale = 1 + rng.uniform(-SCALE, SCALE)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    u, v = padded.shape[1] / 2, padded.shape[0] / 2  # the middle
    x, y = np.array([u, v]) + rng.uniform(-MOVE, MOVE, 2) * (width, height)
    affine = (cos, sin, x - cos * u - sin * v, -sin, cos, y + sin * u - cos * v)
    turned = Image.fromarray(padded).transform(
        padded.shape[1::-1], Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
    )
    return np.asarray(turned)[margin:-margin, margin:-margin]


def _lit(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gain, offset = 1 + rng.uniform(-LIGHT, LIGHT), rng.uniform(-LIGHT, LIGHT) * 128
    return (gain * (picture.astype(np.float32) - 128) + 128 + offset).round().clip(0, 255).astype(np.uint8)
