"""Where to look, and what becomes of an image's map and score: verdict and findings."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thfr.errors import InputError
from thfr.io import read_image
from thfr.predictions.findings import Finding, find
from thfr.runs.threshold import Verdict


class NothingToLookAt(InputError):
    """Region and ignore leave nothing of the image."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the image; it may reach beyond the image's edges."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, name: str, text: str) -> Box:
        """The inverse of ``x,y,width,height``.

        Raises:
            InputError: something else, or an empty rectangle; names the argument.
        """
        try:
            x, y, width, height = (int(part) for part in text.split(","))
            if width < 1 or height < 1 or max(map(abs, (x, y, width, height))) > 10**9:
                raise ValueError(text)
        except ValueError:
            raise InputError(f"{name}: expected X,Y,WIDTH,HEIGHT in pixels, got {text!r:.60}") from None
        return cls(x, y, width, height)

    def fill(self, mask: np.ndarray) -> None:
        """Set the rectangle in bool [H,W]."""
        bottom, right = max(0, self.y + self.height), max(0, self.x + self.width)
        mask[max(0, self.y) : bottom, max(0, self.x) : right] = True


@dataclass(frozen=True)
class Where:
    """Which part of an image counts: inside of the regions, outside of what is ignored.

    Masks, bool [h,w], are stretched to each image (nearest pixel); rectangles are in its own pixels.
    """

    region: np.ndarray | None = None
    ignore: np.ndarray | None = None
    regions: tuple[Box, ...] = ()
    ignores: tuple[Box, ...] = ()

    def with_boxes(self, regions: tuple[Box, ...], ignores: tuple[Box, ...]) -> Where:
        """These masks with other rectangles."""
        return Where(self.region, self.ignore, regions, ignores)

    def mask(self, size: tuple[int, int]) -> np.ndarray | None:
        """What counts of an image of ``size``, (height, width): bool [H,W]; None: all of it.

        Raises:
            NothingToLookAt: nothing does.
        """
        if self.region is None and self.ignore is None and not self.regions and not self.ignores:
            return None
        counts = np.ones(size, bool) if self.region is None else stretched(self.region, size)
        if self.regions:
            inside = np.zeros(size, bool)
            for box in self.regions:
                box.fill(inside)
            counts &= inside
        if self.ignore is not None:
            counts &= ~stretched(self.ignore, size)
        ignored = np.zeros(size, bool)
        for box in self.ignores:
            box.fill(ignored)
        counts &= ~ignored
        if not counts.any():
            raise NothingToLookAt(
                f"inspect: region and ignore leave nothing of an image of {size[1]} x {size[0]} pixels"
            )
        return counts


EVERYWHERE = Where()


@dataclass(frozen=True)
class Rules:
    """How findings are made of maps."""

    min_area: int = 1
    """Findings of fewer pixels are left out."""
    pixels_per_mm: float | None = None
    where: Where = field(default=EVERYWHERE)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, to tell rules apart: of masks the digests, without rectangles, which are of one image."""
        masks = {
            name: None
            if mask is None
            else hashlib.sha256(f"{mask.shape}".encode() + mask.tobytes()).hexdigest()
            for name, mask in (("region", self.where.region), ("ignore", self.where.ignore))
        }
        return {"min_area": self.min_area, "pixels_per_mm": self.pixels_per_mm, **masks}


@dataclass(frozen=True)
class Judgement:
    """What became of one image."""

    score: float
    verdict: Verdict | None
    findings: list[Finding]
    shown: np.ndarray  # float32 [H,W]
    """The map, with what does not count as calm as the calmest pixel."""


def judge(
    values: np.ndarray,  # float32 [H,W]
    score: float,
    limit: float | None,
    rules: Rules,
) -> Judgement:
    """Verdict and findings of an image by its map and score.

    Where a part of the image does not count, the score is multiplied by the share of the map's peak that the
    rest reaches: for a method whose score is the peak this is the peak of the rest.

    Raises:
        NothingToLookAt: nothing counts.
    """
    mask = rules.where.mask((values.shape[0], values.shape[1]))
    shown = values
    if mask is not None:
        peak, rest = float(values.max()), float(values[mask].max())
        if peak > 0 and math.isfinite(peak):
            score *= max(rest, 0.0) / peak
        shown = np.where(mask, values, values.min())
    if limit is None:
        return Judgement(score, None, [], shown)
    findings = find(values, limit, min_area=rules.min_area, region=mask, pixels_per_mm=rules.pixels_per_mm)
    return Judgement(score, "bad" if score > limit else "good", findings, shown)


def read_mask(option: str, path: Path) -> np.ndarray:  # bool [H,W]
    """A mask from an image file: its pixels that are not black.

    Raises:
        InputError: it cannot be read, or all of it is black; names the option.
    """
    try:
        mask = np.asarray(read_image(path).any(2))
    except InputError as error:
        raise InputError(f"{option}: {str(error).removeprefix('read_image: ')}") from error
    if not mask.any():
        raise InputError(f"{option}: expected an image with pixels that are not black, got {path}")
    return mask


def stretched(
    mask: np.ndarray,  # bool [h,w]
    size: tuple[int, int],
) -> np.ndarray:  # bool [H,W], a copy
    """The mask at another size, by the nearest pixel."""
    if mask.shape == size:
        return mask.copy()
    image = Image.fromarray(mask.astype(np.uint8))
    return np.array(image.resize((size[1], size[0]), Image.Resampling.NEAREST)).astype(bool)
