"""How a run reads its images, and what its training images look like: ``inputs.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from thfr.data.profile import ImageProfile
from thfr.errors import InputError
from thfr.io import (
    EIGHT_BITS,
    Fit,
    ImageInput,
    PixelRange,
    ReadOptions,
    Region,
    atomic_write_json,
    find_pixel_range,
    read_header,
)
from thfr.runs import files
from thfr.runs.json_file import read_object

_AS_EVER = ReadOptions(EIGHT_BITS)


@dataclass(frozen=True)
class RunInputs:
    """Found at training, stored with the run, the same ever after."""

    options: ReadOptions = _AS_EVER
    """For files that belong to no data set; a sample of one says itself whether it is oriented."""
    profile: ImageProfile | None = None
    """None for runs of version 0.2 and before, which read 8 bits as stored."""

    def options_of(self, oriented: bool | None = None) -> ReadOptions:
        """The options for an image; ``oriented``: what its data set says, None for any other file."""
        return self.options if oriented is None else replace(self.options, oriented=oriented)

    def check(self, image: ImageInput) -> list[str]:
        """All notes on an image: those of reading it, and how it differs from the training images."""
        return [*image.notes, *([] if self.profile is None else self.profile.check(image))]

    def pixels_of(self, image: Any) -> np.ndarray:
        """An array [H,W,3] in memory as :func:`thfr.io.resize_for_model` takes it: uint8 as it is, other
        numbers by the run's range.

        Raises:
            ValueError: another shape, a masked array, or numbers that the run's range says nothing about.
        """
        kind = self.range.container
        if not isinstance(image, np.ndarray):
            raise ValueError(f"got {type(image).__name__}")
        if isinstance(image, np.ma.MaskedArray):
            raise ValueError("got a masked array, whose mask would be lost: fill it first")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"got {image.dtype} {list(image.shape)}")
        deep = image.dtype.kind in "ui" if kind == "integer" else kind == "float" and image.dtype.kind == "f"
        if image.dtype != np.uint8 and not deep:
            raise ValueError(
                f"got {image.dtype} {list(image.shape)}, and the run's images have {self.range.in_words()} "
                f"({kind})"
            )
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise ValueError("got values that are not finite")
        return image if image.dtype == np.uint8 else self.range.scaled(image)[0]

    @property
    def range(self) -> PixelRange:
        """Of the run's pixel values."""
        return self.options.pixel_range or EIGHT_BITS

    def save(self, run: Path) -> None:
        """Write ``inputs.json``."""
        atomic_write_json(run / files.INPUTS, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """``options`` and ``profile``; for JSON."""
        profile = None if self.profile is None else self.profile.as_dict()
        return {"options": self.options.as_dict(), "profile": profile}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunInputs:
        """The inverse of :meth:`as_dict`.

        Raises:
            InputError: something else.
        """
        profile = values.get("profile")
        options = ReadOptions.from_dict(values.get("options"))
        return cls(options, None if profile is None else ImageProfile.from_dict(profile))

    @classmethod
    def load(cls, run: Path) -> RunInputs:
        """The inverse of :meth:`save`; the defaults where the run has no such file.

        Raises:
            InputError: the file is damaged.
        """
        path = run / files.INPUTS
        if not path.is_file():
            return cls()
        values = read_object(path, "RunInputs.load")
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"RunInputs.load: {path} is damaged: {error}") from error


def find_options(
    paths: Sequence[Path],
    oriented: Sequence[bool],
    bit_depth: int | None = None,
    fit: Fit = "stretch",
    region: Region | None = None,
) -> ReadOptions:
    """The options of a run by its good images: the range of their pixel values, and whether EXIF orientations
    are applied to files that belong to no data set: unless training reads turned images as stored.

    Args:
        oriented: for each image whether its data set applies its orientation.
        fit, region: of the run, as they are asked for.
    """
    found = find_pixel_range(paths, bit_depth)
    upright = all(on or _is_upright(path) for path, on in zip(paths, oriented, strict=True))
    return ReadOptions(found, upright, fit=fit, region=region)


def _is_upright(path: Path) -> bool:
    try:
        return read_header(path).orientation == 1
    except InputError:  # loading the images names it
        return True
