"""Pixels out of files as the files have them: any common format and depth.

Pillow decodes what it decodes without loss; deeper colour, which it cuts to 8 bits, is read by
:mod:`thfr.io.tiff` and :mod:`thfr.io.deep`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from thfr.errors import InputError
from thfr.io import deep, tiff
from thfr.io.listing import FORMATS
from thfr.io.names import printable
from thfr.io.opening import DECODE_ERRORS, opened
from thfr.io.orientation import is_applied, orientation_of, oriented_size, turned, turned_back

MAX_PIXELS = 1 << 28
"""Default limit of an image's pixels, 268 millions: a line scan of 14,000 x 13,100 fits."""
LARGE = 1 << 25
"""Images of more pixels (33 millions) are decoded one at a time, so that threads do not multiply their
memory.
"""

_ONE_LARGE = threading.RLock()
_SAME_CONTENT = {"DIB": "BMP", "MPO": "JPEG"}
_PLAIN = ("1", "L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX")


@dataclass(frozen=True)
class Decoded:
    """One image as its file stores it, but for the orientation if that was asked for."""

    pixels: np.ndarray
    """[H, W] grey or [H, W, 3] RGB; uint8, or any other number type for deeper files."""
    bits: int
    """Bits of one sample as the file declares them: 8, 12, 16, 32, ..."""
    native: tuple[int, int]
    """(height, width) at full resolution: larger than ``pixels`` where a large JPEG was decoded at a lower
    one.
    """
    notes: tuple[str, ...]
    """What was decided about this file, for people; empty for a plain 8-bit image."""

    @property
    def container(self) -> str:
        """``uint8``, ``integer`` (deeper integers) or ``float``."""
        return container(self.pixels)


@dataclass(frozen=True)
class Header:
    """What a file says of its image before any pixel is decoded."""

    size: tuple[int, int]
    """(height, width) as stored."""
    orientation: int
    """EXIF's tag 274, 1 to 8; 1 where there is none."""
    bits: int
    """Bits of a sample, 1 to 8 being 8; 32 or 64 for floats."""


def container(pixels: np.ndarray) -> str:
    """``uint8``, ``integer`` (deeper integers) or ``float``."""
    if pixels.dtype == np.uint8:
        return "uint8"
    return "float" if pixels.dtype.kind == "f" else "integer"


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) as stored; Pillow turns TIFFs by their orientation, other formats not."""
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        return int(tags[257]), int(tags[256])
    return image.height, image.width


def read_header(path: str | os.PathLike[str], reader: str = "read_header") -> Header:
    """Size, orientation and depth by the file's header.

    Raises:
        InputError: missing or unreadable file.
    """
    file = Path(path)
    found = tiff.deep_header(file) if file.is_file() else None
    if found is not None:
        return Header(found.size, found.orientation, max(found.bits, 16))
    with opened(file, reader) as image:
        return Header(_stored_size(image), orientation_of(image), max(8, deep.declared_bits(image)))


def image_size(path: str | os.PathLike[str], oriented: bool = False) -> tuple[int, int]:
    """(height, width) in pixels from the file's header; no pixel is decoded.

    Args:
        oriented: as the image is to be looked at, by its EXIF orientation; otherwise as stored.

    Raises:
        InputError: missing or unreadable file.
    """
    header = read_header(path, "image_size")
    return oriented_size(header.size, header.orientation) if oriented else header.size


def limit_of_pixels(limit: int | None) -> int:
    """``limit``, or the environment's ``THFR_MAX_PIXELS``, or :data:`MAX_PIXELS`.

    Raises:
        InputError: not an integer of at least 1.
    """
    value = os.environ.get("THFR_MAX_PIXELS", MAX_PIXELS) if limit is None else limit
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f"THFR_MAX_PIXELS: expected a number of pixels >= 1, got {value!r}")
    return number


def _check_pixels(file: Path, size: tuple[int, int], limit: int, reader: str) -> None:
    pixels = size[0] * size[1]
    if pixels > limit:
        raise InputError(
            f"{reader}: {printable(file)} has {size[1]} x {size[0]} pixels, {pixels:,} in all; the limit is "
            f"{limit:,} (set the environment variable THFR_MAX_PIXELS to allow more)"
        )


def decode(
    path: str | os.PathLike[str],
    *,
    reader: str = "read_image",
    oriented: bool = False,
    max_pixels: int | None = None,
    size: tuple[int, int] | None = None,
) -> Decoded:
    """Decode one image.

    Alpha is dropped, not blended; palettes are expanded; CMYK and other colour spaces become RGB as Pillow
    has it; of several frames or pages the first is taken; TIFFs where white is zero are inverted. What was
    decided is in ``notes``.

    Args:
        reader: the function that errors begin with.
        oriented: apply the EXIF orientation.
        max_pixels: see :func:`limit_of_pixels`.
        size: (height, width) that the caller will resize to: a :data:`LARGE` JPEG may then be decoded at a
        half, a
            quarter or an eighth of its size, never below ``size``.

    Raises:
        InputError: missing, unreadable or truncated file, more pixels than allowed, NaN or infinite pixels.
    """
    with decoding(path, reader=reader, oriented=oriented, max_pixels=max_pixels, size=size) as found:
        return found


@contextmanager
def decoding(
    path: str | os.PathLike[str],
    *,
    reader: str,
    oriented: bool = False,
    max_pixels: int | None = None,
    size: tuple[int, int] | None = None,
) -> Iterator[Decoded]:
    """:func:`decode` for as long as the block runs: no other thread holds a :data:`LARGE` image meanwhile."""
    with ExitStack() as held:
        yield _decode(Path(path), reader, oriented, limit_of_pixels(max_pixels), size, held)


def _decode(
    file: Path, reader: str, oriented: bool, limit: int, size: tuple[int, int] | None, held: ExitStack
) -> Decoded:
    header = tiff.deep_header(file) if file.is_file() else None
    if header is not None:
        _check_pixels(file, header.size, limit, reader)
        _one_at_a_time(header.size, held)
        pixels, notes = _read_deep_tiff(file, header, reader)
        stored, bits, orientation = header.size, header.bits, header.orientation
        notes = [*_general_notes(file, "TIFF", orientation, oriented, header.pages), *notes]
    else:
        with opened(file, reader) as image:
            stored, orientation = _stored_size(image), orientation_of(image)
            _check_pixels(file, stored, limit, reader)
            frames = getattr(image, "n_frames", 1)
            notes = _general_notes(file, image.format or "", orientation, oriented, frames)
            bits = deep.declared_bits(image)
            _one_at_a_time(stored, held)
            if bits > 8:
                pixels, more = deep.read_deep(image, file)
            else:
                if size is not None and stored[0] * stored[1] > LARGE and image.format == "JPEG":
                    image.draft(None, (oriented_size(size, orientation) if oriented else size)[::-1])  # type: ignore[arg-type]
                pixels, more = _eight_bits(image, orientation)
            notes += more
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError(f"{reader}: {printable(file)} holds NaN or infinite pixels")
    if oriented:
        pixels, stored = turned(pixels, orientation), oriented_size(stored, orientation)
    return Decoded(pixels, max(8, bits), stored, tuple(notes))


def _one_at_a_time(size: tuple[int, int], held: ExitStack) -> None:
    if size[0] * size[1] > LARGE:
        held.enter_context(_ONE_LARGE)


def _read_deep_tiff(file: Path, header: tiff.TiffHeader, reader: str) -> tuple[np.ndarray, list[str]]:
    """As stored. What tifffile cannot read (LZW, packed 12 bits) libtiff can: grey without loss, colour
    not.
    """
    try:
        found = tiff.read_deep(file)
    except DECODE_ERRORS as error:
        raise InputError(f"{reader}: cannot read {printable(file)}: {printable(str(error))}") from error
    if found is not None:
        return found
    with opened(file, reader) as image:
        values, notes = deep.by_pillow(image)
        if notes:
            notes = [f"{notes[0]} (pip install imagecodecs reads all of them)"]
        elif header.photometric == 0:
            values = tiff.inverted(values, header.bits)
        if is_applied(image, header.orientation):
            values = turned_back(values, header.orientation)
    return values, notes


def _eight_bits(image: Image.Image, orientation: int) -> tuple[np.ndarray, list[str]]:
    """uint8 [H, W] or [H, W, 3] as stored; notes."""
    image.load()
    notes = _transparency(image)
    if image.mode in ("P", "PA"):
        # Straight to RGB would warn of transparency.
        plain = (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
        notes.append("palette expanded to RGB")
    else:
        mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
        plain = image if image.mode == mode else image.convert(mode)
        if image.mode not in _PLAIN:
            notes.append(f"{image.mode} converted to RGB")
    pixels = _as_array(plain)
    if is_applied(image, orientation):
        pixels = turned_back(pixels, orientation)
    return pixels, notes


def _as_array(image: Image.Image) -> np.ndarray:
    """uint8 [H, W] or [H, W, C]; large ones strip by strip, for Pillow makes two copies on the way."""
    if image.width * image.height <= LARGE:
        return np.asarray(image)  # read-only, one copy less
    shape = (image.height, image.width, *((3,) if image.mode == "RGB" else ()))
    pixels = np.empty(shape, np.uint8)
    rows = max(1, (1 << 22) // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = image.crop((0, top, image.width, bottom))
    return pixels


def _general_notes(file: Path, content: str, orientation: int, oriented: bool, frames: int) -> list[str]:
    notes = []
    kind = _SAME_CONTENT.get(content, content)
    expected = FORMATS.get(file.suffix.lower())
    if expected is not None and kind != _SAME_CONTENT.get(expected, expected):
        notes.append(f"content is {kind}, not what the suffix {printable(file.suffix)} says")
    if orientation != 1 and oriented:
        notes.append(f"EXIF orientation {orientation} applied")
    elif orientation != 1:
        notes.append(f"EXIF orientation {orientation} not applied: pixels as stored")
    if frames > 1:
        notes.append(f"first of {frames} frames or pages taken")
    return notes


def _transparency(image: Image.Image) -> list[str]:
    """A note where alpha was not just opaque: then the picture that people see is another one."""
    if "transparency" in image.info and image.mode in ("P", "L", "RGB"):
        image = image.convert("RGBA")
    if image.mode not in ("LA", "PA", "RGBA"):
        return []
    clear = float((np.asarray(image.getchannel("A")) < 255).mean())
    return [f"alpha dropped, not blended ({clear:.1%} of the pixels are transparent)"] if clear > 0 else []
