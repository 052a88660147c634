"""Images that come over the network: formats by content, limits before anything is decoded."""

from __future__ import annotations

import io
import tempfile
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from thfr.errors import InputError
from thfr.io import ReadOptions, read_image

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")


class UnsupportedImage(InputError):
    """The bytes are in none of :data:`FORMATS`."""


class OversizedImage(InputError):
    """The header claims more pixels than allowed."""


class DamagedImage(InputError):
    """The header is readable, the pixels are not."""


def decode(
    data: bytes,
    max_pixels: int,
    options: ReadOptions,
) -> np.ndarray:  # uint8 [H,W,3]
    """Decode an image as :func:`thfr.io.read_image` does; its format is told by content alone.

    Raises:
        UnsupportedImage, OversizedImage, DamagedImage: see there.
    """
    width, height = _header(data)
    if width * height > max_pixels:
        raise OversizedImage(
            f"inspect: image: expected at most {max_pixels} pixels, got {width} x {height} = {width * height}"
        )
    with tempfile.TemporaryDirectory(prefix="thfr-") as folder:
        path = Path(folder) / "upload"
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's on odd metadata; the pixel limit was checked
                return read_image(path, options)
        except InputError as error:
            reason = str(error).replace(str(path), "the image").removeprefix("read_image: ")
            raise DamagedImage(f"inspect: image: {reason}") from error


def _header(data: bytes) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.size
    except Image.DecompressionBombError as error:
        raise OversizedImage(f"inspect: image: {error}") from error
    except Exception as error:
        # Pillow's readers raise nearly anything on hostile bytes; whatever it is, this is no image to them
        raise UnsupportedImage(
            f"inspect: image: expected {', '.join(FORMATS)}, got {len(data)} bytes that are none of them"
        ) from error


def encode(picture: np.ndarray, kind: str) -> bytes:
    """Encode uint8 [H,W,3] as ``png``, or float32 [H,W] as ``tiff``."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG" if kind == "png" else "TIFF", **_OPTIONS[kind])
    return buffer.getvalue()


_OPTIONS: dict[str, dict[str, int]] = {"png": {"compress_level": 3}, "tiff": {}}
