"""PNG and PNM files of more than 8 bits a sample, whose colour Pillow cuts to 8."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thfr.errors import InputError
from thfr.io.names import printable

_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by PNG's colour type
LOST = "its colour is deeper than 8 bits, which this decoder gives as 8 bits"


def declared_bits(image: Image.Image) -> int:
    """Bits of a sample by the header of any file but TIFF; 32 for floats."""
    if image.format == "PNG":
        return _png_header(image)[2]
    if image.format == "PPM" and image.mode != "F":
        return max(8, _pnm_maximum(image).bit_length())
    return {"I": 16, "F": 32}.get(image.mode[:1], 8)


def read_deep(image: Image.Image, file: Path) -> tuple[np.ndarray, list[str]]:
    """[H, W] or [H, W, 3] in the file's own values, as stored; notes."""
    if image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA"):
        return _png(image, file)
    if image.format == "PPM" and image.mode != "F":
        return _pnm(image, file)
    return by_pillow(image)


def by_pillow(image: Image.Image) -> tuple[np.ndarray, list[str]]:
    """Grey without loss; colour as 8 bits, with a note."""
    image.load()
    if image.mode.startswith(("I", "F")):
        return np.array(image), []
    return np.array(image.convert("RGB")), [LOST]


# PNM


def _pnm_maximum(image: Image.Image) -> int:
    """The largest value that the header of a binary P5 or P6 declares; 0 for other kinds."""
    head = _beginning(image, 512)
    words: list[bytes] = []
    for line in head.split(b"\n"):
        words += line.split(b"#")[0].split()
        if len(words) >= 4:
            break
    return int(words[3]) if words and words[0] in (b"P5", b"P6") and len(words) > 3 else 0


def _pnm(image: Image.Image, file: Path) -> tuple[np.ndarray, list[str]]:
    """Two bytes a sample, the high one first, at the end of the file."""
    channels = 3 if _beginning(image, 2) == b"P6" else 1
    wanted = image.width * image.height * channels * 2
    content = file.read_bytes()
    if len(content) < wanted + 10:
        raise OSError(f"truncated: {len(content)} bytes")
    offset = image.tile[0].offset if image.tile else len(content) - wanted  # type: ignore[attr-defined]
    values = np.frombuffer(content, ">u2", wanted // 2, offset).astype(np.uint16)
    shape = (image.height, image.width) if channels == 1 else (image.height, image.width, 3)
    return values.reshape(shape), []


def _beginning(image: Image.Image, count: int) -> bytes:
    stream: Any = image.fp  # type: ignore[attr-defined]
    if stream is None:
        return b""
    place = stream.tell()
    stream.seek(0)
    found: bytes = stream.read(count)
    stream.seek(place)
    return found


# PNG (ISO/IEC 15948)


def _png_header(image: Image.Image) -> tuple[int, int, int, int, int]:
    """Width, height, bits a sample, colour type, interlace method."""
    head = _beginning(image, 33)
    if head[12:16] != b"IHDR" or len(head) < 33:  # Apple's variant, or closed already: Pillow's mode decides
        return image.width, image.height, 16 if image.mode.startswith("I") else 8, 0, 0
    width, height = (int.from_bytes(head[start : start + 4], "big") for start in (16, 20))
    return width, height, head[24], head[25], head[28]


def _png(image: Image.Image, file: Path) -> tuple[np.ndarray, list[str]]:
    """16-bit colour, or grey with alpha."""
    width, height, _, colour, interlace = _png_header(image)
    if interlace:
        return by_pillow(image)[0], [f"interlaced PNG: {LOST}"]
    step = 2 * _PNG_CHANNELS[colour]
    raw = zlib.decompressobj().decompress(_png_data(file), height * (1 + width * step))
    if len(raw) < height * (1 + width * step):
        raise InputError(f"read_image: cannot read {printable(file)}: truncated PNG")
    rows = np.frombuffer(raw, np.uint8).reshape(height, 1 + width * step)
    samples = _unfiltered(rows[:, 1:].reshape(height, width, step), rows[:, 0])
    values = samples.reshape(height, width, -1, 2)
    whole = (values[..., 0].astype(np.uint16) << 8) | values[..., 1]
    notes = []
    if colour in (4, 6) and (whole[..., -1] < 65535).any():
        clear = float((whole[..., -1] < 65535).mean())
        notes.append(f"alpha dropped, not blended ({clear:.1%} of the pixels are transparent)")
    return np.ascontiguousarray(whole[..., 0] if colour == 4 else whole[..., :3]), notes


def _png_data(file: Path) -> bytes:
    """The IDAT chunks' content, their checksums tested."""
    content, place, parts = file.read_bytes(), 8, []
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        if kind == b"IDAT":
            check = content[place + 8 + length : place + 12 + length]
            if zlib.crc32(kind + data).to_bytes(4, "big") != check:
                raise InputError(f"read_image: cannot read {printable(file)}: damaged PNG (checksum)")
            parts.append(data)
        place += 12 + length
    return b"".join(parts)


def _unfiltered(
    rows: np.ndarray,  # uint8 [H, W, S], S the bytes of a pixel
    filters: np.ndarray,  # uint8 [H]
) -> np.ndarray:  # uint8 [H, W, S]
    """Undo PNG's filters. A byte needs those to its left, above, and above left: all bytes of an
    anti-diagonal (row + column constant) are independent, so each is one vector operation.
    """
    height, width, step = rows.shape
    if filters.max(initial=0) > 4:
        raise OSError(f"damaged PNG: filter {filters.max()}")
    done = np.zeros((height + 1, width + 1, step), np.uint8)  # a border of zeros above and to the left
    kinds = filters[:, None]
    for diagonal in range(height + width - 1):
        row = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        column = diagonal - row
        left = done[row + 1, column].astype(np.int16)
        above = done[row, column + 1].astype(np.int16)
        corner = done[row, column].astype(np.int16)
        kind = kinds[row]
        guess = np.select(
            [kind == 1, kind == 2, kind == 3, kind == 4],
            [left, above, (left + above) >> 1, _paeth(left, above, corner)],
            np.int16(0),
        )
        done[row + 1, column + 1] = (rows[row, column] + guess).astype(np.uint8)
    return done[1:, 1:]


def _paeth(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Whichever of the three is nearest to left + above - corner; ties in this order."""
    estimate = left + above - corner
    to_left, to_above, to_corner = (np.abs(estimate - near) for near in (left, above, corner))
    first = (to_left <= to_above) & (to_left <= to_corner)
    return np.where(first, left, np.where(to_above <= to_corner, above, corner))
