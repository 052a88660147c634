"""Images for a network: decoded and resized once, kept by the caller."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch

from thfr.data.base import Sample
from thfr.data.parallel import parallel_map
from thfr.errors import InputError
from thfr.io import read_resized


def load_images(
    sources: Sequence[Sample | str | os.PathLike[str]],
    size: tuple[int, int],
    *,
    threads: int | None = None,
    progress: bool = False,
) -> torch.Tensor:  # uint8 [N, 3, H, W]
    """Read images as RGB, resized to ``size`` = (height, width), anti-aliased bilinear: uint8 [N, 3, H, W].

    Decoding and resizing cost more than a network's step, so load once and keep the result: 0.2 MB an image
    at 256 x 256. Runs on ``threads`` threads (default: the usable processors, at most 16).

    Raises:
        InputError: no source, a bad size, or an image that cannot be read (names the file).
    """
    if len(size) != 2 or not all(isinstance(edge, int) and edge >= 1 for edge in size):
        raise InputError(f"load_images: size must be (height, width) in pixels, got {size!r}")
    if isinstance(sources, (str, os.PathLike, Sample)):
        raise InputError(f"load_images: sources must be a sequence of images, got {sources!r:.90}")
    if not sources:
        raise InputError("load_images: sources is empty")
    images = torch.empty((len(sources), 3, *size), dtype=torch.uint8)
    pixels = images.numpy()  # shares memory; each thread fills its own image

    def fill(index: int) -> None:
        source = sources[index]
        image = read_resized(source.path if isinstance(source, Sample) else source, size)
        pixels[index] = np.moveaxis(image, 2, 0)

    parallel_map(fill, range(len(sources)), threads=threads, progress=progress, description="read images")
    return images
