"""Images for people (:func:`read_image`) and for a network (:func:`read_input`)."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from thfr.errors import InputError
from thfr.io.decoding import LARGE, Decoded, decoding
from thfr.io.framing import FILL, FITS, Fit, Region, box_of, filled
from thfr.io.pixel_range import PixelRange


@dataclass(frozen=True)
class ReadOptions:
    """How a run reads its images; found at training, stored with the run, the same ever after."""

    pixel_range: PixelRange | None = None
    """None: every file by its own range, which is right for one file to look at, not for a set."""
    oriented: bool = False
    """Apply the EXIF orientation: for images of one's own, not where masks are drawn on the stored pixels."""
    max_pixels: int | None = None
    """Refuse larger images; None: ``THFR_MAX_PIXELS`` or 268 millions. Not stored: it belongs to the
    machine.
    """
    fit: Fit = "stretch"
    """How an image of another aspect comes into the network's input: stretched, or with bars around it."""
    region: Region | None = None
    """The part of an image that counts; None: all of it. Pictures for people show all of it."""

    def as_dict(self) -> dict[str, Any]:
        """``pixel_range``, ``oriented``, ``fit`` and ``region``; for JSON and YAML."""
        return {
            "pixel_range": None if self.pixel_range is None else self.pixel_range.as_dict(),
            "oriented": self.oriented,
            "fit": self.fit,
            "region": None if self.region is None else self.region.as_dict(),
        }

    @classmethod
    def from_dict(cls, values: Any) -> ReadOptions:
        """The inverse of :meth:`as_dict`.

        Raises:
            InputError: something else.
        """
        if not isinstance(values, dict) or not isinstance(values.get("oriented"), bool):
            raise InputError(f"ReadOptions: expected pixel_range and oriented, got {values!r:.90}")
        found, region, fit = values.get("pixel_range"), values.get("region"), values.get("fit", "stretch")
        if fit not in FITS:
            raise InputError(f"ReadOptions: fit: expected one of {', '.join(FITS)}, got {fit!r:.90}")
        return cls(
            None if found is None else PixelRange.from_dict(found),
            values["oriented"],
            fit=fit,
            region=None if region is None else Region.from_dict(region),
        )


AS_STORED = ReadOptions()


@dataclass(frozen=True)
class ImageInput:
    """One image, read for a network. It keeps no pixel at native size."""

    pixels: np.ndarray
    """uint8 [h, w, 3] at the size asked for."""
    native: tuple[int, int]
    """(height, width) of the image, oriented if that was asked for: the size of its anomaly map."""
    notes: tuple[str, ...]
    """What was decided or looks wrong about the file, for ``"notes"`` in JSON."""


def read_image(path: str | os.PathLike[str], options: ReadOptions = AS_STORED) -> np.ndarray:
    """Read an image to be looked at: uint8 RGB [H, W, 3].

    Grey is repeated three times; deeper pixels are rounded to 8 bits by the options' range, or by the file's
    own. What else is decided: :func:`thfr.io.decoding.decode`.

    Raises:
        InputError: missing, unreadable or truncated file, or too many pixels; names the file.
    """
    with _decoding(path, options, None) as found:
        pixels, _ = _ranged(found, options)
        return np.require(_three_channels(_rounded(pixels)), requirements="W")


def read_resized(
    path: str | os.PathLike[str], size: tuple[int, int], options: ReadOptions = AS_STORED
) -> np.ndarray:
    """The ``pixels`` of :func:`read_input`: uint8 [h, w, 3]."""
    return read_input(path, size, options).pixels


def read_input(
    path: str | os.PathLike[str], size: tuple[int, int], options: ReadOptions = AS_STORED
) -> ImageInput:
    """Read an image for a network: scaled by the range, filled outside of the region, resized to ``size``
    (height, width) or into it, only then rounded.

    Grey is resized before it is repeated, and large JPEGs are decoded at a lower resolution, so that memory
    does not exceed the stored pixels by much.

    Raises:
        InputError: missing, unreadable or truncated file, or too many pixels; names the file.
    """
    return read_both(path, size, options, keep=0)[0]


def read_both(
    path: str | os.PathLike[str], size: tuple[int, int], options: ReadOptions = AS_STORED, keep: int = LARGE
) -> tuple[ImageInput, np.ndarray | None]:
    """:func:`read_input`, and from the same decoding :func:`read_image`; the second is None for an image of
    more than ``keep`` pixels.

    Raises:
        InputError: missing, unreadable or truncated file, or too many pixels; names the file.
    """
    with _decoding(path, options, size) as found:
        pixels, notes = _ranged(found, options)
        read = ImageInput(framed(pixels, size, options, found.native), found.native, (*found.notes, *notes))
        if found.native[0] * found.native[1] > keep or pixels.shape[:2] != found.native:
            return read, None
        return read, np.require(_three_channels(_rounded(pixels)), requirements="W")


def framed(
    image: np.ndarray,  # [H, W] or [H, W, 3]
    size: tuple[int, int],
    options: ReadOptions = AS_STORED,
    native: tuple[int, int] | None = None,
) -> np.ndarray:  # uint8 [h, w, 3]
    """An image as the network sees it: :func:`thfr.io.framing.FILL` outside of the options' region, resized
    to ``size`` (height, width) or, letterboxed, into its middle.

    Args:
        native: (height, width) of the image where ``image`` was decoded at a lower resolution.

    Raises:
        InputError: another number type or shape, or an empty image.
    """
    if options.fit == "stretch":
        return resize_for_model(filled(image, options.region), size)
    box = box_of(native or (image.shape[0], image.shape[1]), size, options.fit)
    result = np.empty((*size, 3), np.uint8)
    result[:] = FILL
    result[box.slices] = resize_for_model(filled(image, options.region), (box.height, box.width))
    return result


def resize_for_model(
    image: np.ndarray,  # [H, W] or [H, W, 3]
    size: tuple[int, int],
) -> np.ndarray:  # uint8 [h, w, 3]
    """Anti-aliased bilinear resize to ``size`` (height, width).

    uint8 is resized by Pillow's 8-bit arithmetic, as ever. float32 in 0 to 255 (what
    :meth:`thfr.io.PixelRange.scaled` gives) is resized as float and rounded once, at the end.

    Raises:
        InputError: another number type or shape, or an empty image.
    """
    if image.ndim not in (2, 3) or image.size == 0 or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(f"resize_for_model: image must be [H,W] or [H,W,3], got {list(image.shape)}")
    edges = (size[1], size[0])
    if image.dtype == np.uint8:
        return _three_channels(np.array(_resized(Image.fromarray(image), edges)))
    if image.dtype != np.float32:
        raise InputError(f"resize_for_model: image must be uint8 or float32 in 0 to 255, got {image.dtype}")
    channels = image[..., None] if image.ndim == 2 else image
    planes = [
        np.array(_resized(Image.fromarray(np.ascontiguousarray(channels[..., index])), edges))
        for index in range(channels.shape[2])
    ]
    return _three_channels(_rounded(planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)))


def _resized(image: Image.Image, edges: tuple[int, int]) -> Image.Image:
    """To (width, height), first across, then down.

    Each pass of 8-bit images rounds. From Pillow 13 on ``resize`` itself takes the passes in an order that
    depends on the image's shape, which would make scores depend on Pillow's version.
    """
    across = image.resize((edges[0], image.height), Image.Resampling.BILINEAR)
    return across.resize(edges, Image.Resampling.BILINEAR)


def _decoding(
    path: str | os.PathLike[str], options: ReadOptions, size: tuple[int, int] | None
) -> AbstractContextManager[Decoded]:
    oriented, max_pixels = options.oriented, options.max_pixels
    return decoding(path, reader="read_image", oriented=oriented, max_pixels=max_pixels, size=size)


def _ranged(found: Decoded, options: ReadOptions) -> tuple[np.ndarray, list[str]]:
    """uint8, or float32 in 0 to 255."""
    if options.pixel_range is not None:
        return options.pixel_range.scaled(found.pixels)
    low, high = (0.0, 255.0) if found.container == "uint8" else (found.pixels.min(), found.pixels.max())
    own = PixelRange.of_values(found.container, float(low), float(high))
    pixels, notes = own.scaled(found.pixels)
    if found.container != "uint8":
        notes.append(f"no range of a run is known: taken for {own.in_words()}")
    return pixels, notes


def _rounded(pixels: np.ndarray) -> np.ndarray:
    """uint8; float32 is rounded to the nearest, and cut off where a resize went beyond."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _three_channels(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
