"""How an image is laid into the network's input, and how its map comes back: stretched or letterboxed, and
only where it counts.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageDraw

from thfr.errors import InputError
from thfr.io.masks import read_binary_mask
from thfr.io.names import printable

Fit = Literal["stretch", "letterbox"]
FITS: tuple[Fit, ...] = get_args(Fit)
FILL = (124, 116, 104)
"""What lies around a letterboxed image and outside of the region of interest: the mean colour of ImageNet,
which says nothing to a backbone.
"""


@dataclass(frozen=True)
class Region:
    """A region of interest: pixels outside of it neither are seen nor count. ``png``: its mask, a 1-bit PNG.

    It belongs to images of ``size`` = (height, width) and is scaled to those of another size, nearest pixel.
    """

    size: tuple[int, int]
    png: bytes

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> Region:
        """The region where a bool array [H,W] is true.

        Raises:
            InputError: it is nowhere.
        """
        if mask.dtype != np.bool_ or mask.ndim != 2 or not mask.any():
            raise InputError("roi: the region must be a mask [H,W] with at least one pixel inside")
        buffer = io.BytesIO()
        Image.fromarray(mask).save(buffer, "PNG", optimize=False)
        return cls((mask.shape[0], mask.shape[1]), buffer.getvalue())

    @property
    def digest(self) -> str:
        """SHA-256 of size and pixels."""
        mask = self.scaled(self.size)
        return hashlib.sha256(f"{self.size}".encode() + np.packbits(mask).tobytes()).hexdigest()

    @property
    def share(self) -> float:
        """Share of the image that counts."""
        return float(self.scaled(self.size).mean())

    def scaled(self, size: tuple[int, int]) -> np.ndarray:  # bool [H,W], read-only
        """The mask for an image of ``size`` (height, width)."""
        return _scaled(self, (int(size[0]), int(size[1])))

    def as_dict(self) -> dict[str, Any]:
        """``height``, ``width``, ``png`` (base64); for JSON."""
        return {"height": self.size[0], "width": self.size[1], "png": base64.b64encode(self.png).decode()}

    @classmethod
    def from_dict(cls, values: Any) -> Region:
        """The inverse of :meth:`as_dict`.

        Raises:
            InputError: something else.
        """
        try:
            size = int(values["height"]), int(values["width"])
            found = cls(size, base64.b64decode(values["png"], validate=True))
            with Image.open(io.BytesIO(found.png), formats=["PNG"]) as image:
                if (image.height, image.width) != size:
                    raise ValueError(f"the mask has {image.height} x {image.width} pixels")
            if not found.scaled(size).any():
                raise ValueError("the mask is empty")
        except (TypeError, KeyError, ValueError, OSError, Image.DecompressionBombError) as error:
            raise InputError(f"roi: expected height, width and png, got {values!r:.90}: {error}") from error
        return found


@lru_cache(maxsize=8)
def _scaled(region: Region, size: tuple[int, int]) -> np.ndarray:
    with Image.open(io.BytesIO(region.png), formats=["PNG"]) as image:
        mask = np.asarray(image.convert("1"))
    if size != mask.shape:
        rows, columns = (
            np.minimum(((np.arange(new) + 0.5) * (old / new)).astype(np.int64), old - 1)
            for new, old in zip(size, mask.shape, strict=True)
        )
        mask = mask[rows][:, columns]
    mask.flags.writeable = False
    return mask


def read_region(path: str | os.PathLike[str], size: tuple[int, int]) -> Region:
    """A region from a file: a mask image (non-zero counts) or polygons in JSON.

    JSON: ``{"width": W, "height": H, "polygons": [[[x, y], ...], ...]}`` with x to the right and y down in
    pixels of an image of W x H; without these of one of ``size``; a list alone is taken for the polygons.
    What
    lies in any polygon counts. The files of LabelMe (``shapes``, ``imageWidth``, ``imageHeight``) are read,
    too.

    Args:
        size: (height, width) of the images.

    Raises:
        InputError: names the file.
    """
    file = Path(path)
    try:
        if file.suffix.lower() != ".json":
            return Region.of_mask(read_binary_mask(file).pixels)
        return Region.of_mask(_drawn(json.loads(file.read_text(encoding="utf-8-sig")), size))
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"roi: {printable(file)} cannot be used: {error}") from error


def _drawn(values: Any, size: tuple[int, int]) -> np.ndarray:
    if isinstance(values, dict) and "shapes" in values:
        polygons = [shape["points"] for shape in values["shapes"]]
        edges = values["imageHeight"], values["imageWidth"]
    elif isinstance(values, dict):
        polygons = values["polygons"]
        edges = values.get("height", size[0]), values.get("width", size[1])
    else:
        polygons, edges = values, size
    if not isinstance(polygons, list) or not polygons:
        raise ValueError("expected a list of polygons, each a list of at least three points [x, y]")
    height, width = (int(edge) for edge in edges)
    if not (height >= 1 and width >= 1 and height * width <= 1 << 30):
        raise ValueError(f"expected the width and height of an image, got {width} x {height}")
    picture = Image.new("1", (width, height))
    for polygon in polygons:
        points = [(float(x), float(y)) for x, y in polygon]
        if len(points) < 3 or not np.isfinite(points).all():
            raise ValueError(f"expected at least three points [x, y], got {polygon!r:.60}")
        ImageDraw.Draw(picture).polygon(points, fill=1)
    return np.array(picture)


@dataclass(frozen=True)
class Box:
    """A rectangle of the network's input, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def box_of(native: tuple[int, int], size: tuple[int, int], fit: Fit) -> Box:
    """Where in an input of ``size`` an image of ``native`` (height, width) lies."""
    if fit == "stretch":
        return Box(0, 0, *size)
    scale = min(size[0] / native[0], size[1] / native[1])
    height, width = (min(max(round(edge * scale), 1), most) for edge, most in zip(native, size, strict=True))
    return Box((size[0] - height) // 2, (size[1] - width) // 2, height, width)


def counted(
    native: tuple[int, int] | None, size: tuple[int, int], fit: Fit, region: Region | None
) -> np.ndarray | None:  # bool [H,W]
    """Which pixels of the input count for an image of ``native`` size; None: all.

    ``native`` None: not known; all of a letterboxed input counts then.
    """
    if native is None and fit == "letterbox":
        return None
    box = box_of(native or size, size, fit)
    if region is None and (box.height, box.width) == size:
        return None
    inside = np.zeros(size, dtype=bool)
    inside[box.slices] = True if region is None else region.scaled((box.height, box.width))
    if not inside.any():  # a region smaller than a pixel of the input
        inside[box.slices] = True
    return inside


def filled(
    pixels: np.ndarray,  # [H,W] or [H,W,3], uint8 or float32 in 0 to 255
    region: Region | None,
) -> np.ndarray:
    """The image with :data:`FILL` outside of the region; grey becomes grey."""
    if region is None:
        return pixels
    outside = ~region.scaled((pixels.shape[0], pixels.shape[1]))
    result = pixels.copy()
    result[outside] = round(sum(FILL) / 3) if pixels.ndim == 2 else FILL
    return result


def native_counted(
    anomaly_map: np.ndarray,  # float32 [H,W] at native size
    region: Region | None,
) -> np.ndarray:
    """The map with its least value outside of the region; in place, since it may be large."""
    if region is not None:
        inside = region.scaled((anomaly_map.shape[0], anomaly_map.shape[1]))
        np.copyto(anomaly_map, anomaly_map.min(), where=~inside)
    return anomaly_map
