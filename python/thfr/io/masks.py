"""Masks: which pixels are anomalous, where a file says so clearly; refused where it does not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thfr.errors import InputError
from thfr.io.decoding import decode
from thfr.io.names import printable
from thfr.io.opening import opened

THRESHOLD = 0.5
"""Share of white from which on a grey of an anti-aliased or JPEG mask is anomalous (128 of 255)."""
_FEW = 16
"""Class labels 1, 2, 3, ... are at most this; greys of a picture are more."""
_GREYS, _OF_ALL = 2.0, 0.5
"""An anti-aliased mask has at most so many greys for each anomalous pixel, and for each pixel."""
_MOST = 0.5
"""A mask that covers more of its image than this is noted: inverted?"""


@dataclass(frozen=True)
class BinaryMask:
    """A mask and what was decided about its file."""

    pixels: np.ndarray
    """bool [H, W]; True where anomalous."""
    notes: tuple[str, ...]


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a mask's pixel values as uint8 [H, W], where they are labels (MVTec LOCO AD); a 1-bit mask gives
    0, 255.

    Colour and palette files are taken if every pixel is grey (alpha is dropped), 16-bit files if no value is
    above 255.

    Raises:
        InputError: missing or unreadable file, a mask with coloured pixels or with larger values.
    """
    if _is_jpeg(Path(path)):
        raise InputError(f"read_mask: {printable(path)} is JPEG, which changes the values that name defects")
    values = decode(path, reader="read_mask").pixels
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise InputError(f"read_mask: expected 8-bit grey pixels, got coloured ones in {printable(path)}")
        values = np.ascontiguousarray(values[..., 0])
    if values.dtype != np.uint8:
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
            top = f"{values.dtype} up to {values.max():g}"
            raise InputError(f"read_mask: expected 8-bit grey pixels, got {top} in {printable(path)}")
        values = values.astype(np.uint8)
    return values


def read_binary_mask(path: str | os.PathLike[str]) -> BinaryMask:
    """Read a mask whose meaning is black or not: bool [H, W].

    Clear, and taken: two values of which one is 0 (0/1, 0/255, 16-bit, a palette or colour on black); small
    class labels 1, 2, 3, ... (VisA), all of them anomalous; white with anti-aliased edges, and JPEG, both cut
    at :data:`THRESHOLD` with a note.

    Raises:
        InputError: missing or unreadable file; several colours; greys or values without a clear meaning.
    """
    values = decode(path, reader="read_mask").pixels
    if values.ndim == 3:
        values = _grey_or_one_colour(values, path)
    if values.dtype == bool:
        return _noted(values, [])
    present, counts = np.unique(values, return_counts=True)
    jpeg = _is_jpeg(Path(path))
    if values.dtype.kind == "f" or present[0] < 0:
        if len(present) > 2 or (present < 0).any():
            raise InputError(f"read_mask: expected 0 and one other value, got floats in {printable(path)}")
        return _noted(values != 0, [])
    if jpeg:
        return _cut(values, 255, path, "JPEG (lossy)", present, counts)
    nonzero = present[present > 0]
    if len(nonzero) <= 1:
        return _noted(values != 0, [])
    if nonzero[-1] <= _FEW:
        labels = ", ".join(map(str, nonzero))
        return _noted(values != 0, [f"labels {labels}: all of them taken as anomalous"])
    white = int(np.iinfo(values.dtype).max) if nonzero[-1] > 255 or values.dtype == np.uint8 else 255
    return _cut(values, white, path, "anti-aliased", present, counts)


def _cut(
    values: np.ndarray,
    white: int,
    path: str | os.PathLike[str],
    why: str,
    present: np.ndarray,
    counts: np.ndarray,
) -> BinaryMask:
    """Greys cut at half of white, if they are the edges of something white and not a picture."""
    far = (
        0.125 * white if why.startswith("JPEG") else 0.0
    )  # how far from black and white compression moves a pixel
    between = (present > far) & (present < white - far)
    greys, anomalous = int(counts[between].sum()), int(counts[present >= THRESHOLD * white].sum())
    unclear = (
        greys > _GREYS * anomalous or greys > _OF_ALL * values.size or (anomalous == 0 and present[-1] > 0)
    )
    if unclear or (len(present) == 3 and between.any()):
        some = ", ".join(map(str, present[present > 0][:8]))
        raise InputError(
            f"read_mask: {printable(path)} must hold one non-zero value, got "
            f"{int((present > 0).sum())}: {some}{', ...' if (present > 0).sum() > 8 else ''}; "
            "greys are taken as the edges of white only"
        )
    note = f"{why}: {greys} grey pixel(s), anomalous from {THRESHOLD:.0%} of white on"
    return _noted(values >= THRESHOLD * white, [note])


def covering(mask: np.ndarray) -> tuple[str, ...]:
    """A note if the mask covers most of its image."""
    share = float(mask.mean())
    return (f"covers {share:.0%} of its image: inverted?",) if share > _MOST else ()


def _noted(mask: np.ndarray, notes: list[str]) -> BinaryMask:
    return BinaryMask(mask, (*notes, *covering(mask)))


def _grey_or_one_colour(values: np.ndarray, path: str | os.PathLike[str]) -> np.ndarray:
    """[H, W] of grey pixels, or bool where one colour lies on black."""
    if not (values != values[..., :1]).any():
        return np.ascontiguousarray(values[..., 0])
    colours = np.unique(values.reshape(-1, 3), axis=0)
    black = (colours == 0).all(axis=1)
    if len(colours) == 2 and black.any():
        return (values != 0).any(axis=2)
    raise InputError(
        f"read_mask: expected black and one other colour, got {len(colours)} colours in {printable(path)}"
    )


def _is_jpeg(file: Path) -> bool:
    with opened(file, "read_mask") as image:
        return image.format in ("JPEG", "MPO")
