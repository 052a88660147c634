"""TIFF files of more than 8 bits a sample, or of floats: tifffile reads what Pillow cuts to 8 bits or
refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
_GREY, _LINEAR = (0, 1), (0, 1, 2)  # photometric: white is zero, black is zero, RGB


@dataclass(frozen=True)
class TiffHeader:
    """The first page of a deep TIFF file."""

    size: tuple[int, int]
    """(height, width) as stored."""
    orientation: int
    bits: int
    photometric: int
    pages: int


def deep_header(file: Path) -> TiffHeader | None:
    """The header of a TIFF file with more than 8 bits a sample or with floats; None for every other file."""
    try:
        with file.open("rb") as content:
            if content.read(4) not in _MAGIC:
                return None
        with tifffile.TiffFile(file) as tiff:
            page: Any = tiff.pages[0]
            bits, form = int(page.bitspersample), int(page.sampleformat)
            if bits <= 8 and form == 1:
                return None
            tag = page.tags.get(274)
            orientation = int(tag.value) if tag is not None and 1 <= int(tag.value) <= 8 else 1
            size = (int(page.imagelength), int(page.imagewidth))
            return TiffHeader(size, orientation, bits, int(page.photometric), len(tiff.pages))
    except Exception:  # damaged: Pillow's message is the better one
        return None


def read_deep(file: Path) -> tuple[np.ndarray, list[str]] | None:
    """[H, W] or [H, W, 3] in the file's own values, as stored, and notes; None if only Pillow can read it.

    Raises:
        OSError: damaged content.
    """
    try:
        with tifffile.TiffFile(file) as tiff:
            page: Any = tiff.pages[0]
            values = np.asarray(page.asarray())
            photometric, bits = int(page.photometric), int(page.bitspersample)
            if int(page.samplesperpixel) > 1 and int(page.planarconfig) == 2:
                values = np.moveaxis(values, 0, -1)
    except Exception as error:
        if "imagecodecs" in str(error):  # LZW, packed samples: left to a package that may be absent
            return None
        raise OSError(f"{type(error).__name__}: {error}") from error
    if values.ndim not in (2, 3) or photometric not in _LINEAR:
        return None
    if photometric == 0:
        values = inverted(values, bits)
    notes = []
    if values.ndim == 3:
        wanted = 1 if photometric in _GREY or values.shape[2] < 3 else 3
        if values.shape[2] > wanted:
            notes.append(f"{values.shape[2] - wanted} extra channel(s) (alpha) dropped")
        values = values[..., 0] if wanted == 1 else values[..., :3]
    return np.ascontiguousarray(values), notes


def inverted(values: np.ndarray, bits: int) -> np.ndarray:
    """Samples of a file where white is zero. Floats are left alone: they have no largest value."""
    if values.dtype.kind == "u":
        return (np.array((1 << bits) - 1, values.dtype) - values).astype(values.dtype)
    return values
