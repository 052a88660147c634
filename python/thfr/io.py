"""Files in and out: images, masks, anomaly maps, and writes that are whole or not there.

Decoding is Pillow's and tifffile's; this module fixes what they leave open (16-bit scaling, palettes, alpha)
and turns their many exceptions into one :class:`~thfr.errors.InputError` that names the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from thfr.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

# Everything Pillow and tifffile were seen to raise on damaged files; a broken PNG chunk is a SyntaxError.
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, MemoryError, OverflowError,
    RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it becomes ``path`` at the end, and is removed on failure.

    The block may write a file or make a folder there. A file replaces an older file; a folder only takes the
    place of nothing or of an empty folder. The temporary name keeps the suffix (writers choose formats by it)
    and starts with a dot. Missing parent folders are made, and removed again on failure.

    Raises:
        InputError: a parent folder cannot be made.
        OSError: the final rename is refused (then ``path`` is as it was).
        FileNotFoundError: the block wrote nothing.
    """
    target = Path(path)
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"atomic_path: cannot make the folder {target.parent}: {error}") from error
    temporary = target.parent / f".{target.stem}.{uuid.uuid4().hex[:12]}{target.suffix}"
    try:
        yield temporary
        if not os.path.lexists(temporary):
            raise FileNotFoundError(f"atomic_path: nothing was written for {target}")
        temporary.replace(target)
    except BaseException:  # a keyboard interrupt must not leave the half-written file either
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        with suppress(OSError):  # another writer's file may be in one by now
            for folder in made:
                folder.rmdir()
        raise


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 with ``\\n`` line ends, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def atomic_write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all.

    Raises:
        ValueError: the value holds a NaN or an infinity, which JSON cannot say.
    """
    atomic_write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"file_sha256: cannot read {path}: {error}") from error
    return digest.hexdigest()


def list_images(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """The image files of ``folder`` by suffix (:data:`IMAGE_SUFFIXES`, any case), sorted; no dot-files.

    Raises:
        InputError: ``folder`` is not a folder that can be read.
    """
    base = Path(folder)
    if not base.is_dir():
        raise InputError(f"list_images: expected a folder, got {base} ({_what_is(base)})")
    found = []
    try:
        for path in base.rglob("*") if recursive else base.iterdir():
            hidden = any(part.startswith(".") for part in path.relative_to(base).parts)
            if path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file():
                found.append(path)
    except OSError as error:
        raise InputError(f"list_images: cannot read the folder {base}: {error}") from error
    return sorted(found)


def _what_is(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    return "a file" if path.exists() else "which does not exist"


@contextmanager
def _opened(path: str | os.PathLike[str], reader: str) -> Iterator[Image.Image]:
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{reader}: expected an image file, got {file} ({_what_is(file)})")
    try:
        with Image.open(file) as image:
            yield image
    except InputError:
        raise
    except _DECODE_ERRORS as error:
        raise InputError(f"{reader}: cannot read {file}: {type(error).__name__}: {error}") from error


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) in pixels from the file's header; no pixel is decoded.

    Raises:
        InputError: missing or unreadable file.
    """
    with _opened(path, "image_size") as image:
        return image.height, image.width


def _deep_to_byte(image: Image.Image, reader: str) -> np.ndarray:
    """16-bit grey to 8 bits by its high byte, which is what Pillow does for 16-bit colour."""
    values = np.asarray(image)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 65535:
        raise InputError(
            f"{reader}: {getattr(image, 'filename', 'the image')} holds {values.dtype} values "
            f"{values.min()} to {values.max()}; expected 8-bit or 16-bit unsigned pixels"
        )
    return (values.astype(np.uint32) >> 8).astype(np.uint8)


def _decode_rgb(path: str | os.PathLike[str]) -> Image.Image:
    with _opened(path, "read_image") as image:
        image.load()
        if image.mode.startswith(("I", "F")):
            return Image.fromarray(_deep_to_byte(image, "read_image")).convert("RGB")
        if image.mode in ("P", "PA") and "transparency" in image.info:
            image = image.convert("RGBA")  # expands the palette; straight to RGB would warn
        return image.convert("RGB")


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image as uint8 RGB [H, W, 3].

    Grey is repeated three times, palettes are expanded, alpha is dropped (not blended), 16 bits become 8 by
    the high byte, the first frame of several is taken. The EXIF orientation is *not* applied, so that pixels
    stay where the masks have them.

    Raises:
        InputError: missing, unreadable or truncated file, or pixels deeper than 16 bits; names the file.
    """
    return np.array(_decode_rgb(path))


def read_resized(path: str | os.PathLike[str], size: tuple[int, int]) -> np.ndarray:
    """:func:`read_image`, then an anti-aliased bilinear resize to ``size`` (height, width): [H, W, 3]."""
    return np.array(resized(_decode_rgb(path), size))


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Anti-aliased bilinear resize to ``size`` (height, width), first across, then down.

    Each pass rounds to 8 bits. From Pillow 13 on ``resize`` itself takes the passes in an order that depends
    on the image's shape, which would make scores depend on Pillow's version.
    """
    height, width = size
    across = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return across.resize((width, height), Image.Resampling.BILINEAR)


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a mask's pixel values as uint8 [H, W]; a 1-bit mask gives 0 and 255.

    Colour and palette files are taken if every pixel is grey (alpha is dropped).

    Raises:
        InputError: missing or unreadable file, a mask with coloured pixels or with more than 8 bits a pixel.
    """
    with _opened(path, "read_mask") as image:
        image.load()
        if image.mode in ("1", "L", "LA"):
            return np.array(image.convert("L"))
        if image.mode not in ("P", "PA", "RGB", "RGBA"):
            raise InputError(f"read_mask: expected 8-bit grey pixels, got mode {image.mode} in {path}")
        colours = np.array(image.convert("RGBA"))[..., :3]
        if (colours != colours[..., :1]).any():
            raise InputError(f"read_mask: expected 8-bit grey pixels, got coloured ones in {path}")
        return np.ascontiguousarray(colours[..., 0])


def write_map(path: str | os.PathLike[str], anomaly_map: np.ndarray) -> None:
    """Write an anomaly map, float32 [H, W], as an uncompressed TIFF, bit for bit, whole or not at all.

    Raises:
        ValueError: not float32, not two-dimensional, empty, or holding a NaN.
    """
    if not isinstance(anomaly_map, np.ndarray) or anomaly_map.dtype != np.float32:
        kind = getattr(anomaly_map, "dtype", type(anomaly_map))
        raise ValueError(f"write_map: anomaly_map must be a float32 array, got {kind}")
    if anomaly_map.ndim != 2 or anomaly_map.size == 0:
        raise ValueError(f"write_map: anomaly_map must have shape [H, W], got {list(anomaly_map.shape)}")
    if np.isnan(anomaly_map).any():
        raise ValueError(f"write_map: anomaly_map holds {int(np.isnan(anomaly_map).sum())} NaN; for {path}")
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, anomaly_map, photometric="minisblack", metadata=None)


def read_map(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an anomaly map, any method's, from a TIFF as float32 [H, W].

    float32 comes back bit for bit; float16, uint8 and uint16 convert exactly; float64 is rounded to float32.
    Infinities keep their order and are allowed.

    Raises:
        InputError: missing or unreadable file, another number type or shape, a NaN, a float64 beyond float32.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"read_map: expected a TIFF file, got {file} ({_what_is(file)})")
    try:
        values = np.asarray(tifffile.imread(file))
    except _DECODE_ERRORS as error:
        if "imagecodecs" not in str(error):
            raise InputError(f"read_map: cannot read {file}: {type(error).__name__}: {error}") from error
        # tifffile leaves LZW and prediction to a package that may be absent; Pillow's libtiff knows them
        with _opened(file, "read_map") as image:
            values = np.array(image)
    if values.dtype.name not in ("float32", "float64", "float16", "uint8", "uint16"):
        raise InputError(f"read_map: expected float pixels, got {values.dtype} in {file}")
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"read_map: expected one [H, W] map, got shape {list(values.shape)} in {file}")
    if np.isnan(values).any():
        raise InputError(f"read_map: {file} holds {int(np.isnan(values).sum())} NaN of {values.size} pixels")
    with np.errstate(over="ignore"):
        result = values.astype(np.float32)
    if values.dtype == np.float64 and (np.isinf(result) != np.isinf(values)).any():
        raise InputError(f"read_map: {file} holds float64 values beyond the range of float32")
    return np.ascontiguousarray(result)
