"""What a run's training images look like, to say of a new image that it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thfr.io import ImageInput
from thfr.plain import Plain

if TYPE_CHECKING:
    from thfr.data.images import Loaded  # brings torch, which an exported model does without

SMALLEST = 32
"""Pixels of an edge below which no image has enough detail for any backbone."""
_SIZE_FACTOR, _ASPECT_FACTOR = 2.0, 1.25
_DARK, _WHITE = 0.02, 0.25


@dataclass(frozen=True)
class ImageProfile(Plain):
    """Ranges over the training images; stored with the run as a dict."""

    height: tuple[int, int]
    """Smallest and largest, in pixels of the files."""
    width: tuple[int, int]
    darkest: float
    """The lowest mean brightness of an image, 0 to 1."""
    saturated: float
    """The largest share of white pixels in an image, at the network's input size."""

    @classmethod
    def of(cls, loaded: Loaded) -> ImageProfile:
        """The profile of training images."""
        from thfr.data.mapped import pieces

        heights, widths = zip(*loaded.sizes, strict=True)
        darkest, saturated = 1.0, 0.0
        for some in pieces(loaded.images, 256):
            for image in some:
                darkest = min(darkest, float(image.float().mean()) / 255)
                saturated = max(saturated, float((image == 255).all(0).float().mean()))
        return cls((min(heights), max(heights)), (min(widths), max(widths)), darkest, saturated)

    def check(self, image: ImageInput) -> list[str]:
        """Notes on how a new image differs: another size or shape, nearly black, constant, saturated."""
        height, width = image.native
        notes = []
        if not self.height[0] / _SIZE_FACTOR <= height <= self.height[1] * _SIZE_FACTOR or not (
            self.width[0] / _SIZE_FACTOR <= width <= self.width[1] * _SIZE_FACTOR
        ):
            there = f"{self.width[0]} to {self.width[1]} x {self.height[0]} to {self.height[1]}"
            notes.append(f"{width} x {height} pixels; the training images have {there}")
        shapes = self.width[0] / self.height[1], self.width[1] / self.height[0]
        if not shapes[0] / _ASPECT_FACTOR <= width / height <= shapes[1] * _ASPECT_FACTOR:
            notes.append(
                f"width to height is {width / height:.2f}; {shapes[0]:.2f} to {shapes[1]:.2f} at training"
            )
        return notes + odd_pixels(image.pixels, self.darkest, self.saturated) + too_small(image.native)


def odd_pixels(
    pixels: np.ndarray,  # uint8 [h, w, 3]
    darkest: float = 1.0,
    saturated: float = 0.0,
) -> list[str]:
    """Notes if an image is constant, nearly black or largely white, beyond what training images are."""
    if int(pixels.max()) - int(pixels.min()) <= 1:
        return [f"constant: every pixel is {pixels.flat[0]} of 255"]
    mean, white = float(pixels.mean()) / 255, float((pixels == 255).all(-1).mean())
    if mean < _DARK and mean < darkest / 2:
        return [f"nearly black: {mean:.1%} of white on average; is its bit depth the run's?"]
    if white > _WHITE and white > 2 * saturated + 0.05:
        return [f"saturated: {white:.0%} of its pixels are white"]
    return []


def too_small(native: tuple[int, int]) -> list[str]:
    """A note if an edge has fewer than :data:`SMALLEST` pixels."""
    if min(native) < SMALLEST:
        return [f"{native[1]} x {native[0]} pixels: an edge below {SMALLEST}"]
    return []
