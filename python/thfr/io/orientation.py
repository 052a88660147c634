"""EXIF's orientation, tag 274 (TIFF 6.0 and EXIF 2.3): how stored pixels are to be looked at."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image

TAG = 274


def orientation_of(image: Image.Image) -> int:
    """1 to 8; 1 (as stored) where the file says nothing or nonsense. Decodes no pixel."""
    if image.format == "TIFF":
        value = image.tag_v2.get(TAG, 1)  # type: ignore[attr-defined]
    elif image.format == "PNG":
        value = _png_exif(image).get(TAG, 1)
    else:
        value = image.getexif().get(TAG, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def is_applied(image: Image.Image, orientation: int) -> bool:
    """Whether Pillow has turned a loaded TIFF, of that orientation, already: it then drops the tag."""
    return image.format == "TIFF" and orientation != 1 and image.getexif().get(TAG) is None


def _png_exif(image: Image.Image) -> Image.Exif:
    """Pillow's own way decodes all pixels to find an eXIf chunk behind them; this one skips them."""
    stream: Any = image.fp  # type: ignore[attr-defined]
    found = Image.Image.getexif(image)
    if "exif" in image.info or stream is None:
        return found
    place = stream.tell()
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            found = Image.Exif()
            found.load(b"Exif\0\0" + stream.read(length))
            break
        stream.seek(length + 4, os.SEEK_CUR)
    stream.seek(place)
    return found


def oriented_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(height, width) once the orientation is applied."""
    return size[::-1] if orientation >= 5 else size


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as they are to be looked at, by EXIF's tag 274."""
    if orientation in (2, 5, 7):
        pixels = pixels[:, ::-1]
    if orientation == 4:
        pixels = pixels[::-1]
    turns = {3: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, turns) if turns else pixels)


def turned_back(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The inverse of :func:`turned`; all of them but the quarter turns are their own."""
    return turned(pixels, {6: 8, 8: 6}.get(orientation, orientation))
